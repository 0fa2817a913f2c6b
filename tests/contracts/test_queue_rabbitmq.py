"""What the queue on RabbitMQ promises when tickets, broker or network fail."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import Any
from uuid import uuid4

import aio_pika
import pytest

from mailroom.message import Lane
from mailroom.queue import rabbitmq as door
from mailroom.queue.port import QueueUnavailable, WrongTopology
from mailroom.queue.rabbitmq import TICKET_QUEUE_ARGUMENTS, UNREADABLE, RabbitQueue
from mailroom.queue.ticket import Address, Ticket
from tests.contracts.test_queue_tickets import PATIENCE, Inbox, a_ticket, on_the_queue, until
from tests.fault_proxy import FaultProxy, Mode
from tests.services import RabbitMQ

ADDRESS = Address(Lane.FORM, uuid4())


@pytest.fixture
def url(rabbitmq: RabbitMQ) -> str:
    """A virtual host of the test's own."""
    return rabbitmq.new_vhost()


@pytest.fixture
async def queue(url: str) -> AsyncIterator[RabbitQueue]:
    """A queue on it."""
    queue = RabbitQueue(url)
    yield queue
    await queue.aclose()


@pytest.fixture
async def proxy(rabbitmq: RabbitMQ) -> AsyncIterator[FaultProxy]:
    """What can fail between a queue and the broker."""
    async with FaultProxy(rabbitmq.port) as proxy:
        yield proxy


@pytest.fixture
async def far(url: str, proxy: FaultProxy, rabbitmq: RabbitMQ) -> AsyncIterator[RabbitQueue]:
    """A queue on the same virtual host, through the proxy."""
    queue = RabbitQueue(url.replace(str(rabbitmq.port), str(proxy.port)))
    yield queue
    await queue.aclose()


async def arrived(queue: RabbitQueue, inbox: Inbox) -> None:
    """Return once a ticket published now, and as often as it takes, is taken."""
    wanted = a_ticket()
    async with asyncio.timeout(2 * PATIENCE):
        await on_the_queue(queue, ADDRESS, wanted)
        while True:
            delivery = await inbox.next()
            await delivery.acknowledge()
            if delivery.ticket == wanted:
                return


# --- tickets ----------------------------------------------------------------------------------------------------------


async def test_brk_12_the_queue_keeps_what_it_was_given(queue: RabbitQueue, url: str, rabbitmq: RabbitMQ) -> None:
    """A ticket's queue is a durable quorum queue with a delivery limit and a place for what cannot be read."""
    await on_the_queue(queue, ADDRESS, a_ticket())

    told = await asyncio.to_thread(
        rabbitmq.evaluate,
        f'{{ok, Q}} = rabbit_amqqueue:lookup({{resource, <<"{url.rpartition("/")[2]}">>, queue, '
        f'<<"{ADDRESS.queue}">>}}), '
        'lists:flatten(io_lib:format("~0p", [rabbit_amqqueue:info(Q, [type, durable, arguments])])).',
    )
    assert "{type,rabbit_quorum_queue}" in told or "{type,quorum}" in told
    assert "{durable,true}" in told
    for name in TICKET_QUEUE_ARGUMENTS:
        assert name in told


async def test_dlv_9_what_cannot_be_read_is_put_aside(
    queue: RabbitQueue, url: str, logged: list[MutableMapping[str, Any]]
) -> None:
    """Bytes that are no ticket end in the queue of the unreadable and are logged; their neighbours are unharmed."""
    before, after = a_ticket(), a_ticket()
    await on_the_queue(queue, ADDRESS, before)
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(b"garbage"), ADDRESS.queue)
    await on_the_queue(queue, ADDRESS, after)
    inbox = Inbox()
    await queue.subscribe(ADDRESS, 10, inbox.take)

    assert await inbox.tickets(2) == [before, after]
    async with await aio_pika.connect(url) as connection, asyncio.timeout(PATIENCE):
        aside = await (await connection.channel()).get_queue(UNREADABLE)
        while (found := await aside.get(fail=False, no_ack=True)) is None:
            await asyncio.sleep(0.1)
    assert found.body == b"garbage"
    assert [event["event"] for event in logged if event["log_level"] == "error"] == ["ticket cannot be read"]


