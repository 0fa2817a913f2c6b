"""The letters of the development mailbox: one file each, an index in memory, and the oldest make room.

A file is the letter as it came, behind one line of ours that holds its envelope and what the list shows; so the index
is rebuilt from first lines alone. A letter is written under a temporary name and renamed: a killed process leaves whole
letters only. Nothing is synced, because a mailbox of test mail need not survive a power cut.
"""

import asyncio
import bisect
import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from cli.mailbox.opened import headline, printable

#: Begins the line in front of each letter.
MARK = b"X-Mailroom-Letter: "
#: Our line never gets longer: at most 100 recipients, each at most a command line long.
LONGEST_MARK = 1024 * 1024

_NAME = re.compile(r"[0-9a-f]{16}\.eml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A letter as the list shows it. Ids sort by arrival."""

    id: str
    sender: str
    recipients: tuple[str, ...]
    subject: str
    author: str
    size: int

    @property
    def at(self) -> datetime:
        """When it came: the id is the nanosecond."""
        return datetime.fromtimestamp(int(self.id, 16) // 1000 / 1_000_000, UTC)

    def matches(self, words: Sequence[str]) -> bool:
        """Whether each of the case-folded words is in an address or the subject."""
        text = "\n".join((self.sender, *self.recipients, self.author, self.subject)).casefold()
        return all(word in text for word in words)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the list, newest first; `number` is from 1 and never beyond `pages`."""

    letters: tuple[Letter, ...]
    number: int
    pages: int
    total: int


class _Mark(msgspec.Struct):
    """Our line in front of a letter."""

    sender: str
    recipients: tuple[str, ...]
    subject: str
    author: str


class Letters:
    """The letters of one folder. Making it reads the folder; from then on no other process may write there."""

    def __init__(self, folder: Path, keep: int = 5000, keep_bytes: int = 2 * 1024**3) -> None:
        self._folder = folder
        self._keep = keep
        self._keep_bytes = keep_bytes
        self._storing: set[asyncio.Task[Letter]] = set()
        self._ids: list[str] = []
        self._by_id: dict[str, Letter] = {}
        self._bytes = 0
        self._last = 0
        self._rebuild()

    def __len__(self) -> int:
        return len(self._ids)

    def get(self, letter_id: str) -> Letter | None:
        """The letter of this id, if it is still kept."""
        return self._by_id.get(letter_id)

    def list(self, page: int = 1, per_page: int = 50, search: str = "") -> Page:
        """One page of the letters that have every word of the search in an address or the subject."""
        words = search.casefold().split()
        found = [one for one in self._ids if self._by_id[one].matches(words)] if words else self._ids
        pages = max(1, -(-len(found) // per_page))
        number = min(max(page, 1), pages)
        until = len(found) - (number - 1) * per_page
        shown = reversed(found[max(0, until - per_page) : until])
        return Page(tuple(self._by_id[one] for one in shown), number, pages, len(found))

    async def source(self, letter_id: str) -> bytes | None:
        """The letter as it came, byte for byte, if it is still kept."""
        if letter_id not in self._by_id:
            return None
        return await asyncio.to_thread(_read, self._path(letter_id))

    async def store(self, sender: str, recipients: Sequence[str], content: bytes) -> Letter:
        """Return once the letter is on the disk and in the list; raises OSError when it cannot be written.

        A caller that is cancelled meanwhile does not stop it: file and index always agree.
        """
        storing = asyncio.create_task(self._store(sender, tuple(recipients), content))
        self._storing.add(storing)
        storing.add_done_callback(self._storing.discard)
        return await asyncio.shield(storing)

    async def clear(self) -> None:
        """Drop every letter."""
        dropped = self._ids
        self._ids, self._by_id, self._bytes = [], {}, 0
        await asyncio.to_thread(self._unlink, dropped)

    async def settle(self) -> None:
        """Return once the letters that are being stored are stored."""
        await asyncio.gather(*self._storing, return_exceptions=True)

    async def _store(self, sender: str, recipients: tuple[str, ...], content: bytes) -> Letter:
        letter = await asyncio.to_thread(self._write, self._next_id(), sender, recipients, content)
        self._add(letter)
        dropped = list(self._drop_oldest())
        if dropped:
            await asyncio.to_thread(self._unlink, dropped)
        return letter

    def _next_id(self) -> str:
        """Later than every id before, even when the clock was set back."""
        self._last = max(time.time_ns(), self._last + 1)
        return f"{self._last:016x}"

    def _write(self, letter_id: str, sender: str, recipients: tuple[str, ...], content: bytes) -> Letter:
        shown = headline(content)
        mark = _Mark(printable(sender), tuple(printable(one) for one in recipients), shown.subject, shown.author)
        temporary = self._path(letter_id).with_suffix(".part")
        try:
            with _create(temporary) as file:
                file.write(MARK + msgspec.json.encode(mark) + b"\r\n")
                file.write(content)
            temporary.rename(self._path(letter_id))
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        return _letter(letter_id, mark, len(content))

    def _add(self, letter: Letter) -> None:
        bisect.insort(self._ids, letter.id)
        self._by_id[letter.id] = letter
        self._bytes += letter.size

    def _drop_oldest(self) -> Iterator[str]:
        """Take the letters beyond the bounds out of the index; the newest always stays."""
        while len(self._ids) > self._keep or (self._bytes > self._keep_bytes and len(self._ids) > 1):
            oldest = self._by_id.pop(self._ids.pop(0))
            self._bytes -= oldest.size
            yield oldest.id

    def _unlink(self, ids: Sequence[str]) -> None:
        for letter_id in ids:
            self._path(letter_id).unlink(missing_ok=True)

    def _path(self, letter_id: str) -> Path:
        return self._folder / f"{letter_id}.eml"

    def _rebuild(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self._folder.iterdir()):
            if path.suffix == ".part":
                path.unlink(missing_ok=True)
            elif _NAME.fullmatch(path.name):
                self._add(_look_at(path))
        self._last = int(self._ids[-1], 16) if self._ids else 0
        self._unlink(list(self._drop_oldest()))


def _create(path: Path) -> BinaryIO:
    """A new file that only its owner may read: test mail is often copied from real people's."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _letter(letter_id: str, mark: _Mark, size: int) -> Letter:
    return Letter(
        id=letter_id,
        sender=mark.sender,
        recipients=mark.recipients,
        subject=mark.subject,
        author=mark.author,
        size=size,
    )


def _look_at(path: Path) -> Letter:
    """The letter of a file by its first line; one without it (a power cut, a stranger) is shown without envelope."""
    with path.open("rb") as file:
        line = file.readline(LONGEST_MARK)
        size = file.seek(0, os.SEEK_END)
    if line.startswith(MARK):
        with contextlib.suppress(msgspec.MsgspecError):
            mark = msgspec.json.decode(line.removeprefix(MARK), type=_Mark)
            return _letter(path.stem, mark, size - len(line))
    return _letter(path.stem, _Mark("", (), "", ""), size)


def _read(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if not content.startswith(MARK):
        return content
    return content.partition(b"\n")[2]
