"""The sweep by its own clock: who is dead, and what a broker that is away costs it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Concatenate
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.integration import ReportedState
from mailroom.message import Kind, Lane, Status
from mailroom.queue.memory import MemoryQueue
from mailroom.queue.port import QueueUnavailable
from mailroom.queue.ticket import Address, Ticket
from mailroom.store import allowances, integrations, messages, schema, sessions, sign_ins, sweeping
from mailroom.store.port import Store
from mailroom.store.sqlite import SqliteStore
from mailroom.tally import Tally
from mailroom.tickets import TicketWriter
from mailroom.vault import Vault
from mailroom.watch import IntegrationWatch
from tests.builders import a_message, a_settlement, accepted, claimed, created, this_moment
from worker.sweep import DEAD_AFTER_SECONDS, MOST, Sweep

TOMORROW = datetime.now(UTC) + timedelta(days=1)


class AwayQueue(MemoryQueue):
    """A queue that takes no ticket, and counts how often it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def publish(self, address: Address, ticket: Ticket) -> None:
        """Refuse."""
        self.asked += 1
        raise QueueUnavailable("not now")


class HangingQueue(MemoryQueue):
    """A queue that never says how many tickets wait."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def ready(self, address: Address) -> int:
        """Never answer."""
        self.asked.set()
        await asyncio.Event().wait()
        return 0


@dataclass
class Clock:
    """A clock that goes when it is told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The sweep's clock."""
    return Clock()


@pytest.fixture
def queue() -> AwayQueue:
    """The sweep's queue."""
    return AwayQueue()


@pytest.fixture
def sweep(store: SqliteStore, queue: AwayQueue, clock: Clock) -> Sweep:
    """A sweep on them."""
    return Sweep(
        store,
        queue,
        IntegrationWatch(store, Vault(["key"])),
        TicketWriter(queue, store, this_moment),
        Tally(store),
        clock,
    )


async def opened(store: SqliteStore) -> UUID:
    """A session that has begun and does not beat."""
    session = uuid4()
    await store.transaction(sessions.open_session, session, host="here", pid=1, at=datetime.now(UTC))
    return session


async def alive(store: SqliteStore) -> set[UUID]:
    """The sessions that have not ended."""
    return set(await store.read(sessions.beats))


async def test_a_beat_that_stands_still_is_dead_when_it_was_watched(
    store: SqliteStore, sweep: Sweep, clock: Clock
) -> None:
    """Half a minute of looking every second, and the same beat: the session is dead."""
    session = await opened(store)
    for _ in range(int(DEAD_AFTER_SECONDS)):
        await sweep.bury_dead()
        clock.now += 1
    assert await alive(store) == {session}
    await sweep.bury_dead()

    assert await alive(store) == set()


async def test_a_sweep_that_stood_still_itself_buries_nobody(store: SqliteStore, sweep: Sweep, clock: Clock) -> None:
    """A machine that slept for an hour has watched nobody meanwhile: it begins to look anew."""
    session = await opened(store)
    await sweep.bury_dead()
    clock.now += 3600
    await sweep.bury_dead()

    assert await alive(store) == {session}


async def test_a_broker_that_is_away_does_not_hold_up_the_sweep(
    store: SqliteStore, sweep: Sweep, queue: AwayQueue
) -> None:
    """What a dead worker left is queued again; each of its tickets is tried once, and left to a later look."""
    integration_id = await created(store)
    session = await opened(store)
    left = [await accepted(store, integration_id) for _ in range(120)]
    for message in left:
        await claimed(store, message, session)
    await store.transaction(sessions.declare_all_dead, at=datetime.now(UTC))
    await sweep.take_back()

    assert queue.asked == len(left)
    statuses = await store.read(messages.statuses, [message.id for message in left])
    assert set(statuses.values()) == {Status.QUEUED}


async def test_more_than_one_pass_of_lost_tickets_are_written_anew(store: SqliteStore, clock: Clock) -> None:
    """A wiped broker is made good at once, however many tickets it held."""
    integration_id = await created(store)
    rows = [a_message(integration_id, expires_at=TOMORROW) for _ in range(MOST + 10)]
    for start in range(0, len(rows), 1000):
        await store.statement(messages.accept, rows[start : start + 1000])
    queue = MemoryQueue()
    tickets = TicketWriter(queue, store, this_moment)
    sweep = Sweep(store, queue, IntegrationWatch(store, Vault(["key"])), tickets, Tally(store), clock)
    taken: list[UUID] = []
    await queue.subscribe(
        Address(Lane.FORM, integration_id), 10_000, lambda delivery: taken.extend(delivery.ticket.ids)
    )
    await sweep.lost()
    await tickets.aclose()
    await asyncio.sleep(0)

    assert sorted(taken) == sorted(row.id for row in rows)


async def test_ops_6_a_look_tickets_nothing_twice(store: SqliteStore, clock: Clock) -> None:
    """Even where all that waits is older than a moment yet to come, each message gets one ticket, and the look ends."""
    integration_id, queue = await created(store), MemoryQueue()
    waiting = [await accepted(store, integration_id, expires_at=TOMORROW) for _ in range(3)]
    tickets = TicketWriter(queue, store, this_moment)
    sweep = Sweep(store, queue, IntegrationWatch(store, Vault(["key"])), tickets, Tally(store), clock)
    taken: list[UUID] = []
    address = Address(Lane.FORM, integration_id)
    await queue.subscribe(address, 10_000, lambda delivery: taken.extend(delivery.ticket.ids))
    async with asyncio.timeout(5):
        await sweep._requeue_lost(address, TOMORROW)
    await tickets.aclose()
    await asyncio.sleep(0)

    assert sorted(taken) == sorted(message.id for message in waiting)


