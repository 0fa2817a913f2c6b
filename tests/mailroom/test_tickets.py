"""Writing tickets: in groups, soon, and never at the cost of a submission."""

import asyncio
from collections.abc import MutableMapping
from typing import Any
from uuid import UUID

import pytest

from mailroom import tickets
from mailroom.message import Lane, new_message_id
from mailroom.queue.memory import MemoryQueue
from mailroom.queue.port import Delivery, QueueUnavailable
from mailroom.queue.ticket import MAX_IDS, Address, Ticket
from mailroom.store import integrations
from mailroom.store.sqlite import SqliteStore
from mailroom.tickets import TicketWriter
from tests.builders import created, this_moment


class MoodyQueue(MemoryQueue):
    """A queue that fails so many publishes first, and waits when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        self.refused: set[Address] = set()
        self.open = asyncio.Event()
        self.open.set()
        self.published: list[tuple[Address, Ticket]] = []

    async def publish(self, address: Address, ticket: Ticket) -> None:
        """Publish, or fail."""
        await self.open.wait()
        if address in self.refused:
            raise QueueUnavailable("not there")
        if self.failures:
            self.failures -= 1
            raise QueueUnavailable("not now")
        self.published.append((address, ticket))
        await super().publish(address, ticket)

    @property
    def ids(self) -> list[UUID]:
        """Every id on any ticket."""
        return [id_ for _, ticket in self.published for id_ in ticket.ids]


@pytest.fixture
async def address(store: SqliteStore) -> Address:
    """The form queue of the one integration."""
    return Address(Lane.FORM, await created(store))


@pytest.fixture
def queue() -> MoodyQueue:
    """A queue in a good mood."""
    return MoodyQueue()


@pytest.fixture
def writer(queue: MoodyQueue, store: SqliteStore) -> TicketWriter:
    """What writes to it."""
    return TicketWriter(queue, store, this_moment)


async def test_a_message_is_ticketed_at_once(queue: MoodyQueue, writer: TicketWriter, address: Address) -> None:
    """An idle writer waits for nobody."""
    taken: asyncio.Queue[Delivery] = asyncio.Queue()
    await queue.subscribe(address, 10, taken.put_nowait)
    message_id = new_message_id()
    writer.write(address, message_id)

    assert (await asyncio.wait_for(taken.get(), 20)).ticket.ids == (message_id,)
    await writer.aclose()
    assert (writer.published, writer.dropped, writer.waiting) == (1, 0, 0)


async def test_ids_that_gather_share_tickets(queue: MoodyQueue, writer: TicketWriter, address: Address) -> None:
    """What comes while a publish is under way travels together, by queue, at most so many to a ticket."""
    other = Address(Lane.AGENT, address.integration_id)
    first, *rest = [new_message_id() for _ in range(2 * MAX_IDS + 1)]
    queue.open.clear()
    writer.write(address, first)
    await asyncio.sleep(0)
    for message_id in rest:
        writer.write(address, message_id)
    alone = new_message_id()
    writer.write(other, alone)
    queue.open.set()
    await writer.aclose()

    assert [len(ticket.ids) for where, ticket in queue.published if where == address] == [1, MAX_IDS, MAX_IDS]
    assert [ticket.ids for where, ticket in queue.published if where == other] == [(alone,)]
    assert sorted(queue.ids) == sorted([first, *rest, alone])


@pytest.mark.parametrize(
    ("come_first", "tickets_of"),
    [(1, [1, 1, 1]), (2, [2, 2]), (MAX_IDS, [MAX_IDS, 1, 1])],
    ids=["nobody waits behind one that came alone", "two are waited behind", "a full ticket has gathered enough"],
)
async def test_where_some_came_at_once_more_are_waited_for(
    queue: MoodyQueue, writer: TicketWriter, address: Address, monkeypatch: pytest.MonkeyPatch,
    come_first: int, tickets_of: list[int],
) -> None:  # fmt: skip
    """Each ticket costs the broker as much, however few ids it names."""
    monkeypatch.setattr(tickets, "GATHER_SECONDS", 2.0)
    for _ in range(come_first):
        writer.write(address, new_message_id())
    for number in range(2, 4):
        await asyncio.sleep(0.2)
        assert len(queue.published) == (number - 1 if len(tickets_of) == 3 else 1)
        writer.write(address, new_message_id())
    await writer.aclose()

    assert [len(ticket.ids) for _, ticket in queue.published] == tickets_of


async def test_a_suspect_travels_alone(queue: MoodyQueue, writer: TicketWriter, address: Address) -> None:
    """A message that must not take neighbours along has a ticket of its own."""
    message_id = new_message_id()
    await writer.write_alone(address, message_id)

    assert [ticket.ids for _, ticket in queue.published] == [(message_id,)]


async def test_a_new_queue_is_made_known(
    queue: MoodyQueue, store: SqliteStore, writer: TicketWriter, address: Address
) -> None:
    """The first ticket of a lane tells every worker that there is one."""
    nudged = asyncio.Event()
    queue.on_nudge(nudged.set)
    writer.write(address, new_message_id())
    await writer.aclose()
    await asyncio.wait_for(nudged.wait(), 20)

    [row] = await store.read(integrations.all_rows)
    assert (bool(row.form_lane), bool(row.agent_lane)) == (True, False)


async def test_a_ticket_is_written_before_its_lane_is_known(
    queue: MoodyQueue, store: SqliteStore, writer: TicketWriter, address: Address,
    logged: list[MutableMapping[str, Any]],
) -> None:  # fmt: skip
    """When the database is away just then, the ticket is out all the same, and the next one tries to tell again."""
    await store.aclose()
    for _ in range(2):
        await writer.write_alone(address, new_message_id())

    assert writer.published == 2
    assert [event["event"] for event in logged] == ["new queue not made known yet"] * 2


async def test_a_publish_is_tried_again(queue: MoodyQueue, writer: TicketWriter, address: Address) -> None:
    """A short absence of the broker costs time and no ticket."""
    queue.failures = 1
    message_id = new_message_id()
    writer.write(address, message_id)
    while not queue.ids:
        await asyncio.sleep(0.05)

    assert queue.ids == [message_id]
    assert writer.dropped == 0
    await writer.aclose()


async def test_a_closing_writer_does_not_wait_for_the_broker(
    queue: MoodyQueue, writer: TicketWriter, address: Address, logged: list[MutableMapping[str, Any]]
) -> None:
    """Who stops while the broker is away leaves its tickets to the sweep, counted and logged, after one try each."""
    queue.failures = 1000
    queue.open.clear()
    for _ in range(MAX_IDS + 1):
        writer.write(address, new_message_id())
    closing = asyncio.create_task(writer.aclose())
    await asyncio.sleep(0)
    queue.open.set()
    await closing

    assert (writer.published, writer.dropped) == (0, MAX_IDS + 1)
    assert queue.failures == 998
    assert {event["event"] for event in logged} == {"ticket left to the sweep"}


async def test_what_comes_after_closing_is_left_to_the_sweep(writer: TicketWriter, address: Address) -> None:
    """A writer that has closed drops what it is given, and counts it."""
    await writer.aclose()
    writer.write(address, new_message_id())

    assert writer.dropped == 1


async def test_a_full_line_drops(queue: MoodyQueue, writer: TicketWriter, address: Address) -> None:
    """However long the broker is away, only so many ids wait; more are the sweep's."""
    queue.open.clear()
    message_id = new_message_id()
    for _ in range(tickets.MAX_WAITING + 5):
        writer.write(address, message_id)

    assert writer.waiting == tickets.MAX_WAITING
    assert writer.dropped == 5
    queue.failures = 10**9
    closing = asyncio.create_task(writer.aclose())
    await asyncio.sleep(0)
    queue.open.set()
    await closing
    assert writer.dropped == tickets.MAX_WAITING + 5


async def test_a_ticket_for_one_is_tried_once(queue: MoodyQueue, writer: TicketWriter, address: Address) -> None:
    """The sweep does not wait for a broker that is away: it looks again anyway."""
    queue.failures = 2
    for _ in range(2):
        await writer.write_alone(address, new_message_id())

    assert (queue.failures, queue.ids, writer.dropped) == (0, [], 2)
    await writer.aclose()


async def test_a_refused_queue_holds_up_nobody_else(queue: MoodyQueue, writer: TicketWriter, address: Address) -> None:
    """While tickets of one queue are tried again and again, those of another go out at once."""
    other = Address(Lane.AGENT, address.integration_id)
    queue.refused.add(other)
    writer.write(other, new_message_id())
    good = [new_message_id() for _ in range(3)]
    for message_id in good:
        writer.write(address, message_id)
        await asyncio.sleep(0.05)

    assert queue.ids == good
    assert writer.dropped == 0
    await writer.aclose()
    assert writer.dropped == 1
