"""Journeys of readiness: who is alive and makes no progress says so, and why, and says it no longer when it does."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mailroom.health import health_app
from mailroom.message import Status
from mailroom.queue.memory import MemoryQueue
from mailroom.queue.port import Delivery, Subscription
from mailroom.queue.ticket import Address
from mailroom.serving import serving
from tests.builders import migrated
from tests.contracts.test_queue_rabbitmq_alarm import an_alarm
from tests.journeys.office import Office, an_office, standing_still
from tests.services import Postgres, RabbitMQ
from tests.smtp_server import scripted_smtp
from worker.app import SWEEP_STILL_SECONDS, Worker
from worker.consumer import LONGEST_SECONDS, STILL_SECONDS


class OddQueue(MemoryQueue):
    """A queue in memory whose subscriptions seem to stand still, or cannot be cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.still = 0.0
        self.stuck = asyncio.Event()
        self.stuck.set()

    async def subscribe(self, address: Address, prefetch: int, take: Callable[[Delivery], None]) -> Subscription:  # type: ignore[override]
        """The same, with the oddities of this queue."""
        return OddSubscription(self, await super().subscribe(address, prefetch, take))


class OddSubscription:
    """One of its subscriptions."""

    def __init__(self, queue: OddQueue, inner: Subscription) -> None:
        self._queue, self._inner = queue, inner

    @property
    def stood_still(self) -> float:
        """As the test says."""
        return self._queue.still

    async def resize(self, prefetch: int) -> None:
        """The same."""
        await self._inner.resize(prefetch)

    async def cancel(self) -> None:
        """Never, while the queue is stuck."""
        await self._queue.stuck.wait()
        await self._inner.cancel()


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[tuple[Office, OddQueue]]:
    """An office of one process with an odd queue."""
    url = f"sqlite:///{tmp_path}/mailroom.db"
    await migrated(url)
    async with an_office(tmp_path, url, "memory:") as office:
        queue = OddQueue()
        yield replace(office, shared_queue=queue), queue


