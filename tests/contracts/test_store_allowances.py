"""What every store promises about shared limits: no worker takes what another has, and none is lost by the way."""

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule
from sqlalchemy import Connection

from mailroom.message import Kind, Status
from mailroom.pace import PROBE_SECONDS, Granted, NoLimit, NotNow, day_of
from mailroom.store import allowances, messages, schema, sessions, sweeping
from mailroom.store.allowances import Held, Lease, Need, Unused, fair_parts, lease
from mailroom.store.port import Store
from tests.builders import NOW, a_settlement, accepted, claimed, created

SECOND = timedelta(seconds=1)


def after(seconds: float) -> datetime:
    """A moment of the test."""
    return NOW + timedelta(seconds=seconds)


async def limited(store: Store, integration_id: UUID, **values: Any) -> None:
    """Give an integration limits."""

    def write(tx: Connection) -> None:
        tx.execute(sa.update(schema.integrations).where(schema.integrations.c.id == integration_id).values(**values))

    await store.transaction(write)


async def limits_of(store: Store, integration_id: UUID) -> Any:
    """Its row."""

    def read(tx: Connection) -> Any:
        return tx.execute(sa.select(schema.integrations).where(schema.integrations.c.id == integration_id)).one()

    return await store.read(read)


# --- the rate, by eight workers ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Simulated:
    """A worker: asks for a slice, uses it at its own speed, asks for the next. Now and then it has nothing to send."""

    dice: random.Random
    #: Seconds between two of its messages.
    gap: float
    #: How many wait in its line at most.
    line: int
    #: It has something to send for so many seconds, then nothing for as long.
    period: float
    unused: Unused | None = None

    def is_busy(self, at: float) -> bool:
        """Whether it has anything to send."""
        return int(at / self.period) % 2 == 0

    def use(self, taken: Granted, at: float) -> tuple[list[float], float]:
        """When it uses what it was given, and when it asks again."""
        begins = at + taken.wait
        used = [begins + self.gap * (i + self.dice.random()) for i in range(taken.number)]
        in_time = [moment for moment in used if moment < begins + taken.lasts]
        left = taken.number - len(in_time)
        self.unused = Unused(taken.day, left) if left else None
        return in_time, (begins + taken.lasts if left else in_time[-1])


async def simulate(
    store: Store, integration_id: UUID, workers: Iterator[Simulated], *, seconds: float, deaths: float | None = None
) -> list[float]:
    """Have eight workers send for so long, one of them replaced every so often; when they sent."""
    sent: list[float] = []
    tie = count()
    turns = [(0.01 * i, next(tie), next(workers)) for i in range(8)]
    next_death = deaths or float("inf")
    while turns[0][0] < seconds:
        at, _, worker = heapq.heappop(turns)
        if at >= next_death:
            next_death += deaths or 0
            # It dies with what it has in hand; another one begins in its place.
            await store.transaction(allowances.take, integration_id, wanted=worker.line, at=after(at))
            worker = replace(next(workers), period=worker.period)
        if not worker.is_busy(at):
            heapq.heappush(turns, (at + 0.1, next(tie), worker))
            continue
        wanted = worker.dice.randint(1, worker.line)
        taken = await store.transaction(
            allowances.take, integration_id, wanted=wanted, unused=worker.unused, at=after(at)
        )
        worker.unused = None
        match taken:
            case Granted():
                used, again = worker.use(taken, at)
                sent += used
            case NotNow(seconds_more):
                again = at + seconds_more
            case NoLimit():
                raise AssertionError("it has a limit")
        # The database takes a moment to answer.
        heapq.heappush(turns, (again + 0.002, next(tie), worker))
    return sorted(sent)


def uneven(seed: int) -> Iterator[Simulated]:
    """Workers of every kind; the first two are always busy."""
    dice = random.Random(seed)  # noqa: S311 - a simulation
    for number in count():
        yield Simulated(
            dice, gap=dice.choice([0.001, 0.004, 0.01]), line=dice.choice([2, 10, 50]),
            period=1e9 if number < 2 else dice.choice([0.7, 3, 11]),
        )  # fmt: skip


