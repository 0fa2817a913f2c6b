"""Addresses: what passes goes byte for byte into an envelope."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.addresses import check_address

GOOD = [
    ("john@example.org", "john@example.org"),
    ("John.Doe+forms@Example.ORG", "John.Doe+forms@example.org"),
    ("o'brien@example.co.uk", "o'brien@example.co.uk"),
    ("x/y=z@example.org", "x/y=z@example.org"),
    ("me@laptop.test", "me@laptop.test"),
    ("info@müller.de", "info@xn--mller-kva.de"),
    ("info@XN--MLLER-KVA.de", "info@xn--mller-kva.de"),
    ("a" * 64 + "@example.org", "a" * 64 + "@example.org"),
]

BAD = [
    "",
    "@",
    "john",
    "john@",
    "@example.org",
    "john@example",
    "john@localhost",
    "john@@example.org",
    "john@example.org@evil.example",
    "alice@example.org)bob@example.com",
    "alice@example.org,bob@example.com",
    "alice@example.org;bob@example.com",
    '"a@evil.example x"@example.org',
    '"quoted"@example.org',
    "john(comment)@example.org",
    "john@(comment)example.org",
    "John Doe <john@example.org>",
    "<john@example.org>",
    "john%evil.example@example.org",
    "evil.example!john@example.org",
    "john@[127.0.0.1]",
    "john@127.0.0.1",
    ".john@example.org",
    "john.@example.org",
    "jo..hn@example.org",
    "john@-example.org",
    "john@exa_mple.org",
    "john@example..org",
    "john@example.org.",
    " john@example.org",
    "john@example.org ",
    "john@example.org\n",
    "john@example.org\r\nBcc: eve@evil.example",
    "jo\x00hn@example.org",
    "jöhn@example.org",
    "john@\ufffd.org",
    "john@\ud800.org",
    "a" * 65 + "@example.org",
    "a@" + "b" * 64 + ".org",
    "a@" + "b." * 5000 + "org",
]


@pytest.mark.parametrize(("given_address", "normal"), GOOD)
def test_address_is_normalised(given_address: str, normal: str) -> None:
    """A valid address comes back with its domain in lower case and as A-labels, its local part untouched."""
    assert check_address(given_address) == normal


@pytest.mark.parametrize("text", BAD)
def test_sec_2_bad_address_is_refused(text: str) -> None:
    """Anything but one plain address is refused: lists, comments, quotes, routing, controls, names in front."""
    assert check_address(text) is None


def test_sec_2_longest_address() -> None:
    """An address of 254 characters passes, one of 255 does not."""
    domain = ".".join(["d" * 63] * 3)
    longest = "a" * (254 - len(domain) - 5) + f"@{domain}.org"

    assert (len(longest), check_address(longest)) == (254, longest)
    assert check_address(f"a{longest}") is None


@given(st.one_of(st.text(), st.emails(), st.builds("{}@{}".format, st.text(), st.text())))
def test_sec_2_what_passes_is_plain_and_stays(text: str) -> None:
    """An accepted address is printable ASCII with one @, without any sign of a list, and passes again unchanged."""
    address = check_address(text)

    assert address is None or (
        address.isascii()
        and address.isprintable()
        and address.count("@") == 1
        and not set(address) & set(' "(),:;<>[\\]%!')
        and check_address(address) == address
    )
