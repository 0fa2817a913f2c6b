"""The allowance: what one worker may send of the limits all workers share, without a question for each message."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, MutableMapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.integration import Integration
from mailroom.outcome import Blame, Deferred, Rejected, Reply, Sent
from mailroom.pace import Granted, NotNow
from mailroom.store import allowances, schema
from mailroom.store.clock import moment
from mailroom.store.sqlite import SqliteStore
from mailroom.vault import Vault
from mailroom.watch import IntegrationWatch
from tests.builders import created
from worker.allowance import UNUSED_SECONDS, Allowance, asks_the_account_to_wait

SENT = Sent(Reply("dot", 250, "2.0.0 taken"))
THROTTLED = Deferred(Reply("MAIL", 421, "4.7.0 slow down"), Blame.THROTTLE)
NO_SUCH_USER = Rejected(Reply("RCPT", 550, "5.1.1 no such user"), Blame.RECIPIENT)
TROUBLE = Deferred(Reply("MAIL", 451, "4.3.0 try later"), Blame.PROVIDER)


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


class Bell:
    """Hears that somebody may ask once more."""

    def __init__(self) -> None:
        self.rung: list[UUID] = []
        self._event = asyncio.Event()

    def __call__(self, integration_id: UUID) -> None:
        """Ring."""
        self.rung.append(integration_id)
        self._event.set()

    async def rings(self) -> None:
        """Return at the next ring."""
        self._event.clear()
        async with asyncio.timeout(10):
            await self._event.wait()


@pytest.fixture
def bell() -> Bell:
    """Rung for whoever was told no."""
    return Bell()


@pytest.fixture
def clock() -> Clock:
    """The allowance's clock."""
    return Clock()


@pytest.fixture
async def allowance(store: SqliteStore, bell: Bell, clock: Clock) -> AsyncIterator[Allowance]:
    """An allowance that knows nothing yet."""
    allowance = Allowance(store, bell, clock)
    yield allowance
    await allowance.aclose()


async def an_integration(store: SqliteStore, **limits: Any) -> Integration:
    """An integration with these limits, as a worker sees it."""
    integration_id = await created(store)
    return await changed(store, integration_id, **limits)


async def changed(store: SqliteStore, integration_id: UUID, **values: Any) -> Integration:
    """The same integration with other values."""

    def write(tx: Connection) -> None:
        tx.execute(sa.update(schema.integrations).where(schema.integrations.c.id == integration_id).values(**values))

    if values:
        await store.transaction(write)
    watch = IntegrationWatch(store, Vault(["a key for tests"]))
    await watch.refresh()
    found = watch.get(integration_id)
    assert found is not None
    return found


def take_all(allowance: Allowance, integration: Integration, waiting: int = 1000, free: int = 8) -> int:
    """How many may begin at this moment."""
    number = 0
    while number < waiting and allowance.may_take(integration, waiting=waiting - number, free=free):
        number += 1
    return number


async def next_slice(allowance: Allowance, integration: Integration, bell: Bell, **line: int) -> int:
    """Ask in vain, and take what comes."""
    assert take_all(allowance, integration, **line) == 0
    await bell.rings()
    return take_all(allowance, integration, **line)


async def test_without_limits_nobody_is_asked(store: SqliteStore, allowance: Allowance) -> None:
    """Messages of an integration that nothing limits begin at once, and the database hears nothing of it."""
    integration = await an_integration(store)

    assert take_all(allowance, integration, waiting=5000) == 5000
    assert allowance.asked == 0


async def test_a_slice_serves_many_messages(store: SqliteStore, allowance: Allowance, bell: Bell, clock: Clock) -> None:
    """One question to the database serves a whole slice; a fast worker's slices are as large as it can use."""
    integration = await an_integration(store, per_day=100_000)
    numbers = []
    for _ in range(8):
        numbers.append(await next_slice(allowance, integration, bell))
        clock.now += 0.05

    assert numbers[0] == 8
    assert min(numbers) == 8
    assert sum(numbers) > 20 * allowance.asked


async def test_a_slice_is_no_larger_than_the_line(store: SqliteStore, allowance: Allowance, bell: Bell) -> None:
    """Whoever has three messages takes three: the rest of the moment is the others'."""
    integration = await an_integration(store, per_second=1000)

    assert await next_slice(allowance, integration, bell, waiting=3, free=8) == 3


