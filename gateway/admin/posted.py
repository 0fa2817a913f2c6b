"""What a form brings along, read within bounds of size, number and time: the only reader of bodies among the pages."""

import asyncio
from collections.abc import Mapping
from urllib.parse import parse_qsl

from aiohttp import web

URLENCODED = "application/x-www-form-urlencoded"

#: Seconds in which a form has to arrive: whoever sends it a byte at a time would keep its connection for ever.
ARRIVES_SECONDS = 15.0

#: Fields of a form; ours have a dozen.
MOST_FIELDS = 100


async def posted(request: web.Request, seconds: float = ARRIVES_SECONDS) -> Mapping[str, str]:
    """The fields of a form, the first of each name; what is no form has none. Raises web.HTTPException.

    Not aiohttp's own reader: in whatever charset a stranger names it fails in ways that look like faults of ours.
    """
    if request.content_type != URLENCODED:
        return {}
    try:
        async with asyncio.timeout(seconds):
            body = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    try:
        # A form is UTF-8, whatever it says of itself (url.spec.whatwg.org, application/x-www-form-urlencoded).
        fields = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError:
        raise web.HTTPBadRequest from None
    return dict(reversed(fields))
