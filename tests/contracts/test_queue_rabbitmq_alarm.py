"""What the queue on RabbitMQ knows of a broker that is there, and takes or gives nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import aio_pika
import pytest

from mailroom.message import Lane, new_message_id
from mailroom.queue.port import Delivery, QueueUnavailable
from mailroom.queue.rabbitmq import RabbitQueue
from mailroom.queue.ticket import Address, Ticket
from tests.builders import NOW
from tests.services import RabbitMQ

ADDRESS = Address(Lane.FORM, new_message_id())
PATIENCE = 30.0


@pytest.fixture
async def queue(rabbitmq: RabbitMQ) -> AsyncIterator[RabbitQueue]:
    """A queue that watches over itself, as those of gateways and workers do, and looks often."""
    queue = RabbitQueue(rabbitmq.new_vhost(), watch_seconds=0.1)
    queue.on_nudge(lambda: None)
    yield queue
    await queue.aclose()


@contextlib.asynccontextmanager
async def an_alarm(rabbitmq: RabbitMQ) -> AsyncIterator[None]:
    """The broker's memory is short: it reads nothing more from whoever publishes."""
    alarm = "{{resource_limit, memory, node()}, []}"
    await asyncio.to_thread(rabbitmq.evaluate, f'rabbit_alarm:set_alarm({alarm}), "set".')
    try:
        yield
    finally:
        await asyncio.to_thread(
            rabbitmq.evaluate, 'rabbit_alarm:clear_alarm({resource_limit, memory, node()}), "cleared".'
        )


async def until(so: Callable[[], bool]) -> float:
    """After how many seconds it was so."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with asyncio.timeout(PATIENCE):
        while not so():
            await asyncio.sleep(0.02)
    return loop.time() - begun


async def test_brk_13_an_alarm_is_noticed_without_a_publish(queue: RabbitQueue, rabbitmq: RabbitMQ) -> None:
    """During an alarm the broker counts as away, publishes fail at once, tickets come; after it all is as before.

    However long it lasts, no connections are left behind at the broker.
    """
    ticket, came = Ticket((new_message_id(),), NOW), asyncio.Queue[Delivery]()
    await queue.subscribe(ADDRESS, 10, came.put_nowait)
    await until(lambda: queue.connected)
    for _ in range(2):
        await queue.publish(ADDRESS, ticket)
    first = await asyncio.wait_for(came.get(), PATIENCE)
    async with an_alarm(rabbitmq):
        noticed = await until(lambda: not queue.connected)
        before = await asyncio.to_thread(connections, rabbitmq)
        with pytest.raises(QueueUnavailable, match="takes nothing"):
            await queue.publish(ADDRESS, ticket)
        await first.acknowledge()
        second = await asyncio.wait_for(came.get(), PATIENCE)
        await second.acknowledge()
        await asyncio.sleep(1.5)
        after = await asyncio.to_thread(connections, rabbitmq)
    await until(lambda: queue.connected)
    await queue.publish(ADDRESS, ticket)
    await asyncio.wait_for(came.get(), PATIENCE)

    assert noticed < 5
    assert after == before


def connections(rabbitmq: RabbitMQ) -> str:
    """How many connections the broker has."""
    return rabbitmq.evaluate("integer_to_list(length(rabbit_networking:connections())).")


async def test_brk_10_a_consumer_that_gets_nothing_says_so(queue: RabbitQueue, rabbitmq: RabbitMQ) -> None:
    """While a queue cannot be consumed its subscription stands still; once it can be, no more."""
    came = asyncio.Queue[Delivery]()
    async with await aio_pika.connect(queue._publishing._urls[0]) as connection:
        channel = await connection.channel()
        await channel.declare_queue(ADDRESS.queue, durable=False)
        subscription = await queue.subscribe(ADDRESS, 10, came.put_nowait)
        at_first = subscription.stood_still
        await until(lambda: subscription.stood_still > 0.5)
        await channel.queue_delete(ADDRESS.queue)
    await until(lambda: subscription.stood_still == 0)
    await until(lambda: queue.connected)
    await queue.publish(ADDRESS, Ticket((new_message_id(),), NOW))
    await asyncio.wait_for(came.get(), PATIENCE)

    assert at_first == 0
    assert subscription.stood_still == 0


async def test_a_queue_with_nothing_in_it_stands_not_still(queue: RabbitQueue) -> None:
    """Who waits for tickets where there are none, or has as many in hand as it may, is well."""
    came = asyncio.Queue[Delivery]()
    subscription = await queue.subscribe(ADDRESS, 1, came.put_nowait)
    await until(lambda: queue.connected)
    await asyncio.sleep(0.5)
    idle = subscription.stood_still
    for _ in range(3):
        await queue.publish(ADDRESS, Ticket((new_message_id(),), NOW))
    await asyncio.wait_for(came.get(), PATIENCE)
    await asyncio.sleep(0.5)

    assert (idle, subscription.stood_still) == (0, 0)
