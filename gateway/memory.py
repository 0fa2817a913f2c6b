"""The memory guard: this process takes on nothing more before the system would end it for what it uses (OVL-5)."""

import contextlib
import ctypes
import gc
import math
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mailroom.logs import get_logger

log = get_logger(__name__)

#: Of what may be used, so much is. The rest is for what was admitted already and still grows.
FULL_SHARE = 0.75

#: Bytes of memory that each byte of a body may come to need: as it came, as it is stored, and on its way to the database.
#: Measured: 2.4, with forms of ten files that are each just small enough for their row.
BYTES_PER_BYTE = 3

#: What bodies in hand may come to need must fit into so much of each limit, beside what is used without them.
MOST_SHARE = 0.9

#: Seconds for which a look is good: a few small files of the kernel are read for it.
LOOK_SECONDS = 0.1

#: Seconds between two tries to give memory back that Python has freed and the allocator has kept.
#: They double with each try that did not help, up to the longest: each holds everybody up.
GIVE_BACK_SECONDS = 1.0
LONGEST_GIVE_BACK_SECONDS = 15.0

#: The kernel says so of a group of version 1 that has no limit.
_NO_LIMIT = 2**60


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit that we live under, and how much of it is used, in bytes."""

    name: str
    used: int
    limit: int

    @property
    def share(self) -> float:
        """How much of it is used, as a part of one."""
        return self.used / self.limit


def working_set(current: int, inactive_file: int, anonymous: int) -> int:
    """What the kernel cannot take back: all but files that nobody reads any more, and never less than our own pages."""
    return max(current - inactive_file, anonymous)


class MemoryGuard:
    """Says when memory is short."""

    def __init__(
        self,
        look: Callable[[], Iterable[Bound]] | None = None,
        give_back: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look or Limits().bounds
        self._give_back = give_back or return_freed
        self._clock = clock
        self._looked_at = self._gave_back_at = float("-inf")
        self._give_back_after = GIVE_BACK_SECONDS
        self._bounds: Sequence[Bound] = ()
        #: What was used of each limit when nothing was in hand.
        self._idle: dict[tuple[str, int], int] = {}
        self._was_full = False
        #: Bytes that all bodies in hand, and that one more, may come to need as of the last look.
        self._room = self._room_for_coming = 0.0

    @property
    def share(self) -> float:
        """How much of the tightest limit is used; 0 where there is none."""
        self._see()
        return max((bound.share for bound in self._bounds), default=0.0)

    def short(self, in_hand: int = 0, coming: int = 0) -> str | None:
        """Why a body of so many bytes may not be taken on, with so many in hand; None when it may."""
        self._see(idle=not in_hand)
        if self._is_far_from_full(in_hand, coming):
            return None
        full = self._full(in_hand, coming)
        if full and self._clock() - self._gave_back_at >= self._give_back_after:
            self._give_back()
            self._gave_back_at = self._clock()
            self._looked_at = float("-inf")
            self._see(idle=not in_hand)
            full = self._full(in_hand, coming)
            longer = min(2 * self._give_back_after, LONGEST_GIVE_BACK_SECONDS)
            self._give_back_after = longer if full else GIVE_BACK_SECONDS
        if (full is not None) is not self._was_full:
            self._was_full = full is not None
            if full:
                log.warning("memory is short", limit=full.name, used_bytes=full.used, limit_bytes=full.limit)
            else:
                log.warning("memory is no longer short")
        return f"memory is short ({full.name})" if full else None

    def _see(self, *, idle: bool = False) -> None:
        if self._clock() - self._looked_at >= LOOK_SECONDS:
            self._bounds = tuple(self._look())
            self._looked_at = self._clock()
            if idle or not self._idle:
                self._idle = {(bound.name, bound.limit): bound.used for bound in self._bounds}
            self._room, self._room_for_coming = self._rooms()

    def _rooms(self) -> tuple[float, float]:
        if any(bound.share > FULL_SHARE for bound in self._bounds):
            return 0.0, 0.0
        mosts = [(bound, MOST_SHARE * bound.limit) for bound in self._bounds]
        room = min((most - self._idle_of(bound) for bound, most in mosts), default=math.inf)
        return room, min((most - bound.used for bound, most in mosts), default=math.inf)

    def _is_far_from_full(self, in_hand: int, coming: int) -> bool:
        """Whether no limit need be looked at one by one: so it nearly always is, and thousands a second ask."""
        within = BYTES_PER_BYTE * (in_hand + coming) < self._room and BYTES_PER_BYTE * coming < self._room_for_coming
        return within and not self._was_full

    def _idle_of(self, bound: Bound) -> int:
        return self._idle.get((bound.name, bound.limit), bound.used)

    def _full(self, in_hand: int, coming: int) -> Bound | None:
        """The limit that is short already, or would be when so many bytes have come and all they need is used."""
        for bound in self._bounds:
            idle = self._idle_of(bound)
            # Under load there is always something in hand: what has grown since is seen only in what is used now.
            expected = max(idle + BYTES_PER_BYTE * (in_hand + coming), bound.used + BYTES_PER_BYTE * coming)
            if bound.share > FULL_SHARE or expected > MOST_SHARE * bound.limit:
                return bound
        return None


def return_freed() -> None:
    """Give what is free back to the system: a process that once was full would seem so for ever."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # not every C library has it
        ctypes.CDLL(None).malloc_trim(0)


