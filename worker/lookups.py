"""Looking up the addresses of servers: a name that no name server answers for holds up nobody but its own mail."""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

#: The C library asks in a thread, for ten seconds and more where nobody answers. One per server is in use at most.
MOST_AT_ONCE = 64

#: What socket.getaddrinfo tells of one address: family, kind, protocol, canonical name, and where.
Found = tuple[Any, Any, int, str, Any]

Key = tuple[asyncio.AbstractEventLoop, str, int]


def _of_the_machine(host: str, port: int) -> list[Found]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


class Lookups:
    """Looks up in threads of its own, each server once at a time: all who ask meanwhile get the same answer.

    The event loop's own threads are few, and those who compose mail and read files wait for them too.
    """

    def __init__(self, look_up: Callable[[str, int], list[Found]] = _of_the_machine) -> None:
        self._look_up = look_up
        self._threads = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="lookups")
        self._running: dict[Key, asyncio.Task[list[Found]]] = {}

    async def addresses(self, host: str, port: int) -> list[Found]:
        """Where a host is now. Raises OSError, UnicodeError."""
        key = (asyncio.get_running_loop(), host, port)
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = key[0].create_task(self._looked_up(host, port))
            running.add_done_callback(lambda done: self._ended(key, done))
        # Who waits no longer takes nothing from the others.
        return await asyncio.shield(running)

    async def _looked_up(self, host: str, port: int) -> list[Found]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._look_up, host, port)

    def _ended(self, key: Key, done: asyncio.Task[list[Found]]) -> None:
        del self._running[key]
        if not done.cancelled():
            done.exception()  # seen, although perhaps nobody waits for it any more
