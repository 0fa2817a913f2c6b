"""Turns for a crowd of visitors, so that it does not hold up our own work.

An event loop serves whatever is ready in one long round. With two thousand connections a round takes half a second, and
a question to the database several rounds: no snapshot is fresh any more, no commit is in time, and all that comes is
refused. Here a round serves a few visitors and everything else; what the others have said waits in the lobby, and what
they say next at the kernel (OVL-1).
"""

import asyncio
from collections import deque
from typing import Protocol

#: Visitors that one round serves: a few milliseconds' worth. With twice as many a burst fills all places before a commit
#: has had its turn to free some, and what is then refused takes the time of what could have been taken in.
MOST_VISITORS = 16


class Visitor(Protocol):
    """Somebody who has said something and waits to be heard."""

    def be_heard(self) -> bool:
        """It is its turn; False when there is nothing to hear any more."""


class Lobby:
    """Where visitors wait for their turn: a few in each round of the event loop, in the order in which they came."""

    def __init__(self) -> None:
        self._line: deque[Visitor] = deque()
        #: How many were heard in this round.
        self._heard = 0

    def is_free(self) -> bool:
        """Whether somebody who has just come is heard at once, and then it is counted; else it has to wait."""
        if self._heard >= MOST_VISITORS:
            return False
        if not self._heard:
            asyncio.get_running_loop().call_soon(self._begin_round)
        self._heard += 1
        return True

    def wait(self, visitor: Visitor) -> None:
        """Have it heard when it is its turn. Only somebody for whom it was not free: then a round is to come."""
        self._line.append(visitor)

    def _begin_round(self) -> None:
        self._heard = 0
        while self._line and self._heard < MOST_VISITORS:
            self._heard += self._line.popleft().be_heard()
        if self._heard:
            asyncio.get_running_loop().call_soon(self._begin_round)