class Limits:
    """The limits of this process: of its control groups, of `ulimit`, and the machine's memory."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._process = root / "proc/self"
        self._groups = list(_groups(root))
        self._page = os.sysconf("SC_PAGE_SIZE")

    def bounds(self) -> Sequence[Bound]:
        """Every limit there is, with what is used of it now."""
        found = [bound for group in self._groups if (bound := group.bound())]
        with contextlib.suppress(OSError, ValueError):
            pages = [int(part) for part in (self._process / "statm").read_text().split()]
            space, resident, data = (pages[at] * self._page for at in (0, 1, 5))
            found.append(Bound("the machine's memory", resident, os.sysconf("SC_PHYS_PAGES") * self._page))
            for name, used, number in (
                ("ulimit -v", space, resource.RLIMIT_AS),
                ("ulimit -d", data, resource.RLIMIT_DATA),
            ):
                limit = resource.getrlimit(number)[0]
                if limit != resource.RLIM_INFINITY:
                    found.append(Bound(name, used, limit))
        return found


@dataclass(frozen=True, slots=True)
class _Group:
    """A control group that counts memory, and how its version calls what we read."""

    folder: Path
    limit: str
    current: str
    inactive_file: str
    anonymous: str

    def bound(self) -> Bound | None:
        """Its limit; None when it has none, or is gone."""
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            limit = int((self.folder / self.limit).read_text())
            if limit >= _NO_LIMIT:
                return None
            current = int((self.folder / self.current).read_text())
            parts = dict(line.split(" ", 1) for line in (self.folder / "memory.stat").read_text().splitlines())
            used = working_set(current, int(parts.get(self.inactive_file, 0)), int(parts.get(self.anonymous, 0)))
            return Bound("the control group", used, limit)
        return None


def _groups(root: Path) -> Iterator[_Group]:
    """Our control groups and those they are in, of version 2 and of version 1."""
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                for folder in _upwards(root / "sys/fs/cgroup", path):
                    yield _Group(folder, "memory.max", "memory.current", "inactive_file", "anon")
            elif "memory" in controllers.split(","):
                for folder in _upwards(root / "sys/fs/cgroup/memory", path):
                    yield _Group(
                        folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_rss"
                    )


def _upwards(top: Path, path: str) -> Iterator[Path]:
    """The folder of a group and of all it is in. In a container the path may be the host's, and only the top is ours."""
    folder = top / path.strip("/")
    while folder != top:
        yield folder
        folder = folder.parent
    yield top
