"""Names of attached files: a name that comes out of here is harmless on every system and in every mail program."""

import re
from collections.abc import Iterable

from gateway.text import composed

#: Characters and UTF-8 bytes of a name. Most file systems take 255 bytes; some programs count a path of 260 in all.
MOST_CHARACTERS = 150
MOST_BYTES = 255
#: An extension is kept whole when a name is cut; what is longer is none.
_LONGEST_EXTENSION = 20

#: C0, DEL, C1, soft hyphen, bidirectional controls, zero-width characters, line separators, lone surrogates: all that
#: is not seen and makes a name look like another (`fdp.exe` written right to left).
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
#: Not allowed in names on Windows; the colon also starts an alternate data stream there.
_FORBIDDEN = re.compile('[<>:"|?*]')
#: Devices on Windows, with any extension.
_RESERVED = re.compile(r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³])(?:[. ]|$)", re.IGNORECASE)


def clean_name(original: str, position: int, extension: str) -> str:
    """The last component of the original, made harmless; `attachment-<position>.<extension>` when nothing is left.

    An extension of the original's own is kept in any case: it says what the sender took the file for.
    """
    # The components are parted last, so that nothing that is taken out can have hidden a separator.
    visible = _UNSEEN.sub("", composed(_UNSEEN.sub("", original)))
    last = _FORBIDDEN.sub("_", visible.replace("\\", "/").rpartition("/")[2]).rstrip(". ")
    stem, dot, own_extension = last.rpartition(".")
    if not dot or len(own_extension) > _LONGEST_EXTENSION:
        stem, own_extension = last, ""
    stem = stem.strip(". ")
    if not stem:
        return _joined(f"attachment-{position}", own_extension or extension)
    if _RESERVED.match(f"{stem}."):
        stem = f"_{stem}"
    return _cut(stem, "", own_extension)


def numbered(names: Iterable[str]) -> tuple[str, ...]:
    """The names in order, none twice, whatever the case: the second `a.pdf` becomes `a (2).pdf`."""
    taken: set[str] = set()
    result: list[str] = []
    for name in names:
        free = name
        number = 1
        while free.casefold() in taken:
            number += 1
            stem, extension = _parted(name)
            free = _cut(stem, f" ({number})", extension)
        taken.add(free.casefold())
        result.append(free)
    return tuple(result)


def extension_of(name: str) -> str:
    """What stands after the last dot, in lower case; empty without one."""
    return _parted(name)[1].lower()


def _parted(name: str) -> tuple[str, str]:
    stem, dot, extension = name.rpartition(".")
    return (stem, extension) if dot else (name, "")


def _joined(stem: str, extension: str) -> str:
    return f"{stem}.{extension}" if extension else stem


def _cut(stem: str, suffix: str, extension: str) -> str:
    tail = _joined(suffix, extension)
    stem = stem[: MOST_CHARACTERS - len(tail)]
    room = MOST_BYTES - len(tail.encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip(". ") + tail
