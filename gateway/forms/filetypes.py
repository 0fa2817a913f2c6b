"""Types of attached files: the extension says what a file claims to be, its first bytes whether that can be true.

The type a client declares is not looked at. Files are never opened further: a zip is not unpacked, a picture not drawn.
"""

import codecs
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

#: As many first bytes of a file as its type is judged by when the rest is in the attachment store.
HEAD_SIZE = 2048

_OLE2 = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
#: The second is a zip without any entry.
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
#: Sizes of a bitmap's information header, all versions; `BM` alone is also how many a text begins.
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
#: Control characters that no text has, in whatever 8-bit character set it was written.
_NOT_TEXT = re.compile(rb"[\x00-\x08\x0e-\x19\x1c-\x1f\x7f]")
_MARKUP = re.compile(rb"<\s*(?:!doctype\s+html|html|head|body|script|iframe|object|embed|svg|svg:svg)\b", re.IGNORECASE)
#: Windows, Linux, macOS (both byte orders, 32 and 64 bit, fat or Java), scripts.
_PROGRAMS = (
    b"MZ",
    b"\x7fELF",
    b"\xfe\xed\xfa\xce",
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
    b"#!",
)


def _starts(*signatures: bytes) -> Callable[[bytes, int], bool]:
    def agrees(sample: bytes, size: int) -> bool:
        return sample.startswith(signatures)

    return agrees


def _is_pdf(sample: bytes, size: int) -> bool:
    # Some writers put line ends in front; readers have always taken that.
    return sample.lstrip(b"\r\n\t \xef\xbb\xbf").startswith(b"%PDF-")


def _is_bmp(sample: bytes, size: int) -> bool:
    return sample.startswith(b"BM") and int.from_bytes(sample[14:18], "little") in _BMP_HEADERS


def _is_text(sample: bytes, size: int) -> bool:
    if b"\x00" in sample:
        return False
    try:
        # A sample that is not the whole file may end within a character.
        codecs.getincrementaldecoder("utf-8")().decode(sample, final=len(sample) >= size)
    except UnicodeDecodeError:
        return _NOT_TEXT.search(sample) is None
    return True


def _is_webp(sample: bytes, size: int) -> bool:
    return sample.startswith(b"RIFF") and sample[8:12] == b"WEBP"


#: Extension -> our media type and how its first bytes are known. Beside the default list of file types stand those an
#: operator is most likely to add.
_TYPES: Mapping[str, tuple[str, Callable[[bytes, int], bool]]] = MappingProxyType(
    {
        "pdf": ("application/pdf", _is_pdf),
        "doc": ("application/msword", _starts(_OLE2)),
        "txt": ("text/plain", _is_text),
        "jpg": ("image/jpeg", _starts(b"\xff\xd8\xff")),
        "png": ("image/png", _starts(b"\x89PNG\r\n\x1a\n")),
        "gif": ("image/gif", _starts(b"GIF87a", b"GIF89a")),
        "bmp": ("image/bmp", _is_bmp),
        "zip": ("application/zip", _starts(*_ZIP)),
        "jpeg": ("image/jpeg", _starts(b"\xff\xd8\xff")),
        "tif": ("image/tiff", _starts(b"II*\x00", b"MM\x00*")),
        "tiff": ("image/tiff", _starts(b"II*\x00", b"MM\x00*")),
        "webp": ("image/webp", _is_webp),
        "csv": ("text/csv", _is_text),
        "log": ("text/plain", _is_text),
        "rtf": ("application/rtf", _starts(b"{\\rtf")),
        "xls": ("application/vnd.ms-excel", _starts(_OLE2)),
        "ppt": ("application/vnd.ms-powerpoint", _starts(_OLE2)),
        "msg": ("application/vnd.ms-outlook", _starts(_OLE2)),
        "docx": ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", _starts(*_ZIP)),
        "xlsx": ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", _starts(*_ZIP)),
        "pptx": ("application/vnd.openxmlformats-officedocument.presentationml.presentation", _starts(*_ZIP)),
        "odt": ("application/vnd.oasis.opendocument.text", _starts(*_ZIP)),
        "ods": ("application/vnd.oasis.opendocument.spreadsheet", _starts(*_ZIP)),
    }
)
#: Extensions by which an unnamed file can be known, in the order they are tried; text last, because it fits most.
_GUESSES = ("pdf", "png", "jpg", "gif", "bmp", "doc", "zip", "txt")


def bytes_agree(extension: str, sample: bytes, size: int) -> bool:
    """Whether a file of this size, of which this is the beginning or all, can be what its extension says.

    An extension without a known signature is believed, unless the bytes are a web page, an SVG or a program: those are
    never taken in under another name.
    """
    known = _TYPES.get(extension)
    return known[1](sample, size) if known is not None else not _looks_active(sample)


def media_type_of(extension: str) -> str:
    """The type we declare for a file of this extension."""
    known = _TYPES.get(extension)
    return known[0] if known is not None else "application/octet-stream"


def guessed_extension(sample: bytes, size: int) -> str:
    """An extension for a file that came without a name, by its first bytes; empty when they say nothing."""
    for extension in _GUESSES:
        if _TYPES[extension][1](sample, size):
            return extension
    return ""


def _looks_active(sample: bytes) -> bool:
    # In UTF-16 every other byte of markup is NUL.
    head = sample[:HEAD_SIZE].replace(b"\x00", b"")
    return sample.startswith(_PROGRAMS) or _MARKUP.search(head) is not None