async def test_a_broker_that_hangs_does_not_keep_the_dead_alive(store: SqliteStore) -> None:
    """While the sweep waits for a broker that does not answer, dead sessions are still found."""
    queue = HangingQueue()
    started = time.monotonic()
    # Three seconds to each: half a minute is over sooner, and a look every second is still less than five ago.
    sweep = Sweep(
        store, queue, IntegrationWatch(store, Vault(["key"])), TicketWriter(queue, store, this_moment), Tally(store),
        lambda: 3 * (time.monotonic() - started),
    )  # fmt: skip
    await accepted(store, await created(store), expires_at=TOMORROW)
    session = await opened(store)
    loops = [asyncio.create_task(loop()) for loop in (sweep.run, sweep.watch_beats)]
    async with asyncio.timeout(60):
        await queue.asked.wait()
        while session in await alive(store):
            await asyncio.sleep(0.1)
    for loop in loops:
        loop.cancel()
    await asyncio.wait(loops)

    assert await alive(store) == set()


@dataclass
class Choosy:
    """A store that stumbles over what one integration has held."""

    store: Store
    bad: UUID | None = None

    async def statement(self, work: Callable[Concatenate[Connection, ...], Any], *args: Any, **kwargs: Any) -> Any:
        """Run a statement."""
        return await self.store.statement(work, *args, **kwargs)

    async def transaction(self, work: Callable[Concatenate[Connection, ...], Any], *args: Any, **kwargs: Any) -> Any:
        """Run work, or fail as a defect does."""
        if work is allowances.release and args[0] == self.bad:
            raise OverflowError("date value out of range")
        return await self.store.transaction(work, *args, **kwargs)

    async def read(self, work: Callable[Concatenate[Connection, ...], Any], *args: Any, **kwargs: Any) -> Any:
        """Read."""
        return await self.store.read(work, *args, **kwargs)

    async def aclose(self) -> None:
        """Nothing of its own."""


async def test_one_integrations_trouble_is_no_others(store: SqliteStore, clock: Clock) -> None:
    """What cannot be released for one integration does not keep the mail of the others."""
    ids = [await created(store, name=name) for name in ("first", "second")]
    held = [await accepted(store, one, expires_at=TOMORROW, status=Status.HELD) for one in ids]

    def activate(tx: Connection) -> None:
        tx.execute(sa.update(schema.integrations).values(reported_state=ReportedState.ACTIVE))

    await store.transaction(activate)
    choosy, queue = Choosy(store), MemoryQueue()
    watch = IntegrationWatch(choosy, Vault(["key"]))
    await watch.refresh()
    sweep = Sweep(choosy, queue, watch, TicketWriter(queue, choosy, this_moment), Tally(choosy), clock)
    # Whichever comes first.
    for choosy.bad in ids:
        await sweep.due()

    statuses = await store.read(messages.statuses, [message.id for message in held])
    assert set(statuses.values()) == {Status.QUEUED}


async def test_failed_sign_ins_are_forgotten(store: SqliteStore, sweep: Sweep) -> None:
    """One that no limit counts any more leaves no row behind; a later one does."""
    now = datetime.now(UTC)
    for ago in (timedelta(days=1), timedelta(minutes=1)):
        await store.transaction(sign_ins.note_failure, ["jane"], now=now - ago)
    await sweep.forget()

    assert len(await store.read(sign_ins.failures, "jane", since=now - timedelta(days=2))) == 1


@pytest.mark.parametrize("jump", [timedelta(days=1), timedelta(days=-1)])
async def test_ops_6_a_clock_that_jumps_expires_and_resends_nothing(
    store: SqliteStore, clock: Clock, jump: timedelta
) -> None:
    """When the clock jumps by a day, what may wait for hours stays queued, and what is due in minutes is not woken."""
    now, off = datetime.now(UTC), [timedelta()]

    class Jumping(SqliteStore):
        async def read(self, work: Any, *args: Any, **kwargs: Any) -> Any:
            answer = await super().read(work, *args, **kwargs)
            return (answer[0], answer[1] + off[0]) if work is integrations.all_rows_now else answer

    store.__class__ = Jumping
    integration_id, queue = await created(store), AwayQueue()
    for kind in Kind:
        await accepted(store, integration_id, kind=kind, accepted_at=now)
    sleeping = await claimed(store, await accepted(store, integration_id, accepted_at=now))
    soon = a_settlement(sleeping, Status.DEFERRED, wake_at=now + timedelta(minutes=5))
    await store.statement(messages.settle, [soon])
    watch = IntegrationWatch(store, Vault(["key"]))
    await watch.refresh()
    off[0] = jump
    await watch.refresh()
    sweep = Sweep(store, queue, watch, TicketWriter(queue, store, this_moment), Tally(store), clock)
    await sweep.due()
    await sweep.lost()
    numbers = await store.read(sweeping.counts)

    assert numbers == {(integration_id, Status.QUEUED): len(Kind), (integration_id, Status.DEFERRED): 1}
    assert queue.asked == 0
