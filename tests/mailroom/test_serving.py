"""How our processes listen."""

import asyncio
import contextlib
import gzip
import logging
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import aiohttp
import pytest
from aiohttp import web

from mailroom.crowd import KEPT_FOR_PROXIES, Crowd
from mailroom.fairness import MOST_VISITORS
from mailroom.http_connection import MOST_TOLD_TO_LEAVE, MOST_UNHEARD, Patience, let_in
from mailroom.serving import CROWD, MOST_ARRIVING, REFUSAL, from_our_page, serving

INFLATED = 8 * 1024 * 1024

#: More than one round accepts, and fewer than may wait at the kernel.
ARRIVING = 5 * MOST_ARRIVING

#: Far more than is heard of somebody to whom nobody listens, and than the kernel keeps between the two.
SAID = 512 * MOST_UNHEARD


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_int_6_a_compressed_body_is_never_inflated(encoding: str) -> None:
    """Whatever a body is said to be compressed with, the handler gets the bytes that came: nobody pays for more."""

    async def size(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    app = web.Application()
    app.router.add_post("/", size)
    body = gzip.compress(bytes(INFLATED))
    async with serving(app, "127.0.0.1:0") as address, aiohttp.ClientSession() as session:
        request = session.post(f"http://{address}/", data=body, headers={"Content-Encoding": encoding})
        async with request as answer:
            told = await answer.text()

    assert (answer.status, told) == (200, str(len(body)))


@pytest.mark.parametrize(
    "request_",
    [
        "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer canary\x01\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\ncanary@customer.test\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nCookie: canary" + "y" * 10_000 + "\r\n\r\n",
        "GET /canary\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_sec_14_what_is_no_http_is_not_quoted_in_the_log(request_: str, caplog: pytest.LogCaptureFixture) -> None:
    """A request that cannot be read leaves one short line: nothing of what it says, no traceback, no error."""
    caplog.set_level(logging.INFO)
    async with serving(web.Application(), "127.0.0.1:0") as address:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request_.encode("latin-1"))
        answer = await reader.read()
        writer.close()

    assert b" 400 " in answer
    [record] = [one for one in caplog.records if "refused" in one.message]
    assert (record.levelno, record.exc_info) == (logging.INFO, None)
    assert "canary" not in caplog.text


async def test_a_fault_of_ours_keeps_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """What a handler raises is logged as the error it is."""

    async def fail(_: web.Request) -> web.Response:
        raise LookupError("ours")

    app = web.Application()
    app.router.add_get("/", fail)
    async with (
        serving(app, "127.0.0.1:0") as address,
        aiohttp.ClientSession() as session,
        session.get(f"http://{address}/") as answer,
    ):
        assert answer.status == 500

    [record] = [one for one in caplog.records if one.exc_info]
    assert (record.levelno, str(record.exc_info and record.exc_info[1])) == (logging.ERROR, "ours")


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({}, True),
        ({"Origin": "http://box:8025"}, True),
        ({"Origin": "https://box:8025"}, True),
        ({"Origin": "http://box"}, False),
        ({"Origin": "http://box:8025.evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://["}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://box:8025"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
    ],
)
def test_sec_8_who_counts_as_our_page(headers: dict[str, str], *, ours: bool) -> None:
    """Same origin by the browser's word, or no browser at all."""
    assert from_our_page(headers, "box:8025") is ours


async def exchange(address: str, *pieces: str | None) -> bytes:
    """All that is answered to these pieces, sent one by one; None closes our half."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for piece in pieces:
        if piece is None:
            writer.write_eof()
        else:
            writer.write(piece.encode("latin-1"))
        for _ in range(20):  # the server, which runs in this loop, sees each piece by itself
            await asyncio.sleep(0)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


async def told(request: web.Request) -> web.Response:
    """Answers how many bytes came."""
    return web.Response(text=f"came: {len(await request.read())}")


def counting() -> web.Application:
    """An application that reads bodies."""
    app = web.Application()
    app.router.add_route("*", "/", told)
    return app


CHUNKED = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"


@pytest.mark.parametrize(
    "broken", ["zz\r\n", "3\r\nabcdef\r\n", "-3\r\nabc\r\n", "3;\x01\r\nabc\r\n", "FFFFFFFFFFFFFFFFFF\r\n"]
)
async def test_int_11_a_body_that_breaks_in_the_middle_is_answered_once(
    broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever reads it is told at once; the client gets 400, the connection ends, and no second answer can follow."""
    caplog.set_level(logging.INFO)
    async with serving(counting(), "127.0.0.1:0") as address:
        answer = await exchange(address, CHUNKED + "3\r\nabc\r\n", broken, WHOLE)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.") == 1
    assert [one for one in caplog.records if one.levelno > logging.INFO] == []


@pytest.mark.parametrize("cut", range(1, 12))
async def test_int_11_half_a_body_is_never_taken_for_a_whole_one(cut: int) -> None:
    """However the network cuts it, a body that breaks is not read to an end."""
    rest = "3\r\nabc\r\n3\r\ndef\r\nzz\r\n"
    async with serving(counting(), "127.0.0.1:0") as address:
        answer = await exchange(address, CHUNKED, *[rest[at : at + cut] for at in range(0, len(rest), cut)], None)

    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_int_11_what_breaks_behind_a_whole_request_does_not_change_its_answer() -> None:
    """Nonsense behind a request is answered by itself."""
    async with serving(counting(), "127.0.0.1:0") as address:
        answer = await exchange(address, WHOLE, "nonsense\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b" 400 " in answer.partition(b"came: 3")[2]


@pytest.mark.parametrize("pieces", [(WHOLE, None), (WHOLE[:-3], "abc", None), (CHUNKED, "3\r\nabc\r\n0\r\n\r\n", None)])
async def test_int_1_who_closes_its_half_gets_its_answer(pieces: tuple[str | None, ...]) -> None:
    """A client that has sent everything may close its half of the connection: what was taken in is also answered."""
    async with serving(counting(), "127.0.0.1:0") as address:
        answer = await exchange(address, *pieces)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"came: 3")


@pytest.mark.parametrize("pieces", [(None,), (WHOLE[:-1], None), ("POST / HT", None), (CHUNKED + "3\r\nab", None)])
async def test_who_leaves_before_all_is_said_is_not_waited_for(pieces: tuple[str | None, ...]) -> None:
    """A connection that ends in the middle of a request, or without one, is closed at once."""
    async with serving(counting(), "127.0.0.1:0") as address:
        assert await exchange(address, *pieces) == b""


async def test_int_5_a_header_that_does_not_end_is_not_waited_for() -> None:
    """Whoever sends nothing, or its header byte by byte, is closed in time; others are served meanwhile."""
    async with serving(counting(), "127.0.0.1:0", patience=Patience(header=0.3)) as address:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        silent, mute = await asyncio.open_connection(host, int(port))

        async def drip() -> None:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            while not writer.is_closing():
                writer.write(b"X")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        served, told_slow = await exchange(address, WHOLE, None), b""
        async with asyncio.timeout(10):
            # What dripped on after the end may be answered with a reset.
            with contextlib.suppress(ConnectionResetError):
                told_slow = await reader.read()
            told_silent = await silent.read()
        dripping.cancel()
        writer.close()
        mute.close()

    assert served.endswith(b"came: 3")
    assert told_slow == told_silent == b""


async def ask_on(writer: asyncio.StreamWriter) -> None:
    """Go on asking, and never read; ends when the server has ended the connection."""
    while True:
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def test_int_5_who_does_not_read_its_answers_is_not_waited_for() -> None:
    """Answers that nobody takes end their connection in time, and their memory with it; others are served meanwhile."""
    app = counting()

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=bytes(16 * 1024 * 1024))

    app.router.add_get("/large", large)
    async with serving(app, "127.0.0.1:0", patience=Patience(unread=0.3)) as address:
        host, _, port = address.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        served = await exchange(address, WHOLE, None)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(ask_on(writer), 10)
        writer.close()

    assert served.endswith(b"came: 3")


