"""Types of attached files: extension and first bytes must agree."""

import pytest

from gateway.forms.filetypes import HEAD_SIZE, bytes_agree, guessed_extension, media_type_of

OLE2 = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504)
BMP = b"BM" + bytes(12) + (40).to_bytes(4, "little") + bytes(36)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)
PROGRAM = b"MZ\x90\x00" + bytes(60)

AGREE = [
    ("pdf", b"%PDF-1.7\n..."),
    ("pdf", b"\r\n%PDF-1.4 written by a careless program"),
    ("doc", OLE2),
    ("jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF"),
    ("png", PNG),
    ("gif", b"GIF89a\x01\x00"),
    ("gif", b"GIF87a\x01\x00"),
    ("bmp", BMP),
    ("zip", b"PK\x03\x04\x14\x00"),
    ("zip", b"PK\x05\x06" + bytes(18)),
    ("txt", b""),
    ("txt", b"plain text\r\n"),
    ("txt", "naïve UTF-8 漢".encode()),
    ("txt", "naïve windows-1252 €".encode("cp1252")),
    ("docx", b"PK\x03\x04\x14\x00"),
    ("webp", b"RIFF\x24\x00\x00\x00WEBPVP8 "),
    ("rtf", b"{\\rtf1\\ansi"),
    ("dwg", b"AC1032\x00\x00"),
    ("json", b'{"a": 1}'),
    # What is two things at once is taken for the one it begins as; nobody here opens it as the other.
    ("gif", b"GIF89a\x01\x00;PK\x03\x04\x14\x00META-INF/"),
    ("pdf", b"%PDF-1.7\n%%EOF\nPK\x03\x04\x14\x00"),
    ("zip", b"PK\x03\x04\x14\x00%PDF-1.7\n%%EOF"),
]

DISAGREE = [
    ("pdf", PROGRAM),
    ("pdf", b""),
    ("pdf", b"PK\x03\x04"),
    ("doc", b"{\\rtf1"),
    ("doc", b"PK\x03\x04"),
    ("jpg", PNG),
    ("png", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    ("gif", b"GIF88a"),
    ("bmp", b"BMW is a car and no bitmap at all"),
    ("zip", b"Rar!\x1a\x07"),
    ("txt", b"nul \x00 byte"),
    ("txt", "UTF-16".encode("utf-16")),
    ("txt", PNG),
    ("txt", b"\xff\x01\x02 neither UTF-8 nor text"),
    ("dwg", PROGRAM),
    ("dwg", b"\x7fELF\x02\x01"),
    ("json", b"#!/bin/sh\nrm -r ~"),
    ("xml", b"<?xml version='1.0'?>\n<!-- hi --><svg onload='alert(1)'/>"),
    ("dat", b"\xef\xbb\xbf  <!DOCTYPE  html><title>x</title>"),
    ("dat", b"\x00".join(b"<\x00script>"[i : i + 1] for i in range(9))),
    ("dat", "<html>".encode("utf-16-le")),
]


@pytest.mark.parametrize(("extension", "content"), AGREE)
def test_int_7_bytes_agree(extension: str, content: bytes) -> None:
    """A file that begins as its extension says is accepted; one of an unknown type is believed."""
    assert bytes_agree(extension, content, len(content))


@pytest.mark.parametrize(("extension", "content"), DISAGREE)
def test_int_7_bytes_disagree(extension: str, content: bytes) -> None:
    """A file that begins otherwise is not; pages, SVG and programs are refused under any unknown extension."""
    assert not bytes_agree(extension, content, len(content))


def test_cut_character_of_a_large_text() -> None:
    """A large text judged by its first bytes may be cut within a character; a whole one may not end so."""
    head = ("a" + "漢" * HEAD_SIZE).encode()[:HEAD_SIZE]

    assert bytes_agree("txt", head, len(head) + 1)
    assert bytes_agree("txt", head + b"\x01", len(head) + 2) is False
    assert bytes_agree("txt", b"\x01\xe6\xbc", 3) is False


@pytest.mark.parametrize(
    ("content", "extension"), [(b"%PDF-1.7", "pdf"), (PNG, "png"), (b"hello", "txt"), (PROGRAM, "")]
)
def test_unnamed_file_is_known_by_its_bytes(content: bytes, extension: str) -> None:
    """A file without a name gets the extension that its first bytes tell, or none."""
    assert guessed_extension(content, len(content)) == extension


@pytest.mark.parametrize(
    ("extension", "media_type"),
    [("pdf", "application/pdf"), ("jpg", "image/jpeg"), ("dwg", "application/octet-stream")],
)
def test_int_7_media_type_is_ours(extension: str, media_type: str) -> None:
    """The media type follows from the extension alone."""
    assert media_type_of(extension) == media_type
