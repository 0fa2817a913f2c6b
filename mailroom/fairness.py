"""An event loop on which a crowd of visitors does not hold up our own work.

asyncio serves whatever is ready in one long round. With two thousand connections a round takes half a second, and a
question to the database several rounds: no snapshot is fresh any more, no commit is in time, and all that comes is
refused. Here a round serves a few visitors and everything else; the others wait where they are, at the kernel (OVL-1).
"""

import asyncio
import selectors

#: Visitors that one round serves: some milliseconds' worth.
MOST_VISITORS = 32


class _Doorkeeper(selectors.DefaultSelector):
    """Lets few visitors in at once, in the order in which they came, and holds up nobody else."""

    def __init__(self) -> None:
        super().__init__()
        self.visitors: set[int] = set()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready and may be served now."""
        ready = super().select(timeout)
        if len(ready) <= MOST_VISITORS:
            return ready
        served = [one for one in ready if one[0].fd not in self.visitors]
        # The kernel tells those first that have waited longest; who is left out is told again.
        return served + [one for one in ready if one[0].fd in self.visitors][:MOST_VISITORS]


class FairLoop(asyncio.SelectorEventLoop):
    """The event loop of a process that serves strangers."""

    def __init__(self) -> None:
        self._doorkeeper = _Doorkeeper()
        super().__init__(self._doorkeeper)

    def visited_by(self, descriptor: int) -> None:
        """This connection is a visitor's."""
        self._doorkeeper.visitors.add(descriptor)

    def left_by(self, descriptor: int) -> None:
        """It is nobody's any more."""
        self._doorkeeper.visitors.discard(descriptor)
