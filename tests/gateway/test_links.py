"""Links that are signed and expire."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.links import LONGEST_SUBJECT, Links
from mailroom.vault import new_key

NOW = datetime(2026, 1, 6, 12, tzinfo=UTC)
SOON = NOW + timedelta(minutes=10)
#: Two as new_key() makes them.
OLD, NEW = "b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQtb2xkLW9sZCE=", "bmV3LW5ldy1uZXctbmV3LW5ldy1uZXctbmV3LW5ldyE="
LINKS = Links([NEW])


def query_of(
    links: Links, purpose: str = "download", subject: str = "letter/1", expires_at: datetime = SOON
) -> dict[str, str]:
    """What a server reads of such a link."""
    return dict(parse_qsl(links.sign(purpose, subject, expires_at), strict_parsing=True))


def test_the_shape_of_a_link() -> None:
    """A link says when it expires and carries 32 bytes of signature, with nothing that a URL would have to escape."""
    query = query_of(LINKS)

    assert LINKS.sign("download", "letter/1", SOON) == f"expires=1767701400&signature={query['signature']}"
    assert len(query["signature"]) == 43


@pytest.mark.parametrize(
    ("purpose", "subject", "seconds", "holds"),
    [
        ("download", "letter/1", 0, True),
        ("download", "letter/1", 599.9, True),
        # Expired, to the second.
        ("download", "letter/1", 600, False),
        ("download", "letter/1", 9e8, False),
        # Another purpose, another subject, and the same characters parted otherwise.
        ("upload", "letter/1", 0, False),
        ("", "letter/1", 0, False),
        ("download", "letter/2", 0, False),
        ("download", "Letter/1", 0, False),
        ("downloadl", "etter/1", 0, False),
        ("download", "letter/1\n", 0, False),
        ("download", "", 0, False),
        ("download", "l\u00e9tter/1", 0, False),
        ("download", "\ud800", 0, False),
        ("download", "x" * (LONGEST_SUBJECT + 1), 0, False),
    ],
)
def test_a_link_holds_for_what_it_was_signed_for(purpose: str, subject: str, seconds: float, holds: bool) -> None:  # noqa: FBT001 - a column of the table
    """A link holds for its own purpose and subject, until it expires."""
    assert LINKS.holds(purpose, subject, query_of(LINKS), NOW + timedelta(seconds=seconds)) is holds


GOOD = query_of(LINKS)


@pytest.mark.parametrize(
    "changed",
    [
        {"expires": ""},
        {"expires": "1767701401"},
        {"expires": "01767701400"},
        {"expires": "+1767701400"},
        {"expires": " 1767701400"},
        {"expires": "1767701400\n"},
        {"expires": "1767701400.0"},
        {"expires": "\uff11767701400"},
        {"expires": "9" * 5000},
        {"expires": "-1"},
        {"signature": ""},
        {"signature": GOOD["signature"][:-1]},
        {"signature": GOOD["signature"] + "="},
        {"signature": GOOD["signature"] + "\n"},
        {"signature": GOOD["signature"].swapcase()},
        {"signature": "A" * 43},
        {"signature": "\u00e9" * 43},
        {"signature": "\ud800" * 43},
        {"signature": "A" * 1_000_000},
    ],
    ids=lambda changed: str(changed)[:40].encode("ascii", "backslashreplace").decode(),
)
def test_whatever_is_changed_does_not_hold(changed: dict[str, str]) -> None:
    """A query that is not to the letter what was signed is refused, and none raises."""
    assert LINKS.holds("download", "letter/1", GOOD, NOW)
    assert not LINKS.holds("download", "letter/1", GOOD | changed, NOW)


def test_the_last_character_of_a_signature_counts() -> None:
    """No second spelling of the same 32 bytes holds."""
    characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spellings = [GOOD["signature"][:-1] + character for character in characters]

    held = [each for each in spellings if LINKS.holds("download", "letter/1", GOOD | {"signature": each}, NOW)]

    assert held == [GOOD["signature"]]


def test_a_query_without_a_signature_does_not_hold() -> None:
    """Whoever brings nothing gets nothing."""
    assert not LINKS.holds("download", "letter/1", {}, NOW)
    assert not LINKS.holds("download", "letter/1", {"expires": GOOD["expires"]}, NOW)


def test_keys_rotate() -> None:
    """A link signed with the key before still holds while that key is listed; new ones are signed with the first."""
    both = Links([NEW, OLD])

    assert both.holds("download", "letter/1", query_of(Links([OLD])), NOW)
    assert query_of(both) == GOOD
    assert not LINKS.holds("download", "letter/1", query_of(Links([OLD])), NOW)


def test_a_random_key_is_taken_as_it_is() -> None:
    """What `new_key` makes signs, and no two keys sign alike."""
    one, another = new_key(), new_key()

    assert Links([one]).holds("a", "b", query_of(Links([one]), "a", "b"), NOW)
    assert not Links([one]).holds("a", "b", query_of(Links([another]), "a", "b"), NOW)


def test_a_passphrase_is_a_key_too() -> None:
    """What is no random key signs as well, the same in each process, and differently for each passphrase."""
    assert Links(["correct horse"]).holds("a", "b", query_of(Links(["correct horse"]), "a", "b"), NOW)
    assert not Links(["correct h\u00f6rse"]).holds("a", "b", query_of(Links(["correct horse"]), "a", "b"), NOW)


@pytest.mark.parametrize(
    ("subject", "expires_at"),
    [
        ("x" * (LONGEST_SUBJECT + 1), SOON),
        ("x", datetime(1969, 1, 1, tzinfo=UTC)),
        ("x", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_what_would_never_hold_is_not_signed(subject: str, expires_at: datetime) -> None:
    """Signing what would be refused is a mistake of ours, and raises."""
    with pytest.raises(ValueError, match="no link can be signed"):
        LINKS.sign("download", subject, expires_at)


def test_no_key_no_links() -> None:
    """Links without a key would hold for anybody."""
    with pytest.raises(ValueError, match="at least one key"):
        Links([])


@given(
    st.text(max_size=50), st.text(max_size=50), st.dictionaries(st.sampled_from(["expires", "signature"]), st.text())
)
def test_nothing_made_up_holds(purpose: str, subject: str, query: dict[str, str]) -> None:
    """Whatever stands in a query, it is refused without an error."""
    assert not LINKS.holds(purpose, subject, query, NOW)
