"""How our processes listen."""

import asyncio
import gzip
import logging

import aiohttp
import pytest
from aiohttp import web

from mailroom.serving import from_our_page, serving

INFLATED = 8 * 1024 * 1024


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_a_compressed_body_is_never_inflated(encoding: str) -> None:
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
async def test_what_is_no_http_is_not_quoted_in_the_log(request_: str, caplog: pytest.LogCaptureFixture) -> None:
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
def test_who_counts_as_our_page(headers: dict[str, str], *, ours: bool) -> None:
    """Same origin by the browser's word, or no browser at all."""
    assert from_our_page(headers, "box:8025") is ours
