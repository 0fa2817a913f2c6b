"""What every queue promises: tickets come in order, once they are published, until they are acknowledged."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from mailroom.message import Lane, new_message_id
from mailroom.queue.port import Delivery, Queue, QueueUnavailable
from mailroom.queue.ticket import Address, Ticket

START = datetime(2026, 1, 6, 12, tzinfo=UTC)

#: How long what must come is waited for, and what must not come, in seconds.
PATIENCE = 20
A_MOMENT = 0.3


class Inbox:
    """Whoever takes tickets, and what was given to it."""

    def __init__(self) -> None:
        self._given: asyncio.Queue[Delivery] = asyncio.Queue()

    def take(self, delivery: Delivery) -> None:
        """What a queue calls."""
        self._given.put_nowait(delivery)

    async def next(self) -> Delivery:
        """The next delivery."""
        return await asyncio.wait_for(self._given.get(), PATIENCE)

    async def tickets(self, count: int) -> list[Ticket]:
        """The next so many, acknowledged."""
        deliveries = [await self.next() for _ in range(count)]
        for delivery in deliveries:
            await delivery.acknowledge()
        return [delivery.ticket for delivery in deliveries]

    async def tickets_one_by_one(self, count: int) -> list[Ticket]:
        """The same, each acknowledged before the next one is waited for."""
        return [ticket for _ in range(count) for ticket in await self.tickets(1)]

    async def nothing_comes(self) -> None:
        """Return when nothing has come for a moment."""
        await asyncio.sleep(A_MOMENT)
        assert self._given.empty()


@pytest.fixture
def address() -> Address:
    """A queue that does not exist yet."""
    return Address(Lane.FORM, uuid4())


@pytest.fixture
def inbox() -> Inbox:
    """Somebody to take tickets."""
    return Inbox()


def a_ticket(number: int = 0) -> Ticket:
    """A ticket of that second, with two ids."""
    return Ticket((new_message_id(), new_message_id()), START + timedelta(seconds=number))


async def published(queue: Queue, address: Address, count: int) -> list[Ticket]:
    """Publish so many tickets, one after the other."""
    tickets = [a_ticket(number) for number in range(count)]
    for ticket in tickets:
        await on_the_queue(queue, address, ticket)
    return tickets


async def on_the_queue(queue: Queue, address: Address, ticket: Ticket) -> None:
    """Return once the ticket is on the queue: a quorum queue that is still choosing its leader refuses at first."""
    async with asyncio.timeout(2 * PATIENCE):
        while True:
            try:
                return await queue.publish(address, ticket)
            except QueueUnavailable:
                await asyncio.sleep(0.1)


async def until(so: Callable[[], bool]) -> None:
    """Return once this is so."""
    async with asyncio.timeout(PATIENCE):
        while not so():
            await asyncio.sleep(0.02)


async def test_a_ticket_is_taken_as_it_was_published(queue: Queue, address: Address, inbox: Inbox) -> None:
    """A ticket comes with its ids and its time, also to a queue that did not exist, and once."""
    ticket = a_ticket()
    await on_the_queue(queue, address, ticket)
    await queue.subscribe(address, 10, inbox.take)

    assert await inbox.tickets(1) == [ticket]
    await inbox.nothing_comes()
    assert await queue.ready(address) == 0


async def test_a_subscriber_may_come_first(queue: Queue, address: Address, inbox: Inbox) -> None:
    """Whoever subscribes to a queue that does not exist is given what is published later."""
    await queue.subscribe(address, 10, inbox.take)
    ticket = a_ticket()
    await on_the_queue(queue, address, ticket)

    assert await inbox.tickets(1) == [ticket]


async def test_first_in_first_out(queue: Queue, address: Address, inbox: Inbox) -> None:
    """Tickets come in the order in which they were published."""
    tickets = await published(queue, address, 30)
    await queue.subscribe(address, 50, inbox.take)

    assert await inbox.tickets(30) == tickets


async def test_many_publish_at_once(queue: Queue, address: Address, inbox: Inbox) -> None:
    """Publishes that are under way together, also the first to a queue, each arrive."""
    tickets = [a_ticket(number) for number in range(100)]
    await asyncio.gather(*(on_the_queue(queue, address, ticket) for ticket in tickets))
    await queue.subscribe(address, 200, inbox.take)

    taken = await inbox.tickets(100)
    assert {ticket.ids for ticket in taken} == {ticket.ids for ticket in tickets}


async def test_a_queue_has_its_own_tickets(queue: Queue, inbox: Inbox) -> None:
    """Nobody is given a ticket of another lane or another integration."""
    integration: UUID = uuid4()
    form, agent = Address(Lane.FORM, integration), Address(Lane.AGENT, integration)
    [mine] = await published(queue, form, 1)
    await published(queue, agent, 1)
    await published(queue, Address(Lane.FORM, uuid4()), 1)
    await queue.subscribe(form, 10, inbox.take)

    assert await inbox.tickets(1) == [mine]
    await inbox.nothing_comes()


async def test_what_is_not_acknowledged_comes_back(queue: Queue, address: Address, inbox: Inbox) -> None:
    """When a subscriber leaves, what it had in hand goes to the next one, in the old order and before later ones."""
    tickets = await published(queue, address, 4)
    subscription = await queue.subscribe(address, 3, inbox.take)
    in_hand = [await inbox.next() for _ in range(3)]
    await in_hand[1].acknowledge()
    await inbox.next()
    await subscription.cancel()
    second = Inbox()
    await queue.subscribe(address, 10, second.take)

    assert await second.tickets(3) == [tickets[0], tickets[2], tickets[3]]


async def test_who_left_is_given_nothing(queue: Queue, address: Address, inbox: Inbox) -> None:
    """After leaving, a subscriber is called no more; acknowledging late does no harm."""
    subscription = await queue.subscribe(address, 10, inbox.take)
    [ticket] = await published(queue, address, 1)
    late = await inbox.next()
    await subscription.cancel()
    await late.acknowledge()
    await published(queue, address, 1)

    assert late.ticket == ticket
    await inbox.nothing_comes()


async def test_brk_8_nobody_holds_more_than_asked_for(queue: Queue, address: Address, inbox: Inbox) -> None:
    """At most `prefetch` tickets are in hand; each one acknowledged makes room for the next."""
    await published(queue, address, 6)
    await queue.subscribe(address, 2, inbox.take)
    first = await inbox.next()
    await inbox.next()
    await inbox.nothing_comes()

    assert await queue.ready(address) == 4
    await first.acknowledge()
    await inbox.next()
    await inbox.nothing_comes()


async def test_more_can_be_held_after_a_resize(queue: Queue, address: Address, inbox: Inbox) -> None:
    """A subscriber that wants more at once is given more, with nothing lost or given twice on the way."""
    tickets = await published(queue, address, 8)
    subscription = await queue.subscribe(address, 1, inbox.take)
    first = await inbox.next()
    await inbox.nothing_comes()
    await subscription.resize(5)
    more = [await inbox.next() for _ in range(4)]
    for delivery in (first, *more):
        await delivery.acknowledge()

    assert [delivery.ticket for delivery in (first, *more)] == tickets[:5]
    assert await inbox.tickets(3) == tickets[5:]
    await inbox.nothing_comes()


async def test_fewer_are_held_after_a_resize(queue: Queue, address: Address, inbox: Inbox) -> None:
    """A subscriber that wants less is given no more than that, once what it had is acknowledged."""
    await published(queue, address, 12)
    subscription = await queue.subscribe(address, 4, inbox.take)
    held = [await inbox.next() for _ in range(4)]
    await subscription.resize(1)
    await asyncio.sleep(A_MOMENT)
    for delivery in held:
        await delivery.acknowledge()
    await inbox.next()
    await inbox.nothing_comes()

    assert await queue.ready(address) == 7


async def test_what_waits_is_counted(queue: Queue, address: Address, inbox: Inbox) -> None:
    """Tickets that wait are counted, those in hand are not, and a queue that does not exist has none."""
    assert await queue.ready(address) == 0
    await published(queue, address, 3)
    assert await queue.ready(address) == 3

    await queue.subscribe(address, 1, inbox.take)
    await inbox.next()
    assert await queue.ready(address) == 2


async def test_two_subscribers_share_a_queue(queue: Queue, address: Address) -> None:
    """Each ticket goes to one of them, and none is left."""
    one, two = Inbox(), Inbox()
    await queue.subscribe(address, 1, one.take)
    await queue.subscribe(address, 1, two.take)
    tickets = await published(queue, address, 2)

    taken = [(await one.next()).ticket, (await two.next()).ticket]
    assert sorted(taken, key=lambda ticket: ticket.written_at) == tickets


async def test_a_nudge_reaches_everybody(queue: Queue) -> None:
    """Every listener hears a nudge, each time."""
    heard: list[str] = []
    queue.on_nudge(lambda: heard.append("one"))
    queue.on_nudge(lambda: heard.append("two"))

    async def nudge_until(both: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not both():
                await queue.nudge()
                await asyncio.sleep(0.05)

    await nudge_until(lambda: set(heard) == {"one", "two"})
    heard.clear()
    await nudge_until(lambda: set(heard) == {"one", "two"})


async def test_it_is_connected_while_it_works(queue: Queue, address: Address) -> None:
    """After a publish it is known that tickets can be published."""
    await on_the_queue(queue, address, a_ticket())

    assert queue.connected


async def test_closing_twice_is_harmless(queue: Queue, address: Address, inbox: Inbox) -> None:
    """A queue can be let go of with subscribers, and again."""
    queue.on_nudge(lambda: None)
    await queue.subscribe(address, 1, inbox.take)
    await on_the_queue(queue, address, a_ticket())
    await queue.aclose()
    await queue.aclose()
