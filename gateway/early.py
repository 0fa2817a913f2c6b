"""Answers that are given before the body was read: a refusal must cost less than what it refuses (OVL-2)."""

import asyncio
import contextlib

from aiohttp import ClientError, web

#: Bytes of a body that nobody wants which are taken off the wire all the same, so that its connection can be used again.
MOST_DRAINED = 64 * 1024

#: And of what is larger: many clients send all before they read, and an end while they still send takes the answer away.
MOST_DISCARDED = 1024 * 1024

#: Seconds that may take.
DRAIN_SECONDS = 1.0


async def answered_early(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Where a large body was not read to its end, answer, read some of the rest, and end the connection."""
    if request.content.is_eof() or _is_small(request):
        return response
    response.force_close()
    # A client that has gone, or sends what is no body, gets no answer any more; nobody else need hear of it.
    with contextlib.suppress(TimeoutError, ConnectionError, ClientError, web.PayloadAccessError):
        async with asyncio.timeout(DRAIN_SECONDS):
            await response.prepare(request)
            await response.write_eof()
            if request.transport is not None and request.transport.can_write_eof():
                request.transport.write_eof()
            await _drain(request)
    if request.transport is not None:
        request.transport.close()
        # So that the server notices before it would read on.
        await asyncio.sleep(0)
    return response


def _is_small(request: web.Request) -> bool:
    """Such a rest is read by the server, and the connection goes on."""
    return request.content_length is not None and request.content_length <= MOST_DRAINED


async def _drain(request: web.Request) -> None:
    drained = 0
    while drained < MOST_DISCARDED and (chunk := await request.content.readany()):
        drained += len(chunk)
