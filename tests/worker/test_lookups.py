"""Looking up servers: one that cannot be found keeps nobody else waiting."""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from worker.lookups import Found, Lookups

WHERE: Found = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 25))


@dataclass
class NameServer:
    """Answers at once, but for `slow.test` only when it is told to, and never for `none.test`."""

    told: threading.Event = field(default_factory=threading.Event)
    asked: Counter[str] = field(default_factory=Counter)

    def __call__(self, host: str, port: int) -> list[Found]:
        self.asked[host] += 1
        if host == "slow.test":
            self.told.wait()
        if host == "none.test":
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        return [WHERE]


@pytest.fixture
def name_server() -> Iterator[NameServer]:
    """A name server; at the end it answers everything."""
    one = NameServer()
    yield one
    one.told.set()


async def test_a_name_that_is_not_answered_holds_up_no_other(name_server: NameServer) -> None:
    """However many wait for one name, another is found, and the event loop's own threads are free."""
    lookups = Lookups(name_server)
    waiting = [asyncio.ensure_future(lookups.addresses("slow.test", 25)) for _ in range(200)]
    while not name_server.asked["slow.test"]:
        await asyncio.sleep(0)

    async with asyncio.timeout(30):
        assert await lookups.addresses("fast.test", 25) == [WHERE]
        assert await asyncio.to_thread(lambda: "free") == "free"
    assert not any(one.done() for one in waiting)

    name_server.told.set()
    assert await asyncio.gather(*waiting) == [[WHERE]] * 200
    assert name_server.asked["slow.test"] == 1


async def test_who_stops_waiting_takes_nothing_from_the_others(name_server: NameServer) -> None:
    """A lookup goes on while anybody waits for it."""
    lookups = Lookups(name_server)
    one, other = (asyncio.ensure_future(lookups.addresses("slow.test", 25)) for _ in range(2))
    while not name_server.asked["slow.test"]:
        await asyncio.sleep(0)
    one.cancel()
    name_server.told.set()

    assert await other == [WHERE]
    assert one.cancelled()


async def test_every_lookup_is_a_new_one(name_server: NameServer) -> None:
    """Nothing is remembered: not an answer, and not that there was none."""
    lookups = Lookups(name_server)
    for _ in range(2):
        assert await lookups.addresses("fast.test", 25) == [WHERE]
        with pytest.raises(socket.gaierror):
            await lookups.addresses("none.test", 25)

    assert name_server.asked == {"fast.test": 2, "none.test": 2}


async def test_the_machine_is_asked() -> None:
    """Without another one the machine's own resolver answers."""
    found = await Lookups().addresses("127.0.0.1", 25)

    assert [where for *_, where in found] == [("127.0.0.1", 25)]
