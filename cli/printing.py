"""What commands print: for people as plain text, for programs as JSON. Nothing printed can steer a terminal."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from mailroom.logs import CONTROLS

#: Longer texts are cut in lists; `show` has them whole.
LONGEST_CELL = 48


def as_json(data: Any) -> None:
    """One JSON document; control characters in it are escaped as JSON does."""
    text = msgspec.json.format(msgspec.json.encode(data), indent=2).decode()
    sys.stdout.write("".join(map(_escaped_unless_line, text)) + "\n")


def lines(texts: Iterable[str]) -> None:
    """Each text on a line of its own."""
    for text in texts:
        sys.stdout.write(f"{plain(text)}\n")
    # `mailroom up | tee log` goes on for days: what it has to say must not wait in a buffer.
    sys.stdout.flush()


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns as wide as what they hold."""
    cells = [list(headings), *([_cut(plain(cell(value))) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    for row in cells:
        lines(["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()])


def fields(named: Mapping[str, Any]) -> None:
    """One field a line; empty ones are left out."""
    shown = {name: cell(value) for name, value in named.items() if value not in (None, "", [], {})}
    width = max(map(len, shown), default=0)
    lines(f"{name.ljust(width)}  {value}" for name, value in shown.items())


def section(title: str, texts: Sequence[str]) -> None:
    """A titled block; nothing when it is empty."""
    if texts:
        lines(["", f"{title}:", *(f"  {text}" for text in texts)])


def complain(sentence: str) -> None:
    """Tell on stderr what went wrong."""
    sys.stderr.write("".join(f"{plain(line)}\n" for line in sentence.splitlines()))


def cell(value: Any) -> str:
    """A value as people write it."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{number} {name}" for name, number in value.items())
        case _:
            return str(value)


def moment(iso: str | None) -> str | None:
    """A moment of the database's, to the second."""
    return f"{iso[:19].replace('T', ' ')} UTC" if iso else None


def duration(seconds: float) -> str:
    """About how long, in the one unit that people would use."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{round(seconds / length)} {unit}"
    return f"{max(1, round(seconds))} s"


def plain(text: str) -> str:
    """The text without what a terminal would act on; lone surrogates would not even encode."""
    return CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text).encode("utf-8", "backslashreplace").decode()


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"


def _escaped_unless_line(character: str) -> str:
    if character == "\n" or not CONTROLS.fullmatch(character):
        return character
    return f"\\u{ord(character):04x}"