async def test_int_5_who_reads_slowly_but_reads_gets_everything() -> None:
    """A long answer over a slow line is not cut off while it moves."""
    app = web.Application()

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=bytes(12 * 1024 * 1024))

    app.router.add_get("/", large)
    async with serving(app, "127.0.0.1:0", patience=Patience(unread=0.1)) as address:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024 * 1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got = 0
        while piece := await reader.read(512 * 1024):
            got += len(piece)
            await asyncio.sleep(0.02)
        writer.close()

    assert got > 12 * 1024 * 1024


def crowded(most: int, most_each: int) -> web.Application:
    """An application for so many; 127.0.9.9 brings others and may come as often as it likes."""
    app = counting()
    app[CROWD] = Crowd(most, most_each, lambda address: None if address == "127.0.9.9" else address)
    app[REFUSAL] = lambda status: {"statusCode": 1, "status": status}
    return app


@dataclass(slots=True)
class Visitors:
    """Clients that come and stay."""

    address: str
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def come(self, source: str = "127.0.0.1") -> str:
        """The status that is answered to one more, from this address, which then stays."""
        host, _, port = self.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
        self.writers.append(writer)
        writer.write(WHOLE.encode())
        async with asyncio.timeout(10):
            return (await reader.readline()).decode().split()[1]

    def leave(self) -> None:
        """All of them leave."""
        for writer in self.writers:
            writer.close()


