"""The watch: one snapshot of all integrations, and how old it is."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, MutableMapping
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.integration import Account, Cause, IntendedState, ReportedState, Security
from mailroom.message import Lane
from mailroom.store import connection_tests, integrations, schema
from mailroom.store.sqlite import SqliteStore
from mailroom.vault import Vault
from mailroom.watch import FRESH_SECONDS, IntegrationWatch
from tests.builders import NOW, created

VAULT = Vault(["a key for tests"])


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The watch's clock."""
    return Clock()


@pytest.fixture
def watch(store: SqliteStore, clock: Clock) -> IntegrationWatch:
    """A watch that has seen nothing yet."""
    return IntegrationWatch(store, VAULT, clock)


@contextlib.asynccontextmanager
async def running(watch: IntegrationWatch) -> AsyncIterator[None]:
    """The watch at work."""
    task = asyncio.create_task(watch.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_snapshot_shows_every_integration(store: SqliteStore, watch: IntegrationWatch) -> None:
    """An integration is seen by id and by name, with all that is needed to connect, its password in clear."""
    integration_id = await created(
        store, username="forms", sealed_password=VAULT.seal("secret"), from_name="Company",
        default_mailbox="support@company.test",
    )  # fmt: skip
    await created(store, name="other", sealed_password=None)
    await watch.refresh()

    seen = watch.get(integration_id)
    assert seen is not None
    assert seen is watch.named("main") is watch.all[integration_id]
    assert seen.account == Account(
        host="smtp.company.test", port=587, security=Security.STARTTLS, username="forms", password="secret"
    )
    assert (seen.from_address, seen.from_name, seen.default_mailbox) == (
        "forms@company.test", "Company", "support@company.test",
    )  # fmt: skip
    assert (seen.intended_state, seen.reported_state, seen.cause) == (
        IntendedState.ENABLED, ReportedState.ACTIVATING, None,
    )  # fmt: skip
    assert (seen.since, seen.generation, seen.failures, seen.test_waiting) == (NOW, 1, 0, True)
    assert len(watch.all) == 2
    assert watch.get(uuid4()) is watch.named("nobody") is None


async def test_a_snapshot_shows_what_changed(store: SqliteStore, watch: IntegrationWatch) -> None:
    """State, cause and lanes are as the last refresh found them."""
    integration_id = await created(store)
    await watch.refresh()
    assert watch.lanes == frozenset()
    await store.statement(integrations.mark_lane, integration_id, Lane.AGENT)
    test = await store.transaction(connection_tests.take_test, integration_id, uuid4(), now=NOW)
    assert test is not None
    await store.transaction(
        connection_tests.conclude_test,
        test,
        cause=Cause.TIMED_OUT,
        transcript="",
        ehlo_size=None,
        who="worker",
        now=NOW,
    )
    await watch.refresh()

    seen = watch.named("main")
    assert seen is not None
    assert (seen.reported_state, seen.cause, seen.test_waiting) == (ReportedState.ERROR, Cause.TIMED_OUT, False)
    assert watch.lanes == {(integration_id, Lane.AGENT)}


async def test_ops_3_an_integration_of_a_newer_version_harms_no_other(
    store: SqliteStore, watch: IntegrationWatch
) -> None:
    """A state that only a newer Mailroom knows leaves that integration out of the snapshot, and no other."""
    await created(store)
    await created(store, name="other")

    def change(tx: Connection) -> None:
        mine = schema.integrations.c.name == "main"
        tx.execute(sa.update(schema.integrations).where(mine).values(reported_state="HIBERNATING"))

    await store.transaction(change)
    await watch.refresh()

    assert watch.is_fresh
    assert [one.name for one in watch.all.values()] == ["other"]


async def test_a_snapshot_grows_old(watch: IntegrationWatch, clock: Clock) -> None:
    """Nothing is decided by a snapshot that was never taken, or is older than a second."""
    assert not watch.is_fresh
    await watch.refresh()
    assert watch.is_fresh
    clock.now += FRESH_SECONDS
    assert watch.is_fresh
    clock.now += 0.01

    assert not watch.is_fresh
    await watch.refresh()
    assert watch.is_fresh


async def test_a_gap_is_told(watch: IntegrationWatch, clock: Clock, logged: list[MutableMapping[str, Any]]) -> None:
    """While nothing could be decided clients were told to come again: the log says for how long that was so."""
    await watch.refresh()
    clock.now += FRESH_SECONDS
    await watch.refresh()
    assert logged == []
    clock.now += FRESH_SECONDS + 0.5
    await watch.refresh()

    assert [(event["event"], event["seconds"], event["answer_took"]) for event in logged] == [
        ("integrations were not known", 0.5, 0.0),
    ]


async def test_a_snapshot_is_as_old_as_its_question(store: SqliteStore, clock: Clock) -> None:
    """An answer that was long on its way does not count as fresh."""

    class SlowStore(SqliteStore):
        async def read(self, work: Any, *args: Any, **kwargs: Any) -> Any:
            answer = await super().read(work, *args, **kwargs)
            clock.now += 2
            return answer

    store.__class__ = SlowStore
    watch = IntegrationWatch(store, VAULT, clock)
    await watch.refresh()

    assert not watch.is_fresh


async def test_who_needs_a_fresh_one_waits_for_it(watch: IntegrationWatch) -> None:
    """Whoever waits for a fresh snapshot goes on when there is one."""
    waiting = [asyncio.create_task(watch.fresh()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    async with running(watch):
        await asyncio.wait_for(asyncio.gather(*waiting), 20)

    await watch.fresh()


async def test_a_nudge_is_followed_at_once(store: SqliteStore, watch: IntegrationWatch) -> None:
    """While the watch runs it follows changes by itself, and every nudge."""
    async with running(watch), asyncio.timeout(20):
        await created(store)
        watch.nudge()
        while watch.named("main") is None:
            await asyncio.sleep(0.01)
        await created(store, name="other")
        while watch.named("other") is None:
            await asyncio.sleep(0.01)


async def test_who_asks_for_a_renewed_one_sees_what_was_committed_before(store: SqliteStore) -> None:
    """A snapshot that was asked for before the call does not count, however fresh it is."""
    watch = IntegrationWatch(store, VAULT)
    async with running(watch), asyncio.timeout(20):
        for number in range(20):
            await created(store, name=f"number-{number}")
            await watch.renewed()
            assert watch.named(f"number-{number}") is not None


async def test_who_asks_for_a_renewed_one_does_not_wait_for_a_store_that_is_away(watch: IntegrationWatch) -> None:
    """Where none comes in the time after which the last one is too old to decide by, nobody waits on."""
    async with asyncio.timeout(20):
        await watch.renewed()

    assert not watch.is_fresh


async def test_the_watch_outlives_its_store(
    store: SqliteStore, watch: IntegrationWatch, clock: Clock, logged: list[MutableMapping[str, Any]]
) -> None:
    """When the database is away the last snapshot stands and grows old, and the watch goes on trying."""
    await created(store)
    await watch.refresh()
    await store.aclose()
    clock.now += 2
    async with running(watch), asyncio.timeout(20):
        while len(logged) < 2:
            watch.nudge()
            await asyncio.sleep(0.01)

    assert watch.named("main") is not None
    assert not watch.is_fresh
    assert {event["event"] for event in logged} == {"integrations cannot be read"}


async def test_a_password_that_cannot_be_opened_is_told_once(
    store: SqliteStore, watch: IntegrationWatch, logged: list[MutableMapping[str, Any]]
) -> None:
    """A password sealed with a lost key is no password; all else is seen, and the log names the integration once."""
    integration_id = await created(store, sealed_password=Vault(["another key"]).seal("secret"))
    await watch.refresh()
    await store.statement(integrations.mark_lane, integration_id, Lane.FORM)
    await watch.refresh()

    seen = watch.named("main")
    assert seen is not None
    assert seen.account.password is None
    assert [(event["event"], event["integration"]) for event in logged] == [("password cannot be decrypted", "main")]
