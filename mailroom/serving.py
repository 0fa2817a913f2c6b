"""Serving HTTP: the one way our processes listen."""

import contextlib
import logging
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

#: A header that takes longer than this to arrive ends its connection; so does a connection nobody uses.
KEEPALIVE_SECONDS = 15.0


def _without_its_words(record: logging.LogRecord) -> bool:
    """A request that is no HTTP is no error of ours, and aiohttp quotes it: tokens, addresses, texts (SEC-14)."""
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError):
        return True
    record.msg, record.args = "request refused: it is not HTTP as we take it (%s)", (type(error).__name__,)
    record.exc_info = record.exc_text = None
    record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
    return _log.isEnabledFor(logging.INFO)


_log = logging.getLogger(__name__)
_log.addFilter(_without_its_words)


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
        auto_decompress=False, logger=_log,
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
