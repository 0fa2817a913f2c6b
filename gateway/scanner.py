"""The scanner: files are shown to clamd before they are accepted, where the operator has one (SEC-16).

Its INSTREAM command (clamd(8)): the bytes in pieces with their length before each, an empty piece at the end, and one line
as the answer. Nothing is kept anywhere for it, and it need not see our disk.
"""

import asyncio
import re
from collections.abc import Iterable
from enum import Enum, auto
from urllib.parse import urlsplit

from mailroom.logs import get_logger
from mailroom.settings import ScannerSettings

log = get_logger(__name__)

#: Seconds in which a socket that is there takes a connection.
CONNECT_SECONDS = 1.0
#: Bytes of one piece.
PIECE = 256 * 1024
_LONGEST_ANSWER = 4096

_COMMAND, _END = b"zINSTREAM\0", b"\0\0\0\0"
_FOUND = re.compile(rb"stream: (.+) FOUND\0?", re.DOTALL)
_CLEAN = re.compile(rb"stream: OK\0?")


class Verdict(Enum):
    """What becomes of files that were shown to it."""

    FINE = auto()
    HARMFUL = auto()
    #: It did not answer, or could not tell: nobody has seen them.
    UNSEEN = auto()


class Scanner:
    """Judges files; without a place to ask, all are fine."""

    def __init__(self, settings: ScannerSettings) -> None:
        self._settings = settings

    @property
    def is_there(self) -> bool:
        """Whether anybody is asked."""
        return self._settings.url is not None

    async def judge(self, files: Iterable[bytes | bytearray]) -> Verdict:
        """The worst of these files; what nobody could see is as the operator has it."""
        if not self.is_there:
            return Verdict.FINE
        unclear = []
        try:
            async with asyncio.timeout(self._settings.seconds):
                for content in files:
                    answer = await self._told(content)
                    if found := _FOUND.fullmatch(answer):
                        log.warning("harmful file refused", found=found[1].decode("utf-8", "replace"))
                        return Verdict.HARMFUL
                    if not _CLEAN.fullmatch(answer):
                        unclear.append(answer)
        except TimeoutError as error:
            unclear.append(type(error).__name__.encode())
        if not unclear:
            return Verdict.FINE
        log.error("files were not scanned", said=unclear[0].decode("utf-8", "replace").rstrip("\0"))
        return Verdict.FINE if self._settings.when_absent == "accept" else Verdict.UNSEEN

    async def _told(self, content: bytes | bytearray) -> bytes:
        """The answer, or what went wrong: a file that cannot be shown hides none of the others. Raises TimeoutError."""
        try:
            return await self._answer(content)
        except TimeoutError:
            raise
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            return type(error).__name__.encode()

    async def _answer(self, content: bytes | bytearray) -> bytes:
        reader, writer = await self._connected()
        try:
            writer.write(_COMMAND)
            for start in range(0, len(content), PIECE):
                piece = content[start : start + PIECE]
                writer.write(len(piece).to_bytes(4, "big") + piece)
                await writer.drain()
            writer.write(_END)
            return await reader.readuntil(b"\0")
        except ConnectionError:
            # It says what it has against a file that is too large, and leaves.
            return await reader.read(_LONGEST_ANSWER)
        finally:
            writer.close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        place = urlsplit(self._settings.url or "")
        async with asyncio.timeout(CONNECT_SECONDS):
            if place.scheme == "unix":
                return await asyncio.open_unix_connection(place.path, limit=_LONGEST_ANSWER)
            return await asyncio.open_connection(place.hostname, place.port, limit=_LONGEST_ANSWER)
