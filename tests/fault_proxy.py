"""A TCP proxy that fails on command: refuses, swallows, cuts, or loses exactly one answer."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self

LOOPBACK = "127.0.0.1"
CHUNK = 64 * 1024


class Mode(StrEnum):
    """What happens to bytes and connections."""

    OK = "ok"
    #: New connections are refused (nobody listens); open ones go on.
    REFUSE = "refuse"
    #: Connections open, but nothing comes through in either direction, as in a partition: what was sent meanwhile
    #: arrives when the hole closes, if both ends are still there.
    HOLE = "hole"


@dataclass(eq=False, slots=True)
class _Connection:
    """A client's connection and, once made, ours to the target."""

    client: asyncio.StreamWriter
    target: asyncio.StreamWriter | None = None
    stranded: bool = False

    def cut(self) -> None:
        """Reset both ways; what was not read yet is lost."""
        for writer in (self.client, self.target):
            if writer is not None and not writer.transport.is_closing():
                # Lingering for no time turns the close into a reset (socket(7)).
                lingering = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
                writer.transport.abort()

    def close(self) -> None:
        """End both ways in order; what was passed on arrives."""
        for writer in (self.client, self.target):
            if writer is not None:
                writer.close()


@dataclass(eq=False, slots=True)
class Trap:
    """Springs once, just before the bytes that meet its condition would be passed on."""

    springs: Callable[[bytes], bool]
    then: Mode
    sprung: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self, seconds: float = 30.0) -> None:
        """Return once it has sprung."""
        await asyncio.wait_for(self.sprung.wait(), seconds)


class FaultProxy:
    """`async with FaultProxy(target_port) as proxy`: clients connect to `proxy.port`."""

    def __init__(self, target_port: int, target_host: str = LOOPBACK) -> None:
        self._target = (target_host, target_port)
        self.port = 0
        self.mode = Mode.OK
        self._server: asyncio.Server | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._answer_traps: list[Trap] = []
        self._request_traps: list[Trap] = []

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop_listening()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    async def set_mode(self, mode: Mode) -> None:
        """From now on; open connections are kept (`cut` ends them)."""
        self._enter(mode)
        if mode is not Mode.REFUSE:
            await self._listen()

    def cut(self) -> None:
        """Reset every open connection now, both ways."""
        for connection in tuple(self._connections):
            connection.cut()

    def strand(self) -> None:
        """Let nothing more through on the connections open now, without a word, as a failed router does to old flows."""
        for connection in self._connections:
            connection.stranded = True

    def lose_answer(self, pattern: bytes, *, then: Mode = Mode.OK) -> Trap:
        """Cut a connection when the target answers this, before the client hears it: the request was carried out."""
        self._answer_traps.append(trap := Trap(_contains(pattern), then))
        return trap

    def lose_answer_after(self, count: int, *, then: Mode = Mode.OK) -> Trap:
        """Cut a connection before the answer in which the target's bytes, counted from now, exceed this number."""
        self._answer_traps.append(trap := Trap(_exceeds(count), then))
        return trap

    def lose_request(self, pattern: bytes, *, then: Mode = Mode.OK) -> Trap:
        """Cut a connection when the client sends this, before the target hears it: the request was not carried out."""
        self._request_traps.append(trap := Trap(_contains(pattern), then))
        return trap

    def disarm(self) -> None:
        """Forget the traps that have not sprung."""
        self._answer_traps.clear()
        self._request_traps.clear()

    def _enter(self, mode: Mode) -> None:
        self.mode = mode
        if mode is Mode.HOLE:
            self._open.clear()
        else:
            self._open.set()
        if mode is Mode.REFUSE:
            self._stop_listening()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port, limit=CHUNK)
            self.port = self._server.sockets[0].getsockname()[1]

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        connection = _Connection(client)
        self._connections.add(connection)
        task = asyncio.create_task(self._serve(reader, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, client_reader: asyncio.StreamReader, connection: _Connection) -> None:
        try:
            await self._open.wait()
            target_reader, connection.target = await asyncio.open_connection(*self._target, limit=CHUNK)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pass_on(client_reader, connection.target, connection, self._request_traps))
                ways.create_task(self._pass_on(target_reader, connection.client, connection, self._answer_traps))
        except* OSError:
            connection.cut()  # one side is gone without a word, and so the other shall see it
        finally:
            connection.close()
            self._connections.discard(connection)

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, connection: _Connection, traps: list[Trap]
    ) -> None:
        while data := await source.read(CHUNK):
            await self._open.wait()
            if connection.stranded:
                continue
            if self._spring(data, traps):
                connection.cut()
                return
            sink.write(data)
            await sink.drain()
        with contextlib.suppress(OSError, RuntimeError):
            sink.write_eof()

    def _spring(self, data: bytes, traps: list[Trap]) -> bool:
        for trap in traps:
            if trap.springs(data):
                traps.remove(trap)
                self._enter(trap.then)
                trap.sprung.set()
                return True
        return False


def _contains(pattern: bytes) -> Callable[[bytes], bool]:
    """Whether the bytes so far hold the pattern, also across two chunks. (Connections share it: use it with one.)"""
    end = b""

    def met(data: bytes) -> bool:
        nonlocal end
        seen = end + data
        end = seen[-len(pattern) + 1 :] if len(pattern) > 1 else b""
        return pattern in seen

    return met


def _exceeds(count: int) -> Callable[[bytes], bool]:
    total = 0

    def met(data: bytes) -> bool:
        nonlocal total
        total += len(data)
        return total > count

    return met
