"""What a queue is: somewhere to put tickets, and somebody who takes them."""

from collections.abc import Callable
from typing import Protocol

from mailroom.queue.ticket import Address, Ticket


class QueueUnavailable(Exception):
    """The ticket may not be on the queue: the broker could not be reached or did not confirm in time."""


class WrongTopology(Exception):
    """The broker has something of our name with other arguments: somebody else declared it."""


class Delivery(Protocol):
    """A ticket in hand. It comes back to the queue unless it is acknowledged."""

    @property
    def ticket(self) -> Ticket:
        """What it says."""
        ...

    async def acknowledge(self) -> None:
        """Let the queue forget it; where that fails, the ticket will be delivered again, which does no harm."""
        ...


class Subscription(Protocol):
    """A wish to be given the tickets of one queue, kept up through every loss of the broker."""

    async def resize(self, prefetch: int) -> None:
        """Hold at most so many unacknowledged tickets from now on."""
        ...

    @property
    def stood_still(self) -> float:
        """For how many seconds tickets have waited of which none came here, or could not come; 0 when all is well."""
        ...

    async def cancel(self) -> None:
        """Want no more; what was delivered and not acknowledged goes back."""
        ...


class Queue(Protocol):
    """Tickets by address. Losing all of it loses nothing: the sweep writes them anew."""

    async def connect(self) -> None:
        """Reach it now, and check what it has declared. Raises QueueUnavailable or WrongTopology."""
        ...

    async def publish(self, address: Address, ticket: Ticket) -> None:
        """Return once the queue holds the ticket; it is made when it does not exist. Raises QueueUnavailable."""
        ...

    async def subscribe(self, address: Address, prefetch: int, take: Callable[[Delivery], None]) -> Subscription:
        """Have `take` called with every ticket, at most `prefetch` unacknowledged at once."""
        ...

    async def ready(self, address: Address) -> int:
        """How many tickets wait there, not counting those in hand; 0 when the queue does not exist.

        Raises QueueUnavailable.
        """
        ...

    async def nudge(self) -> None:
        """Tell every process to look at the integrations now; nothing depends on it, and nothing is raised."""
        ...

    def on_nudge(self, wake: Callable[[], None]) -> None:
        """Have `wake` called at every nudge."""
        ...

    @property
    def connected(self) -> bool:
        """Whether tickets can be published and taken at this moment, as far as is known."""
        ...

    async def aclose(self) -> None:
        """Let go; unacknowledged tickets go back to their queues."""
        ...
