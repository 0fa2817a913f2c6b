"""The queue in memory: for one process whose store and sweep make it durable.

Several event loops of the process may share it: a lock guards the lines, and `take` runs in its subscriber's own loop.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from mailroom.queue.port import Delivery, QueueUnavailable
from mailroom.queue.ticket import Address, Ticket

#: More tickets than this in one line are not taken; the sweep writes them again later.
MAX_TICKETS = 100_000


class MemoryQueue:
    """Tickets in deques."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[Address, _Line] = {}
        self._wakers: list[tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = []

    async def connect(self) -> None:
        """It is here."""

    async def publish(self, address: Address, ticket: Ticket) -> None:
        """Put the ticket at the end of its line. Raises QueueUnavailable when the line is full."""
        with self._lock:
            line = self._lines.setdefault(address, _Line())
            if len(line.tickets) >= MAX_TICKETS:
                raise QueueUnavailable(f"{address.queue} holds {MAX_TICKETS} tickets already")
            line.tickets.append(ticket)
            takers = list(line.takers)
        for taker in takers:
            taker.look()

    async def subscribe(
        self, address: Address, prefetch: int, take: Callable[[Delivery], None]
    ) -> "_MemorySubscription":
        """Have `take` called in this loop with every ticket."""
        with self._lock:
            line = self._lines.setdefault(address, _Line())
            taker = _MemorySubscription(self._lock, line, prefetch, take)
            line.takers.append(taker)
        taker.look()
        return taker

    async def ready(self, address: Address) -> int:
        """How many tickets wait there."""
        with self._lock:
            line = self._lines.get(address)
            return len(line.tickets) if line else 0

    async def nudge(self) -> None:
        """Call every waker in its own loop."""
        for loop, wake in self._wakers:
            if not loop.is_closed():
                loop.call_soon_threadsafe(wake)

    def on_nudge(self, wake: Callable[[], None]) -> None:
        """Have `wake` called in this loop at every nudge."""
        self._wakers.append((asyncio.get_running_loop(), wake))

    @property
    def connected(self) -> bool:
        """Always."""
        return True

    async def aclose(self) -> None:
        """Forget everything; the store still has the messages."""
        with self._lock:
            self._lines.clear()
            self._wakers.clear()


@dataclass(slots=True)
class _Line:
    tickets: deque[Ticket] = field(default_factory=deque)
    takers: list["_MemorySubscription"] = field(default_factory=list)


class _MemorySubscription:
    def __init__(self, lock: threading.Lock, line: _Line, prefetch: int, take: Callable[[Delivery], None]) -> None:
        self._lock = lock
        self._line = line
        self._prefetch = prefetch
        self._take = take
        self._loop = asyncio.get_running_loop()
        #: In the order they were taken.
        self._in_hand: dict[_MemoryDelivery, None] = {}
        self._cancelled = False

    def look(self) -> None:
        """Take what there is, in our own loop, from whichever thread this is called."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take_some)

    async def resize(self, prefetch: int) -> None:
        """Hold at most so many from now on."""
        self._prefetch = prefetch
        self.look()

    @property
    def stood_still(self) -> float:
        """Never: what is put in is taken out by the same process."""
        return 0.0

    async def cancel(self) -> None:
        """Want no more, and put back what is in hand, oldest in front."""
        with self._lock:
            self._cancelled = True
            if self in self._line.takers:
                self._line.takers.remove(self)
            self._line.tickets.extendleft(delivery.ticket for delivery in reversed(self._in_hand))
            self._in_hand.clear()
            others = list(self._line.takers)
        for taker in others:
            taker.look()

    def _take_some(self) -> None:
        while True:
            with self._lock:
                if self._cancelled or not self._line.tickets or len(self._in_hand) >= self._prefetch:
                    return
                delivery = _MemoryDelivery(self._line.tickets.popleft(), self)
                self._in_hand[delivery] = None
            self._take(delivery)

    def forget(self, delivery: "_MemoryDelivery") -> None:
        """An acknowledged ticket makes room for the next."""
        with self._lock:
            self._in_hand.pop(delivery, None)
        self._take_some()


class _MemoryDelivery:
    def __init__(self, ticket: Ticket, subscription: _MemorySubscription) -> None:
        self._ticket = ticket
        self._subscription = subscription

    @property
    def ticket(self) -> Ticket:
        return self._ticket

    async def acknowledge(self) -> None:
        self._subscription.forget(self)
