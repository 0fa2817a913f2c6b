"""Answers in JSON that write themselves: thousands of clients a second are told nearly the same."""

import time
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from types import MappingProxyType
from typing import NamedTuple

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter

#: What every answer of the APIs tells browsers: it is no page, is not kept on the way, and not shown within another page.
NO_PAGE: Mapping[str, str] = MappingProxyType(
    {
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
    }
)


class _Date:
    """The date of this second, as it stands in a head."""

    def __init__(self) -> None:
        self._second, self._text = 0, ""

    def now(self) -> str:
        now = int(time.time())
        if now != self._second:
            self._second, self._text = now, formatdate(now, usegmt=True)
        return self._text


_DATE = _Date()
_HTTP11 = "HTTP/1.1"
_PHRASES: Mapping[int, str] = {status.value: status.phrase for status in HTTPStatus}
_FIXED = "".join(f"{name}: {value}\r\n" for name, value in NO_PAGE.items())


NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Answer(NamedTuple):
    """What somebody is told in JSON: a status, the bytes of the body, and what stands in the head beside the usual."""

    status: int
    body: bytes
    headers: Mapping[str, str] = NO_HEADERS

    def on_a_kept_connection(self) -> bytes:
        """All of it, in HTTP/1.1 for a connection that stays open."""
        added = _lines(self.headers) if self.headers else ""
        return _head(_HTTP11, self.status, len(self.body), added).encode(errors="ignore") + self.body


class JsonAnswer(web.Response):
    """An answer in JSON whose head is nearly always the same.

    aiohttp writes the same bytes, but puts them together anew for each request, and asks everybody who may want to
    change them: a tenth of what a form costs. What is added to `headers` is written too.
    """

    def __init__(self, body: bytes, status: int = 200) -> None:
        super().__init__(status=status)
        self._bytes = body
        self._begun = False

    @classmethod
    def of(cls, answer: Answer) -> "JsonAnswer":
        """The same for aiohttp."""
        made = cls(answer.body, answer.status)
        made.headers.update(answer.headers)
        return made

    @property
    def prepared(self) -> bool:
        """Whether it was begun."""
        return self._begun

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write it, all at once."""
        if not self._begun:
            self._begun = True
            self._keep_alive = request.keep_alive if self.keep_alive is None else self.keep_alive
            body = b"" if request.method == hdrs.METH_HEAD else self._bytes
            await request.writer.write_eof(self._head(request).encode(errors="ignore") + body)
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""

    def _head(self, request: web.BaseRequest) -> str:
        version = f"HTTP/{request.version.major}.{request.version.minor}"
        return _head(version, self.status, len(self._bytes), self._added(request))

    def _added(self, request: web.BaseRequest) -> str:
        """The lines that not every answer has."""
        if self.keep_alive and request.version == HttpVersion11 and not self.headers:
            return ""
        headers = dict(self.headers)
        if not self.keep_alive and request.version == HttpVersion11:
            headers[hdrs.CONNECTION] = "close"
        if self.keep_alive and request.version == HttpVersion10:
            headers[hdrs.CONNECTION] = "keep-alive"
        return _lines(headers)


def _head(version: str, status: int, length: int, added: str) -> str:
    return (
        f"{version} {status} {_PHRASES.get(status, '')}\r\n"
        f"{hdrs.CONTENT_TYPE}: application/json; charset=utf-8\r\n"
        f"{hdrs.CONTENT_LENGTH}: {length}\r\n"
        f"{hdrs.DATE}: {_DATE.now()}\r\n{_FIXED}{added}\r\n"
    )


def _lines(headers: Mapping[str, str]) -> str:
    lines = [f"{name}: {value}" for name, value in headers.items()]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header of an answer must be one line")
    return "".join(f"{line}\r\n" for line in lines)
