"""Bundles: the files of several messages, written as one file of the attachment store.

In their rows such files would be written twice, to the database's log and to its tables; each by itself would be synced
by itself. Whatever comes while one bundle is written makes up the next.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from mailroom.attachments import AttachmentStore
from mailroom.batch import Batch, FlushLost, LineFull
from mailroom.logs import get_logger
from mailroom.message import Attachment
from mailroom.time_limit import TimeLimit

log = get_logger(__name__)

#: Bytes of the files of one message from which on they go to a bundle. Fewer cost less in their row.
BUNDLED_FROM = 32 * 1024

#: Bytes of one bundle, but for a message that has more by itself; and messages that may wait for theirs.
MOST_BYTES = 4 * 1024 * 1024
MOST_WAITING = 2000

#: Seconds that a message waits for its bundle, and for how long the folder is let alone after that or an error: what
#: it does not take stays in the rows.
WRITTEN_SECONDS = 0.5
LET_ALONE_SECONDS = 10.0

#: Bundles of which is known how many of their messages are to be neither accepted nor refused yet. Of those that are
#: forgotten, the ones that nobody came to need are found by the look at leftovers.
MOST_KNOWN = 1000

#: A bundle has the disk for itself for so many seconds, as a commit has the database.
ALONE_SECONDS = 0.05


class Bundles:
    """Writes the files of messages that are about to be accepted. `short` says why the disk may not be written to."""

    def __init__(
        self,
        attachments: AttachmentStore,
        short: Callable[[], str | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._attachments = attachments
        self._short = short
        self._clock = clock
        self._let_alone_until = float("-inf")
        self._time_limit = TimeLimit(WRITTEN_SECONDS)
        #: How many messages of each bundle may yet be accepted, while none was.
        self._unnamed: dict[str, int] = {}
        self.line: Batch[Sequence[bytes], tuple[str, int]] = Batch(
            self._write,
            max_items=MOST_WAITING,
            max_waiting=MOST_WAITING,
            size_of=lambda contents: sum(map(len, contents)),
            max_bytes=MOST_BYTES,
            beside=ALONE_SECONDS,
        )

    async def lay_down(self, files: tuple[Attachment, ...]) -> tuple[Attachment, ...]:
        """The same files; those that were in memory are on the disk, unless they are few bytes or the disk takes none."""
        contents = [file.content for file in files if file.content is not None]
        if sum(map(len, contents)) < BUNDLED_FROM or self._short() or self._clock() < self._let_alone_until:
            return files
        try:
            key, at = await self._time_limit.on(self.line.put(contents))
        except LineFull:
            return files
        except (OSError, TimeoutError, FlushLost) as error:
            if self._clock() >= self._let_alone_until:  # once for all that waited
                log.warning("files stay in the database", error=str(error) or type(error).__name__)
            self._let_alone_until = self._clock() + LET_ALONE_SECONDS
            return files
        return _in_bundle(files, key, at)

    def named(self, keys: Iterable[str]) -> None:
        """A message was accepted, or may have been, whose row names these."""
        for key in keys:
            self._unnamed.pop(key, None)

    async def discard(self, keys: Iterable[str]) -> None:
        """A message was not accepted that had files there: where that is so of all, the bundle goes."""
        for key in keys:
            others = self._unnamed.get(key, 0) - 1
            if others > 0:
                self._unnamed[key] = others
            elif self._unnamed.pop(key, None) is not None:
                with contextlib.suppress(OSError):  # the look at leftovers will find it
                    await self._attachments.delete(key)

    async def _write(self, group: Sequence[Sequence[bytes]]) -> list[tuple[str, int]]:
        key = await self._attachments.keep([content for contents in group for content in contents])
        if len(self._unnamed) >= MOST_KNOWN:
            self._unnamed.pop(next(iter(self._unnamed)))
        self._unnamed[key] = len(group)
        places, at = [], 0
        for contents in group:
            places.append((key, at))
            at += sum(map(len, contents))
        return places


def _in_bundle(files: tuple[Attachment, ...], key: str, at: int) -> tuple[Attachment, ...]:
    laid_down = []
    for file in files:
        if file.content is None:
            laid_down.append(file)
            continue
        laid_down.append(replace(file, content=None, key=key, at=at))
        at += len(file.content)
    return tuple(laid_down)
