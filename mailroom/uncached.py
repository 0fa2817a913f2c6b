"""Files written and read past the kernel's page cache (O_DIRECT, open(2)), where the system and the disk can.

What is written once and read once gains nothing from being cached: each of its pages is found, or given anew by the host
of a virtual machine, and copied, which was more than half of a gateway's CPU with large files. Where a file system
refuses, the same calls go through the cache.
"""

import errno
import mmap
import os
from collections import deque
from collections.abc import Iterable
from io import FileIO
from pathlib import Path

#: Not known to every system.
_DIRECT: int = getattr(os, "O_DIRECT", 0)

#: Bytes written or read at once. Addresses and lengths are whole pages, which is as much as any disk asks for.
_BLOCK = 1024 * 1024
_PAGE = 4096

#: Blocks that are kept for the next file.
_MOST_IDLE = 16
_idle: deque[mmap.mmap] = deque()

#: What a file has that was let go of.
_NO_BLOCK = mmap.mmap(-1, _PAGE)
_NO_BLOCK.close()


class NewFile:
    """A file on its way to the disk; in memory, and not made, until more has come than fits into a block.

    `flush`, `write` and `finish` block, and are for one thread at a time. They raise OSError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None
        self._block = _take_block()
        self._filled = 0

    def take(self, piece: memoryview) -> memoryview:
        """Keep in memory what there is room for; what is left is for after a `flush`."""
        now = piece[: _BLOCK - self._filled]
        self._block[self._filled : self._filled + len(now)] = now
        self._filled += len(now)
        return piece[len(now) :]

    @property
    def is_made(self) -> bool:
        """Whether there is anything of it in its folder."""
        return self._file is not None

    @property
    def is_full(self) -> bool:
        """Whether there is no room in memory."""
        return self._filled == _BLOCK

    @property
    def content(self) -> bytes:
        """What is in memory: all of it, as long as nothing was flushed."""
        return self._block[: self._filled]

    def flush(self) -> None:
        """Write a block that is full."""
        self._write(_BLOCK)

    def write(self, pieces: Iterable[bytes | bytearray]) -> None:
        """Append these."""
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                if self.is_full:
                    self.flush()
                rest = self.take(rest)

    def finish(self) -> None:
        """Return once all of it is on the disk. Its name may not be yet: that is up to the folder."""
        too_much = -self._filled % _PAGE
        self._block[self._filled : self._filled + too_much] = bytes(too_much)
        file = self._write(self._filled + too_much)
        if too_much:
            file.truncate(file.tell() - too_much)
        os.fsync(file.fileno())
        self.close()

    def close(self) -> None:
        """Let go of it, finished or not."""
        if not self._block.closed:
            _give_back(self._block)
            self._block = _NO_BLOCK
        if self._file is not None:
            self._file.close()

    def _write(self, size: int) -> FileIO:
        if self._file is None:
            self._file = _open(self._path, "xb")
        with memoryview(self._block) as block:
            written = 0
            while written < size:
                try:
                    written += self._file.write(block[written:size])
                except OSError as error:
                    _go_through_cache(self._file, error)
        self._filled = 0
        return self._file


def read(path: Path, at: int = 0, size: int | None = None) -> bytearray:
    """So many bytes of a file from there on, or all that follow; fewer where it ends. Blocking; raises OSError."""
    with _open(path, "rb") as file:
        there = max(0, os.fstat(file.fileno()).st_size - at)
        content = bytearray(there if size is None else min(size, there))
        block = _take_block()
        try:
            with memoryview(block) as seen:
                _fill(content, file, at, seen)
        finally:
            _give_back(block)
    return content


def _fill(content: bytearray, file: FileIO, at: int, seen: memoryview) -> None:
    """What stands in the file from there on, by way of a block."""
    skipped, done = at % _PAGE, 0
    file.seek(at - skipped)
    while done < len(content):
        # Only the end of a file ends within a page.
        now = seen[skipped : _read_into(seen, file)][: len(content) - done]
        if not now:
            raise OSError(errno.EIO, "the file ends before its end", file.name)
        content[done : done + len(now)] = now
        done += len(now)
        skipped = 0


def _read_into(block: memoryview, file: FileIO) -> int:
    while True:
        try:
            return file.readinto(block) or 0
        except OSError as error:
            _go_through_cache(file, error)


def _open(path: Path, mode: str) -> FileIO:
    try:
        return FileIO(path, mode, opener=_past_the_cache)
    except OSError as error:
        if not _DIRECT or error.errno != errno.EINVAL:
            raise
    if mode == "xb":
        # A file system that refuses may have made the file by then.
        path.unlink(missing_ok=True)
    return FileIO(path, mode)


def _past_the_cache(path: str, flags: int) -> int:
    return os.open(path, flags | _DIRECT, 0o666)


def _go_through_cache(file: FileIO, error: OSError) -> None:
    """Let what was refused past the cache be asked for once more; raises the error where that was not why."""
    import fcntl  # noqa: PLC0415 - not there on every system

    flags = fcntl.fcntl(file.fileno(), fcntl.F_GETFL)
    if error.errno != errno.EINVAL or not flags & _DIRECT:
        raise error
    fcntl.fcntl(file.fileno(), fcntl.F_SETFL, flags & ~_DIRECT)


def _take_block() -> mmap.mmap:
    try:
        return _idle.pop()
    except IndexError:
        return mmap.mmap(-1, _BLOCK)


def _give_back(block: mmap.mmap) -> None:
    if len(_idle) < _MOST_IDLE:
        _idle.append(block)
    else:
        block.close()
