"""The letters before a reply, quoted below it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from gateway.text import clean_line
from mailroom.message import Correspondent

#: How much is quoted below a reply; each reply carries it, and some servers take no more than 10 MB.
MOST_LETTERS = 20
MOST_CHARACTERS = 100_000

#: Characters of a letter that are read for it: most of them may be quotes, which are left out.
_READ = 5 * MOST_CHARACTERS

#: Characters kept free for what is said of the rest.
_REMARKS = 200
REST_LEFT_OUT = "[The rest is left out.]"

#: In English, whatever the machine's locale is.
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)

#: The line before a quote, as ours and most programs write it: with a date, and wrapped when it is long.
_DATED = re.compile(r"(?=[^0-9]{1,300}[0-9])(?:On|Am|Le|El|Il) .{1,300}:")
_WROTE = re.compile(r".{1,300} wrote:")
_BODY_ENDS = re.compile(r"</body[\t\n\f\r ]*+>", re.IGNORECASE)
_QUOTE_STYLE = "margin:0 0 0 0.8ex;border-left:1px solid #cccccc;padding-left:1ex"


@dataclass(frozen=True, slots=True)
class Earlier:
    """A letter before: when it was written, by whom, and its plain text."""

    at: datetime
    sender: Correspondent
    text: str


@dataclass(frozen=True, slots=True)
class _Quoted:
    """What is quoted of one letter: who wrote it, and its lines. Without a writer it is a remark of ours."""

    introduction: str
    lines: tuple[str, ...]


def quoted_text(reply: str, earlier: Sequence[Earlier]) -> str:
    """The reply and, below it, the letters before it, newest first: each line behind `> `."""
    blocks = [reply.rstrip("\r\n")] if reply.strip() else []
    blocks += [
        "\n".join([each.introduction, *(f"> {line}".rstrip() for line in each.lines)]) for each in _history(earlier)
    ]
    return "\n\n".join(blocks) if earlier else reply


def quoted_html(reply_html: str, earlier: Sequence[Earlier]) -> str:
    """The reply with the same below it in HTML: as escaped text, so that nothing of a foreign letter's HTML is in it."""
    history = "".join(_as_html(each) for each in _history(earlier))
    *_, end = [None, *_BODY_ENDS.finditer(reply_html)]
    at = len(reply_html) if end is None else end.start()
    return reply_html[:at] + history + reply_html[at:]


def _as_html(quoted: _Quoted) -> str:
    introduction = f"<p>{escape(quoted.introduction)}</p>"
    if not quoted.lines:
        return introduction
    lines = "<br>".join(escape(line) for line in quoted.lines)
    return f'{introduction}<blockquote type="cite" style="{_QUOTE_STYLE}">{lines}</blockquote>'


def _history(earlier: Sequence[Earlier]) -> Iterator[_Quoted]:
    # Of two of the same moment the later in the sequence is the newer one.
    newest_first = sorted(earlier, key=lambda each: each.at)[::-1]
    room = MOST_CHARACTERS - _REMARKS
    for position, each in enumerate(newest_first):
        introduction = _introduction(each)
        # What quotes it has is quoted below; only the first letter's stand nowhere else.
        is_first = position == len(newest_first) - 1
        room -= len(introduction) + 3
        if position == MOST_LETTERS or room <= 0:
            yield _Quoted(_left_out(len(newest_first) - position), ())
            return
        read = each.text[:_READ]
        lines, room = _within(room, read.splitlines() if is_first else _without_quotes(read))
        if len(read) < len(each.text) and REST_LEFT_OUT not in lines[-1:]:
            lines = (*lines, REST_LEFT_OUT)
        yield _Quoted(introduction, lines)


def _introduction(earlier: Earlier) -> str:
    at = earlier.at.astimezone(UTC)
    name = clean_line(earlier.sender.name or "")
    address = clean_line(earlier.sender.address)
    sender = f"{name} <{address}>" if name else address
    day = f"{_DAYS[at.weekday()]}, {at.day} {_MONTHS[at.month - 1]} {at.year}"
    return f"On {day} at {at:%H:%M} UTC, {sender} wrote:"


def _left_out(letters: int) -> str:
    return "[1 earlier letter is left out.]" if letters == 1 else f"[{letters} earlier letters are left out.]"


def _without_quotes(text: str) -> list[str]:
    """The lines its writer wrote, without what introduces a quote, and without the empty lines around one."""
    kept: list[str] = []
    after_quote = False
    for line in text.splitlines():
        if line.startswith(">"):
            if not after_quote:
                _drop_introduction(kept)
            after_quote = True
        elif line.strip() or not after_quote:
            if after_quote and kept:
                kept.append("")
            kept.append(line)
            after_quote = False
    return kept


def _drop_introduction(lines: list[str]) -> None:
    _drop_empty(lines)
    wrapped = " ".join(lines[-2:])
    if len(lines) > 1 and _DATED.fullmatch(wrapped) and not lines[-2].rstrip().endswith((".", ":")):
        del lines[-2:]
    elif lines and (_DATED.fullmatch(lines[-1]) or _WROTE.fullmatch(lines[-1])):
        lines.pop()
    _drop_empty(lines)


def _drop_empty(lines: list[str]) -> None:
    while lines and not lines[-1].strip():
        lines.pop()


def _within(room: int, lines: list[str]) -> tuple[tuple[str, ...], int]:
    """As much of the lines as there is room for, and the room that is left; each takes what `> ` and its end take too."""
    _drop_empty(lines)
    taken: list[str] = []
    for line in lines:
        room -= len(line) + 3
        if room < 0:
            return (*taken, line[: max(len(line) + room, 0)], REST_LEFT_OUT), 0
        taken.append(line)
    return tuple(taken), room
