"""Files past the cache: the same bytes come back, whatever their number and whatever the system refuses."""

import errno
import os
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailroom import uncached
from mailroom.uncached import NewFile

MEGABYTE = 1024 * 1024

#: Around the borders of pages and of blocks.
SIZES = [0, 1, 511, 512, 4095, 4096, 4097, MEGABYTE - 1, MEGABYTE, MEGABYTE + 1, 2 * MEGABYTE, 2 * MEGABYTE + 4100]

PATTERN = bytes(range(256)) * 16 + b"odd"


def pattern(size: int) -> bytes:
    """Bytes that differ from those a page further on."""
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


def written(path: Path, *pieces: bytes) -> Path:
    """A file with these."""
    file = NewFile(path)
    file.write(pieces)
    file.finish()
    return path


def refused(path: str, flags: int) -> int:
    """A file system that knows no way past the cache."""
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def made_and_refused(path: str, flags: int) -> int:
    """One that makes the file all the same."""
    os.close(os.open(path, flags, 0o666))
    return refused(path, flags)


@pytest.fixture(params=["past the cache", "unknown to the system", "refused", "made and refused", "refused later"])
def _system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a system may make of the wish."""
    match request.param:
        case "unknown to the system":
            monkeypatch.setattr(uncached, "_DIRECT", 0)
        case "refused":
            monkeypatch.setattr(uncached, "_past_the_cache", refused)
        case "made and refused":
            monkeypatch.setattr(uncached, "_past_the_cache", made_and_refused)
        case "refused later":
            # The disk refuses what is no multiple of its blocks.
            monkeypatch.setattr(uncached, "_PAGE", 256)


@pytest.mark.usefixtures("_system")
@pytest.mark.parametrize("size", SIZES)
def test_what_is_written_is_read(tmp_path: Path, size: int) -> None:
    """All of it, and any part of it; no byte more is in the file."""
    content = pattern(size)
    path = written(tmp_path / "file", content)

    assert path.read_bytes() == content
    assert uncached.read(path) == content
    for at in {0, 1, 4095, 4096, MEGABYTE - 1, size - 1, size, size + 5000} - {-1}:
        for wanted in (0, 1, 4097, MEGABYTE, size):
            assert uncached.read(path, at, wanted) == content[at : at + wanted]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(pieces=st.lists(st.integers(0, 700_000).map(pattern), max_size=5))
def test_in_whatever_pieces_it_comes(tmp_path: Path, pieces: list[bytes]) -> None:
    """They are put together in their order."""
    path = tmp_path / "file"
    path.unlink(missing_ok=True)

    assert uncached.read(written(path, *pieces)) == b"".join(pieces)


def test_what_others_had_in_memory_is_not_in_the_file(tmp_path: Path) -> None:
    """A block that was used before leaves nothing of it in the next file, nor behind its end."""
    for number in range(20):
        written(tmp_path / f"secret {number}", b"s" * MEGABYTE)
    path = written(tmp_path / "file", b"mine")

    assert path.read_bytes() == b"mine"
    with path.open("r+b") as file:
        file.truncate(4096)
    assert path.read_bytes() == b"mine" + bytes(4092)


def test_small_ones_are_in_memory_only(tmp_path: Path) -> None:
    """Nothing is in the folder before more has come than fits, and what was let go of then never is."""
    file = NewFile(tmp_path / "file")
    rest = file.take(memoryview(pattern(MEGABYTE)))
    assert (file.is_full, file.is_made, len(rest)) == (True, False, 0)
    assert file.content == pattern(MEGABYTE)
    file.close()
    file.close()

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    """Nobody's file is overwritten."""
    written(tmp_path / "file", b"mine")
    other = NewFile(tmp_path / "file")
    other.write([b"yours"])
    with pytest.raises(FileExistsError):
        other.finish()
    other.close()

    assert (tmp_path / "file").read_bytes() == b"mine"


def test_other_errors_are_told(tmp_path: Path) -> None:
    """A folder that is not there is no reason to try without the wish."""
    file = NewFile(tmp_path / "nowhere" / "file")
    with pytest.raises(FileNotFoundError):
        file.finish()
    with pytest.raises(FileNotFoundError):
        uncached.read(tmp_path / "nowhere")
    file.close()


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written is an error, not a shorter file."""
    monkeypatch.setattr(uncached, "_open", lambda *_: FileIO("/dev/full", "wb"))
    file = NewFile(tmp_path / "file")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        file.write([pattern(MEGABYTE + 1)])
    file.close()
