"""The worker, put together: everything concrete is chosen here."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from mailroom.attachments import AttachmentStore
from mailroom.destinations import destinations
from mailroom.integration import Integration
from mailroom.logs import get_logger
from mailroom.loops import start_loop
from mailroom.queue.port import Queue
from mailroom.settings import Settings
from mailroom.store.port import CommitUnknown, Store, StoreUnavailable
from mailroom.store.sessions import Position
from mailroom.tally import Tally
from mailroom.tickets import TicketWriter
from mailroom.vault import Vault
from mailroom.watch import IntegrationWatch
from worker.consumer import Consumer
from worker.deliver import Desk
from worker.indexing import Indexer
from worker.leftovers import Leftovers
from worker.opening import Timeouts
from worker.pool import Pool
from worker.probe import Probe
from worker.retry import RetryPolicy
from worker.session import Session
from worker.sweep import Sweep

log = get_logger(__name__)

#: Seconds a worker that is told to stop gives what it has begun. docker-compose's stop_grace_period is longer.
DRAIN_SECONDS = 60.0

#: Seconds between two looks for idle connections that have been kept for long enough.
TIDY_SECONDS = 5.0

#: A sweep that begins to look for nothing for so many seconds is stuck; one look at many rows may take a while.
SWEEP_STILL_SECONDS = 300.0

#: Seconds between two tries to reach the database at the start.
RETRY_START_SECONDS = 1.0


class Worker:
    """A running worker: what it can be asked, and how it stops."""

    def __init__(
        self, settings: Settings, store: Store, queue: Queue, attachments: AttachmentStore, vault: Vault
    ) -> None:
        hostname = socket.gethostname()
        timeouts = Timeouts()
        allowed = destinations(
            settings.smtp.private_relays, ((one.host, one.port) for one in settings.integrations.values())
        )
        self._queue = queue
        self._store = store
        self.watch = IntegrationWatch(store, vault)
        self._pool = Pool(hostname, timeouts, destinations=allowed, most=self._most_open)
        self.session = Session(store, self._positions)
        desk = Desk(
            store=store,
            attachments=attachments,
            watch=self.watch,
            pool=self._pool,
            policy=RetryPolicy(settings.retry),
            enforcement=settings.enforcement,
            session=self.session,
        )
        self.tally = Tally(store)
        self.consumer = Consumer(desk, queue, settings.thresholds, self.tally)
        self.tickets = TicketWriter(queue, store, self.watch.now)
        self.sweep = Sweep(store, queue, self.watch, self.tickets, self.tally)
        self._indexer = Indexer(store)
        self._leftovers = Leftovers(store, attachments, self.watch.now)
        self._probe = Probe(store, queue, self.watch, self.session, hostname, timeouts, allowed)
        self._stopping = False

    @contextlib.asynccontextmanager
    async def running(self, *, alone: bool) -> AsyncIterator["Worker"]:
        """Work while inside; on leaving, finish or give back everything. `alone`: no other worker can exist."""
        await _until_reached(self._start, alone)
        self._queue.on_nudge(self.watch.nudge)
        tasks = [
            start_loop(name, work)
            for name, work in {
                "watch": self.watch.run,
                "beat": self.session.run,
                "sweep": self.sweep.run,
                "beats of others": self.sweep.watch_beats,
                "probe": self._probe.run,
                "consumer": self.consumer.run,
                "shares": self.consumer.shares.run,
                "indexer": self._indexer.run,
                "leftovers": self._leftovers.run,
                "tidy": self._tidy,
            }.items()
        ]
        async with self.tally.running():
            try:
                yield self
            finally:
                await self._stop(tasks)

    async def _start(self, alone: bool) -> None:  # noqa: FBT001 - handed through
        await self.watch.refresh()
        if alone:
            await self.sweep.own_everything()
        await self.session.open()
        log.info("worker started", session=str(self.session.id))

    async def _stop(self, tasks: list[asyncio.Task[None]]) -> None:
        self._stopping = True
        finished = await self.consumer.stop(DRAIN_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await self._probe.aclose()
        await self._pool.aclose()
        await self.consumer.allowance.aclose()
        await self.tickets.aclose()
        if finished:
            await self.session.end()
        log.info("worker stopped", session=str(self.session.id), finished=finished)

    def _positions(self) -> Sequence[Position]:
        return self.consumer.positions()

    def _most_open(self, integration: Integration) -> int:
        return self.consumer.shares.of(integration.id).open

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            self._pool.close_stale(time.monotonic())

    def unready(self) -> str | None:
        """Why it cannot work at the moment; None when it can."""
        if self._stopping:
            return "the worker is stopping"
        if not self.watch.is_fresh:
            return "the database does not answer"
        if not self.session.is_fresh():
            return "the session's beat fails"
        if not self._queue.connected:
            return "the broker does not answer, or takes nothing"
        if self.sweep.stood_still > SWEEP_STILL_SECONDS:
            return f"the sweep has stood still for {self.sweep.stood_still:.0f} s"
        return self.consumer.idle()

    def figures(self) -> dict[str, float]:
        """What it has done since its start, by name."""
        claims, settles = self.consumer.claims, self.consumer.settles
        return {
            "mailroom_claim_statements_total": claims.groups,
            "mailroom_claimed_ids_total": claims.items,
            "mailroom_settle_statements_total": settles.groups,
            "mailroom_settled_total": settles.items,
            "mailroom_tickets_published_total": self.tickets.published,
            "mailroom_tickets_dropped_total": self.tickets.dropped,
            "mailroom_tickets_waiting": self.tickets.waiting,
            "mailroom_broker_connected": float(self._queue.connected),
            "mailroom_oldest_waiting_seconds": self.sweep.oldest_waiting,
            **self.consumer.figures(),
        }


async def _until_reached(start: Callable[[bool], Coroutine[Any, Any, None]], alone: bool) -> None:  # noqa: FBT001 - as above
    """Start as soon as the database is there, however long that takes."""
    while True:
        try:
            return await start(alone)
        except (StoreUnavailable, CommitUnknown) as error:
            log.warning("waiting for the database", error=str(error))
            await asyncio.sleep(RETRY_START_SECONDS)