async def test_int_5_one_client_has_so_many_connections() -> None:
    """One connection more is told to come later, while others are served; who has left makes room again."""
    app = crowded(100, 3)
    async with serving(app, "127.0.0.1:0") as address:
        visitors = Visitors(address)
        served = [await visitors.come() for _ in range(3)]
        one_more = await exchange(address, WHOLE, None)
        others = [await visitors.come(source) for source in ["127.0.0.2", *["127.0.9.9"] * 5]]
        visitors.writers[0].close()
        async with asyncio.timeout(10):
            while app[CROWD].here > 8:
                await asyncio.sleep(0.01)
        again = await visitors.come()
        visitors.leave()

    assert {*served, *others, again} == {"200"}
    assert one_more.startswith(b"HTTP/1.1 503 ")
    assert one_more.endswith(b'{"statusCode":1,"status":503}')
    assert (app[CROWD].here, app[CROWD].turned_away) == (0, 1)


async def test_int_5_all_together_have_so_many_connections() -> None:
    """However many clients there are, no more than so many are connected at once."""
    app = crowded(4, 3)
    async with serving(app, "127.0.0.1:0") as address:
        visitors = Visitors(address)
        told = [await visitors.come(f"127.0.0.{number}") for number in range(1, 8)]
        visitors.leave()

    assert told == ["200"] * 4 + ["503"] * 3
    assert app[CROWD].here == 0


def test_ovl_4_strangers_leave_room_for_a_proxy() -> None:
    """Where strangers fill all places, one who brings many others still comes in, but not without end."""
    crowd = Crowd(4, 3, lambda address: None if address == "proxy" else address)
    strangers = [crowd.enter(f"stranger {number}") for number in range(6)]
    proxies = [crowd.enter("proxy") for _ in range(KEPT_FOR_PROXIES + 1)]

    assert strangers == [True] * 4 + [False] * 2
    assert proxies == [True] * KEPT_FOR_PROXIES + [False]


async def test_ovl_1_many_who_arrive_at_once_do_not_hold_up_the_loop() -> None:
    """Hundreds may wait at the kernel to be accepted; one round accepts a few of them, and in the end all are served."""
    app = crowded(ARRIVING, ARRIVING)
    async with serving(app, "127.0.0.1:0") as address:
        host, _, port = address.rpartition(":")
        # The kernel answers for us: nothing here lets the loop accept before all have come.
        arriving = [socket.create_connection((host, int(port)), timeout=5) for _ in range(ARRIVING)]
        rounds = [0]
        while rounds[-1] < ARRIVING:
            await asyncio.sleep(0)
            rounds.append(app[CROWD].here)
        for one in arriving:
            one.close()

    assert max(now - before for before, now in pairwise(rounds)) <= MOST_ARRIVING


