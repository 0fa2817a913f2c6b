"""Serving HTTP: the one way our processes listen."""

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from aiohttp import HttpVersion11, hdrs, web

from mailroom.crowd import Crowd
from mailroom.http_connection import HttpConnection, Patience, Shortcut, in_json

#: Connections that one round of the event loop accepts, and those that may wait for it at the kernel. asyncio accepts as
#: many as may wait, and a thousand in a round would hold up all else; libuv accepts one, and those who come last would
#: wait for seconds until the kernel lets them try again.
MOST_ARRIVING, MOST_AT_THE_DOOR = 32, 1024

#: Seconds until it is tried again to accept somebody for whom the process had no file left.
DOOR_SHUT_SECONDS = 1.0

#: Who is not told otherwise waits so long.
USUAL = Patience()

_log = logging.getLogger(__name__)

#: How many may be connected to an application; without it, any number.
CROWD: web.AppKey[Crowd] = web.AppKey("crowd")

#: An application's body for what is refused before it becomes a request, by the HTTP status.
REFUSAL: web.AppKey[Callable[[int], Any]] = web.AppKey("refusal")

#: What an application answers past aiohttp.
SHORTCUT: web.AppKey[Shortcut] = web.AppKey("shortcut")

#: What an application does around each of its requests, from what it would answer by itself. aiohttp's middlewares do the
#: same, but are looked up and wrapped anew for every one.
AROUND: web.AppKey[Callable[[Any, web.Request], Awaitable[web.StreamResponse]]] = web.AppKey("around")

#: The header that tells it where the body may not.
FAULT_ID = "X-Fault-Id"


def new_fault_id() -> str:
    """What a fault of ours is called in the answer and in the log, and so found by whoever was told (SEC-15)."""
    return secrets.token_hex(8)


async def expect(request: web.Request) -> web.StreamResponse | None:
    """What a route answers to the header Expect (RFC 9110 section 10.1.1): go on, or 417 in JSON."""
    expected = request.headers.get(hdrs.EXPECT, "").lower()
    if request.version < HttpVersion11 or expected == "100-continue":
        if request.version >= HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the answer itself has not begun
        return None
    return in_json(417, request.app[REFUSAL](417))


def from_our_page(headers: Mapping[str, str], host: str) -> bool:
    """Whether a request to change something comes from our own page, or from no page at all (a program)."""
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get(hdrs.ORIGIN)
    return origin is None or origin.partition("://")[2] == host


class _Door:
    """Where connections come in, a few in each round of the event loop."""

    def __init__(self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._listening = listening
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._coming: set[asyncio.Task[None]] = set()
        self._again: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Let come in who waits, and all that come. Raises OSError when somebody else listens there."""
        self._listening.setblocking(False)  # noqa: FBT003 - so asks the socket
        self._listening.listen(MOST_AT_THE_DOOR)
        self._loop.add_reader(self._listening, self._accept)

    async def close(self) -> None:
        """Nobody comes in any more, and who was coming in is here."""
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()
        if self._coming:
            await asyncio.wait(self._coming)

    def _accept(self) -> None:
        for _ in range(MOST_ARRIVING):
            try:
                connection, _address = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.warning("nobody is let in for a moment: %s", error)
                self._loop.remove_reader(self._listening)
                self._again = self._loop.call_later(DOOR_SHUT_SECONDS, self.open)
                return
            coming = self._loop.create_task(self._greet(connection))
            self._coming.add(coming)
            coming.add_done_callback(self._coming.discard)

    async def _greet(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)  # noqa: FBT003 - so asks the socket
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:
            connection.close()  # it has left already


class AddressTaken(Exception):
    """The address to listen on is in use or not ours."""


@contextlib.asynccontextmanager
async def serving(
    app: web.Application, listen: str, *, share_port: bool = False, shutdown_seconds: float = 30.0,
    patience: Patience = USUAL,
) -> AsyncIterator[str]:  # fmt: skip
    """Listen on `host:port` while inside (port 0 = any free one); gives the address. Raises AddressTaken.

    On leaving it stops listening and lets requests in progress end, for at most `shutdown_seconds`.
    """
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    app.on_response_prepare.append(_nameless)
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=shutdown_seconds)
    await runner.setup()
    server, refusal = runner.server, app.get(REFUSAL, _plainly)
    assert server is not None, "the runner was set up"  # noqa: S101 - one line above
    if (around := app.get(AROUND)) is not None:
        server.request_handler = partial(around, server.request_handler)
    async with contextlib.AsyncExitStack() as leaving:
        leaving.push_async_callback(runner.cleanup)
        try:
            bound = await asyncio.get_running_loop().create_server(
                asyncio.Protocol, host or None, int(port), reuse_port=share_port or None, start_serving=False
            )
            leaving.callback(bound.close)
            for each in bound.sockets:
                door = _Door(
                    each.dup(), lambda: HttpConnection(server, refusal, patience, app.get(CROWD), app.get(SHORTCUT))
                )
                leaving.push_async_callback(door.close)
                door.open()
        except OSError as error:
            told = f"cannot listen on {listen}: {error.strerror or error}; choose another address"
            raise AddressTaken(told) from error
        yield _address_of(bound)


def _plainly(status: int) -> Any:
    return {"status": status}


async def _nameless(_: web.Request, response: web.StreamResponse) -> None:
    """Nobody needs to know what we are made of."""
    response.headers.pop(hdrs.SERVER, None)


def _address_of(bound: asyncio.Server) -> str:
    address = bound.sockets[0].getsockname()
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
