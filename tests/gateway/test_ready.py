"""Answers that write themselves: byte for byte what aiohttp would have written."""

import asyncio
from collections.abc import Callable

import pytest
from aiohttp import web

from gateway.ready import NO_PAGE, JsonAnswer
from mailroom.serving import serving

BODY = b'{"statusCode":0}'

HEADS = {
    "keeps its connection": b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n",
    "ends its connection": b"GET /%b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "asks for the head only": b"HEAD /%b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "HTTP/1.0": b"GET /%b HTTP/1.0\r\n\r\n",
    "HTTP/1.0 that keeps its connection": b"GET /%b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
}

CHANGES: dict[str, Callable[[web.Response], object]] = {
    "as it is": lambda _: None,
    "with a header more": lambda answer: answer.headers.update({"Vary": "Origin", "X-Fault-Id": "5"}),
    "as the last one": lambda answer: answer.force_close(),
}


async def told(address: str, request: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Status line, sorted headers without the date, and body."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        async with asyncio.timeout(20):
            status, *lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
            body = await (reader.read() if request.startswith(b"HEAD") else reader.readexactly(len(BODY)))
            return status, sorted(line for line in lines if b"Date:" not in line), body
    finally:
        writer.close()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("status", [200, 400, 404, 405, 408, 415])
async def test_it_says_what_aiohttp_would_say(
    head: bytes, change: Callable[[web.Response], object], status: int
) -> None:
    """Whatever the client speaks and whatever was added, the same lines and the same body come."""

    async def ours(_: web.Request) -> web.Response:
        answer = JsonAnswer(BODY, status)
        change(answer)
        return answer

    async def theirs(_: web.Request) -> web.Response:
        answer = web.Response(
            body=BODY, status=status, content_type="application/json", charset="utf-8", headers=dict(NO_PAGE)
        )
        change(answer)
        return answer

    app = web.Application()
    app.router.add_get("/ours", ours)
    app.router.add_get("/theirs", theirs)
    async with serving(app, "127.0.0.1:0") as address:
        assert await told(address, head % b"ours") == await told(address, head % b"theirs")


async def test_no_header_makes_another() -> None:
    """What is added to an answer is one line of it, or no answer."""

    async def split(_: web.Request) -> web.Response:
        answer = JsonAnswer(BODY)
        answer.headers["Vary"] = "Origin\r\nSet-Cookie: a=b"
        return answer

    app = web.Application()
    app.router.add_get("/", split)
    async with serving(app, "127.0.0.1:0") as address:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        async with asyncio.timeout(20):
            assert b"Set-Cookie" not in await reader.read()
        writer.close()