async def test_brk_11_a_foreign_queue_of_our_name_is_told(queue: RabbitQueue, url: str) -> None:
    """What somebody else declared under our name stops the start, with words, instead of failing later."""
    async with await aio_pika.connect(url) as connection:
        await (await connection.channel()).declare_queue(UNREADABLE, durable=False, exclusive=False)

        with pytest.raises(WrongTopology, match=UNREADABLE):
            await queue.connect()


async def test_brk_6_a_full_queue_refuses_without_harm_to_others(queue: RabbitQueue, url: str) -> None:
    """A ticket that its queue refuses is told; tickets of other queues go on over the same connection."""
    other = Address(Lane.AGENT, ADDRESS.integration_id)
    await on_the_queue(queue, other, a_ticket())
    channel = queue._channel
    async with await aio_pika.connect(url) as connection:
        # A queue of our name that is full from the start.
        arguments: dict[str, Any] = {"x-queue-type": "classic", "x-max-length": 0, "x-overflow": "reject-publish"}
        await (await connection.channel()).declare_queue(ADDRESS.queue, durable=True, arguments=arguments)
    queue._declared.add(ADDRESS.queue)
    with pytest.raises(QueueUnavailable):
        await queue.publish(ADDRESS, a_ticket())

    assert queue.connected
    await on_the_queue(queue, other, a_ticket())
    assert queue._channel is channel


# --- broker -----------------------------------------------------------------------------------------------------------


async def test_a_stopped_broker_is_unavailable_until_it_is_back(queue: RabbitQueue, rabbitmq: RabbitMQ) -> None:
    """While the broker is stopped publishes fail, and most at once; afterwards publishing and consuming go on."""
    inbox = Inbox()
    await queue.subscribe(ADDRESS, 10, inbox.take)
    queue.on_nudge(lambda: None)
    await arrived(queue, inbox)
    await asyncio.to_thread(rabbitmq.stop_app)
    for _ in range(50):
        with pytest.raises(QueueUnavailable):
            await queue.publish(ADDRESS, a_ticket())
    with pytest.raises(QueueUnavailable):
        await queue.ready(ADDRESS)
    assert not queue.connected
    await queue.nudge()
    await asyncio.to_thread(rabbitmq.start_app)

    await arrived(queue, inbox)
    await until(lambda: queue.connected)


async def test_brk_10_an_operator_may_close_every_connection(queue: RabbitQueue, rabbitmq: RabbitMQ) -> None:
    """Publishing, consuming and nudges resume by themselves after every connection was closed at the broker."""
    inbox = Inbox()
    nudges: list[None] = []
    await queue.subscribe(ADDRESS, 10, inbox.take)
    queue.on_nudge(lambda: nudges.append(None))
    await arrived(queue, inbox)
    await asyncio.to_thread(rabbitmq.close_all_connections)

    await arrived(queue, inbox)
    async with asyncio.timeout(PATIENCE):
        while not nudges:
            await queue.nudge()
            await asyncio.sleep(0.1)


async def test_brk_10_a_queue_deleted_under_its_consumer_is_made_anew(url: str) -> None:
    """Somebody deletes a queue: the next publish declares it again, and its consumer finds its way back."""
    queue = RabbitQueue(url, watch_seconds=0.3)
    inbox = Inbox()
    await queue.subscribe(ADDRESS, 10, inbox.take)
    await arrived(queue, inbox)
    async with await aio_pika.connect(url) as connection:
        await (await connection.channel()).queue_delete(ADDRESS.queue)

    await arrived(queue, inbox)
    await queue.aclose()


