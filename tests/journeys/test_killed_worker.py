"""Journeys through lost workers and lost tickets: whatever was accepted is found again by those who are left."""

import asyncio
import contextlib
from datetime import UTC, datetime

import aio_pika

from mailroom.message import Lane, Status
from mailroom.queue.rabbitmq import TICKET_QUEUE_ARGUMENTS, UNREADABLE, RabbitQueue
from mailroom.queue.ticket import Address, chunks
from tests.journeys.office import MAILBOX, Office, a_row, worker_process
from tests.services import RabbitMQ, Sink
from tests.smtp_server import Say, Stall, scripted_smtp
from worker.sweep import ON_THE_WAY


async def test_dlv_5_a_killed_worker(office: Office) -> None:
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


async def test_dlv_6_a_wiped_broker(office: Office, rabbitmq: RabbitMQ, smtp_sink: Sink) -> None:
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


async def test_dlv_10_a_ticket_given_back_too_often_is_written_anew(
    office: Office, rabbitmq: RabbitMQ, smtp_sink: Sink
) -> None:
    """A ticket that workers gave back untouched, until the broker put it aside, costs its message neither life nor try."""
    smtp_sink.start()
    await office.add_integration(smtp_sink.port)
    async with office.worker():
        await office.active()
    integration = await office.integration()
    rows = [a_row(integration.id) for _ in range(40)]
    await office.queued(rows)
    ids, address = [row.id for row in rows], Address(Lane.FORM, integration.id)
    for _ in range(TICKET_QUEUE_ARGUMENTS["x-delivery-limit"] + 1):
        await given_back(office.queue_url, address)
    async with asyncio.timeout(20):
        while (await asyncio.to_thread(rabbitmq.list_queues, office.queue_url)).get(UNREADABLE) != len(chunks(ids)):
            await given_back(office.queue_url, address)
    async with office.worker() as worker:
        # The sweep waits for half a minute before it takes a ticket for lost.
        await worker.sweep._look_for_lost_tickets(datetime.now(UTC) + ON_THE_WAY)
        standings = [await office.becomes(one, Status.SENT) for one in ids]

    assert [standing.attempts for standing in standings] == [1] * 40
    assert not any(standing.possible_duplicate for standing in standings)
    assert smtp_sink.count() == 40


async def given_back(url: str, address: Address) -> None:
    """Take what there is, and leave with it in hand, as a worker does that is told to stop."""
    queue, taken = RabbitQueue(url), asyncio.Event()
    await queue.subscribe(address, 100, lambda _: taken.set())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(taken.wait(), 2)
    await queue.aclose()


async def test_brk_9_a_lost_broker_interrupts_no_transaction(office: Office, rabbitmq: RabbitMQ) -> None:
    """What is being sent when the broker is lost is finished and recorded; its ticket comes again and changes nothing."""
    async with scripted_smtp() as smtp:
        await office.add_integration(smtp.port)
        async with office.gateway(), office.worker():
            await office.active()
            smtp.script("dot", Say("250 2.0.0 taken", seconds=1), times=1)
            message_id = await office.accepted()
            await smtp.reached("dot")
            await asyncio.to_thread(rabbitmq.close_all_connections)
            standing = await office.becomes(message_id, Status.SENT)
            await office.becomes(await office.accepted(), Status.SENT)

    assert (standing.attempts, standing.possible_duplicate) == (1, False)
    assert office.copies(smtp.completed, message_id) == 1


async def test_brk_11_a_worker_ends_that_finds_a_foreign_queue(office: Office) -> None:
    """What somebody else declared under our name ends a worker at its start, in one line, instead of failing for ever."""
    async with await aio_pika.connect(office.queue_url) as connection:
        await (await connection.channel()).declare_queue(UNREADABLE, durable=False, exclusive=False)
        async with worker_process(office) as worker:
            async with asyncio.timeout(20):
                await worker.wait()

    assert worker.returncode == 1
