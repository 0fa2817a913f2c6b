"""What a process counts by itself: it gets to the database, sooner or later, and costs next to nothing."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Concatenate
from uuid import uuid4

import pytest
from sqlalchemy import Connection

from mailroom import tally as module
from mailroom.message import Kind
from mailroom.store import tallies
from mailroom.store.port import CommitUnknown, StoreUnavailable
from mailroom.store.sqlite import SqliteStore
from mailroom.store.tallies import By, Total
from mailroom.tally import MOST_KEPT, UNNAMED, Tally, What

NOW = datetime(2026, 1, 6, 12, 0, 30, tzinfo=UTC)
DAY = timedelta(days=1)


class Failing(SqliteStore):
    """A store whose statements end as told, and which counts them."""

    ends: Exception | None = None
    asked = 0

    async def statement(self, work: Callable[Concatenate[Connection, ...], Any], *args: Any, **kwargs: Any) -> Any:
        """Run it, or end so."""
        self.asked += 1
        if self.ends is not None:
            raise self.ends
        return await super().statement(work, *args, **kwargs)


@pytest.fixture
async def store(sqlite_file: Any) -> Any:
    """A store that can fail."""
    store = Failing(sqlite_file)
    yield store
    await store.aclose()


async def counted(store: SqliteStore, by: By | None = None) -> list[Total]:
    """What is in the database."""
    return await store.read(tallies.totals, NOW - DAY, NOW + DAY, what=list(What), by=by)


async def test_what_was_counted_is_there_at_the_end(store: Failing) -> None:
    """Leaving adds what is left, however short the time was."""
    tally = Tally(store)
    async with tally.running():
        tally.count(What.SENT, NOW, kind=Kind.FORM)
        tally.count(What.SENT, NOW + timedelta(seconds=40), kind=Kind.ACD, integration_id=uuid4(), number=2)

    assert await counted(store, By.KIND) == [Total("sent", "acd", 2), Total("sent", "form", 1)]


async def test_it_is_added_by_itself(store: Failing) -> None:
    """Nobody has to leave for the database to hear of it."""
    tally = Tally(store)
    async with tally.running(), asyncio.timeout(30):
        tally.count(What.SENT, NOW, kind=Kind.FORM)
        while not await counted(store):
            await asyncio.sleep(0.05)

    assert await counted(store) == [Total("sent", None, 1)]


async def test_nothing_counted_asks_nothing(store: Failing) -> None:
    """An idle process leaves the database alone."""
    await Tally(store).flush()

    assert store.asked == 0


async def test_a_database_that_is_away_hears_of_it_later(store: Failing) -> None:
    """What cannot be added is kept, together with what happens meanwhile."""
    tally = Tally(store)
    tally.count(What.SENT, NOW, kind=Kind.FORM)
    store.ends = StoreUnavailable("away")
    await tally.flush()
    tally.count(What.SENT, NOW, kind=Kind.FORM)
    store.ends = None
    await tally.flush()
    await tally.flush()

    assert await counted(store) == [Total("sent", None, 2)]


async def test_what_may_have_been_added_is_not_added_again(store: Failing) -> None:
    """A count in doubt is left at that: figures never claim what did not happen."""
    tally = Tally(store)
    tally.count(What.SENT, NOW, kind=Kind.FORM)
    store.ends = CommitUnknown("lost")
    await tally.flush()
    store.ends = None
    await tally.flush()

    assert await counted(store) == []


async def test_what_is_kept_is_bounded(store: Failing) -> None:
    """However long the database is away: what has its row already goes on counting, and nothing else is begun."""
    tally = Tally(store)
    for minute in range(MOST_KEPT + 10):
        tally.count(What.SENT, NOW - timedelta(minutes=minute), kind=Kind.FORM)
    tally.count(What.SENT, NOW, kind=Kind.FORM)
    await tally.flush()

    [total] = await store.read(tallies.totals, NOW - 30 * DAY, NOW + DAY, what=[What.SENT])
    assert total.number == MOST_KEPT + 1
    assert store.asked == MOST_KEPT // module.ADDED_AT_ONCE


async def test_services_nobody_named_are_one(store: Failing) -> None:
    """Whoever posts to services of any name makes one row of them."""
    tally = Tally(store, ["support"])
    for service in ("support", "a", "b", None):
        tally.count(What.ACCEPTED, NOW, kind=Kind.FORM, service=service)
    await tally.flush()

    found = await counted(store, By.SERVICE)
    assert {(one.of, one.number) for one in found} == {("support", 1), (UNNAMED, 2), ("", 1)}
