"""What a list of letters shows of each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cloud.previews import preview

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
FLAG = "\U0001f1e9\U0001f1ea"


@pytest.mark.parametrize(
    ("text", "most", "line"),
    [
        ("Hello", 200, "Hello"),
        ("", 200, ""),
        (" \r\n\t", 200, ""),
        ("  Hello,\r\n\r\n\tmy order\u00a0is late.\n", 200, "Hello, my order is late."),
        ("nul\x00bell\x07 \u202eabc \ud800", 200, "nulbell abc \ufffd"),
        ("e\u0301", 200, "\u00e9"),
        # To the character.
        ("abcde", 5, "abcde"),
        ("abcdef", 5, "abcd…"),
        ("abc def", 5, "abc…"),
        ("a" * 300, 200, "a" * 199 + "…"),
        ("a" * 1_000_000, 200, "a" * 199 + "…"),
        # No character is cut in two.
        (f"abc{FAMILY}def", 6, "abc…"),
        (f"abc{FAMILY}def", 9, f"abc{FAMILY}…"),
        ("abq\u0323\u0307def", 4, "ab…"),
        ("ab\U0001f44d\U0001f3fddef", 4, "ab…"),
        (f"a{FLAG}{FLAG}bcd", 5, f"a{FLAG}…"),
        (f"a{FLAG}{FLAG}bcd", 4, f"a{FLAG}…"),
        # But one without an end is.
        ("a" + "\u0323" * 500, 20, "\u1ea1" + "\u0323" * 18 + "…"),
        # What fills newsletters' first line.
        ("Sale!" + "\u00a0\u200c\u034f" * 40 + "Now", 200, "Sale! Now"),
        ("\ufeffsoft\u00adly", 200, "softly"),
    ],
)
def test_preview(text: str, most: int, line: str) -> None:
    """A preview is one clean line of the beginning, with `…` where more would follow."""
    assert preview(text, most) == line


@given(st.text(st.characters(exclude_categories=()), max_size=300), st.integers(min_value=1, max_value=50))
def test_any_preview_fits(text: str, most: int) -> None:
    """Whatever a letter says, its preview is one encodable line of so many characters at most."""
    line = preview(text, most)

    assert len(line) <= most
    assert len(line.splitlines()) <= 1
    assert line.encode().decode() == line


@pytest.mark.parametrize("text", ["\u0323\u0307" * 1_500_000, " " * 3_000_000, "\u200c" * 3_000_000, "x " * 1_500_000])
def test_a_long_letter_takes_no_longer(text: str) -> None:
    """Three megabytes written to take for ever have their preview at once."""
    assert len(preview(text)) <= 200
