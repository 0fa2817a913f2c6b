"""What changes by itself on a page: a stream of fragments, each sent when it differs from the one before."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from gateway.admin.console import NotFound, NotPossible, Streams, Visit
from mailroom.logs import get_logger
from mailroom.store import sign_ins
from mailroom.store.integrations import UnknownIntegration
from mailroom.store.port import StoreUnavailable

log = get_logger(__name__)

#: Seconds between two looks of a stream when looking costs next to nothing.
LOOK_SECONDS = 1.0

#: All streams together look for no more than this share of the time: the same process and the same database take mail in.
SHARE = 0.1

#: However many streams there are, and whatever they cost, each looks after so many seconds.
LONGEST_PAUSE = 60.0

#: Seconds after which a stream makes sure that its reader is still signed in, before it sends them anything.
SIGNED_IN_SECONDS = 5.0

#: Streams of one process, and of one person in it: nobody shall have them all.
MOST_STREAMS = 200
MOST_OF_ONE = 20

#: Seconds that a browser may leave a fragment unread before its stream is ended.
SEND_SECONDS = 20.0

Fragment = Callable[[Visit], Awaitable[str]]


async def live(visit: Visit, fragment: Fragment) -> web.StreamResponse:
    """Send the fragment now and whenever it has changed, until the browser leaves, the process stops or they sign out."""
    with _counted(visit.console.streams, visit):
        first = await _looked(visit, fragment)
        stream = web.StreamResponse()
        with contextlib.suppress(ConnectionError, TimeoutError):  # the browser left, or no longer reads
            async with sse_response(visit.request, send_timeout=SEND_SECONDS) as stream:
                with contextlib.suppress(NotFound, UnknownIntegration):  # what was watched is no more
                    await _send_changes(stream, visit, fragment, first)
        return stream


@contextlib.contextmanager
def _counted(streams: Streams, visit: Visit) -> Iterator[None]:
    who = visit.person.user_id
    if streams.open.total() >= MOST_STREAMS or streams.open[who] >= MOST_OF_ONE:
        raise NotPossible("Too many pages are watched at the moment; this one shows what was so when it was loaded.")
    streams.open[who] += 1
    try:
        yield
    finally:
        streams.open[who] -= 1
        if not streams.open[who]:
            del streams.open[who]


def pause(streams: int, cost: float) -> float:
    """Seconds until a stream looks again, when its last look took so many seconds and there are so many streams."""
    return min(max(LOOK_SECONDS, streams * cost / SHARE), LONGEST_PAUSE)


async def _send_changes(stream: EventSourceResponse, visit: Visit, fragment: Fragment, text: str | None) -> None:
    sent, streams, checked, cost = "", visit.console.streams, time.monotonic(), 0.0
    last = 0.0
    while stream.is_connected() and _goes_on(visit):
        if time.monotonic() - checked >= SIGNED_IN_SECONDS:
            checked = time.monotonic()
            if not await _is_signed_in(visit):
                # What stands there would otherwise look as if it were still so.
                await stream.send(visit.text("_signed_out.html"))
                return
        if text is not None and text != sent:
            await stream.send(text)
            sent = text
        await _rest(visit, pause(streams.open.total(), cost))
        if not _goes_on(visit):
            return
        began = time.monotonic()
        text = await _looked(visit, fragment)
        # Waiting for a database that is away is no work: the stream looks again soon, to see it come back.
        took = 0.0 if text is None else time.monotonic() - began
        # One look that was held up says nothing about the next; two in a row do.
        cost, last = min(took, last), took


def _goes_on(visit: Visit) -> bool:
    """Whether the browser still reads and the process still serves. aiohttp takes the transport of who has left."""
    return visit.request.transport is not None and not visit.console.streams.stopping.is_set()


async def _rest(visit: Visit, seconds: float) -> None:
    """Wait so long; less when the browser leaves: whoever clicks on would soon have all the streams of one person."""
    until = time.monotonic() + seconds
    while _goes_on(visit) and (left := until - time.monotonic()) > 0:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(visit.console.streams.stopping.wait(), min(left, LOOK_SECONDS))


async def _looked(visit: Visit, fragment: Fragment) -> str | None:
    try:
        return await fragment(replace(visit, now=datetime.now(UTC)))
    except StoreUnavailable as error:
        log.warning("page not refreshed", path=visit.request.path, error=str(error))
        return None


async def _is_signed_in(visit: Visit) -> bool:
    try:
        return await visit.console.store.read(
            sign_ins.is_valid, visit.person.hash, visit.person.role, now=datetime.now(UTC)
        )
    except StoreUnavailable:
        return True
