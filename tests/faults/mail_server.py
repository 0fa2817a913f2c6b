"""The second observer: a mail server of a few lines that notes what it gets, and fails as it is told to.

It is none of the libraries that Mailroom or its other tests use: what they misunderstand together it does not.
"""

import asyncio
import hashlib
import random
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from types import TracebackType
from typing import Self

from tests.faults.events import Copied, Notebook

LOOPBACK = "127.0.0.1"
CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Weather:
    """What goes wrong, where, and how often: an answer, a delay, or the end of the connection."""

    phase: str
    odds: float
    reply: bytes | None = None
    delay: float = 0.0
    hang_up: bool = False


#: By the options of Postfix' smtp-sink that do the same.
MATRIX: dict[str, Weather] = {
    "-f RCPT": Weather("RCPT", 0.3, b"500 5.3.0 Error: command failed"),
    "-r RCPT": Weather("RCPT", 0.3, b"450 4.3.0 Error: command failed"),
    "-f .": Weather("dot", 0.3, b"500 5.3.0 Error: command failed"),
    "-r .": Weather("dot", 0.3, b"450 4.3.0 Error: command failed"),
    "-Q .": Weather("dot", 0.3, b"421 4.3.0 Server closing", hang_up=True),
    "-q .": Weather("dot", 0.2, hang_up=True),
    "-W .:4": Weather("dot", 0.3, delay=4.0),
    "-q RCPT": Weather("RCPT", 0.2, hang_up=True),
    "-w 4": Weather("DATA", 0.3, delay=4.0),
    "-A 0": Weather("content", 0.2, b"550 5.3.0 Error: command failed", hang_up=True),
    "-q CONNECT": Weather("connect", 0.3, hang_up=True),
    "-f CONNECT": Weather("connect", 0.3, b"500 5.3.0 Error: command failed", hang_up=True),
    "-Q MAIL": Weather("MAIL", 0.3, b"421 4.3.0 Server closing", hang_up=True),
}


class Gone(Exception):
    """The connection is over."""


@dataclass(slots=True, eq=False)
class MailServer:
    """Takes mail at a port of the loopback interface; `weather` may be changed at any time."""

    notebook: Notebook
    port: int
    weather: list[Weather] = field(default_factory=list)
    #: Called at a phase, with the port of the client: before the server answers.
    at_phase: Callable[[str, int], None] | None = None
    transactions: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _chance: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311 - weather is no secret

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()

    async def listen(self) -> None:
        """Take connections (again)."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port, limit=64 * 1024 * 1024)

    def leave(self) -> None:
        """Drop every connection and listen no more."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with suppress(Gone, OSError, asyncio.IncompleteReadError):
                await self._say(writer, "connect", b"220 observer.test ready")
                await self._converse(reader, writer)
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recipient, mail_at = "", 0.0
        while line := await reader.readline():
            verb = line[:4].upper().decode("ascii", "replace").strip()
            match verb:
                case "EHLO":
                    await self._say(writer, verb, b"250-observer.test\r\n250 SIZE 52428800")
                case "MAIL":
                    mail_at = time.time()
                    self.transactions += 1
                    await self._say(writer, verb, b"250 2.1.0 Ok")
                case "RCPT":
                    recipient = line.decode("utf-8", "replace").partition("<")[2].partition(">")[0]
                    await self._say(writer, verb, b"250 2.1.5 Ok")
                case "DATA":
                    if await self._say(writer, verb, b"354 End data with a dot") // 100 == 3:
                        await self._take(reader, writer, recipient, mail_at)
                case "QUIT":
                    await self._say(writer, verb, b"221 2.0.0 Bye")
                    raise Gone
                case _:
                    await self._say(writer, verb, b"250 2.0.0 Ok")

    async def _take(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, recipient: str, mail_at: float
    ) -> None:
        if (now := self._now("content")) is not None and now.reply is not None:
            await self._do(writer, now, b"")
        content = await reader.readuntil(b"\r\n.\r\n")
        at = time.time()
        self._at_phase("dot", writer)
        number, message_id, digest = seen_in(content)
        said: int | None = None
        try:
            said = await self._say(writer, "dot", b"250 2.0.0 Ok")
        finally:
            self.notebook.write(
                Copied(
                    number=number, id=message_id, at=at, mail_at=mail_at, recipient=recipient, digest=digest, said=said
                )
            )

    async def _say(self, writer: asyncio.StreamWriter, phase: str, usual: bytes) -> int:
        """Answer as usual, or as the weather has it; the code that was said."""
        if phase != "dot":
            self._at_phase(phase, writer)
        now = self._now(phase)
        reply = await self._do(writer, now, usual) if now else usual
        writer.write(reply + b"\r\n")
        await writer.drain()
        if now and now.hang_up:
            # What was said gets out first.
            writer.close()
            if phase != "dot":
                raise Gone
        return int(reply[:3])

    async def _do(self, writer: asyncio.StreamWriter, now: Weather, usual: bytes) -> bytes:
        await asyncio.sleep(now.delay)
        if now.reply is not None and not usual:
            writer.write(now.reply + b"\r\n")
            writer.close()
            raise Gone
        if now.hang_up and now.reply is None:
            raise Gone
        return now.reply or usual

    def _now(self, phase: str) -> Weather | None:
        return next((one for one in self.weather if one.phase == phase and self._chance.random() < one.odds), None)

    def _at_phase(self, phase: str, writer: asyncio.StreamWriter) -> None:
        if self.at_phase is not None:
            self.at_phase(phase, writer.get_extra_info("peername")[1])


def seen_in(content: bytes) -> tuple[int, str, str]:
    """The number, the id and the digest of a message as it came: what stands in brackets, and its files."""
    unstuffed = content[:-3].replace(b"\r\n..", b"\r\n.")
    message = message_from_bytes(unstuffed, policy=policy.default)
    number = re.search(r"fault run (\d+)", str(message["Subject"]))
    plain = message.get_body(("plain",))
    text = re.search(r"\[\[(.*?)\]\]", plain.get_content() if plain else "", re.DOTALL)
    files = [part.get_payload(decode=True) for part in message.iter_attachments()]
    digest = digest_of(text[1] if text else "", [bytes(file) for file in files if isinstance(file, bytes)])
    message_id = str(message["Message-ID"]).strip("<>").partition("@")[0]
    return int(number[1]) if number else -1, message_id, digest


def digest_of(text: str, files: list[bytes]) -> str:
    """What must be the same before and after: the words, however their lines were broken, and the bytes of the files."""
    made = hashlib.sha256("".join(text.split()).encode())
    for file in files:
        made.update(hashlib.sha256(file).digest())
    return made.hexdigest()