async def becomes(said: Callable[[], str | None], part: str | None, seconds: float = 20) -> str | None:
    """What is said, once this is in it (None: once nothing is said)."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (said() is not None) if part is None else part not in (said() or ""):
                await asyncio.sleep(0.02)
    return said()


async def for_ever() -> None:
    """A delivery that does not end."""
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def at_work(office: Office) -> AsyncIterator[Worker]:
    """A worker that has sent a message, and whose health is asked for first of all addresses."""
    async with scripted_smtp() as smtp:
        await office.add_integration(smtp.port)
        async with office.gateway(), office.worker() as worker:
            await office.active()
            await office.becomes(await office.accepted(), Status.SENT)
            async with serving(health_app(worker.unready, worker.figures), "127.0.0.1:0") as address:
                office.addresses.insert(0, address)
                yield worker
                office.addresses.remove(address)


async def test_brk_10_a_worker_that_gets_nothing_while_mail_waits_is_not_ready(small: tuple[Office, OddQueue]) -> None:
    """Alive is not at work: /readyz says what waits and for how long, /healthz stays as it is."""
    office, queue = small
    async with at_work(office):
        well = await office.ask("/readyz")
        queue.still = STILL_SECONDS + 1
        ill, alive = await office.ask("/readyz"), await office.ask("/healthz")
        queue.still = 0.0
        again = await office.ask("/readyz")

    assert (well[0], ill[0], alive[0], again[0]) == (200, 503, 200, 200)
    assert ill[1]["reason"].startswith("mail waits in mailroom.form.")
    assert ill[1]["reason"].endswith("none has come for 31 s")


async def test_brk_10_a_loop_that_hangs_is_told(small: tuple[Office, OddQueue]) -> None:
    """Where consuming hangs, or the sweep does, or a message is in hand for ever, the worker is not ready."""
    office, queue = small
    async with at_work(office) as worker:
        well = worker.unready()
        queue.stuck.clear()
        await office.reconfigure(reported_state="ERROR", cause="cannot_connect")
        worker.consumer._clock = lambda: time.monotonic() + STILL_SECONDS + 1
        consumer = worker.unready()
        queue.stuck.set()
        again = await becomes(worker.unready, None)
        hand = asyncio.create_task(for_ever())
        worker.consumer._working[hand] = worker.consumer._clock() - LONGEST_SECONDS - 1
        message = worker.unready()
        worker.consumer._working.pop(hand)
        hand.cancel()
        worker.sweep.clock = lambda: time.monotonic() + SWEEP_STILL_SECONDS + 1
        sweep = worker.unready()
        later = await becomes(worker.unready, None)

    assert (well, again, later) == (None, None, None)
    assert "the consumer has stood still" in (consumer or "")
    assert "a message has been in hand for" in (message or "")
    assert "the sweep has stood still" in (sweep or "")


async def test_ops_4_a_database_that_reads_but_does_not_commit(office: Office) -> None:
    """A gateway whose commits hang, or fail one after the other, is not ready although it knows every state."""
    async with scripted_smtp() as smtp:
        await office.add_integration(smtp.port)
        async with office.gateway() as gateway, office.worker():
            await office.active()
            await office.accepted()
            async with standing_still(office.database_url):
                answer = asyncio.create_task(office.submit())
                hangs = await becomes(gateway.unready, "commit")
                fresh = gateway.watch.is_fresh
                told, alive = await office.ask("/readyz"), await office.ask("/healthz")
                await answer
            ready = await becomes(gateway.unready, None, seconds=30)
            await office.accepted()

    assert hangs in {"the database does not commit", "tombstones are owed to the database"}
    assert fresh
    assert (told[0], alive[0]) == (503, 200)
    assert ready is None


async def test_ops_4_the_database_goes_away(office: Office, postgres: Postgres) -> None:
    """Within five seconds /readyz says no, of gateway and worker; /healthz says yes throughout; both come back."""
    async with at_work(office) as worker, office.gateway() as gateway:
        await asyncio.to_thread(postgres.stop)
        begun = time.monotonic()
        said = [await becomes(one.unready, "the database does not answer") for one in (gateway, worker)]
        took = time.monotonic() - begun
        healths = [(await office.ask(path))[0] for path in ("/readyz", "/healthz")]
        await asyncio.to_thread(postgres.start)
        again = [await becomes(one.unready, None, seconds=30) for one in (gateway, worker)]

    assert said == ["the database does not answer"] * 2
    assert took < 5
    assert healths == [503, 200]
    assert again == [None, None]


async def test_ops_4_an_alarm_of_the_broker(office: Office, rabbitmq: RabbitMQ) -> None:
    """During an alarm a worker is not ready, because nothing that falls due can be ticketed; a gateway accepts on."""
    async with at_work(office) as worker, office.gateway() as gateway:
        async with an_alarm(rabbitmq):
            told = await becomes(worker.unready, "takes nothing", seconds=5)
            message = await office.accepted()
            gateway_says = gateway.unready()
        ready = await becomes(worker.unready, None)
        await office.becomes(message, Status.SENT, seconds=60)

    assert told == "the broker does not answer, or takes nothing"
    assert gateway_says is None
    assert ready is None


async def test_ops_1_a_stopping_gateway_ends_its_connections(office: Office) -> None:
    """Once it has begun to stop each answer tells the client to open its next connection elsewhere."""
    async with office.gateway() as gateway:
        url = f"http://{office.addresses[0]}/healthz"
        async with office.session.get(url) as before:
            pass
        gateway.stop_being_ready()
        async with office.session.get(url) as after, office.session.get(url.replace("healthz", "readyz")) as ready:
            pass

    assert "Connection" not in before.headers
    assert after.headers["Connection"] == "close"
    assert (before.status, after.status, ready.status) == (200, 200, 503)