def windows(sent: list[float], seconds: float) -> Iterator[int]:
    """How many were sent in every ten seconds that begin with a half second."""
    for half in range(int((seconds - 10) * 2)):
        yield sum(half / 2 <= moment < half / 2 + 10 for moment in sent)


@pytest.mark.parametrize("rate", [8, 40, 150])
async def test_eight_workers_send_at_the_rate_of_one(store: Store, integration_id: UUID, rate: float) -> None:
    """With eight workers, uneven demand and restarts, every ten seconds see the allowed number, five percent up or down."""
    await limited(store, integration_id, per_second=rate)
    sent = await simulate(store, integration_id, uneven(7), seconds=60, deaths=9)

    # One message more or less is the end of a window.
    assert [found for found in windows(sent, 60) if not rate * 10 * 0.95 - 1 <= found <= rate * 10 * 1.05 + 1] == []


async def test_a_day_has_its_number_and_no_more(store: Store, integration_id: UUID) -> None:
    """Workers that come and go use up a day's number, less what died with them, and begin anew at midnight (UTC)."""
    await limited(store, integration_id, per_second=40, per_day=600)
    # 30 s before midnight; at 40 a second a day's number takes 15 s.
    shift = (datetime(2026, 1, 6, 23, 59, 30, tzinfo=NOW.tzinfo) - NOW).total_seconds()
    workers = uneven(3)
    turns = [(0.01 * i, i, next(workers)) for i in range(8)]
    sent = {"2026-01-06": 0, "2026-01-07": 0}
    while turns[0][0] < 60:
        at, tie, worker = heapq.heappop(turns)
        taken = await store.transaction(
            allowances.take, integration_id, wanted=9, unused=worker.unused, at=after(shift + at)
        )
        worker.unused = None
        again = at + 0.2
        if isinstance(taken, Granted):
            used, again = worker.use(taken, at)
            for moment in used:
                sent[day_of(after(shift + moment))] += 1
        heapq.heappush(turns, (again, tie, worker))

    assert all(570 <= number <= 600 for number in sent.values())


async def test_what_was_not_used_counts_no_more(store: Store, integration_id: UUID) -> None:
    """A worker gives back what it did not need of a day, on leaving or with its next wish; not to another day."""
    await limited(store, integration_id, per_day=1000)
    first = await store.transaction(allowances.take, integration_id, wanted=20, at=NOW)
    assert isinstance(first, Granted)
    await store.transaction(allowances.give_back, integration_id, Unused(first.day, 15))
    await store.transaction(allowances.take, integration_id, wanted=10, unused=Unused(first.day, 3), at=NOW)
    await store.transaction(allowances.give_back, integration_id, Unused("2026-01-05", 7))

    assert await store.read(allowances.used_today, integration_id, now=NOW) == 12
    assert await store.read(allowances.used_today, integration_id, now=NOW + timedelta(days=1)) == 0


async def test_without_limits_nothing_is_written(store: Store, integration_id: UUID) -> None:
    """An integration that nothing limits is told so; one that does not exist may send nothing."""
    assert await store.transaction(allowances.take, integration_id, wanted=9) == NoLimit()
    assert isinstance(await store.transaction(allowances.take, uuid4(), wanted=9), NotNow)
    assert await store.read(allowances.used_today, integration_id, now=NOW) == 0


async def test_the_clock_is_the_databases(store: Store, integration_id: UUID) -> None:
    """Who brings no time of its own is served by the database's, and two in a row get one slice after the other."""
    await limited(store, integration_id, per_second=10)
    first = await store.transaction(allowances.take, integration_id, wanted=1)
    second = await store.transaction(allowances.take, integration_id, wanted=1)

    assert isinstance(first, Granted)
    assert isinstance(second, Granted)
    assert first.wait == 0
    assert second.wait <= 0.1


# --- the slow start ---------------------------------------------------------------------------------------------------


async def test_after_a_release_one_message_goes(store: Store, integration_id: UUID) -> None:
    """Until a message has passed one worker has one permit, and nobody another one for a minute."""
    await limited(store, integration_id, released_at=NOW, per_second=100)
    first = await store.transaction(allowances.take, integration_id, wanted=30, at=after(0.1))
    others = [
        await store.transaction(allowances.take, integration_id, wanted=30, at=after(at)) for at in (0.1, 1, 30, 60)
    ]
    later = await store.transaction(allowances.take, integration_id, wanted=30, at=after(PROBE_SECONDS + 0.2))

    assert isinstance(first, Granted)
    assert first.number == 1
    assert all(isinstance(other, NotNow) for other in others)
    assert isinstance(later, Granted)
    assert later.number == 1


