"""What changes by itself on a page: a stream of fragments, each sent when it differs from the one before."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from gateway.admin.console import NotPossible, Visit
from mailroom.logs import get_logger
from mailroom.store import sign_ins
from mailroom.store.port import StoreUnavailable

log = get_logger(__name__)

#: Seconds between two looks.
LOOK_SECONDS = 1.0

#: Looks after which a stream makes sure that its reader is still signed in.
SIGNED_IN_EVERY = 5

#: Streams of one process.
MOST_STREAMS = 200

#: Seconds that a browser may leave a fragment unread before its stream is ended.
SEND_SECONDS = 20.0


async def live(visit: Visit, fragment: Callable[[Visit], Awaitable[str]]) -> web.StreamResponse:
    """Send the fragment now and whenever it has changed, until the browser leaves, the process stops or they sign out."""
    streams = visit.console.streams
    if streams.open >= MOST_STREAMS:
        raise NotPossible("Too many pages are watched at the moment; this one shows what was so when it was loaded.")
    streams.open += 1
    try:
        async with sse_response(visit.request, send_timeout=SEND_SECONDS) as stream:
            await _send_changes(stream, visit, fragment)
    except (ConnectionError, TimeoutError):
        pass  # the browser left, or no longer reads
    finally:
        streams.open -= 1
    return stream


async def _send_changes(stream: EventSourceResponse, visit: Visit, fragment: Callable[[Visit], Awaitable[str]]) -> None:
    sent, looks, stopping = "", 0, visit.console.streams.stopping
    while stream.is_connected() and not stopping.is_set() and await _may_go_on(visit, looks):
        text = await _looked(visit, fragment)
        if text is not None and text != sent:
            await stream.send(text)
            sent = text
        looks += 1
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), LOOK_SECONDS)


async def _looked(visit: Visit, fragment: Callable[[Visit], Awaitable[str]]) -> str | None:
    try:
        return await fragment(replace(visit, now=datetime.now(UTC)))
    except StoreUnavailable as error:
        log.warning("page not refreshed", path=visit.request.path, error=str(error))
        return None


async def _may_go_on(visit: Visit, looks: int) -> bool:
    if looks % SIGNED_IN_EVERY:
        return True
    try:
        return await visit.console.store.read(
            sign_ins.is_valid, visit.person.hash, visit.person.role, now=datetime.now(UTC)
        )
    except StoreUnavailable:
        return True
