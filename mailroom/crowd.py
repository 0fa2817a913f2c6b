"""Who is connected at once."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from mailroom.fairness import Lobby

#: Connections above the most for those who bring many others: strangers who fill a gateway do not make its proxy's
#: checks fail.
KEPT_FOR_PROXIES = 50


@dataclass(slots=True)
class Crowd:
    """Who is connected at once: at most so many, and from one client at most so many of them."""

    #: A few more for one who brings many others.
    most: int
    most_each: int
    #: Whom an address is counted for; None is one who brings many others and may come as often as it likes.
    counted_for: Callable[[str], str | None]
    here: int = 0
    turned_away: int = 0
    #: Those turned away that are still there, to read why.
    leaving: int = 0
    lobby: Lobby = field(default_factory=Lobby)
    _each: Counter[str] = field(default_factory=Counter)

    def enter(self, address: str) -> bool:
        """Count one more, or turn it away."""
        client = self.counted_for(address)
        most = self.most if client is not None else self.most + KEPT_FOR_PROXIES
        if self.here >= most or (client is not None and self._each[client] >= self.most_each):
            self.turned_away += 1
            return False
        self.here += 1
        if client is not None:
            self._each[client] += 1
        return True

    def leave(self, address: str) -> None:
        """One that had entered has left."""
        client = self.counted_for(address)
        self.here -= 1
        if client is not None:
            self._each[client] -= 1
            if not self._each[client]:
                del self._each[client]