async def test_a_message_that_passed_starts_the_ramp(store: Store, integration_id: UUID) -> None:
    """Once it is proven, the rate is two a second at first and doubles every five seconds, for all workers together."""
    await limited(store, integration_id, released_at=NOW)
    await store.transaction(allowances.take, integration_id, wanted=30, at=after(0.1))
    was_new = await store.transaction(allowances.proven, integration_id, 1, at=after(1))
    again = await store.transaction(allowances.proven, integration_id, 1, at=after(2))
    numbers = [await taken_between(store, integration_id, 1 + 5 * n, 6 + 5 * n) for n in range(4)]

    assert (was_new, again) == (True, False)
    assert (await limits_of(store, integration_id)).proven_at == after(1)
    assert all(14.4 * 2**n * 0.8 - 2 <= number <= 14.4 * 2**n * 1.2 + 2 for n, number in enumerate(numbers))


async def taken_between(store: Store, integration_id: UUID, begin: float, end: float) -> int:
    """How many one greedy worker may send in that time."""
    at, number = begin, 0
    while at < end:
        taken = await store.transaction(allowances.take, integration_id, wanted=99, at=after(at))
        match taken:
            case Granted(granted, wait, _, _):
                number += granted
                at += max(wait, 0.001)
            case NotNow(seconds):
                at += seconds
            case NoLimit():
                raise AssertionError("the ramp is over too early")
    return number


async def test_proof_of_a_former_state_proves_nothing(store: Store, integration_id: UUID) -> None:
    """A message sent before a reset says nothing about what was released by it; nor does one where nothing was."""
    nothing_released = await store.transaction(allowances.proven, integration_id, 1, at=NOW)
    await limited(store, integration_id, released_at=NOW, generation=5)
    of_another = await store.transaction(allowances.proven, integration_id, 4, at=after(1))

    assert (nothing_released, of_another) == (False, False)
    assert (await limits_of(store, integration_id)).proven_at is None


async def test_a_message_refused_for_its_own_sake_gives_the_next_one_its_turn(
    store: Store, integration_id: UUID
) -> None:
    """When the first message proved nothing, another may go at once; where all is proven that changes nothing."""
    await limited(store, integration_id, released_at=NOW)
    await store.transaction(allowances.take, integration_id, wanted=1, at=after(1))
    await store.transaction(allowances.probe_again, integration_id, NOW)
    second = await store.transaction(allowances.take, integration_id, wanted=9, at=after(2))
    await store.transaction(allowances.proven, integration_id, 1, at=after(3))
    await store.transaction(allowances.take, integration_id, wanted=1, at=after(3))
    await store.transaction(allowances.probe_again, integration_id, NOW)
    fourth = await store.transaction(allowances.take, integration_id, wanted=1, at=after(3))

    assert isinstance(second, Granted)
    assert second.number == 1
    assert isinstance(fourth, Granted)
    assert fourth.wait > 0


async def test_held_messages_are_released_as_fast_as_they_may_go(store: Store, integration_id: UUID) -> None:
    """However many sweeps look, a second's worth of held messages is queued, the oldest first: at first one."""
    held = sorted([await a_held_message(store, integration_id) for _ in range(9)])
    await limited(store, integration_id, released_at=NOW)
    first = [await released(store, integration_id, at) for at in (0.1, 0.1, 1, 30)]
    await store.transaction(allowances.proven, integration_id, 1, at=after(31))
    then = [await released(store, integration_id, at) for at in (31, 31, 32.1)]

    assert first == [held[:1], [], [], []]
    assert then == [held[1:3], [], held[3:5]]


async def released(store: Store, integration_id: UUID, at: float) -> list[UUID]:
    """What one look releases."""
    found = await store.transaction(allowances.release, integration_id, most=500, now=after(at), at=after(at))
    return [due.id for due in found]


