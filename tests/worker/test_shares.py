"""The shares: which connections of each integration are this worker's."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from mailroom.store import sessions
from mailroom.store.allowances import Need
from mailroom.store.sqlite import SqliteStore
from tests.builders import created
from worker.consumer import LEAST_SEATS
from worker.seats import kept_of_part
from worker.session import Session
from worker.shares import NOTHING, Share, Shares


class Worker:
    """What a worker needs, and what it was told."""

    def __init__(self, store: SqliteStore) -> None:
        self.needs: dict[UUID, Need] = {}
        self.told = 0
        self.session = Session(store, list)
        self.shares = Shares(store, self.session, lambda: self.needs, self._tell)

    def _tell(self) -> None:
        self.told += 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Worker"]:
        """Asking while inside."""
        await self.session.open()
        task = asyncio.create_task(self.shares.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def until(self, integration_id: UUID, seats: int) -> Share:
        """Return once it has so many."""
        async with asyncio.timeout(20):
            while (share := self.shares.of(integration_id)).seats != seats:
                await asyncio.sleep(0.02)
        return share


async def test_a_worker_alone_has_all(store: SqliteStore) -> None:
    """The only worker gets all connections as soon as it says that it needs any; of others it has none."""
    integration_id = await created(store)
    async with Worker(store).running() as worker:
        worker.needs = {integration_id: Need(1, 0)}
        share = await worker.until(integration_id, 8)

        assert share == Share(seats=8, for_agents=2, open=8, total=8)
        assert worker.shares.of(uuid4()) == NOTHING
        assert worker.told >= 1


async def test_a_newcomer_gets_its_part(store: SqliteStore) -> None:
    """Who has more than its part gives back as its connections end, and the newcomer has them without being told."""
    integration_id = await created(store)
    async with Worker(store).running() as one, Worker(store).running() as two:
        one.needs = {integration_id: Need(20, 0)}
        await one.until(integration_id, 8)
        one.needs = {integration_id: Need(20, 7)}
        two.needs = {integration_id: Need(20, 0)}
        shrunk = await one.until(integration_id, 4)
        meanwhile = two.shares.of(integration_id).seats
        one.needs = {integration_id: Need(20, 4)}
        await two.until(integration_id, 4)

        assert (shrunk.seats, shrunk.open >= 7) == (4, True)
        assert meanwhile <= 1
        assert one.shares.of(integration_id).open == 4


async def test_a_session_that_is_dead_for_others_has_nothing(store: SqliteStore) -> None:
    """What a session had is gone when it was declared dead; the one that follows asks anew."""
    integration_id = await created(store)
    async with Worker(store).running() as worker:
        worker.needs = {integration_id: Need(1, 0)}
        await worker.until(integration_id, 8)
        await store.transaction(sessions.declare_dead, worker.session.id, 0, at=datetime.now(UTC))
        await worker.session.beat()
        at_first = worker.shares.of(integration_id)
        share = await worker.until(integration_id, 8)

        assert at_first == NOTHING
        assert share.open == 8


async def test_a_session_that_was_never_opened_has_nothing(store: SqliteStore) -> None:
    """Without a beat nobody knows of this worker, so nothing can be its own."""
    integration_id = await created(store)
    worker = Worker(store)
    await worker.shares.renew({integration_id: Need(3, 0)})

    assert worker.shares.of(integration_id) == NOTHING


@pytest.mark.parametrize(
    ("parts", "kept"),
    [
        ([8], [2]),
        ([4, 4], [1, 1]),
        ([1] * 8, [0, 0, 0, 1, 0, 0, 0, 1]),
        ([3, 3, 2], [0, 1, 1]),
        ([1, 1], [0, 1]),
        ([1], [0]),
        ([20], [5]),
        ([], []),
    ],
)
def test_all_workers_together_keep_one_in_four_for_agents(parts: list[int], kept: list[int]) -> None:
    """However seats are spread over workers, agents have as many to themselves as with one worker."""
    total = sum(parts)
    assert [kept_of_part(part, sum(parts[:i]), total) for i, part in enumerate(parts)] == kept


def test_the_least_a_worker_asks_for_takes_forms() -> None:
    """Wherever it comes in the order: who had its only connection kept for agents would never be seen to need more."""
    for total in range(3, 65):
        assert all(kept_of_part(LEAST_SEATS, before, total) < LEAST_SEATS for before in range(total - LEAST_SEATS + 1))
