"""Multipart bodies as every browser writes them, taken apart in one pass: a parser asks for an event for each step.

Only what leaves nothing to be judged is taken apart here. Whatever is unusual is left to the parser, also where both
would come to the same, so that what a body means is decided in one place.
"""

import re
from dataclasses import dataclass

#: The head of a part between its boundary and its content. In a name nothing is escaped, and no line ends: %22 and \"
#: mean quotes, and which of them when is for the parser to know. Its lines are far shorter than the longest that may be.
_HEAD = re.compile(
    rb'\r\nContent-Disposition: form-data; name="([^"%\\\r\n]{1,500})"(?:; filename="([^"%\\\r\n]{0,500})")?'
    rb"(?:\r\nContent-Type: (?!(?i:multipart))[\w.+-]{1,100}/[\w.+-]{1,100}(?:; ?charset=[\w-]{1,40})?)?\r\n\r\n"
)
#: What follows the last boundary, and nothing behind it.
_ENDS = (b"--\r\n", b"--")


@dataclass(slots=True)
class RegularPart:
    """One part, whole. `filename` is None where none was given; it may be empty."""

    name: str
    filename: str | None
    content: bytes


def regular_parts(body: bytes, boundary: str, most: int) -> list[RegularPart] | None:
    """The parts of a whole body; None where anything about it is unusual, or it has more of them than `most`."""
    delimiter = b"\r\n--" + boundary.encode()
    if not body.startswith(delimiter[2:]):
        return None
    parts: list[RegularPart] = []
    at = len(delimiter) - 2
    while head := _HEAD.match(body, at):
        begin = head.end()
        at = body.find(delimiter, begin)
        if at < 0 or len(parts) == most:
            return None
        name, filename = head.groups()
        try:
            parts.append(RegularPart(name.decode(), None if filename is None else filename.decode(), body[begin:at]))
        except UnicodeDecodeError:
            return None
        at += len(delimiter)
    return parts if body[at:] in _ENDS else None
