"""The attachment store: files too large for a message row, one folder that every gateway and worker sees.

A large file comes piece by piece, under a temporary name; it is synced and renamed, and its folder is synced too.
Smaller ones are here whole, and the files of several messages may be one, a bundle. Only then may a row that names the
key be committed (a commit that names a missing file would be an accepted message that cannot be sent).
"""

import asyncio
import contextlib
import math
import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

from mailroom import uncached
from mailroom.message import Attachment
from mailroom.uncached import NewFile

Args = ParamSpec("Args")
Result = TypeVar("Result")

#: Characters of a key: 32 hexadecimal digits, spread over 256 folders by the first two.
KEY_LENGTH = 32

#: What the name of a file ends with while it is being written.
_UNFINISHED = ".part"

#: The folders that keys are spread over.
SHELVES = tuple(f"{number:02x}" for number in range(256))

#: A larger file of a form is kept here, as it arrives; one of this size still travels with its message's row.
LARGEST_IN_A_ROW = 1024 * 1024


class AttachmentMissing(Exception):
    """The attachment store holds no file of this key: it was deleted, or this process sees another store."""


class Upload:
    """A file on its way in. `write` as often as bytes arrive, then `finish` once; leaving without it removes the file."""

    def __init__(self, final: Path) -> None:
        self._final = final
        self._temporary = final.with_suffix(_UNFINISHED)
        self._file = NewFile(self._temporary)
        self._finished = False

    @property
    def key(self) -> str:
        """What the file will be known as."""
        return self._final.name

    @property
    def content(self) -> bytes:
        """All that was written, as long as that is no more than LARGEST_IN_A_ROW: so much is in memory."""
        return self._file.content

    async def write(self, *pieces: bytes | bytearray) -> None:
        """Append; what goes to the disk does so off the event loop, because it may be slow."""
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                if self._file.is_full:
                    await _finishing(self._flush)
                rest = self._file.take(rest)

    async def finish(self) -> None:
        """Return once the file is on the disk under its key."""
        await _finishing(self._sync_and_rename)
        self._finished = True

    def _flush(self) -> None:
        _make_folder(self._final.parent)
        self._file.flush()

    def _sync_and_rename(self) -> None:
        _make_folder(self._final.parent)
        self._file.finish()
        self._temporary.rename(self._final)
        _sync_folder(self._final.parent)

    def discard_unless_finished(self) -> None:
        """Remove what was written when `finish` was not reached."""
        self._file.close()
        if self._file.is_made and not self._finished:
            self._temporary.unlink(missing_ok=True)
            # Whoever is cancelled during `finish` never learned the key.
            self._final.unlink(missing_ok=True)


class AttachmentStore:
    """Files by key under one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.asynccontextmanager
    async def upload(self) -> AsyncIterator[Upload]:
        """A new file to write to; it is kept only when `finish` was awaited inside."""
        upload = Upload(self._path(_new_key()))
        try:
            yield upload
        finally:
            upload.discard_unless_finished()

    async def content_of(self, file: Attachment) -> bytes | bytearray:
        """The bytes of a message's file, wherever they are; raises AttachmentMissing."""
        if file.content is not None:
            return file.content
        if file.at is None:
            return await self.read(file.key or "")
        content = await self.read(file.key or "", file.at, file.size)
        if len(content) != file.size:
            raise AttachmentMissing(f"{file.key} in {self.folder} ends before it should")
        return content

    async def read(self, key: str, at: int = 0, size: int | None = None) -> bytearray:
        """The whole file, or so many bytes of it from there on; raises AttachmentMissing."""
        try:
            return await asyncio.to_thread(uncached.read, self._path(key), at, size)
        except FileNotFoundError as error:
            raise AttachmentMissing(f"{key} is not in {self.folder}") from error

    async def keep(self, contents: Sequence[bytes | bytearray]) -> str:
        """The key of a new file that holds these, one behind the other; it is on the disk. Raises OSError."""
        path = self._path(_new_key())
        await _finishing(_keep, path, contents)
        return path.name

    async def copy(self, file: Attachment) -> str:
        """The key of a new file with the same content; raises AttachmentMissing."""
        return await self.keep([await self.content_of(file)])

    async def untouched(self, shelf: str, before: datetime) -> list[str]:
        """The keys on this shelf that were written before a moment; what was never finished until then is removed."""
        return await asyncio.to_thread(self._untouched, self.folder / shelf, before.timestamp())

    def _untouched(self, shelf: Path, before: float) -> list[str]:
        keys = []
        try:
            with os.scandir(shelf) as entries:
                old = [Path(entry.path) for entry in entries if _last_written(entry) < before]
        except FileNotFoundError:
            return []
        for path in old:
            if path.suffix == _UNFINISHED:
                path.unlink(missing_ok=True)
            elif len(path.name) == KEY_LENGTH:
                keys.append(path.name)
        return keys

    async def delete(self, key: str) -> None:
        """Remove the file; nothing happens when it is gone already."""
        await asyncio.to_thread(self._path(key).unlink, missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key


def _new_key() -> str:
    return secrets.token_hex(KEY_LENGTH // 2)


def _keep(path: Path, contents: Sequence[bytes | bytearray]) -> None:
    """Until a row names it nobody looks for it, so it needs no other name while it is written."""
    _make_folder(path.parent)
    file = NewFile(path)
    try:
        file.write(contents)
        file.finish()
        _sync_folder(path.parent)
    except BaseException:
        file.close()
        path.unlink(missing_ok=True)
        raise


async def _finishing(step: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs) -> Result:
    """Run a step off the event loop; whoever is cancelled leaves when it is over, so that it can be cleaned up."""
    running = asyncio.ensure_future(asyncio.to_thread(step, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _last_written(entry: "os.DirEntry[str]") -> float:
    """Seconds since 1970; never, for what is gone by now."""
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def _make_folder(folder: Path) -> None:
    """Make the folder and those above it where they are missing, each known to the disk before it is used."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
