"""Seats: permits to use one connection of an integration. Urgent lanes first, and some seats kept for the agents.

While all seats are taken some forms get ready already: one claim then serves several, and no connection waits for it.
Only forms: what a worker that dies has in hand is uncertain, and of the kinds only theirs are then tried once more.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mailroom.message import Lane

Waiting = TypeVar("Waiting")

#: Of so many seats one is kept free for agents' mail.
ONE_IN = 4


def kept_for_agents(seats: int) -> int:
    """How many seats only the agent lane may take: one in four, at least one of two, none of a single one."""
    return max(1, seats // ONE_IN) if seats > 1 else 0


def kept_of_part(part: int, before: int, total: int) -> int:
    """How many of a worker's seats are kept for agents, so that all workers together keep as many as one alone would.

    A worker with one seat can keep it for agents or for nobody: the workers, in order, take turns. `before` is how many
    seats are with those that come before this one.
    """
    kept = kept_for_agents(total)
    return (before + part) * kept // total - before * kept // total if total else 0


def _anybody() -> bool:
    return True


def _nobody() -> bool:
    return False


#: Forms that may get ready for each seat: what is sent on all of them while a claim is under way. With half as many the
#: connections wait for claims.
READY_PER_SEAT = 8


@dataclass(slots=True)
class Seats(Generic[Waiting]):
    """The seats of one integration in this worker, and who waits for one."""

    total: int
    taken: int = 0
    #: How many only agents may take; None = as many as a worker keeps that is alone.
    kept: int | None = None
    #: Asked right before somebody sits down; who is told no waits on, whatever is free.
    permitted: Callable[[], bool] = _anybody
    #: Asked right before somebody gets ready who will need no permit when a seat is free.
    may_get_ready: Callable[[], bool] = _nobody
    #: How many are getting ready or are ready, and what tells each that is, in order, whether it has a seat.
    without: int = 0
    ready: deque[Callable[[bool], None]] = field(default_factory=deque)
    #: The most that had or waited for a seat at once, since somebody last asked and set it back.
    peak: int = 0
    lines: dict[Lane, deque[Waiting]] = field(default_factory=lambda: {lane: deque() for lane in Lane})

    def wait(self, lane: Lane, who: Waiting) -> None:
        """Stand in line."""
        self.lines[lane].append(who)
        self.peak = max(self.peak, self.taken + self.waiting)

    @property
    def waiting(self) -> int:
        """How many stand in line, those without a seat who get ready included."""
        return sum(len(line) for line in self.lines.values()) + self.without

    @property
    def free(self) -> int:
        """How many seats nobody has; fewer than none when some were given back while they were taken."""
        return self.total - self.taken

    @property
    def kept_free(self) -> int:
        """How many seats only the agent lane may take."""
        return kept_for_agents(self.total) if self.kept is None else self.kept

    def next(self) -> Waiting | None:
        """Whoever may sit down now has taken a seat; None when nobody may.

        Who is ready sits down first, but for agents.
        """
        if self.free <= 0:
            return None
        for lane in Lane:
            if lane is not Lane.AGENT and not self.seat_ready():
                return None
            if self.lines[lane]:
                if not self.permitted():
                    return None
                self.taken += 1
                return self.lines[lane].popleft()
        return None

    def seat_ready(self) -> bool:
        """Seat who is ready; whether a seat is left for others than agents."""
        while self.ready and self.free > self.kept_free:
            self.without -= 1
            self.taken += 1
            self.ready.popleft()(True)  # noqa: FBT003 - whether there is a seat
        return self.free > self.kept_free

    def send_away(self) -> None:
        """Tell all that are ready that there is no seat for them."""
        while self.ready:
            self.ready.popleft()(False)  # noqa: FBT003 - as above

    def next_without(self) -> Waiting | None:
        """Whoever may get ready now without a seat; None when nobody may."""
        line = self.lines[Lane.FORM]
        if not line or self.without >= READY_PER_SEAT * self.total or not self.may_get_ready():
            return None
        self.without += 1
        return line.popleft()

    def leave(self) -> None:
        """Give a seat back."""
        self.taken -= 1
