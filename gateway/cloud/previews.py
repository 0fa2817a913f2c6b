"""What a list of letters shows of each."""

import re
import unicodedata

from gateway.text import clean_line

#: What is this many times further in than a preview is long is in none, so that a long letter takes no longer.
_READ = 100
#: Code points that one visible character may be made of; what has more is cut inside.
_MOST_PARTS = 32
#: Newsletters fill the room behind their first line with these, and with joiners that join nothing.
_UNSEEN = re.compile("[\u00ad\u034f\u200b\u2060\ufeff]")
_JOINERS = "\u200c\u200d"
_JOINER = "\u200d"
_SKIN = frozenset("\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")
_FLAGS = range(0x1F1E6, 0x1F200)


def preview(text: str, most: int = 200) -> str:
    """The text's beginning as one clean line of so many characters at most; `…` ends it where more would follow."""
    words = (word.strip(_JOINERS) for word in _UNSEEN.sub("", text[: _READ * most]).split())
    read = " ".join(word for word in words if word)
    # Putting characters together takes quadratic time for those that have no end, so they get one before.
    line = clean_line(read[: 4 * most])
    if len(line) <= most and len(read) <= 4 * most:
        return line
    return line[: _boundary(line, most - 1)].rstrip() + "…"


def _boundary(line: str, most: int) -> int:
    """Where the line may be cut so that no visible character is; at `most`, or a little before it."""
    for at in range(min(most, len(line)), max(most - _MOST_PARTS, 0), -1):
        if at == len(line) or not _belong_together(line[at - 1], line[at], line[:at]):
            return at
    return most


def _belong_together(left: str, right: str, before: str) -> bool:
    if _JOINER in {left, right} or right in _SKIN or unicodedata.category(right).startswith("M"):
        return True
    if ord(left) in _FLAGS and ord(right) in _FLAGS:
        # A flag is two letters; after an even number of them the next flag begins.
        letters = len(before) - len(before.rstrip("".join(map(chr, _FLAGS))))
        return letters % 2 == 1
    return False
