"""Cleaning of text at the edge: what comes out can be stored, shown and sent anywhere.

NUL cannot be stored in PostgreSQL, a lone surrogate cannot be encoded, and any kind of line break in a value that ends
up in a header is a header of the sender's own making.
"""

import re
import unicodedata

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
#: C0 controls and DEL, all but tab and line feed.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
#: All that str.splitlines, and with it Python's email package, takes for the end of a line; and the tab.
_BREAKS = re.compile("[\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029]+")
#: C0, DEL, C1, and the bidirectional embeddings, overrides and isolates: left open in a display name, these turn
#: round what a mail program shows after it. The harmless marks U+200E and U+200F stay.
_NOT_IN_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

#: Marks that stand on the character before them. More than 30 on one are no writing, and cost NFC the square of their
#: number; that is the limit of the Stream-Safe Text Format (Unicode Standard Annex 15, section 13).
_MARK = "".join(re.escape(chr(code)) for code in range(0x300, 0x1F000) if unicodedata.combining(chr(code)))
_PILED_UP = re.compile(f"([{_MARK}]{{30}})[{_MARK}]+")


def composed(text: str) -> str:
    """The text in NFC, in time proportional to its length; of piled up marks so many stay as writing has."""
    return unicodedata.normalize("NFC", _PILED_UP.sub(r"\1", text))


def clean_line(text: str) -> str:
    """The text as one line in NFC without control characters; line breaks and tabs become spaces, the ends are bare."""
    if text.isascii() and text.isprintable():
        return text.strip()
    text = _LONE_SURROGATE.sub("\ufffd", text)
    text = _NOT_IN_A_LINE.sub("", _BREAKS.sub(" ", text))
    return composed(text).strip()


def clean_text(text: str) -> str:
    """The text in NFC with line feeds for all line ends, without control characters but tab and line feed."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _CONTROLS.sub("", text)
    if text.isascii():
        return text
    return composed(_LONE_SURROGATE.sub("\ufffd", text))
