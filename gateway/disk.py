"""The floor under the disks: what was admitted must still fit when it is written (STO-6)."""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mailroom.logs import get_logger

log = get_logger(__name__)

#: Seconds between two looks; and a look that takes longer than the second is no answer: a share that hangs.
LOOK_SECONDS = 1.0
NO_ANSWER_SECONDS = 10.0

#: On a small disk so much of it is left free, on others all that bodies in hand may need.
SMALL_DISK_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Space:
    """What a disk has, in bytes."""

    free: int
    total: int


def space_of(folder: Path) -> Space:
    """What the disk has that the folder is on, or would be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    return Space(usage.free, usage.total)


def floor_of(total: int, bodies: int) -> int:
    """How many bytes of a disk of this size must stay free where so many may be on their way to it."""
    return min(bodies, int(total * SMALL_DISK_SHARE))


class DiskFloor:
    """Says when the disk under one of these folders is short. `bodies`: bytes that may be on their way to it."""

    def __init__(
        self,
        folders: Iterable[Path],
        bodies: int,
        look: Callable[[Path], Space] = space_of,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folders = tuple(folders)
        self._bodies = bodies
        self._look = look
        self._clock = clock
        self._looked_at = clock()
        self._short: str | None = None
        #: Bytes free on the fullest of them.
        self.free: float = float("inf")

    async def run(self) -> None:
        """Look every second, for as long as the process runs."""
        while True:
            if self._folders:
                await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """See what is free now. Not on the event loop: a share that hangs must hold up nobody."""
        begun = self._clock()
        short, free = await asyncio.to_thread(self._see)
        self._looked_at = begun
        self.free = free
        if short != self._short:
            log.error("disk is short" if short else "disk is no longer short", reason=short, free_bytes=free)
        self._short = short

    def short(self) -> str | None:
        """Why nothing may be written there; None when it may."""
        if self._folders and self._clock() - self._looked_at > NO_ANSWER_SECONDS:
            return f"the disk of {self._folders[0].name} does not answer"
        return self._short

    def _see(self) -> tuple[str | None, float]:
        short, least = None, float("inf")
        for folder in self._folders:
            space = self._look(folder)
            least = min(least, space.free)
            if space.free < floor_of(space.total, self._bodies):
                short = f"the disk of {folder.name} is full"
        return short, least