async def a_held_message(store: Store, integration_id: UUID) -> UUID:
    """A message that waits for its integration."""
    claim = await claimed(store, await accepted(store, integration_id))
    await store.statement(messages.settle, [a_settlement(claim, Status.HELD, attempts=0)])
    return claim.id


async def test_nothing_is_released_of_what_does_not_exist(store: Store) -> None:
    """An integration that is gone has nothing to release."""
    assert await released(store, uuid4(), 0) == []


# --- throttles --------------------------------------------------------------------------------------------------------


async def test_a_throttle_slows_all_workers_down_once(store: Store, integration_id: UUID) -> None:
    """Refusals of one moment, whoever meets them, halve the pace once; five seconds later they halve it again."""
    paces = [
        await store.transaction(allowances.slow_down, integration_id, 1, seen=80, at=after(at))
        for at in (0, 0, 1, 4.9, 5)
    ]

    assert paces[:4] == [40, None, None, None]
    assert paces[4] == pytest.approx(20, rel=0.06)
    assert (await limits_of(store, integration_id)).paced_at == after(5)
    taken = await store.transaction(allowances.take, integration_id, wanted=99, at=after(5))
    assert isinstance(taken, Granted)
    assert taken.number <= 4


async def test_a_throttle_from_before_a_reset_is_none(store: Store, integration_id: UUID) -> None:
    """What a server said to an earlier configuration slows nothing down."""
    assert await store.transaction(allowances.slow_down, integration_id, 7, seen=80, at=NOW) is None
    assert (await limits_of(store, integration_id)).pace is None


# --- what a release will mean -----------------------------------------------------------------------------------------


async def test_the_impact_of_a_release_is_told(store: Store, integration_id: UUID) -> None:
    """Held, queued and deferred messages of one integration are counted, with the oldest and those past their time."""
    await accepted(store, await created(store, name="other"))
    oldest = await accepted(store, integration_id, id=UUID(int=1), accepted_at=NOW - timedelta(hours=1))
    await accepted(store, integration_id, kind=Kind.ACD)
    await a_held_message(store, integration_id)
    claim = await claimed(store, await accepted(store, integration_id))
    await store.statement(messages.settle, [a_settlement(claim, Status.DEFERRED, wake_at=after(60))])
    await claimed(store, await accepted(store, integration_id))
    impact = await store.read(sweeping.impact, integration_id, now=NOW + timedelta(hours=4, seconds=1))

    assert impact == sweeping.Impact(held=1, queued=2, deferred=1, oldest=oldest.accepted_at, past_expiry=1)
    assert impact.to_send == 3


async def test_nothing_waits_for_an_idle_integration(store: Store, integration_id: UUID) -> None:
    """Where nothing waits there is no oldest."""
    impact = await store.read(sweeping.impact, integration_id, now=NOW)

    assert impact == sweeping.Impact(held=0, queued=0, deferred=0, oldest=None, past_expiry=0)


# --- connections ------------------------------------------------------------------------------------------------------


async def opened(store: Store) -> UUID:
    """A worker that begins to work."""
    session = uuid4()
    await store.transaction(sessions.open_session, session, host="here", pid=1, at=NOW)
    return session


async def shared(store: Store, session: UUID, integration_id: UUID, wanted: int, kept: int) -> Lease:
    """One worker's wish, and what it got."""
    return (await store.transaction(allowances.share, session, {integration_id: Need(wanted, kept)}))[integration_id]


async def test_workers_share_connections_by_need(store: Store, integration_id: UUID) -> None:
    """One alone has all; a newcomer gets its part as soon as the first one keeps no more than its own."""
    one, two = await opened(store), await opened(store)
    alone = await shared(store, one, integration_id, wanted=20, kept=0)
    newcomer = await shared(store, two, integration_id, wanted=3, kept=0)
    asked = await shared(store, one, integration_id, wanted=20, kept=8)
    given_back = await shared(store, one, integration_id, wanted=20, kept=5)
    served = await shared(store, two, integration_id, wanted=3, kept=0)

    assert (alone.seats, newcomer.seats) == (8, 0)
    assert (asked.seats, asked.part) == (8, 5)
    assert (given_back.seats, served.seats) == (5, 3)


