"""A gateway that listens, and a client that sends it whatever bytes a test wants: nothing in between corrects them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.forms.answers import again_later
from tests import stalls
from tests.journeys.office import Office, an_office

PLACE = "/genesys/2/email/support"

#: Seconds of processor time that the loop may be busy without looking at anybody else.
LONGEST_STEP = 0.1

#: What a gateway says that could not take a form in, how often it may say so to a form that it can take, and how many
#: seconds later it is asked again.
AGAIN = (200, again_later())
MOST_TRIES = 10
AGAIN_SECONDS = 0.2


@dataclass(slots=True)
class Caller:
    """One connection after the other, one request at a time."""

    address: str
    _open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = field(default=None, init=False)

    async def post(self, content_type: bytes | str, body: bytes, *headers: bytes) -> tuple[int, dict[str, Any]]:
        """Post a body as it is; status and JSON of the answer."""
        return await self.send(head(content_type, b"Content-Length: %d" % len(body), *headers) + body)

    async def post_chunked(self, content_type: bytes | str, chunks: Sequence[bytes]) -> tuple[int, dict[str, Any]]:
        """The same body in chunked transfer coding, chunk by chunk."""
        coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk)
        return await self.send(head(content_type, b"Transfer-Encoding: chunked") + coded + b"0\r\n\r\n")

    async def send(self, request: bytes) -> tuple[int, dict[str, Any]]:
        """Send these bytes; status and JSON of the one answer to them.

        They are sent again for as long as the gateway says so: a busy machine may have a commit, or a look, come too late.
        """
        for _ in range(MOST_TRIES):
            answer = await self._send_once(request)
            if answer != AGAIN:
                break
            await asyncio.sleep(AGAIN_SECONDS)
        return answer

    async def _send_once(self, request: bytes) -> tuple[int, dict[str, Any]]:
        if self._open is None:
            host, _, port = self.address.rpartition(":")
            self._open = await asyncio.open_connection(host, int(port))
        reader, writer = self._open
        writer.write(request)
        async with asyncio.timeout(20):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
        status = int(lines[0].split()[1])
        if lines[0].startswith("HTTP/1.0") or headers.get("connection") == "close":
            self.hang_up()
        return status, body

    def hang_up(self) -> None:
        """The next request goes over a connection of its own."""
        if self._open is not None:
            self._open[1].close()
            self._open = None


def head(content_type: bytes | str, *headers: bytes) -> bytes:
    """The head of a request to post a form."""
    kind = content_type.encode("latin-1") if isinstance(content_type, str) else content_type
    lines = (f"POST {PLACE} HTTP/1.1".encode(), b"Host: x", b"Content-Type: " + kind, *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n"


@contextlib.asynccontextmanager
async def calling(office: Office) -> AsyncIterator[Caller]:
    """A client of the gateway that was opened last."""
    caller = Caller(office.addresses[-1])
    try:
        yield caller
    finally:
        caller.hang_up()


@contextlib.asynccontextmanager
async def listening(folder: Path, database: Path, **options: Any) -> AsyncIterator[Office]:
    """An office whose one gateway accepts forms and holds them: its integration waits for a worker that never comes."""
    async with an_office(folder, f"sqlite:///{database}", "memory:", when_inactive="hold", **options) as office:
        await office.add_integration(1)
        async with office.gateway():
            yield office


def never_stalled() -> contextlib.AbstractAsyncContextManager[None]:
    """No step of the loop takes long."""
    return stalls.never_stalled(LONGEST_STEP)
