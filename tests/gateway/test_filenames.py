"""Names of attached files."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.filenames import MOST_BYTES, MOST_CHARACTERS, clean_name, extension_of, numbered

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("original", "name"),
    [
        ("invoice.pdf", "invoice.pdf"),
        ("Rechnung März.PDF", "Rechnung März.PDF"),
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\Users\\me\\photo.jpg", "photo.jpg"),
        ("a/b\\c.png", "c.png"),
        ("a.exe\x00.pdf", "a.exe.pdf"),
        ("a.pdf%00.exe", "a.pdf%00.exe"),
        ("a\r\nBcc: eve@evil.example.pdf", "aBcc_ eve@evil.example.pdf"),
        ("photo_\u202egpj.exe", "photo_gpj.exe"),
        ("zero\u200bwidth\ufeff.txt", "zerowidth.txt"),
        ("hidden\u200b.\u200bexe", "hidden.exe"),
        ("e\u0301.txt", "é.txt"),
        ("name.pdf. . ", "name.pdf"),
        ("name.pdf::$DATA", "name.pdf__$DATA"),
        ("a.txt:evil.exe", "a.txt_evil.exe"),
        ("NUL.txt", "_NUL.txt"),
        ("com1.tar.zip", "_com1.tar.zip"),
        ("console.txt", "console.txt"),
        ('<>"|?*.gif', "______.gif"),
        ("lone\ud800.txt", "lone.txt"),
        ("noextension", "noextension"),
        (".pdf", "attachment-3.pdf"),
        ("...", "attachment-3.bin"),
        ("..", "attachment-3.bin"),
        ("folder/", "attachment-3.bin"),
        ("\x00\u200b", "attachment-3.bin"),
        ("", "attachment-3.bin"),
    ],
)
def test_int_9_clean_name(original: str, name: str) -> None:
    """A name loses its path and all that misleads or harms; when nothing is left it is made from its position."""
    assert clean_name(original, 3, "bin") == name


def test_long_name_keeps_its_extension() -> None:
    """A long name is cut to 150 characters and 255 bytes, its extension is not."""
    latin = clean_name("a" * 400 + ".pdf", 1, "")
    chinese = clean_name("漢" * 400 + ".pdf", 1, "")

    assert latin == "a" * 146 + ".pdf"
    assert chinese == "漢" * 83 + ".pdf"


def test_int_9_duplicates_are_numbered() -> None:
    """No two files of a message have the same name, whatever its case, and a number never makes a new duplicate."""
    names = numbered(["a.pdf", "A.PDF", "a.pdf", "a (2).pdf", "b", "b"])

    assert names == ("a.pdf", "A (2).PDF", "a (3).pdf", "a (2) (2).pdf", "b", "b (2)")


@pytest.mark.parametrize(("name", "extension"), [("a.PDF", "pdf"), ("a.exe.pdf", "pdf"), ("a", ""), ("a.", "")])
def test_extension(name: str, extension: str) -> None:
    """The extension is what stands after the last dot, in lower case."""
    assert extension_of(name) == extension


@given(ANY_TEXT)
def test_int_9_any_name_is_harmless(original: str) -> None:
    """Whatever a client calls a file, the name is one visible component within the limits, and cleaning keeps it."""
    name = clean_name(original, 1, "txt")

    assert name
    assert name not in {".", ".."}
    assert not set(name) & set('/\\:*?"<>|')
    assert not [character for character in name if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}]
    assert len(name) <= MOST_CHARACTERS
    assert len(name.encode()) <= MOST_BYTES
    assert clean_name(name, 1, "txt") == name


@given(
    st.lists(st.sampled_from(["a.txt", "A.txt", "a (2).txt", "ß" * 200, "x" * 150]).map(lambda n: clean_name(n, 1, "")))
)
def test_numbered_names_differ(names: list[str]) -> None:
    """Numbering leaves as many names as there were, all different and within the limits."""
    result = numbered(names)

    assert len({name.casefold() for name in result}) == len(names)
    assert all(len(name) <= MOST_CHARACTERS and len(name.encode()) <= MOST_BYTES for name in result)