async def test_what_the_dead_and_the_departed_had_is_free(store: Store, integration_id: UUID) -> None:
    """Connections of a worker that ended or was declared dead are the others' at once; it gets none any more."""
    one, two, three = [await opened(store) for _ in range(3)]
    await shared(store, one, integration_id, wanted=8, kept=0)
    await store.transaction(sessions.declare_dead, one, 0, at=NOW)
    after_death = await shared(store, two, integration_id, wanted=8, kept=0)
    await store.transaction(sessions.end_session, two, at=NOW)
    after_leave = await shared(store, three, integration_id, wanted=8, kept=0)

    assert (after_death.seats, after_leave.seats) == (8, 8)
    assert await store.transaction(allowances.share, one, {integration_id: Need(8, 8)}) == {}


async def test_more_workers_than_connections(store: Store, integration_id: UUID) -> None:
    """With fewer connections than workers some have none, and who has one keeps it while it needs it."""
    await limited(store, integration_id, max_connections=2)
    workers = [await opened(store) for _ in range(3)]
    first = [await shared(store, worker, integration_id, wanted=1, kept=0) for worker in workers]
    kept = [one.part for one in first]
    for _ in range(3):
        kept = [
            (await shared(store, worker, integration_id, wanted=1, kept=mine)).part
            for worker, mine in zip(workers, kept, strict=True)
        ]

    assert sorted(kept) == [0, 1, 1]


async def test_integrations_are_shared_one_by_one(store: Store, integration_id: UUID) -> None:
    """Each integration has connections of its own; one that is gone has none."""
    other, gone = await created(store, name="other", max_connections=3), uuid4()
    session = await opened(store)
    needs = {integration_id: Need(9, 0), other: Need(9, 0), gone: Need(9, 0)}
    leases = await store.transaction(allowances.share, session, needs)

    assert {one: got.seats for one, got in leases.items()} == {integration_id: 8, other: 3}


async def test_a_lowered_limit_is_shared_anew(store: Store, integration_id: UUID) -> None:
    """When there are fewer connections than before, each worker gives back what is too much."""
    session = await opened(store)
    await shared(store, session, integration_id, wanted=8, kept=0)
    await limited(store, integration_id, max_connections=3)
    asked = await shared(store, session, integration_id, wanted=8, kept=8)
    given_back = await shared(store, session, integration_id, wanted=8, kept=3)

    assert (asked.seats, asked.part, given_back.seats) == (8, 3, 3)


@pytest.mark.parametrize(("newcomer", "before"), [(UUID(int=1), 1), (UUID(int=9), 0)])
def test_who_gives_back_knows_who_comes_before(newcomer: UUID, before: int) -> None:
    """A worker that gives a connection away counts it as the other's at once: one stays kept for agents, not two or none."""
    lacking = {newcomer: Held(0, 3)}

    assert lease(2, UUID(int=5), Need(3, 1), 2, lacking) == Lease(seats=1, part=1, before=before, total=2)


@given(st.integers(0, 40), st.lists(st.integers(0, 30), max_size=12))
def test_parts_are_fair(total: int, wanted: list[int]) -> None:
    """All is divided; nobody has less than it wants while another has more of a surplus or a part larger by two."""
    parts = fair_parts(total, wanted)

    assert sum(parts) == (total if wanted else 0)
    for mine, want in zip(parts, wanted, strict=True):
        if mine < want:
            assert all(other <= mine + 1 or other <= 0 for other in parts)


@given(
    st.integers(0, 20), st.integers(0, 30), st.integers(0, 30), st.integers(0, 20),
    st.lists(st.tuples(st.integers(0, 10), st.integers(0, 30)), max_size=6),
)  # fmt: skip
def test_no_answer_makes_more_than_there_are(
    total: int, wanted: int, kept: int, had: int, others: list[tuple[int, int]]
) -> None:
    """Whatever a worker says it keeps, the sum grows beyond the total by nothing, and only what it had is kept."""
    rows = {UUID(int=i + 1): Held(seats, want) for i, (seats, want) in enumerate(others)}
    got = lease(total, UUID(int=99), Need(wanted, kept), had, rows)
    elsewhere = sum(seats for seats, _ in others)

    assert 0 <= got.part <= got.seats
    assert got.seats >= min(kept, had)
    assert got.seats + elsewhere <= max(total, had + elsewhere)


