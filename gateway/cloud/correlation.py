"""The correlation id: every answer of the platform API names one, and so does every line that is logged about it."""

from collections.abc import MutableMapping
from uuid import uuid4

from aiohttp import web

HEADER = "ININ-Correlation-Id"

_KEY = web.RequestKey("correlation_id", str)


def correlation_id(request: web.Request) -> str:
    """The id of this request; always ours, so that nobody can have the logs tell of another one."""
    found = request.get(_KEY)
    if found is None:
        found = request[_KEY] = str(uuid4())
    return found


def mark(headers: MutableMapping[str, str], request: web.Request) -> None:
    """Let an answer name it."""
    headers[HEADER] = correlation_id(request)
