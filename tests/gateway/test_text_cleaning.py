"""Cleaning of text at the edge."""

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.text import clean_line, clean_text

#: All of Unicode, lone surrogates and controls among it.
ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("given_text", "line"),
    [
        ("  My order ", "My order"),
        ("a\r\nBcc: eve@evil.example", "a Bcc: eve@evil.example"),
        ("a\u2028b\x85c\td\ve", "a b c d e"),
        ("nul\x00bell\x07", "nulbell"),
        ("e\u0301", "é"),
        ("lone \ud800 surrogate", "lone \ufffd surrogate"),
        ("John \u202enhoJ", "John nhoJ"),
        ("שלום\u200f", "שלום\u200f"),
        (" \r\n\t ", ""),
    ],
)
def test_line(given_text: str, line: str) -> None:
    """A single-line field loses line breaks, controls and directions left open, and is in NFC."""
    assert clean_line(given_text) == line


@pytest.mark.parametrize(
    ("given_text", "text"),
    [
        ("one\r\ntwo\rthree\nfour", "one\ntwo\nthree\nfour"),
        ("tab\tstays", "tab\tstays"),
        ("nul\x00esc\x1bdel\x7f", "nulescdel"),
        ("lone \udfff surrogate", "lone \ufffd surrogate"),
        ("e\u0301", "é"),
        ("  leading space stays\n", "  leading space stays\n"),
    ],
)
def test_text(given_text: str, text: str) -> None:
    """A text keeps its lines and tabs, with line feeds only, and loses what cannot be stored or sent."""
    assert clean_text(given_text) == text


@given(ANY_TEXT)
def test_sec_1_any_line_is_safe(text: str) -> None:
    """Whatever comes in, one encodable NFC line without controls comes out, and cleaning it again changes nothing."""
    line = clean_line(text)

    assert len(line.splitlines()) <= 1
    assert line.encode().decode() == line == clean_line(line)
    assert unicodedata.is_normalized("NFC", line)
    assert not [character for character in line if unicodedata.category(character) in {"Cc", "Cs"}]


@given(ANY_TEXT)
def test_any_text_is_safe(text: str) -> None:
    """Whatever comes in, encodable NFC text without NUL and carriage return comes out, and stays under cleaning."""
    cleaned = clean_text(text)

    assert cleaned.encode().decode() == cleaned == clean_text(cleaned)
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not set(cleaned) & {chr(code) for code in range(32) if chr(code) not in "\n\t"}


@pytest.mark.parametrize("clean", [clean_line, clean_text])
def test_piled_up_marks_cost_no_time(clean: Callable[[str], str]) -> None:
    """Marks without end on one character, which NFC alone takes hours for, are cut to what writing has."""
    piled = "e" + "\u0300\u0316" * 500_000

    assert 1 < len(clean(piled)) <= 31
    assert clean("e\u0301\u0316" * 1000) == "é\u0316" * 1000
