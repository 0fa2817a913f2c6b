"""Live tests in a worker: every one that was taken ends, whatever the database, or we ourselves, do meanwhile."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from mailroom.destinations import ANYWHERE
from mailroom.integration import Integration, ReportedState
from mailroom.queue.memory import MemoryQueue
from mailroom.store import connection_tests, integrations
from mailroom.store.port import Store, StoreUnavailable
from mailroom.store.sqlite import SqliteStore
from mailroom.vault import Vault
from mailroom.watch import IntegrationWatch
from tests.builders import an_integration
from tests.smtp_server import scripted_smtp
from worker.opening import Timeouts
from worker.probe import Probe
from worker.session import Session


class Coming:
    """A store that goes away when a test has been taken, and comes back, first to be read, when the test says so."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = asyncio.Event()
        self.readable = self.back = True

    async def transaction(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As the store does it."""
        if not self.back:
            raise StoreUnavailable("the database is away")
        result = await self._store.transaction(work, *args, **kwargs)
        if work is connection_tests.take_test and result is not None:
            self.readable = self.back = False
            self.away.set()
        return result

    async def read(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As the store does it."""
        if not self.readable:
            raise StoreUnavailable("the database is away")
        return await self._store.read(work, *args, **kwargs)

    async def statement(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As the store does it."""
        return await self.transaction(work, *args, **kwargs)

    async def aclose(self) -> None:
        """Nothing to close."""


class Muddled(IntegrationWatch):
    """A watch that hands out an account no code of ours reckons with."""

    def get(self, integration_id: UUID) -> Integration | None:
        """The integration, at a host that cannot be."""
        found = super().get(integration_id)
        host = "two\nlines"
        return None if found is None else replace(found, account=replace(found.account, host=host))


@contextlib.asynccontextmanager
async def probing(store: Store, kind: type[IntegrationWatch] = IntegrationWatch) -> AsyncIterator[IntegrationWatch]:
    """A worker's probe at work, and what it sees."""
    watch = kind(store, Vault(["a key for tests"]))
    await watch.refresh()
    session = Session(store, list)
    await session.open()
    probe = Probe(store, MemoryQueue(), watch, session, "worker.test", Timeouts(), ANYWHERE)
    running = asyncio.create_task(probe.run())
    try:
        yield watch
    finally:
        running.cancel()
        await asyncio.wait([running])
        await probe.aclose()


async def an_account(store: Store, port: int) -> None:
    """An integration whose live test waits."""
    new = an_integration(host="127.0.0.1", port=port, security="none", username=None, sealed_password=None)
    await store.transaction(integrations.create_absent, new, who="test", now=datetime.now(UTC))


async def becomes(store: Store, state: ReportedState) -> Any:
    """The one integration, once it is in this state."""
    async with asyncio.timeout(15):
        while True:
            [row] = await store.read(integrations.all_rows)
            if row.reported_state == state:
                return row
            await asyncio.sleep(0.05)


async def test_a_test_outlives_a_database_that_leaves_as_it_begins(store: SqliteStore) -> None:
    """A worker that took a test and cannot even give it back runs it when the database is there again."""
    async with scripted_smtp() as smtp:
        await an_account(store, smtp.port)
        shaky = Coming(store)
        async with probing(shaky) as watch:
            async with asyncio.timeout(10):
                await shaky.away.wait()
            await asyncio.sleep(0.5)
            shaky.readable = True
            await watch.refresh()
            shaky.back = True

            await becomes(store, ReportedState.ACTIVE)


async def test_a_test_that_fails_by_our_own_fault_ends(store: SqliteStore) -> None:
    """A defect ends its test, and says that it was one; later tests need not wait for it."""
    await an_account(store, 25)
    async with probing(store, Muddled):
        row = await becomes(store, ReportedState.ERROR)

    assert "a defect of Mailroom" in row.transcript
