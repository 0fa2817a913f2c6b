"""How long one submission takes: until it is answered, and from then until the SMTP server has said 250.

The server is this process, so that both ends are read on one clock. Submissions come one at a time, or at a steady rate
whatever the answers do (an open loop, counted from when each was due).
"""

import asyncio
import contextlib
import re
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from benchmarks.cases import Case

#: One at a time: at least and at most so many.
LEAST, MOST = 3, 200

#: Seconds that one submission may take until its mail has arrived.
PATIENCE = 20.0

_END = b"\r\n.\r\n"
_ID = re.compile(rb"bench(\d{8})x")
#: The subject is found in so many bytes.
_HEAD = 16 * 1024

_ANSWERS = {
    b"EHLO": b"250-bench.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
    b"DATA": b"354 go on\r\n",
    b"QUIT": b"221 bye\r\n",
}


class NotDelivered(Exception):
    """A submission was not accepted, or its mail did not arrive in time."""


@dataclass(slots=True)
class Times:
    """Milliseconds of each submission until its answer, and from there to the 250 of its mail."""

    accept: list[float] = field(default_factory=list)
    delivered: list[float] = field(default_factory=list)

    def figures(self, name: str) -> dict[str, float]:
        """Medians and 99th percentiles."""
        told: dict[str, float] = {}
        for what, took in (("accept", self.accept), ("delivered", self.delivered)):
            told[f"{name}_{what}_p50"] = statistics.median(took)
            told[f"{name}_{what}_p99"] = percentile(took, 0.99)
        return told


def percentile(took: list[float], part: float) -> float:
    """What this part of them took at most."""
    return sorted(took)[min(len(took) - 1, int(len(took) * part))]


class Mails:
    """What has arrived: a future of the moment for each number."""

    def __init__(self) -> None:
        self._moments: dict[int, asyncio.Future[float]] = {}

    def arrival(self, number: int) -> "asyncio.Future[float]":
        """When its mail got its 250, in the loop's seconds."""
        return self._moments.setdefault(number, asyncio.get_running_loop().create_future())

    def arrived(self, head: bytes) -> None:
        """A mail that begins like this has its 250."""
        found = _ID.search(head)
        if found and not (moment := self.arrival(int(found[1]))).done():
            moment.set_result(asyncio.get_running_loop().time())


class _Session(asyncio.Protocol):
    """A client of the SMTP server."""

    def __init__(self, mails: Mails) -> None:
        self._mails = mails
        self._line = b""
        self._in_data = False
        self._head = bytearray()
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        self._transport = transport
        transport.write(b"220 bench.test\r\n")

    def data_received(self, data: bytes) -> None:
        while data:
            data = self._content(data) if self._in_data else self._command(data)

    def _command(self, data: bytes) -> bytes:
        """Answer one line; the rest."""
        line, ended, rest = (self._line + data).partition(b"\r\n")
        if not ended:
            self._line = line
            return b""
        self._line = b""
        verb = line[:4].upper()
        self._transport.write(_ANSWERS.get(verb, b"250 ok\r\n"))
        self._in_data = verb == b"DATA"
        if verb == b"QUIT":
            self._transport.close()
        return rest

    def _content(self, data: bytes) -> bytes:
        """Take some of a mail; what comes behind its end."""
        seen = self._tail + data
        at = seen.find(_END)
        self._head += data[: _HEAD - len(self._head)]
        if at < 0:
            self._tail = seen[-4:]
            return b""
        self._transport.write(b"250 2.0.0 ok\r\n")
        self._mails.arrived(bytes(self._head))
        self._in_data, self._tail = False, b""
        self._head.clear()
        return seen[at + len(_END) :]


@contextlib.asynccontextmanager
async def serving(port: int) -> AsyncIterator[Mails]:
    """An SMTP server that takes everything and remembers when."""
    mails = Mails()
    server = await asyncio.get_running_loop().create_server(lambda: _Session(mails), "127.0.0.1", port, backlog=1000)
    try:
        yield mails
    finally:
        server.close()
        server.close_clients() if hasattr(server, "close_clients") else None


class Client:
    """Somebody who submits over a connection that is kept."""

    def __init__(self, url: str, case: Case) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {case.content_type}\r\n"
            f"Content-Length: {len(case.body)}\r\n\r\n"
        ).encode()
        self._case = case
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def submit(self, number: int) -> float:
        """Have it accepted; the moment of the answer. Raises NotDelivered."""
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self._writer.write(self._head + self._case.numbered(number))
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        said = await self._reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r")[0]))
        moment = asyncio.get_running_loop().time()
        if not re.search(rb'"statusCode":\s*0\D', said):
            raise NotDelivered(f"a submission was not accepted: {said[:200]!r}")
        if b"connection: close" in head:
            self.close()
        return moment

    def close(self) -> None:
        """Leave."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def one_at_a_time(url: str, case: Case, mails: Mails, seconds: float, first: int) -> Times:
    """Each is submitted when the mail of the one before has arrived."""
    loop, times, client = asyncio.get_running_loop(), Times(), Client(url, case)
    until = loop.time() + seconds
    for number in range(first, first + MOST):
        if loop.time() > until and len(times.accept) >= LEAST:
            break
        await _submit(client, number, mails, times, loop.time())
    client.close()
    return times


async def steadily(url: str, case: Case, mails: Mails, seconds: float, first: int) -> Times:
    """So many a second as the case says, whatever becomes of them."""
    loop, times, idle = asyncio.get_running_loop(), Times(), list[Client]()
    begun = loop.time()

    async def one(number: int, due: float) -> None:
        await asyncio.sleep(due - loop.time())
        client = idle.pop() if idle else Client(url, case)
        await _submit(client, number, mails, times, due, lambda: idle.append(client))

    count = max(LEAST, int(seconds * case.rate))
    async with asyncio.TaskGroup() as group:
        for turn in range(count):
            group.create_task(one(first + turn, begun + turn / case.rate))
    for client in idle:
        client.close()
    return times


async def _submit(
    client: Client, number: int, mails: Mails, times: Times, due: float, accepted: Callable[[], object] = lambda: None
) -> None:
    answered = await _in_time(client.submit(number))
    accepted()
    arrived = await _in_time(mails.arrival(number))
    times.accept.append((answered - due) * 1000)
    # A stack may deliver before its answer is read.
    times.delivered.append(max(0.0, arrived - answered) * 1000)


async def _in_time(moment: Awaitable[float]) -> float:
    try:
        async with asyncio.timeout(PATIENCE):
            return await moment
    except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
        raise NotDelivered(f"a submission of the latency measurement was lost: {type(error).__name__}") from error