async def test_a_slice_that_was_not_used_in_time_is_lost(
    store: SqliteStore, allowance: Allowance, bell: Bell, clock: Clock
) -> None:
    """Permits are good for their moment only: saved up they would break the rate later."""
    integration = await an_integration(store, per_second=100)
    assert not allowance.may_take(integration, waiting=8, free=8)
    await bell.rings()
    first = [allowance.may_take(integration, waiting=8, free=8) for _ in range(3)]
    clock.now += 1

    assert first == [True] * 3
    assert not allowance.may_take(integration, waiting=5, free=8)


async def test_a_slice_begins_when_the_others_end(
    store: SqliteStore, allowance: Allowance, bell: Bell, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice behind another worker's is not used before its time; then whoever waits is called."""
    integration = await an_integration(store, per_second=1)
    # However long this machine takes for the two questions, the database's time stands between them.
    asked_at = datetime.now(UTC)
    monkeypatch.setattr(allowances, "moment", lambda tx, at: moment(tx, at or asked_at))
    other = await store.transaction(allowances.take, integration.id, wanted=9)
    assert isinstance(other, Granted)
    too_early = await next_slice(allowance, integration, bell)
    clock.now += 1
    in_time = take_all(allowance, integration)

    assert (too_early, in_time) == (0, 1)
    assert other.number == 1


async def test_a_permit_that_was_not_needed_serves_the_next(
    store: SqliteStore, allowance: Allowance, bell: Bell
) -> None:
    """A message that was not ours, or that the gate stopped, gives its permit to the next one."""
    integration = await an_integration(store, released_at=datetime.now(UTC))
    assert await next_slice(allowance, integration, bell) == 1
    allowance.put_back(integration.id, allowance.taken_of(integration.id))
    allowance.put_back(integration.id, allowance.taken_of(integration.id))

    assert take_all(allowance, integration) == 1


async def test_a_reset_ends_what_was_allowed_before(
    store: SqliteStore, allowance: Allowance, bell: Bell, clock: Clock
) -> None:
    """A slice taken before a reset is worth nothing after it: one message goes first."""
    integration = await an_integration(store, per_day=1000)
    assert not allowance.may_take(integration, waiting=8, free=8)
    await bell.rings()
    released = await changed(store, integration.id, generation=2, released_at=datetime.now(UTC))

    assert await next_slice(allowance, released, bell) == 1
    assert take_all(allowance, released) == 0


@pytest.mark.parametrize("taken_up", [False, True])
async def test_the_first_permit_after_a_release_is_handed_on_unused(
    store: SqliteStore, allowance: Allowance, bell: Bell, taken_up: object
) -> None:
    """A worker that has nothing (left) to prove a release with does not keep the others waiting for a minute."""
    integration = await an_integration(store, released_at=datetime.now(UTC), per_day=10)
    assert not allowance.may_take(integration, waiting=1, free=1)
    await bell.rings()
    if taken_up:
        assert allowance.may_take(integration, waiting=1, free=1)
        await asyncio.sleep(UNUSED_SECONDS + 0.2)
        allowance.put_back(integration.id, allowance.taken_of(integration.id))
    assert isinstance(await store.transaction(allowances.take, integration.id, wanted=1), NotNow)
    await asyncio.sleep(UNUSED_SECONDS + 0.2)

    assert await store.read(allowances.used_today, integration.id, now=datetime.now(UTC)) == 0
    assert isinstance(await store.transaction(allowances.take, integration.id, wanted=1), Granted)


@pytest.mark.parametrize("answered", [False, True])
async def test_a_permit_is_put_back_although_others_asked_meanwhile(
    store: SqliteStore, allowance: Allowance, bell: Bell, answered: object
) -> None:
    """Who waits behind the message that is to prove a release asks in vain; its permit is none the less worth for that."""
    integration = await an_integration(store, released_at=datetime.now(UTC), per_day=10)
    assert await next_slice(allowance, integration, bell, waiting=2) == 1
    if answered:
        await bell.rings()
    allowance.put_back(integration.id, allowance.taken_of(integration.id))
    await asyncio.sleep(UNUSED_SECONDS + 0.5)

    assert await store.read(allowances.used_today, integration.id, now=datetime.now(UTC)) == 0
    assert isinstance(await store.transaction(allowances.take, integration.id, wanted=1), Granted)


async def test_a_permit_of_an_earlier_slice_counts_for_no_day(
    store: SqliteStore, allowance: Allowance, bell: Bell, clock: Clock
) -> None:
    """What was not needed is given back to its day, also when the next slice is in hand by then."""
    integration = await an_integration(store, per_day=1000)
    assert await next_slice(allowance, integration, bell) == 8
    first = allowance.taken_of(integration.id)
    clock.now += 1
    await bell.rings()
    assert allowance.may_take(integration, waiting=8, free=8)
    for _ in range(8):
        allowance.put_back(integration.id, first)
    await allowance.aclose()

    assert await store.read(allowances.used_today, integration.id, now=datetime.now(UTC)) == 1


async def test_what_was_left_before_a_reset_proves_nothing(
    store: SqliteStore, allowance: Allowance, bell: Bell
) -> None:
    """While one message is to prove a release, no worker lets another go for the rest of a slice from before."""
    integration = await an_integration(store, per_second=1000)
    assert not allowance.may_take(integration, waiting=8, free=8)
    await bell.rings()
    assert allowance.may_take(integration, waiting=8, free=8)
    released = await changed(store, integration.id, generation=2, released_at=datetime.now(UTC))
    assert isinstance(await store.transaction(allowances.take, integration.id, wanted=1), Granted)
    assert await next_slice(allowance, released, bell) == 0
    await allowance.aclose()

    assert isinstance(await store.transaction(allowances.take, integration.id, wanted=1), NotNow)


async def test_what_was_allowed_during_the_test_of_a_reset_ends_with_it(
    store: SqliteStore, allowance: Allowance, bell: Bell
) -> None:
    """Agents' mail may take a slice while its integration is tested; the release that follows begins with one message."""
    integration = await an_integration(store, per_day=1000, generation=2)
    assert not allowance.may_take(integration, waiting=8, free=8)
    await bell.rings()
    released = await changed(store, integration.id, released_at=datetime.now(UTC))

    assert await next_slice(allowance, released, bell) == 1


async def test_a_slice_granted_in_a_newer_state_than_was_seen_is_handed_on(
    store: SqliteStore, allowance: Allowance, bell: Bell
) -> None:
    """The one permit of a release may come to a worker that has not heard of the release yet."""
    integration = await an_integration(store, per_day=1000, generation=2)
    await changed(store, integration.id, released_at=datetime.now(UTC))
    assert not allowance.may_take(integration, waiting=8, free=8)
    await bell.rings()
    await asyncio.sleep(UNUSED_SECONDS + 0.2)

    assert isinstance(await store.transaction(allowances.take, integration.id, wanted=1), Granted)


async def test_that_a_message_passed_is_told_again(store: SqliteStore, allowance: Allowance, tmp_path: Path) -> None:
    """A database that is away for a moment does not have everybody wait for a second proof."""
    integration = await an_integration(store, released_at=datetime.now(UTC))
    lock = sqlite3.connect(tmp_path / "mailroom.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    telling = asyncio.create_task(allowance.learn(integration, SENT, part=1.0))
    await asyncio.sleep(5.5)
    lock.execute("ROLLBACK")
    lock.close()

    assert await telling
    assert (await changed(store, integration.id)).proven_at is not None


@pytest.mark.parametrize("granted_first", [False, True])
async def test_a_permit_that_a_reset_overtook_is_handed_on(
    store: SqliteStore, allowance: Allowance, bell: Bell, granted_first: object
) -> None:
    """A slice asked for in the state before a reset, and granted after it, is another's to use."""
    integration = await an_integration(store, per_day=10)
    released = await changed(store, integration.id, generation=2, released_at=datetime.now(UTC))
    assert not allowance.may_take(integration, waiting=1, free=1)
    if granted_first:
        await bell.rings()
        assert not allowance.may_take(released, waiting=1, free=1)
    else:
        assert not allowance.may_take(released, waiting=1, free=1)
        await bell.rings()
    await allowance.aclose()

    assert await store.read(allowances.used_today, integration.id, now=datetime.now(UTC)) == 0
    assert isinstance(await store.transaction(allowances.take, integration.id, wanted=1), Granted)


async def test_what_limits_no_more_is_asked_about_once(store: SqliteStore, allowance: Allowance, bell: Bell) -> None:
    """A slow start that is over and a throttle long forgotten cost one question by the database's clock, and no more."""
    long_ago = datetime.now(UTC) - timedelta(hours=9)
    integration = await an_integration(store, released_at=long_ago, proven_at=long_ago, pace=50.0, paced_at=long_ago)
    assert await next_slice(allowance, integration, bell) == 1000
    assert take_all(allowance, integration) == 1000
    assert allowance.asked == 1
    slowed = replace(integration, paced_at=datetime.now(UTC))

    assert take_all(allowance, slowed) == 0


async def test_a_day_used_up_is_waited_for(store: SqliteStore, allowance: Allowance, bell: Bell) -> None:
    """When the day has no messages left nothing begins, and the question is repeated now and then."""
    integration = await an_integration(store, per_day=1)
    assert await next_slice(allowance, integration, bell) == 1
    assert await next_slice(allowance, integration, bell) == 0

    assert allowance.asked == 2


async def test_without_a_database_nothing_limited_begins(
    store: SqliteStore, allowance: Allowance, bell: Bell, logged: list[MutableMapping[str, Any]]
) -> None:
    """While the database is away nobody knows what others send, so nothing begins; whoever waits is called later."""
    integration = await an_integration(store, per_second=50)
    await store.aclose()

    assert await next_slice(allowance, integration, bell) == 0
    assert "no allowance" in [event["event"] for event in logged]


async def test_what_is_left_of_a_day_is_given_back(store: SqliteStore, bell: Bell) -> None:
    """A worker that stops returns what it did not use of a day, and asks for nothing more."""
    integration = await an_integration(store, per_day=1000)
    leaving = Allowance(store, bell)
    assert not leaving.may_take(integration, waiting=8, free=8)
    await bell.rings()
    assert [leaving.may_take(integration, waiting=8, free=8) for _ in range(3)] == [True] * 3
    await leaving.aclose()
    asked = leaving.asked
    take_all(leaving, integration)

    assert await store.read(allowances.used_today, integration.id, now=datetime.now(UTC)) == 3
    assert leaving.asked == asked


# --- what attempts tell -----------------------------------------------------------------------------------------------


async def test_a_throttle_slows_everybody_down(store: SqliteStore, allowance: Allowance, clock: Clock) -> None:
    """A server's wish lowers the pace of all workers by what they send together, once in five seconds."""
    integration = await an_integration(store)
    for _ in range(40):
        await allowance.learn(integration, SENT, part=0.5)
        clock.now += 0.1
    news = [await allowance.learn(integration, THROTTLED, part=0.5) for _ in range(20)]

    # 41 in 5 s by this worker, which has half of the connections: 16.4 a second by all.
    assert news == [True] + [False] * 19
    assert (await changed(store, integration.id)).pace == pytest.approx(8.2)
    assert allowance.tempo(integration.id) == pytest.approx(12)


@pytest.mark.parametrize(
    ("outcome", "news", "next_may_go"), [(SENT, True, True), (NO_SUCH_USER, False, True), (TROUBLE, False, False)]
)
async def test_the_first_message_after_a_release_tells_how_to_go_on(
    store: SqliteStore, allowance: Allowance, outcome: Sent | Rejected | Deferred, news: object, next_may_go: object
) -> None:
    """Sent it proves the release; refused for its own sake it makes room for another; else the next one waits."""
    integration = await an_integration(store, released_at=datetime.now(UTC))
    await store.transaction(allowances.take, integration.id, wanted=9)

    assert await allowance.learn(integration, outcome, part=1.0) == news
    following = await store.transaction(allowances.take, integration.id, wanted=9)
    assert isinstance(following, Granted) == next_may_go
    assert isinstance(following, Granted | NotNow)
    assert ((await changed(store, integration.id)).proven_at is not None) == news


@pytest.mark.parametrize(
    ("command", "code", "everybody"),
    [
        ("connect", 421, True), ("AUTH", 454, True), ("MAIL", 451, True), ("dot", 452, True), ("RCPT", 421, True),
        ("RCPT", 454, True), ("RCPT", 450, False), ("RCPT", 451, False),
    ],
)  # fmt: skip
def test_a_greylist_is_about_one_mailbox(command: str, code: int, everybody: bool) -> None:  # noqa: FBT001 - parametrized
    """What is said to RCPT is about that mailbox, but for a goodbye and a sending rate; all else is about the account."""
    assert asks_the_account_to_wait(Reply(command, code, "4.7.1 later")) is everybody
