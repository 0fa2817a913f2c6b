"""The health check that containers run in place of curl."""

import asyncio
import sys
from pathlib import Path

import pytest
from aiohttp import web

from mailroom.serving import serving

ROOT = Path(__file__).parents[2]


async def check(*arguments: str) -> tuple[int | None, str]:
    """Run it as a container does; its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mailroom.healthcheck", *arguments, cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    _, printed = await process.communicate()
    return process.returncode, printed.decode()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
async def test_only_200_is_healthy(status: int, code: int) -> None:
    """It ends with 0 when the process answers 200, and else with 1 and what was answered."""
    app = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text="the reason")

    app.router.add_get("/readyz", answer)
    async with serving(app, "127.0.0.1:0") as address:
        ended, printed = await check(f"http://{address}/readyz")

    assert ended == code
    assert printed == "" if code == 0 else f"answers {status}: the reason" in printed


async def test_nobody_there_is_unhealthy() -> None:
    """It ends with 1 when nobody listens."""
    ended, printed = await check("http://127.0.0.1:1/readyz")

    assert ended == 1
    assert "does not answer" in printed


async def test_it_asks_for_its_url() -> None:
    """Without a URL it says how it is called."""
    ended, printed = await check()

    assert ended == 1
    assert "healthcheck URL" in printed
