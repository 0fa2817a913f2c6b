"""The attachment store: files too large for a message row, one folder that every gateway and worker sees.

A file is written under a temporary name, synced, and renamed; its folder is synced too. Only then may a row that names
its key be committed (a commit that names a missing file would be an accepted message that cannot be sent).
"""

import asyncio
import contextlib
import math
import os
import secrets
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

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

#: Bytes of a file that are in memory while it is copied.
_PIECE = 1024 * 1024


class AttachmentMissing(Exception):
    """The attachment store holds no file of this key: it was deleted, or this process sees another store."""


class Upload:
    """A file on its way in. `write` as often as bytes arrive, then `finish` once; leaving without it removes the file."""

    def __init__(self, final: Path) -> None:
        self._final = final
        self._temporary = final.with_suffix(_UNFINISHED)
        self._file: BinaryIO | None = None
        self._finished = False

    @property
    def key(self) -> str:
        """What the file will be known as."""
        return self._final.name

    async def write(self, *pieces: bytes | bytearray) -> None:
        """Append; off the event loop, because the disk may be slow."""
        await _finishing(self._opened().writelines, pieces)

    async def finish(self) -> None:
        """Return once the file is on the disk under its key."""
        await _finishing(self._sync_and_rename)
        self._finished = True

    async def open(self) -> None:
        """Make the file, still under its temporary name."""
        await _finishing(self._open)

    def _open(self) -> None:
        _make_folder(self._final.parent)
        self._file = self._temporary.open("xb")

    def _opened(self) -> BinaryIO:
        assert self._file is not None, "an upload is opened before it is written"  # noqa: S101 - `upload` does
        return self._file

    def _sync_and_rename(self) -> None:
        file = self._opened()
        file.flush()
        os.fsync(file.fileno())
        file.close()
        self._temporary.rename(self._final)
        _sync_folder(self._final.parent)

    def discard_unless_finished(self) -> None:
        """Remove what was written when `finish` was not reached."""
        if not self._finished and self._file is not None:
            self._file.close()
            self._temporary.unlink(missing_ok=True)
            # Whoever is cancelled during `finish` never learned the key.
            self._final.unlink(missing_ok=True)


class AttachmentStore:
    """Files by key under one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.asynccontextmanager
    async def upload(self) -> AsyncIterator[Upload]:
        """Open a new file to write to; it is kept only when `finish` was awaited inside."""
        key = secrets.token_hex(KEY_LENGTH // 2)
        upload = Upload(self._path(key))
        try:
            await upload.open()
            yield upload
        finally:
            upload.discard_unless_finished()

    async def read(self, key: str) -> bytes:
        """The whole file; raises AttachmentMissing."""
        try:
            return await asyncio.to_thread(self._path(key).read_bytes)
        except FileNotFoundError as error:
            raise AttachmentMissing(f"{key} is not in {self.folder}") from error

    async def copy(self, key: str) -> str:
        """The key of a new file with the same content; raises AttachmentMissing."""
        async with self.upload() as upload:
            try:
                source = await asyncio.to_thread(self._path(key).open, "rb")
            except FileNotFoundError as error:
                raise AttachmentMissing(f"{key} is not in {self.folder}") from error
            with source:
                while piece := await asyncio.to_thread(source.read, _PIECE):
                    await upload.write(piece)
            await upload.finish()
        return upload.key

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
