"""The attachment store: a file is whole under its key, or not there at all."""

import asyncio
import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mailroom.attachments import KEY_LENGTH, AttachmentMissing, AttachmentStore
from mailroom.message import Attachment


@pytest.fixture
def attachments(tmp_path: Path) -> AttachmentStore:
    """A store in a folder that does not exist yet."""
    return AttachmentStore(tmp_path / "deep" / "attachments")


def files_of(attachments: AttachmentStore) -> list[Path]:
    """Every file in the store's folder, finished or not."""
    return [path for path in attachments.folder.rglob("*") if path.is_file()]


async def stored(attachments: AttachmentStore, *parts: bytes) -> str:
    """Keep a file; its key."""
    async with attachments.upload() as upload:
        for part in parts:
            await upload.write(part)
        await upload.finish()
        return upload.key


def file_of(key: str) -> Attachment:
    """A file of a message that has one of its own."""
    return Attachment(name="a.zip", media_type="application/zip", size=0, key=key)


async def test_a_finished_file_can_be_read(attachments: AttachmentStore) -> None:
    """What was written in parts is read as a whole under a key that tells nothing about it."""
    key = await stored(attachments, b"one ", b"two ", b"", b"three")

    assert await attachments.read(key) == b"one two three"
    assert len(key) == KEY_LENGTH
    assert [path.name for path in files_of(attachments)] == [key]


async def test_an_empty_file_is_a_file(attachments: AttachmentStore) -> None:
    """No bytes are also a content."""
    assert await attachments.read(await stored(attachments)) == b""


async def test_a_copy_is_a_file_of_its_own(attachments: AttachmentStore) -> None:
    """It has the same bytes under another key, and stays when the first one goes."""
    content = bytes(range(256)) * 10_000
    key = await stored(attachments, content)
    copy = await attachments.copy(file_of(key))
    await attachments.delete(key)

    assert copy != key
    assert await attachments.read(copy) == content


async def test_what_is_not_there_is_not_copied(attachments: AttachmentStore) -> None:
    """A file that is missing is told, and nothing is left behind."""
    with pytest.raises(AttachmentMissing):
        await attachments.copy(file_of("0" * KEY_LENGTH))

    assert files_of(attachments) == []


async def test_many_files_at_once(attachments: AttachmentStore) -> None:
    """Uploads side by side do not meet."""
    texts = [hashlib.sha256(bytes([number])).digest() * 1000 for number in range(20)]
    keys = await asyncio.gather(*(stored(attachments, text[:5000], text[5000:]) for text in texts))

    assert [await attachments.read(key) for key in keys] == texts
    assert len(set(keys)) == 20


async def test_sto_5_what_is_not_finished_leaves_nothing(attachments: AttachmentStore) -> None:
    """An upload that is left, by an error or otherwise, leaves no file behind, and its key names none."""
    async with attachments.upload() as left:
        await left.write(b"half")
    with pytest.raises(TypeError):
        await stored(attachments, b"half", "no bytes")  # type: ignore[arg-type]  # what must fail

    assert files_of(attachments) == []
    with pytest.raises(AttachmentMissing):
        await attachments.read(left.key)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8])
async def test_sto_5_a_cancelled_upload_leaves_nothing_or_all(attachments: AttachmentStore, turns: int) -> None:
    """A client that goes away at any moment leaves a whole file or none."""
    task = asyncio.create_task(stored(attachments, b"x" * 1_000_000, b"y" * 1_000_000))
    for _ in range(turns):
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait([task])

    left = files_of(attachments)
    assert [path.stat().st_size for path in left] == ([] if task.cancelled() else [2_000_000])


async def test_a_deleted_file_is_gone(attachments: AttachmentStore) -> None:
    """Deleting removes the file, and once more is no mistake."""
    key = await stored(attachments, b"text")
    await attachments.delete(key)
    await attachments.delete(key)

    with pytest.raises(AttachmentMissing, match=key):
        await attachments.read(key)
    assert files_of(attachments) == []


UPLOAD_IN_ANOTHER_PROCESS = """
import asyncio, sys
from pathlib import Path
from mailroom.attachments import AttachmentStore

async def main() -> None:
    async with AttachmentStore(Path(sys.argv[1])).upload() as upload:
        await upload.write(b"text")
        await upload.finish()
        print(upload.key)

asyncio.run(main())
"""


async def test_another_process_reads_what_one_wrote(attachments: AttachmentStore) -> None:
    """Gateway and worker see the same files."""
    command = [sys.executable, "-c", UPLOAD_IN_ANOTHER_PROCESS, str(attachments.folder)]
    answer = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)

    assert await attachments.read(answer.stdout.strip()) == b"text"


async def test_sto_6_a_file_cannot_be_written_where_no_folder_can_be(tmp_path: Path) -> None:
    """A store whose folder cannot be made says so with the system's own error."""
    (tmp_path / "file").write_text("in the way")
    attachments = AttachmentStore(tmp_path / "file" / "attachments")

    with pytest.raises(OSError, match=os.strerror(errno.EEXIST)):
        await stored(attachments, b"text")