async def said_on(writer: asyncio.StreamWriter) -> int:
    """How many bytes of SAID are taken from one who speaks on and on, until its connection is ended."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10):
            while sent < SAID:
                writer.write(bytes(MOST_UNHEARD))
                await writer.drain()
                sent += MOST_UNHEARD
    writer.transport.abort()
    return sent


async def test_ovl_1_who_finds_no_room_is_heard_little() -> None:
    """Of what somebody goes on to say who was turned away little is read; it can read why all the same."""
    app = crowded(0, 0)
    async with serving(app, "127.0.0.1:0") as address:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        answer = await reader.readuntil(b"\r\n\r\n")
        heard = await said_on(writer)
        while app[CROWD].leaving:
            await asyncio.sleep(0.01)

    assert heard < SAID
    assert answer.startswith(b"HTTP/1.1 503 ")


async def test_ovl_1_of_those_who_find_no_room_so_many_are_told_at_once() -> None:
    """Above some hundred who are told why, the others are cut off at once; who has left makes room for another to be told."""
    app = crowded(0, 0)
    async with serving(app, "127.0.0.1:0") as address:
        host, _, port = address.rpartition(":")
        stayed = [await asyncio.open_connection(host, int(port)) for _ in range(MOST_TOLD_TO_LEAVE)]
        told = [await reader.readline() for reader, _ in stayed]
        reader, writer = await asyncio.open_connection(host, int(port))
        one_more = b""
        with contextlib.suppress(ConnectionError):
            one_more = await reader.read()
        for _, one in [*stayed, (reader, writer)]:
            one.close()
        async with asyncio.timeout(10):
            while app[CROWD].leaving:
                await asyncio.sleep(0.01)
        again = await exchange(address, WHOLE, None)

    assert {line.split()[1] for line in told} == {b"503"}
    assert one_more == b""
    assert again.startswith(b"HTTP/1.1 503 ")
    assert app[CROWD].turned_away == MOST_TOLD_TO_LEAVE + 2


async def test_ovl_1_who_is_not_understood_is_heard_little() -> None:
    """What follows something that is no HTTP is not read on and on; the answer is there all the same."""
    patience = Patience(lingering=0.3)
    async with serving(counting(), "127.0.0.1:0", patience=patience) as address:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"\x01\r\n\r\n")
        answer = await reader.readuntil(b"\r\n\r\n")
        heard = await said_on(writer)

    assert answer.startswith(b"HTTP/1.0 400 ")
    assert heard < SAID


class Callers:
    """Connections that say something before the loop can hear any of it, and the order in which they were served."""

    def __init__(self, app: web.Application, path: str) -> None:
        self.served: list[str] = []
        self.sockets: dict[str, socket.socket] = {}
        app.router.add_post(path, self.serve)

    async def serve(self, request: web.Request) -> web.Response:
        """Read all of it."""
        size = len(await request.read())
        self.served.append(request.headers["Caller"])
        return web.Response(text=str(size))

    async def come(self, address: str, *names: str) -> None:
        """Connect, and be let in."""
        host, _, port = address.rpartition(":")
        for name in names:
            self.sockets[name] = socket.create_connection((host, int(port)), timeout=5)
            await asyncio.sleep(0.001)

    def say(self, name: str, text: str) -> None:
        """One of them says this."""
        self.sockets[name].sendall(text.encode())

    def leave(self) -> None:
        """All of them."""
        for one in self.sockets.values():
            one.close()


def posted(path: str, caller: str) -> str:
    """The beginning of a request with a body of three bytes."""
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nCaller: {caller}\r\nContent-Length: 3\r\n\r\n"


@contextlib.asynccontextmanager
async def a_crowd(app: web.Application) -> AsyncIterator[tuple[Callers, str]]:
    """Many who have connected and said nothing yet, and where they are."""
    callers = Callers(app, "/upload")
    async with serving(app, "127.0.0.1:0") as address:
        await callers.come(address, *(str(number) for number in range(ARRIVING)))
        yield callers, address
        callers.leave()


async def test_ovl_1_a_round_hears_few_of_a_crowd() -> None:
    """Of hundreds that have said something a few are heard in each round of the loop, and in the end all."""
    async with a_crowd(crowded(ARRIVING, ARRIVING)) as (callers, _):
        names = list(callers.sockets)
        for name in names:
            callers.say(name, posted("/upload", name) + "abc")
        rounds = [0]
        async with asyncio.timeout(10):
            while rounds[-1] < ARRIVING:
                await asyncio.sleep(0)
                rounds.append(len(callers.served))

    assert sorted(callers.served) == sorted(names)
    assert max(now - before for before, now in pairwise(rounds)) <= MOST_VISITORS


@pytest.mark.parametrize("admitted", [True, False])
async def test_ovl_1_a_body_that_was_admitted_waits_behind_no_crowd(*, admitted: bool) -> None:
    """What is left of it is heard although a crowd spoke first; who was not admitted waits for them."""
    app, reading = crowded(ARRIVING + 1, ARRIVING + 1), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        reading.set()
        with let_in(request) if admitted else contextlib.nullcontext():
            return await callers.serve(request)

    app.router.add_post("/slow", slow)
    async with a_crowd(app) as (callers, address):
        names = list(callers.sockets)
        await callers.come(address, "slow")
        callers.say("slow", posted("/slow", "slow") + "ab")
        await reading.wait()
        for name in names:
            callers.say(name, posted("/upload", name) + "abc")
        callers.say("slow", "c")
        async with asyncio.timeout(10):
            while len(callers.served) <= ARRIVING:
                await asyncio.sleep(0)

    place = callers.served.index("slow")
    assert place <= 2 * MOST_VISITORS if admitted else place >= ARRIVING - 2 * MOST_VISITORS


async def test_ovl_1_what_was_said_in_the_lobby_is_heard_in_order() -> None:
    """A request that came in pieces while its turn was awaited, with its sender's half closed behind it, is answered."""
    async with a_crowd(crowded(ARRIVING, ARRIVING)) as (callers, _):
        names = list(callers.sockets)
        for piece in ("head", "ab", "c"):
            for name in names:
                callers.say(name, posted("/upload", name) if piece == "head" else piece)
                if piece == "c":
                    callers.sockets[name].shutdown(socket.SHUT_WR)
            await asyncio.sleep(0)
        answers = [await asyncio.to_thread(read_all, callers.sockets[name]) for name in names]

    assert all(answer.endswith(b"\r\n3") for answer in answers)
    assert sorted(callers.served) == sorted(names)


