"""The lobby that does not let a crowd hold up our own work."""

import asyncio
from dataclasses import dataclass

from mailroom.fairness import MOST_VISITORS, Lobby

VISITORS = 200


@dataclass
class Guest:
    """A visitor who says one thing, or has left when it is its turn."""

    number: int
    heard: list[str]
    stays: bool = True

    def arrive(self, lobby: Lobby) -> None:
        """Be heard now or later."""
        if lobby.is_free():
            self.be_heard()
        else:
            lobby.wait(self)

    def be_heard(self) -> bool:
        """It is its turn."""
        if self.stays:
            self.heard.append(f"visitor {self.number}")
        return self.stays


async def all_heard(heard: list[str], count: int) -> int:
    """Return once so many were; the rounds that took."""
    rounds = 0
    while len(heard) < count:
        rounds += 1
        await asyncio.sleep(0)
    return rounds


async def test_ovl_4_our_own_work_is_not_behind_a_crowd() -> None:
    """Of two hundred who come in one round a few are heard; what is ours has its turn then, and all others in theirs."""
    heard: list[str] = []
    lobby = Lobby()
    for number in range(VISITORS):
        Guest(number, heard).arrive(lobby)
    asyncio.get_running_loop().call_soon(heard.append, "ours")
    rounds = await all_heard(heard, VISITORS + 1)

    assert heard.index("ours") <= 2 * MOST_VISITORS
    assert VISITORS // MOST_VISITORS - 1 <= rounds <= VISITORS // MOST_VISITORS + 2
    heard.remove("ours")
    assert heard == [f"visitor {number}" for number in range(VISITORS)]


async def test_ovl_1_who_comes_later_waits_behind_those_who_wait() -> None:
    """A round that begins with a line hears the line first: nobody who has just come is heard before it."""
    heard: list[str] = []
    lobby = Lobby()
    for number in range(3 * MOST_VISITORS):
        Guest(number, heard).arrive(lobby)
    await asyncio.sleep(0)
    for number in range(3 * MOST_VISITORS, 5 * MOST_VISITORS):
        Guest(number, heard).arrive(lobby)
    await all_heard(heard, 5 * MOST_VISITORS)

    assert heard == [f"visitor {number}" for number in range(5 * MOST_VISITORS)]


async def test_who_has_left_takes_no_turn() -> None:
    """Whoever left while it waited is passed over, and those behind it are heard in the same round."""
    heard: list[str] = []
    lobby = Lobby()
    for number in range(MOST_VISITORS):
        Guest(number, heard).arrive(lobby)
    for number in range(10 * MOST_VISITORS):
        Guest(number, heard, stays=False).arrive(lobby)
    Guest(1000, heard).arrive(lobby)

    assert await all_heard(heard, MOST_VISITORS + 1) <= 2


async def test_a_lobby_is_free_again() -> None:
    """Once all were heard, who comes is heard at once."""
    heard: list[str] = []
    lobby = Lobby()
    for number in range(VISITORS):
        Guest(number, heard).arrive(lobby)
    await all_heard(heard, VISITORS)
    for _ in range(3):
        await asyncio.sleep(0)
    Guest(VISITORS, heard).arrive(lobby)

    assert heard[-1] == f"visitor {VISITORS}"
