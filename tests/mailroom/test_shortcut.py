"""What is answered past aiohttp, and what it must not change for whoever is connected."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from mailroom.http_connection import Patience, PlainRequest
from mailroom.serving import SHORTCUT, serving

#: Longer than any of these takes, and shorter than what is waited for by mistake.
SOON_SECONDS = 5.0

#: After so long without a request a connection of these tests ends; what is in hand takes longer.
IDLE_SECONDS = 0.2


@dataclass
class Desk:
    """Answers plain requests when it is told to, or fails; says itself who answered: this, or aiohttp."""

    #: Answers that may be given.
    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    seen: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)

    def shortcut(self, request: PlainRequest) -> Coroutine[None, None, bytes] | None:
        """Takes what is posted to /short."""
        return self._answer(request) if request.raw_path.startswith("/short") else None

    async def _answer(self, request: PlainRequest) -> bytes:
        body = (request.content.read_nowait() if request.content_length else b"").decode()
        self.seen.append(body)
        if request.raw_path.endswith("/fails"):
            raise LookupError("it was told to")
        await self.free.acquire()
        self.answered.append(body)
        told = f"short {body}".encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told)

    async def long(self, request: web.Request) -> web.Response:
        """Everything else."""
        return web.Response(text=f"long {await request.text()}")


@pytest.fixture
async def desk() -> Desk:
    return Desk()


@contextlib.asynccontextmanager
async def connected(desk: Desk, **patience: float) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to it."""
    async with open_to(desk, **patience) as address:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            yield reader, writer
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def open_to(desk: Desk, **patience: float) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{any}", desk.long)
    app[SHORTCUT] = desk.shortcut
    async with serving(app, "127.0.0.1:0", patience=Patience(**patience)) as address:
        yield address


def post(path: str, body: str, *, version: str = "1.1", headers: str = "") -> bytes:
    return f"POST {path} HTTP/{version}\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}".encode()


async def answers(reader: asyncio.StreamReader, number: int) -> list[str]:
    """The bodies of so many answers."""
    bodies = []
    async with asyncio.timeout(SOON_SECONDS):
        for _ in range(number):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            bodies.append((await reader.readexactly(length)).decode())
    return bodies


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (post("/short", "a"), "short a"),
        (post("/short", ""), "short "),
        (post("/other", "a"), "long a"),
        # What asks for something of its connection is aiohttp's.
        (post("/short", "a", headers="Connection: close\r\n"), "long a"),
        (post("/short", "a", version="1.0"), "long a"),
        (post("/short", "a", headers="Connection: upgrade\r\nUpgrade: x\r\n"), "long a"),
    ],
)
async def test_what_is_plain_takes_the_shortcut(desk: Desk, sent: bytes, answered: str) -> None:
    """And everything else goes the way it went before."""
    desk.free.release()
    async with connected(desk) as (reader, writer):
        writer.write(sent)
        assert await answers(reader, 1) == [answered]


async def test_a_body_that_is_still_coming_does_not(desk: Desk) -> None:
    """It is waited for by whoever reads it."""
    async with connected(desk) as (reader, writer):
        whole = post("/short", "ab")
        writer.write(whole[:-1])
        await asyncio.sleep(0.05)
        writer.write(whole[-1:])
        assert await answers(reader, 1) == ["long ab"]


async def test_what_comes_meanwhile_is_answered_afterwards(desk: Desk) -> None:
    """In the order in which it came, whoever answers it; nothing is begun before what came first has its answer."""
    async with connected(desk) as (reader, writer):
        writer.write(post("/short", "a"))
        await until(lambda: desk.seen == ["a"])
        for path, body in (("/short", "b"), ("/other", "c"), ("/short", "d")):
            writer.write(post(path, body))
            await asyncio.sleep(0.05)
        assert desk.seen == ["a"]
        for _ in range(3):
            desk.free.release()
        told = await answers(reader, 4)
        assert told[:3] == ["short a", "short b", "long c"]
        assert told[3].endswith("d"), "who answers it depends on whether the one before has its answer yet"


async def test_requests_in_one_piece_are_answered_in_order(desk: Desk) -> None:
    """They are aiohttp's, and so is their order."""
    async with connected(desk) as (reader, writer):
        writer.write(b"".join(post("/short", body) for body in "abc"))
        assert await answers(reader, 3) == ["long a", "long b", "long c"]