async def test_ovl_1_who_comes_while_no_file_is_left_is_let_in_later() -> None:
    """A process that may open nothing more says so, goes on with those it has, and lets the others in when it may again."""
    async with serving(counting(), "127.0.0.1:0") as address:
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5) as first, socket.socket() as second:
            second.settimeout(5)
            await asyncio.sleep(0.05)
            with no_file_left():
                second.connect((host, int(port)))
                second.sendall(ENDING)
                await asyncio.sleep(0.05)
                first.sendall(ENDING)
                served = await asyncio.to_thread(read_all, first)
            later = await asyncio.to_thread(read_all, second)

    assert served.startswith(b"HTTP/1.1 200 ")
    assert later.startswith(b"HTTP/1.1 200 ")


#: A request after which the connection ends.
ENDING = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"


@contextlib.contextmanager
def no_file_left() -> Iterator[None]:
    """This process may open no file more while inside."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208 - the numbers are wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
    fillers = []
    with contextlib.suppress(OSError):
        while True:
            fillers.append(os.dup(0))
    try:
        yield
    finally:
        for one in fillers:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def read_all(one: socket.socket) -> bytes:
    """All that it is sent."""
    told = b""
    while piece := one.recv(65536):
        told += piece
    return told


async def test_sec_15_an_expectation_of_any_bytes_is_the_senders_mistake(caplog: pytest.LogCaptureFixture) -> None:
    """A header Expect that is no text is 417 on every path, also where no handler of ours looks at it, and no fault."""
    async with serving(web.Application(), "127.0.0.1:0") as address:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /nothing HTTP/1.1\r\nHost: x\r\nExpect: \xff\xfe\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()

    assert answer.startswith(b"HTTP/1.1 417 ")
    assert answer.endswith(b'{"status":417}')
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_sec_15_no_answer_says_what_we_are_made_of() -> None:
    """Whatever is served, and whatever goes wrong, no answer names the server or its version."""

    async def fail(_: web.Request) -> web.Response:
        raise LookupError("ours")

    app = web.Application()
    app.router.add_get("/", fail)
    async with serving(app, "127.0.0.1:0") as address, aiohttp.ClientSession() as session:
        told = [await _told(session, f"http://{address}{path}") for path in ("/", "/nothing")]

    assert [status for status, _ in told] == [500, 404]
    assert not [text for _, text in told if "aiohttp" in text.lower() or "python" in text.lower()]


async def _told(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    async with session.get(url) as answer:
        return answer.status, f"{answer.headers} {await answer.text()}"
