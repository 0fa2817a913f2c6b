"""Writing tickets: ids of one queue that gather while a publish to it is in flight share the next one.

Each queue has a line of its own, so that one that the broker refuses holds up nobody else's tickets.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from mailroom.batch import Batch, LineClosed, LineFull
from mailroom.logs import get_logger
from mailroom.queue.port import Queue, QueueUnavailable
from mailroom.queue.ticket import MAX_IDS, Address, Ticket, chunks
from mailroom.store import integrations
from mailroom.store.port import BadRow, CommitUnknown, Store, StoreUnavailable

log = get_logger(__name__)

#: Ids of one queue that may wait to be written; more are dropped, and found by the sweep.
MAX_WAITING = 50_000

#: Where more than one came at once more will: the next ticket of that queue waits so long for them. Each costs the broker
#: half a millisecond, however few ids it names; who comes alone does not wait.
GATHER_SECONDS = 0.02

#: Tries to publish a ticket before it is left to the sweep, and the seconds between them.
TRIES = 6
BETWEEN_TRIES_SECONDS = 1.0


class TicketWriter:
    """Puts message ids on their queues, soon; what cannot be written is the sweep's business and nobody else's."""

    def __init__(self, queue: Queue, store: Store, now: Callable[[], datetime]) -> None:
        self._queue = queue
        #: Tickets tell how far a queue has come, so all processes write one time on them.
        self._now = now
        self._store = store
        self._lanes_known: set[Address] = set()
        self._lines: dict[Address, Batch[UUID, None]] = {}
        self._closed = False
        #: Tickets published, and ids that were left to the sweep, since the start.
        self.published = 0
        self.dropped = 0
        self._tries = TRIES

    @property
    def waiting(self) -> int:
        """How many ids wait to be written."""
        return sum(line.waiting for line in self._lines.values())

    def write(self, address: Address, message_id: UUID) -> None:
        """Have this message ticketed soon."""
        try:
            self._line_to(address).put(message_id)
        except (LineFull, LineClosed):
            self.dropped += 1

    async def write_alone(self, address: Address, message_id: UUID) -> None:
        """Publish a ticket that names this message only, or leave that to the sweep at once."""
        await self._publish(address, (message_id,), tries=1)

    async def aclose(self) -> None:
        """Return when everything waiting was written, or given up: from now on at the first failure."""
        self._tries = 1
        self._closed = True
        await asyncio.gather(*(line.aclose() for line in self._lines.values()))

    def _line_to(self, address: Address) -> Batch[UUID, None]:
        line = self._lines.get(address)
        if line is None:
            if self._closed:
                raise LineClosed
            line = self._lines[address] = Batch(
                lambda ids: self._write(address, ids),
                max_items=1024,
                max_waiting=MAX_WAITING,
            )
        return line

    async def _write(self, address: Address, group: Sequence[UUID]) -> list[None]:
        await asyncio.gather(*(self._publish(address, ids) for ids in chunks(group)))
        if 1 < len(group) < MAX_IDS and not self._closed:
            await asyncio.sleep(GATHER_SECONDS)
        return [None] * len(group)

    async def _publish(self, address: Address, ids: tuple[UUID, ...], tries: int = TRIES) -> None:
        tried = 0
        while True:
            try:
                await self._queue.publish(address, Ticket(ids, self._now()))
            except QueueUnavailable as error:
                tried += 1
                if tried >= min(tries, self._tries):
                    self.dropped += len(ids)
                    log.warning("ticket left to the sweep", queue=address.queue, ids=len(ids), error=str(error))
                    return
                await asyncio.sleep(BETWEEN_TRIES_SECONDS * random.uniform(0.5, 1))  # noqa: S311 - spreads retries only
            else:
                self.published += 1
                break
        if address not in self._lanes_known:
            await self._make_known(address)

    async def _make_known(self, address: Address) -> None:
        """Tell the workers of a queue that may be new; where that fails, the next ticket tries again."""
        try:
            await self._store.statement(integrations.mark_lane, address.integration_id, address.lane)
        except (StoreUnavailable, CommitUnknown, BadRow) as error:
            log.warning("new queue not made known yet", queue=address.queue, error=str(error))
            return
        self._lanes_known.add(address)
        await self._queue.nudge()
