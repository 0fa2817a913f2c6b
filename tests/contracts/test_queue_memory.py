"""What the queue in memory promises beyond the contract: it is shared by event loops, and it is bounded."""

import asyncio
import threading
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from mailroom.message import Lane, new_message_id
from mailroom.queue import memory
from mailroom.queue.memory import MemoryQueue
from mailroom.queue.port import Delivery, QueueUnavailable
from mailroom.queue.ticket import Address, Ticket

ADDRESS = Address(Lane.FORM, uuid4())


def a_ticket() -> Ticket:
    """Any ticket."""
    return Ticket((new_message_id(),), datetime.now(UTC))


async def test_tickets_cross_event_loops() -> None:
    """What is published in one thread's loop is taken in another's, and nudges cross too."""
    queue = MemoryQueue()
    tickets = [a_ticket() for _ in range(200)]
    taken: list[Ticket] = []
    threads: set[str] = set()
    nudged = threading.Event()

    async def work(ready: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
        done = asyncio.Event()

        def take(delivery: Delivery) -> None:
            taken.append(delivery.ticket)
            threads.add(threading.current_thread().name)
            acknowledging.append(asyncio.ensure_future(delivery.acknowledge()))
            if len(taken) == len(tickets):
                done.set()

        acknowledging: list[asyncio.Future[None]] = []
        await queue.subscribe(ADDRESS, 8, take)
        queue.on_nudge(nudged.set)
        loop.call_soon_threadsafe(ready.set)
        await asyncio.wait_for(done.wait(), 20)
        await asyncio.gather(*acknowledging)
        while not nudged.is_set():
            await asyncio.sleep(0.01)

    ready = asyncio.Event()
    worker = asyncio.create_task(asyncio.to_thread(asyncio.run, work(ready, asyncio.get_running_loop())))
    await ready.wait()
    for ticket in tickets:
        await queue.publish(ADDRESS, ticket)
    await queue.nudge()
    await asyncio.wait_for(worker, 20)
    await queue.nudge()
    await queue.publish(ADDRESS, a_ticket())

    assert taken == tickets
    assert threading.current_thread().name not in threads


async def test_a_full_line_takes_no_more() -> None:
    """A line is bounded: a ticket that is refused is written again by the sweep."""
    queue = MemoryQueue()
    ticket = a_ticket()
    for _ in range(memory.MAX_TICKETS):
        await queue.publish(ADDRESS, ticket)

    with pytest.raises(QueueUnavailable):
        await queue.publish(ADDRESS, ticket)
    await queue.publish(Address(Lane.AGENT, ADDRESS.integration_id), ticket)