async def test_who_closes_its_half_meanwhile_gets_its_answer(desk: Desk) -> None:
    """And then the connection ends."""
    async with connected(desk) as (reader, writer):
        writer.write(post("/short", "a"))
        await until(lambda: desk.seen == ["a"])
        writer.write_eof()
        await asyncio.sleep(0.05)
        desk.free.release()
        assert await answers(reader, 1) == ["short a"]
        assert await asyncio.wait_for(reader.read(), SOON_SECONDS) == b""


async def test_who_closes_its_half_behind_more_gets_all_its_answers(desk: Desk) -> None:
    """What it said before it closed counts."""
    async with connected(desk, header=IDLE_SECONDS) as (reader, writer):
        writer.write(post("/short", "a"))
        await until(lambda: desk.seen == ["a"])
        writer.write(post("/short", "b"))
        writer.write_eof()
        await asyncio.sleep(0.05)
        for _ in range(2):
            desk.free.release()
        assert await answers(reader, 2) == ["short a", "short b"]
        assert await asyncio.wait_for(reader.read(), SOON_SECONDS) == b""


async def test_what_is_in_hand_goes_on_when_its_client_leaves(desk: Desk) -> None:
    """It may be committed already."""
    async with connected(desk) as (_, writer):
        writer.write(post("/short", "a"))
        await until(lambda: desk.seen == ["a"])
        writer.transport.abort()
        await asyncio.sleep(0.05)
        desk.free.release()
        await until(lambda: desk.answered == ["a"])


async def test_nobody_is_idle_while_it_is_answered(desk: Desk) -> None:
    """A connection that nobody uses ends; one that waits for its answer is used, and has all its time again then."""
    async with connected(desk, header=IDLE_SECONDS) as (reader, writer):
        desk.free.release()
        writer.write(post("/short", "a"))
        assert await answers(reader, 1) == ["short a"]
        writer.write(post("/short", "b"))
        await asyncio.sleep(2 * IDLE_SECONDS)
        desk.free.release()
        assert await answers(reader, 1) == ["short b"]
        begun = time.monotonic()
        assert await asyncio.wait_for(reader.read(), SOON_SECONDS) == b""
        assert time.monotonic() - begun >= IDLE_SECONDS / 2


async def test_what_is_no_http_behind_it_is_told_so_afterwards(desk: Desk) -> None:
    """The answer to what came first is still the first."""
    async with connected(desk) as (reader, writer):
        writer.write(post("/short", "a"))
        await until(lambda: desk.seen == ["a"])
        writer.write(b"this is no HTTP\r\n\r\n")
        await asyncio.sleep(0.05)
        desk.free.release()
        assert await answers(reader, 1) == ["short a"]
        assert (await asyncio.wait_for(reader.read(), SOON_SECONDS)).startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))


async def test_a_shortcut_that_fails_ends_its_connection(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """It should not; but then nobody waits for an answer that never comes, and it is known."""
    async with connected(desk) as (reader, writer):
        writer.write(post("/short/fails", "a"))
        assert await asyncio.wait_for(reader.read(), SOON_SECONDS) == b""
    [record] = [one for one in caplog.records if one.exc_info]
    assert str(record.exc_info and record.exc_info[1]) == "it was told to"


async def test_who_stops_waits_for_what_is_in_hand(desk: Desk) -> None:
    """As for every other request: it is answered, and its connection ends."""
    async with contextlib.AsyncExitStack() as leaving:
        address = await leaving.enter_async_context(open_to(desk))
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(post("/short", "a"))
        await until(lambda: desk.seen == ["a"])
        stopping = asyncio.ensure_future(leaving.aclose())
        await asyncio.sleep(0.05)
        assert not stopping.done()
        desk.free.release()
        await asyncio.wait_for(stopping, SOON_SECONDS)
        assert await answers(reader, 1) == ["short a"]
        assert await asyncio.wait_for(reader.read(), SOON_SECONDS) == b""
        writer.close()


async def until(done: Callable[[], bool]) -> None:
    """Return once it is so."""
    async with asyncio.timeout(SOON_SECONDS):
        while not done():
            await asyncio.sleep(0.01)