TOTAL = 5
SHARED = UUID(int=7)


@dataclass(slots=True, eq=False)
class Walker:
    """A worker of the walk: what it may have, and how many connections it really has."""

    session: UUID
    part: int = 0
    open: int = 0
    wanted: int = 1


class Office(RuleBasedStateMachine):
    """Workers that come, connect, disconnect, ask, leave and die in any order."""

    workers: Bundle[Walker] = Bundle("workers")

    def __init__(self) -> None:
        super().__init__()
        self.engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
        schema.metadata.create_all(self.engine)
        self.alive: list[Walker] = []
        self.born = 0
        with self.engine.begin() as tx:
            row = {
                "id": SHARED, "name": "main", "host": "smtp.company.test", "port": 587, "security": "none",
                "from_address": "forms@company.test", "max_connections": TOTAL, "intended_state": "ENABLED",
                "reported_state": "ACTIVE", "since": NOW,
            }  # fmt: skip
            tx.execute(sa.insert(schema.integrations).values(row))

    def teardown(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    @rule(target=workers)
    def come(self) -> Any:
        """A worker begins."""
        if len(self.alive) == 8:
            return multiple()
        self.born += 1
        # In any order of ids: they decide who has the odd seat.
        walker = Walker(UUID(int=self.born * 7919 % 1009))
        with self.engine.begin() as tx:
            sessions.open_session(tx, walker.session, host="here", pid=1, at=NOW)
        self.alive.append(walker)
        return walker

    @rule(walker=workers, wanted=st.integers(0, 12))
    def ask(self, walker: Walker, wanted: int) -> None:
        """It says what it needs, and hears what it may have."""
        if walker in self.alive:
            walker.wanted = wanted
            need = Need(wanted, max(walker.part, walker.open))
            with self.engine.begin() as tx:
                walker.part = allowances.share(tx, walker.session, {SHARED: need})[SHARED].part

    @rule(walker=workers)
    def connect(self, walker: Walker) -> None:
        """It opens a connection, if it may."""
        if walker in self.alive and walker.open < walker.part:
            walker.open += 1

    @rule(walker=workers)
    def disconnect(self, walker: Walker) -> None:
        """One of its connections ends."""
        walker.open = max(walker.open - 1, 0)

    @rule(walker=workers)
    def leave(self, walker: Walker) -> None:
        """It ends, with all its connections."""
        if walker in self.alive:
            self.alive.remove(walker)
            with self.engine.begin() as tx:
                sessions.end_session(tx, walker.session, at=NOW)

    @rule(walker=workers)
    def die(self, walker: Walker) -> None:
        """It dies, and is declared dead."""
        if walker in self.alive:
            self.alive.remove(walker)
            with self.engine.begin() as tx:
                sessions.declare_dead(tx, walker.session, 0, at=NOW)

    @rule()
    def settle(self) -> None:
        """Everybody closes what is too much and asks once more: then all connections are with somebody, by need."""
        for _ in range(6):
            for walker in self.alive:
                walker.open = min(walker.open, walker.part)
                self.ask(walker, walker.wanted)
        if self.alive:
            assert sum(walker.part for walker in self.alive) == TOTAL
        short = [walker.part for walker in self.alive if walker.part < walker.wanted]
        surplus = [walker.part for walker in self.alive if walker.part > max(walker.wanted, 0)]
        assert not (short and surplus)
        assert all(walker.part <= min(short, default=TOTAL) + 1 for walker in self.alive)

    @invariant()
    def never_too_many(self) -> None:
        """The living together never have more connections, nor leases for more, than there are."""
        assert sum(walker.open for walker in self.alive) <= TOTAL
        assert all(walker.open <= TOTAL for walker in self.alive)
        with self.engine.begin() as tx:
            living = [walker.session for walker in self.alive]
            leased = tx.execute(
                sa.select(sa.func.sum(schema.seat_leases.c.seats)).where(schema.seat_leases.c.session.in_(living))
            ).scalar()
        assert (leased or 0) <= TOTAL


TestSeats = Office.TestCase
TestSeats.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
