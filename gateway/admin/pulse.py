"""Figures of the whole deployment that every page shows, taken once for all who look, and never more often than they cost."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Generic, TypeVar
from uuid import UUID

from mailroom.latency import SECONDS_OF
from mailroom.message import Status
from mailroom.store import dead_letters, sessions, sweeping, tallies
from mailroom.store.dead_letters import Group
from mailroom.store.port import Store
from mailroom.store.sweeping import Waiting
from mailroom.store.tallies import By, Point
from mailroom.tally import What

Figure = TypeVar("Figure")

#: A figure is at least so many seconds old before it is taken anew, and this many times as old as taking it lasted: over
#: a backlog of millions a count takes long, and looking at a page must not be what the database is busy with.
YOUNG_SECONDS = 0.8
TIMES_ITS_COST = 10

#: What is counted of submissions.
OF_SUBMISSIONS = (What.ACCEPTED, What.REFUSED, What.AGAIN)

#: Groups of dead letters that a page shows.
MOST_GROUPS = 200


class Span(StrEnum):
    """Over which time a chart goes."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"


#: How long each is, and the step of its charts.
SPANS: Mapping[Span, tuple[timedelta, timedelta]] = {
    Span.HOUR: (timedelta(hours=1), timedelta(minutes=1)),
    Span.DAY: (timedelta(days=1), timedelta(minutes=15)),
    Span.WEEK: (timedelta(days=7), timedelta(hours=2)),
}


@dataclass(frozen=True, slots=True)
class Charted:
    """What happened over a span, by step: the beginnings of the steps, counts by kind, and how long messages took."""

    moments: tuple[datetime, ...]
    by_kind: tuple[Point, ...]
    took: tuple[Point, ...]
    #: How many seconds the oldest waiting message had waited.
    oldest: tuple[Point, ...]


@dataclass(slots=True)
class Taken(Generic[Figure]):
    """One figure, kept for as long as it is young."""

    take: Callable[[], Awaitable[Figure]]
    _value: Figure | None = None
    _good_until: float = float("-inf")
    _taking: asyncio.Task[Figure] | None = None

    async def now(self) -> Figure:
        """The figure, taken anew where it is old. Raises what taking it raises, to all who waited for it at once.

        One after the other would each wait for a database that is away as long as all before it together.
        """
        if self._value is not None and time.monotonic() < self._good_until:
            return self._value
        if self._taking is None:
            self._taking = asyncio.create_task(self._taken())
            self._taking.add_done_callback(self._ended)
        return await asyncio.shield(self._taking)

    async def anew(self) -> Figure:
        """The figure taken now, for whoever may just have changed it."""
        if self._taking is not None:
            await asyncio.wait({self._taking})  # it began before whoever asks had done so
        self._good_until = float("-inf")
        return await self.now()

    async def _taken(self) -> Figure:
        began = time.monotonic()
        self._value = await self.take()
        ended = time.monotonic()
        self._good_until = ended + max(YOUNG_SECONDS, TIMES_ITS_COST * (ended - began))
        return self._value

    def _ended(self, taking: asyncio.Task[Figure]) -> None:
        self._taking = None
        if not taking.cancelled():
            taking.exception()  # whoever waited has it; perhaps all of them have gone


class Pulse:
    """The figures of one deployment."""

    def __init__(self, store: Store) -> None:
        async def charted(span: Span) -> Charted:
            return await _charted(store, span)

        #: Unfinished messages by integration and status.
        self.counts: Taken[Mapping[tuple[UUID, Status], int]] = Taken(lambda: store.read(sweeping.counts))
        self.waiting: Taken[Sequence[Waiting]] = Taken(lambda: store.read(sweeping.waiting))
        self.groups: Taken[Sequence[Group]] = Taken(lambda: store.read(dead_letters.groups, limit=MOST_GROUPS))
        #: What came in through each service in the last day: accepted, refused, told to come again.
        self.services: Taken[Mapping[str, Mapping[str, int]]] = Taken(lambda: _by_service(store))
        self.workers: Taken[int] = Taken(lambda: _workers(store))
        #: By integration, since midnight (UTC).
        self.sent_today: Taken[Mapping[UUID, int]] = Taken(lambda: _sent_today(store))
        self.charts: Mapping[Span, Taken[Charted]] = {span: _of(charted, span) for span in Span}


def _of(charted: Callable[[Span], Awaitable[Charted]], span: Span) -> Taken[Charted]:
    return Taken(lambda: charted(span))


async def _workers(store: Store) -> int:
    return len(await store.read(sessions.beats))


async def _by_service(store: Store) -> dict[str, dict[str, int]]:
    now = datetime.now(UTC)
    found = await store.read(
        tallies.totals, now - timedelta(days=1), now + timedelta(minutes=1), what=list(OF_SUBMISSIONS), by=By.SERVICE
    )
    numbers: dict[str, dict[str, int]] = {}
    for one in found:
        numbers.setdefault(str(one.of), {})[one.what] = one.number
    return numbers


async def _sent_today(store: Store) -> Mapping[UUID, int]:
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    found = await store.read(
        tallies.totals, midnight, now + timedelta(minutes=1), what=[What.SENT], by=By.INTEGRATION
    )  # fmt: skip
    return {one.of: one.number for one in found if isinstance(one.of, UUID)}


async def _charted(store: Store, span: Span) -> Charted:
    length, step = SPANS[span]
    now = datetime.now(UTC)
    end = datetime.fromtimestamp((now.timestamp() // step.total_seconds() + 1) * step.total_seconds(), UTC)
    start = end - length
    by_kind = await store.read(tallies.series, start, end, step, what=list(What), by=By.KIND)
    took = await store.read(tallies.series, start, end, step, what=list(SECONDS_OF))
    moments = tuple(start + i * step for i in range(length // step))
    oldest = await store.read(tallies.oldest, start, end, step)
    return Charted(moments, tuple(by_kind), tuple(took), tuple(oldest))