async def test_brk_10_an_idle_consumer_is_not_forgotten(url: str) -> None:
    """However long nothing came, what is published is taken, once; what is in hand stays there."""
    queue = RabbitQueue(url, watch_seconds=0.02)
    inbox = Inbox()
    await queue.subscribe(ADDRESS, 2, inbox.take)
    for _ in range(3):
        await arrived(queue, inbox)
        await asyncio.sleep(0.5)
    for _ in range(3):
        await queue.publish(ADDRESS, a_ticket())
    in_hand = [await inbox.next() for _ in range(2)]
    await inbox.nothing_comes()
    await in_hand[0].acknowledge()
    await inbox.next()
    await inbox.nothing_comes()
    await queue.aclose()


async def test_brk_9_what_was_in_hand_comes_again(queue: RabbitQueue, rabbitmq: RabbitMQ) -> None:
    """A ticket in hand when its connection died is delivered again; acknowledging the old delivery does no harm."""
    inbox = Inbox()
    await queue.subscribe(ADDRESS, 10, inbox.take)
    ticket = a_ticket()
    await on_the_queue(queue, ADDRESS, ticket)
    old = await inbox.next()
    await asyncio.to_thread(rabbitmq.close_all_connections)
    await old.acknowledge()

    assert (await inbox.next()).ticket == ticket == old.ticket


@contextlib.contextmanager
def memory_alarm(rabbitmq: RabbitMQ) -> Iterator[None]:
    """The broker has too little memory meanwhile, and reads nothing more from those who publish."""
    rabbitmq.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.00001).")
    try:
        yield
    finally:
        rabbitmq.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.9).")


async def test_brk_1_an_alarm_stops_publishing_only(queue: RabbitQueue, rabbitmq: RabbitMQ) -> None:
    """Under an alarm a publish fails in its time, and what is on the queue is taken and acknowledged all the same.

    Afterwards publishing goes on. What was told as not published may be there: at most once for each publish.
    """
    before, meanwhile = [a_ticket() for _ in range(5)], a_ticket()
    for ticket in before:
        await on_the_queue(queue, ADDRESS, ticket)
    inbox = Inbox()
    with memory_alarm(rabbitmq):
        await asyncio.sleep(0.2)
        publishing = asyncio.create_task(queue.publish(ADDRESS, meanwhile))
        await queue.subscribe(ADDRESS, 1, inbox.take)
        assert await inbox.tickets_one_by_one(5) == before
        async with asyncio.timeout(door.PUBLISH_SECONDS + 2):
            with pytest.raises(QueueUnavailable):
                await publishing
    after = a_ticket()
    await on_the_queue(queue, ADDRESS, after)

    async with asyncio.timeout(PATIENCE):
        taken: list[Ticket] = []
        while after not in taken:
            taken += await inbox.tickets_one_by_one(1)
    assert taken in ([after], [meanwhile, after])


async def test_brk_5_a_ticket_that_found_no_queue_is_never_told_as_published(queue: RabbitQueue, url: str) -> None:
    """Of many publishes at once to a queue that is there and one that was deleted, those that returned are there."""
    there = Address(Lane.AGENT, ADDRESS.integration_id)
    for address in (there, ADDRESS):
        await on_the_queue(queue, address, a_ticket())
    async with await aio_pika.connect(url) as connection:
        await (await connection.channel()).queue_delete(ADDRESS.queue)
    told = await asyncio.gather(
        *(queue.publish(address, a_ticket()) for _ in range(50) for address in (there, ADDRESS)), return_exceptions=True
    )
    async with asyncio.timeout(PATIENCE):
        while await queue.ready(there) + await queue.ready(ADDRESS) < told.count(None) + 1:
            await asyncio.sleep(0.1)

    assert {type(outcome) for outcome in told} <= {type(None), QueueUnavailable}
    assert told.count(None) >= 50


