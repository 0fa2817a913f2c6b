"""Reading JSON bodies: strictly, so that whatever gets in can be stored and given back by every database.

Refused are bytes that are no UTF-8, NaN and infinities, a key given twice, deep nesting, numbers of more than 64 bits,
NUL and lone surrogates: what different readers take for different things, or some cannot keep.
"""

import asyncio
import contextlib
import json
import math
import re
from collections.abc import AsyncGenerator
from typing import Any, NoReturn

from aiohttp import hdrs, web

from gateway.cloud.errors import Code, Refusal
from mailroom.http_connection import let_in
from mailroom.settings import LimitSettings

#: Bytes of a body where the endpoint says nothing else.
MOST_BYTES = 256 * 1024

#: A larger body is read in a thread: others need not wait for it.
READ_ON_THE_LOOP = 64 * 1024

#: Objects and lists within each other.
DEEPEST = 20

_LARGEST_INTEGER = 2**63 - 1
#: Digits of a number, so that reading it costs little.
_MOST_DIGITS = 40

_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")


class Unreadable(Exception):
    """This is not the JSON we take; the text says why."""


def from_json(body: bytes) -> Any:
    """What the body says. Raises Unreadable."""
    try:
        # Decoded here: json itself would also take UTF-16 and UTF-32.
        text = body.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_float
        )
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise Unreadable(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise Unreadable(_TOO_DEEP) from None
    _check(value, DEEPEST)
    return value


_TOO_DEEP = f"it is nested deeper than {DEEPEST} levels"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unreadable("an object has the same key twice")
    return found


def _constant(name: str) -> NoReturn:
    raise Unreadable(f"{name} is no number of JSON")


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS or abs(number := int(text)) > _LARGEST_INTEGER:
        raise Unreadable("a whole number does not fit into 64 bits")
    return number


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Unreadable("a number is too large")
    return number


def _check(value: Any, levels: int) -> None:
    """Raises Unreadable for what is nested too deep, or holds text that not every database can keep."""
    match value:
        case str():
            if _NOT_STORABLE.search(value):
                raise Unreadable("a text holds a NUL or half of a surrogate pair")
        case dict() | list() if levels == 0:
            raise Unreadable(_TOO_DEEP)
        case dict():
            for name, member in value.items():
                _check(name, levels - 1)
                _check(member, levels - 1)
        case list():
            for member in value:
                _check(member, levels - 1)


# --- off the wire -----------------------------------------------------------------------------------------------------


def most_that_comes(request: web.Request, most: int) -> int:
    """Bytes that may be read of a body before it is known to be too large, for admission."""
    size = request.content_length
    return min(size, most) if size is not None else most if request.can_read_body else 0


def expected_size(request: web.Request, most: int = MOST_BYTES) -> int:
    """Bytes that the body may have, for admission. Raises Refusal."""
    size = request.content_length
    if size is not None and size > most:
        raise _too_large(most)
    return most if size is None and request.can_read_body else size or 0


async def read_json(request: web.Request, limits: LimitSettings, most: int = MOST_BYTES) -> Any:
    """The body; None when there is none, or it is `null` (clients send that for none). Raises Refusal."""
    body = await read_bytes(request, limits, most)
    if not body.strip():
        return None
    if request.content_type != "application/json" or (request.charset or "utf-8").lower() not in ("utf-8", "utf8"):
        raise Refusal(
            415, Code.UNSUPPORTED_MEDIA_TYPE, "A body is JSON in UTF-8; send it as Content-Type: application/json."
        )
    try:
        return from_json(body) if len(body) <= READ_ON_THE_LOOP else await asyncio.to_thread(from_json, body)
    except Unreadable as error:
        raise Refusal(400, Code.BAD_REQUEST, f"The body cannot be read: {error}.") from None


async def read_bytes(request: web.Request, limits: LimitSettings, most: int) -> bytes:
    """The body as it came. Raises Refusal."""
    body = bytearray()
    async with contextlib.aclosing(chunks(request, limits, most)) as came:
        async for chunk in came:
            body += chunk
    return bytes(body)


async def chunks(request: web.Request, limits: LimitSettings, most: int) -> AsyncGenerator[bytes, None]:
    """The body piece by piece, as it comes. Raises Refusal when it is compressed, too large, or too slow."""
    # Every one of them: who names two has the first one read here, and another one elsewhere.
    if any(one.strip().lower() != "identity" for one in request.headers.getall(hdrs.CONTENT_ENCODING, ())):
        raise Refusal(
            415, Code.UNSUPPORTED_MEDIA_TYPE, "The body is compressed; send it as it is, without Content-Encoding."
        )
    expected_size(request, most)
    size = 0
    try:
        with let_in(request):
            async with asyncio.timeout(limits.body_seconds):
                while chunk := await asyncio.wait_for(request.content.readany(), limits.idle_read_seconds):
                    size += len(chunk)
                    if size > most:
                        raise _too_large(most)
                    yield chunk
    except TimeoutError:
        raise Refusal(408, Code.REQUEST_TIMEOUT, "The body came too slowly.", headers={"Connection": "close"}) from None


def _too_large(most: int) -> Refusal:
    sentence = f"The body is larger than {most} bytes."
    # What is still to come is not read.
    return Refusal(413, Code.REQUEST_TOO_LARGE, sentence, headers={"Connection": "close"})
