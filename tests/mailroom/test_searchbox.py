"""What a person types into the search."""

from uuid import UUID

import pytest

from mailroom.operating import searchbox
from mailroom.operating.searchbox import Asked, UnclearSearch

ID = UUID("01900000-0000-7000-8000-000000000000")


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("", Asked()),
        ("  ", Asked()),
        (str(ID), Asked(message_id=ID)),
        (f" <{ID}> ", Asked(message_id=ID)),
        (ID.hex.upper(), Asked(message_id=ID)),
        (f"<{ID}@company.test>", Asked(message_id=ID)),
        ("jane@customer.test", Asked(address="jane@customer.test")),
        ("<Jane@Customer.test>,", Asked(address="Jane@Customer.test")),
        ("mailto:jane@customer.test", Asked(address="jane@customer.test")),
        ("@customer.test", Asked(domain="customer.test")),
        ("customer.test", Asked(words=("customer", "test"))),
        ('"Late parcel"', Asked(words=("late", "parcel"))),
        (f"re: {ID.hex}", Asked(words=(ID.hex, "re"))),
        ("parcel j@b.test @c.test", Asked(address="j@b.test", domain="c.test", words=("parcel",))),
    ],
)  # fmt: skip
def test_what_is_typed_is_taken_apart(text: str, asked: Asked) -> None:
    """An id stands alone; addresses, domains and words go together; only an @ makes a domain of a name."""
    assert searchbox.read(text) == asked


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("a@b.test c@d.test", "one address"),
        ("@b.test @d.test", "one address"),
        ("!?", "no word"),
        ("@", "no word"),
        (" ".join(map(str, range(41))), "at most 40"),
        ("a" * 1001, "at most 40"),
    ],
)
def test_what_cannot_be_searched_is_refused(text: str, refusal: str) -> None:
    """What would find everything, or nothing, is refused with what to type instead."""
    with pytest.raises(UnclearSearch, match=refusal):
        searchbox.read(text)


def test_a_cursor_is_an_id() -> None:
    """Where a list goes on is the id of a message, or nowhere."""
    assert (searchbox.message_id(None), searchbox.message_id(str(ID))) == (None, ID)
    with pytest.raises(UnclearSearch, match="no id"):
        searchbox.message_id("x")