async def test_brk_7_channels_do_not_add_up(queue: RabbitQueue, rabbitmq: RabbitMQ) -> None:
    """Hundreds of publishes, to many queues and through lost connections, leave the channels there were."""
    count = "length(rabbit_channel:list())."
    await on_the_queue(queue, ADDRESS, a_ticket())
    before = await asyncio.to_thread(rabbitmq.evaluate, count)
    for _ in range(3):
        addresses = [Address(Lane.FORM, uuid4()) for _ in range(3)]
        await asyncio.gather(*(on_the_queue(queue, address, a_ticket()) for address in addresses for _ in range(50)))
        await asyncio.to_thread(rabbitmq.close_all_connections)
    await on_the_queue(queue, ADDRESS, a_ticket())

    async with asyncio.timeout(PATIENCE):
        while await asyncio.to_thread(rabbitmq.evaluate, count) != before:
            await asyncio.sleep(0.1)


async def test_brk_7_thousands_at_once_need_no_channel_each(queue: RabbitQueue) -> None:
    """More tickets at once, to queues that nobody declared yet, than a connection has channels are all published."""
    addresses = [Address(Lane.FORM, uuid4()) for _ in range(70)]
    told = await asyncio.wait_for(
        asyncio.gather(
            *(queue.publish(address, a_ticket()) for address in addresses for _ in range(32)), return_exceptions=True
        ),
        door.PUBLISH_SECONDS + PATIENCE,
    )

    assert {type(outcome) for outcome in told} <= {type(None), QueueUnavailable}
    await asyncio.gather(*(on_the_queue(queue, address, a_ticket()) for address in addresses))


# --- network ----------------------------------------------------------------------------------------------------------


