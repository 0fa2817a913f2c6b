"""Serving HTTP: the one way our processes listen."""

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

#: A header that takes longer than this to arrive ends its connection; so does a connection nobody uses.
KEEPALIVE_SECONDS = 15.0


class AddressTaken(Exception):
    """The address to listen on is in use or not ours."""


@contextlib.asynccontextmanager
async def serving(
    app: web.Application, listen: str, *, share_port: bool = False, shutdown_seconds: float = 30.0
) -> AsyncIterator[str]:
    """Listen on `host:port` while inside (port 0 = any free one); gives the address. Raises AddressTaken.

    On leaving it stops listening and lets requests in progress end, for at most `shutdown_seconds`.
    """
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    runner = web.AppRunner(
        app, handle_signals=False, access_log=None, keepalive_timeout=KEEPALIVE_SECONDS,
        shutdown_timeout=shutdown_seconds,
        # aiohttp would inflate whatever arrives, on any path and before any limit of ours: 2 MB of zeros compressed
        # hold up the event loop for seconds. We take no compressed body anyway.
        auto_decompress=False,
    )  # fmt: skip
    await runner.setup()
    try:
        site = web.TCPSite(runner, host or None, int(port), reuse_port=share_port or None, backlog=1024)
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise AddressTaken(f"cannot listen on {listen}: {error.strerror or error}; choose another address") from error
    try:
        yield _bound(runner)
    finally:
        await runner.cleanup()


def _bound(runner: web.AppRunner) -> str:
    address = runner.addresses[0]
    if isinstance(address, str):
        return address
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
