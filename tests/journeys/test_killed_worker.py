"""Journeys through lost workers and lost tickets: whatever was accepted is found again by those who are left."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

from mailroom.message import Lane, Status
from mailroom.queue.ticket import Address
from tests.journeys.office import MAILBOX, Office
from tests.services import RabbitMQ, Sink, free_port
from tests.smtp_server import Stall, scripted_smtp


@contextlib.asynccontextmanager
async def worker_process(office: Office) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker of this office as a process of its own; killed on leaving if it still runs."""
    config = office.folder / "worker.toml"
    config.write_text('[smtp]\nprivate_relays = ["127.0.0.0/8:*"]\n')
    environment = {
        "MAILROOM_CONFIG": str(config),
        "MAILROOM_DATABASE_URL": office.database_url,
        "MAILROOM_QUEUE_URL": office.queue_url,
        "MAILROOM_SECRET_KEY": "a key for tests",
        "MAILROOM_ATTACHMENTS_URL": f"file://{office.folder}/attachments",
        "MAILROOM_HEALTH_LISTEN": f"127.0.0.1:{free_port()}",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "worker", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_killed_worker(office: Office) -> None:
    """Of a worker that is killed, another delivers everything within 60 s.

    What had not come to its final dot arrives once; what had may arrive twice, and is marked; the rest arrives once.
    """
    async with scripted_smtp() as smtp, office.gateway():
        smtp.script("MAIL", Stall(), times=1)
        await office.add_integration(smtp.port, max_connections=4)
        async with worker_process(office) as process:
            await office.active()
            before_mail = await office.accepted()
            await smtp.reached("MAIL")
            smtp.script("dot", Stall(), times=1)
            after_dot = await office.accepted()
            await smtp.reached("dot")
            calm = [await office.accepted() for _ in range(10)]
            for one in calm:
                await office.becomes(one, Status.SENT)
            process.kill()
            await process.wait()
        async with office.worker():
            standings = [await office.becomes(one, Status.SENT, seconds=60) for one in (before_mail, after_dot)]
        copies = [office.copies(smtp.completed, one) for one in (before_mail, after_dot, *calm)]

    assert copies == [1, 2] + [1] * 10
    assert all(standing.possible_duplicate for standing in standings)
    assert not any([(await office.standing(one)).possible_duplicate for one in calm])


async def test_a_wiped_broker(office: Office, rabbitmq: RabbitMQ, smtp_sink: Sink) -> None:
    """Tickets that the broker lost are written anew within 60 s, without anybody's help."""
    smtp_sink.start()
    await office.add_integration(smtp_sink.port)
    async with office.gateway():
        async with office.worker():
            await office.active()
            await office.becomes(await office.accepted(), Status.SENT)
        ids = [await office.accepted() for _ in range(20)]
        await asyncio.sleep(1)
        integration = await office.integration()
        queue = Address(Lane.FORM, integration.id).queue
        assert await asyncio.to_thread(rabbitmq.list_queues, office.queue_url) != {}
        await office.delete_queue(queue)
        async with office.worker():
            for one in ids:
                await office.becomes(one, Status.SENT, seconds=60)

    assert smtp_sink.count() == 21
    assert set(smtp_sink.recipients()) == {MAILBOX}