async def test_brk_2_a_black_hole_is_unavailable_in_time(far: RabbitQueue, proxy: FaultProxy) -> None:
    """A broker that swallows everything fails every publish as unavailable, within their budget, and none otherwise."""
    await on_the_queue(far, ADDRESS, a_ticket())
    await proxy.set_mode(Mode.HOLE)
    async with asyncio.timeout(door.PUBLISH_SECONDS + PATIENCE):
        outcomes = await asyncio.gather(*(far.publish(ADDRESS, a_ticket()) for _ in range(20)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {QueueUnavailable}
    await proxy.set_mode(Mode.OK)

    inbox = Inbox()
    await far.subscribe(ADDRESS, 100, inbox.take)
    await arrived(far, inbox)


async def test_brk_3_a_cut_is_never_a_cancellation(far: RabbitQueue, proxy: FaultProxy) -> None:
    """Connections cut under publishes, counts and nudges end them as unavailable: nobody is cancelled for it."""
    inbox = Inbox()
    await far.subscribe(ADDRESS, 100, inbox.take)
    await arrived(far, inbox)
    for _ in range(5):
        asked = [far.publish(ADDRESS, a_ticket()) for _ in range(20)] + [far.nudge() for _ in range(5)]
        work = asyncio.gather(*asked, *(far.ready(ADDRESS) for _ in range(5)), return_exceptions=True)
        await asyncio.sleep(0.002)
        proxy.cut()
        outcomes = await work
        assert {type(outcome) for outcome in outcomes} <= {QueueUnavailable, type(None), int}
        await asyncio.sleep(door.BACK_OFF_SECONDS)

    await arrived(far, inbox)


async def test_brk_4_a_half_open_connection_is_noticed(
    url: str, proxy: FaultProxy, rabbitmq: RabbitMQ, logged: list[MutableMapping[str, Any]]
) -> None:
    """A line that goes silent under a waiting consumer is given up after three heartbeats, and nobody is cancelled."""
    queue = RabbitQueue(f"{url.replace(str(rabbitmq.port), str(proxy.port))}?heartbeat=1", watch_seconds=60)
    inbox = Inbox()
    await queue.subscribe(ADDRESS, 10, inbox.take)
    await arrived(queue, inbox)
    await proxy.set_mode(Mode.HOLE)
    with pytest.raises(QueueUnavailable):
        await queue.publish(ADDRESS, a_ticket())
    await until(lambda: any(event["event"] == "consuming was interrupted" for event in logged))
    await proxy.set_mode(Mode.OK)

    await arrived(queue, inbox)
    await queue.aclose()


async def test_a_cancelled_publish_harms_no_other(queue: RabbitQueue) -> None:
    """Whoever is really cancelled is cancelled, and those who publish beside it notice nothing."""
    await on_the_queue(queue, ADDRESS, a_ticket())
    cancelled = [asyncio.create_task(queue.publish(ADDRESS, a_ticket())) for _ in range(10)]
    beside = [asyncio.create_task(queue.publish(ADDRESS, a_ticket())) for _ in range(10)]
    await asyncio.sleep(0)
    for task in cancelled:
        task.cancel()
    outcomes = await asyncio.gather(*cancelled, return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} <= {asyncio.CancelledError}
    assert await asyncio.gather(*beside) == [None] * 10


async def test_the_next_host_is_tried(url: str, rabbitmq: RabbitMQ, proxy: FaultProxy) -> None:
    """Of several hosts in the URL one that answers is enough."""
    await proxy.set_mode(Mode.REFUSE)
    here = f"127.0.0.1:{rabbitmq.port}"
    queue = RabbitQueue(url.replace(here, f"127.0.0.1:{proxy.port},{here}"))
    inbox = Inbox()
    await queue.subscribe(ADDRESS, 10, inbox.take)

    await arrived(queue, inbox)
    await queue.aclose()


async def test_a_broker_that_cannot_be_reached_again_is_not_asked_by_everybody(
    far: RabbitQueue, proxy: FaultProxy
) -> None:
    """After the first publish that found no way to the broker the next ones fail at once, and it is known to be away."""
    await on_the_queue(far, ADDRESS, a_ticket())
    await proxy.set_mode(Mode.REFUSE)
    proxy.cut()
    await until(lambda: not far.connected)
    with pytest.raises(QueueUnavailable):
        await far.publish(ADDRESS, a_ticket())
    with pytest.raises(QueueUnavailable, match="a moment ago"):
        await far.publish(ADDRESS, a_ticket())

    await proxy.set_mode(Mode.OK)
    await on_the_queue(far, ADDRESS, a_ticket())


async def test_a_queue_that_is_another_kind_costs_nobody_else(queue: RabbitQueue, url: str) -> None:
    """A queue of our name that somebody declared otherwise is refused; others are published to over the same channel."""
    other = Address(Lane.AGENT, ADDRESS.integration_id)
    await on_the_queue(queue, other, a_ticket())
    channel = queue._channel
    async with await aio_pika.connect(url) as connection:
        await (await connection.channel()).declare_queue(ADDRESS.queue, durable=False)
        with pytest.raises(QueueUnavailable, match="refused"):
            await queue.publish(ADDRESS, a_ticket())

        assert queue.connected
        await queue.publish(other, a_ticket())
        assert queue._channel is channel


async def test_what_nobody_expected_ends_no_loop(logged: list[MutableMapping[str, Any]]) -> None:
    """An error that is none of the broker's (here: there is no place to connect to) is logged, and the loops go on."""
    queue = RabbitQueue("amqp://127.0.0.1/")
    queue._consuming = queue._proving = door._Link([], "nowhere")
    queue.on_nudge(lambda: None)
    subscription = await queue.subscribe(ADDRESS, 1, lambda _: None)
    loops = (queue._listening, queue._prover, subscription._task)
    async with asyncio.timeout(PATIENCE):
        while len({event["loop"] for event in logged if event["event"] == "a loop failed; it goes on"}) < len(loops):
            await asyncio.sleep(0.01)
    ended = [loop is None or loop.done() for loop in loops]
    await queue.aclose()

    assert ended == [False] * 3
