"""Seats: permits to use one connection of an integration. Urgent lanes first, and some seats kept for the agents."""

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mailroom.message import Lane

Waiting = TypeVar("Waiting")

#: Of so many seats one is kept free for agents' mail.
ONE_IN = 4


def kept_for_agents(seats: int) -> int:
    """How many seats only the agent lane may take: one in four, at least one of two, none of a single one."""
    return max(1, seats // ONE_IN) if seats > 1 else 0


@dataclass(slots=True)
class Seats(Generic[Waiting]):
    """The seats of one integration in this worker, and who waits for one."""

    total: int
    taken: int = 0
    lines: dict[Lane, deque[Waiting]] = field(default_factory=lambda: {lane: deque() for lane in Lane})

    def wait(self, lane: Lane, who: Waiting) -> None:
        """Stand in line."""
        self.lines[lane].append(who)

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return sum(len(line) for line in self.lines.values())

    def next(self) -> Waiting | None:
        """Whoever may sit down now has taken a seat; None when nobody may."""
        free = self.total - self.taken
        if free <= 0:
            return None
        for lane in Lane:
            if self.lines[lane] and (lane is Lane.AGENT or free > kept_for_agents(self.total)):
                self.taken += 1
                return self.lines[lane].popleft()
        return None

    def leave(self) -> None:
        """Give a seat back."""
        self.taken -= 1
