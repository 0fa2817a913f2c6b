"""How our processes listen."""

import gzip

import aiohttp
import pytest
from aiohttp import web

from mailroom.serving import serving

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
