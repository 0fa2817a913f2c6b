"""Serving HTTP: the one way our processes listen."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import HttpVersion11, hdrs, web
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


#: An application's body for what is refused before it becomes a request, by the HTTP status.
REFUSAL: web.AppKey[Callable[[int], Any]] = web.AppKey("refusal")


def _in_json(refusal: Callable[[int], Any]) -> type[web.RequestHandler]:
    """What speaks HTTP on a connection, in JSON also about what never becomes a request.

    aiohttp has no other place for that; its own answer is text, on which widgets throw, and wait for ever.
    """

    class Handler(web.RequestHandler):
        __slots__ = ()

        def handle_error(
            self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None,
            message: str | None = None,
        ) -> web.StreamResponse:  # fmt: skip
            told = super().handle_error(request, status, exc, message)
            answer = _json(told.status, refusal(told.status))
            answer.headers[hdrs.SERVER] = "Mailroom"  # without it aiohttp would tell its name and version
            answer.force_close()
            return answer

    return Handler


def _plainly(status: int) -> Any:
    return {"status": status}


async def expect(request: web.Request) -> web.StreamResponse | None:
    """What a route answers to the header Expect (RFC 9110 section 10.1.1): go on, or 417 in JSON."""
    expected = request.headers.get(hdrs.EXPECT, "").lower()
    if request.version < HttpVersion11 or expected == "100-continue":
        if request.version >= HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the answer itself has not begun
        return None
    return _json(417, request.app[REFUSAL](417))


def _json(status: int, body: Any) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json", charset="utf-8")


def from_our_page(headers: Mapping[str, str], host: str) -> bool:
    """Whether a request to change something comes from our own page, or from no page at all (a program)."""
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get(hdrs.ORIGIN)
    return origin is None or origin.partition("://")[2] == host


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
        listening = await asyncio.get_running_loop().create_server(
            _factory(runner, app), host or None, int(port), reuse_port=share_port or None, backlog=1024
        )
    except OSError as error:
        await runner.cleanup()
        raise AddressTaken(f"cannot listen on {listen}: {error.strerror or error}; choose another address") from error
    try:
        yield _bound(listening)
    finally:
        listening.close()
        await runner.cleanup()


def _factory(runner: web.AppRunner, app: web.Application) -> Callable[[], web.RequestHandler]:
    server, speaking = runner.server, _in_json(app.get(REFUSAL, _plainly))
    assert server is not None, "the runner was set up"  # noqa: S101 - `serving` did

    def handler() -> web.RequestHandler:
        made = server()
        made.__class__ = speaking
        return made

    return handler


def _bound(listening: asyncio.Server) -> str:
    address = listening.sockets[0].getsockname()
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
