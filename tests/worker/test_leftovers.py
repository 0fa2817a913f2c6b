"""Files that no row names go, in time; files that somebody needs never do."""

import asyncio
import contextlib
import os
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from mailroom.attachments import AttachmentStore
from mailroom.provisioning import MARKER_FILE, check_marker
from mailroom.store import leftovers, messages
from mailroom.store.sqlite import SqliteStore
from tests.builders import accepted, created
from worker.leftovers import LOOKS, YOUNG, Leftovers

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
OLD = NOW - YOUNG - timedelta(seconds=1)

#: Uploads as many files at once as it can until it is killed, and says after each that it is on the disk.
UPLOADER = """
import asyncio, sys
from pathlib import Path
from mailroom.attachments import AttachmentStore

async def upload(store):
    while True:
        async with store.upload() as upload:
            for _ in range(8):
                await upload.write(b"x" * 4096)
            await upload.finish()
        print(upload.key, flush=True)

async def main():
    store = AttachmentStore(Path(sys.argv[1]))
    await asyncio.gather(*(upload(store) for _ in range(16)))

asyncio.run(main())
"""


@pytest.fixture
async def attachments(store: SqliteStore, tmp_path: Path) -> AttachmentStore:
    """The store's own folder, with its marker."""
    attachments = AttachmentStore(tmp_path / "attachments")
    await check_marker(store, attachments)
    return attachments


async def stored(attachments: AttachmentStore, written: datetime) -> str:
    """Keep a file that was written then; its key."""
    async with attachments.upload() as upload:
        await upload.write(b"content")
        await upload.finish()
    aged(attachments.folder / upload.key[:2] / upload.key, written)
    return upload.key


def aged(path: Path, written: datetime) -> None:
    """Let a file look as if it was written then."""
    os.utime(path, (written.timestamp(), written.timestamp()))


def names(attachments: AttachmentStore) -> set[str]:
    """All its files but the marker."""
    return {path.name for path in attachments.folder.rglob("*") if path.is_file()} - {MARKER_FILE}


def at(hour: int) -> datetime:
    """The time of day of a look."""
    return NOW + timedelta(hours=hour)


async def a_day_of_looks(store: SqliteStore, attachments: AttachmentStore) -> None:
    """All the looks of one day."""
    for hour in range(LOOKS):
        await Leftovers(store, attachments, partial(at, hour)).look()


async def test_sto_5_what_no_row_names_is_removed(store: SqliteStore, attachments: AttachmentStore) -> None:
    """After a day of looks old files without a row are gone; named ones and young ones are there."""
    named, young = await stored(attachments, OLD), await stored(attachments, NOW + timedelta(days=1))
    for _ in range(20):
        await stored(attachments, OLD)
    await accepted(store, await created(store), files=(named,))
    unfinished = attachments.folder / named[:2] / f"{'0' * 32}.part"
    unfinished.touch()
    aged(unfinished, OLD)
    foreign = attachments.folder / named[:2] / "lost+found"
    foreign.touch()
    aged(foreign, OLD)
    await a_day_of_looks(store, attachments)

    assert names(attachments) == {named, young, foreign.name}


async def test_sto_5_a_bundle_stays_as_long_as_one_message_needs_it(
    store: SqliteStore, attachments: AttachmentStore
) -> None:
    """It goes when no message names it any more."""
    integration_id = await created(store)
    needed, unnamed = await stored(attachments, OLD), await stored(attachments, OLD)
    first = await accepted(store, integration_id, bundles=(needed, unnamed))
    await accepted(store, integration_id, bundles=(needed,))
    await store.transaction(messages.revoke, [(first.id, first.kind)], NOW)
    await a_day_of_looks(store, attachments)

    assert names(attachments) == {needed}


async def test_sto_5_another_databases_files_are_not_touched(store: SqliteStore, attachments: AttachmentStore) -> None:
    """A folder that has not this database's marker, or none any more, is left as it is."""
    key = await stored(attachments, OLD)
    for marker in ("another", None):
        if marker:
            (attachments.folder / MARKER_FILE).write_text(marker)
        else:
            (attachments.folder / MARKER_FILE).unlink()
        await a_day_of_looks(store, attachments)

    assert names(attachments) == {key}


async def test_sto_5_workers_take_turns(store: SqliteStore) -> None:
    """What one worker looks at in an hour no other one does; the next hour is anybody's again."""
    turns = [await store.transaction(leftovers.take_turn, turn) for turn in (1, 1, 2, 2, 3)]

    assert turns == [True, False, True, False, True]


@pytest.fixture
def uploader(tmp_path: Path) -> Iterator[list[asyncio.subprocess.Process]]:
    """Processes that are ended with the test."""
    processes: list[asyncio.subprocess.Process] = []
    yield processes
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def test_sto_5_a_kill_leaves_nothing_for_good(
    store: SqliteStore, attachments: AttachmentStore, uploader: list[asyncio.subprocess.Process]
) -> None:
    """Of a process killed in the middle of its uploads every finished file is whole, and all without a row go."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", UPLOADER, str(attachments.folder), stdout=asyncio.subprocess.PIPE
    )
    uploader.append(process)
    assert process.stdout is not None
    told = [(await process.stdout.readline()).decode().strip() for _ in range(random.randrange(40, 80))]  # noqa: S311 - any moment will do
    process.kill()
    await process.wait()
    whole = [len(await attachments.read(key)) for key in told]
    left = names(attachments)
    for path in attachments.folder.rglob("*"):
        if path.name in left:
            aged(path, OLD)
    await accepted(store, await created(store), files=tuple(told[:3]))
    await a_day_of_looks(store, attachments)

    assert set(whole) == {8 * 4096}
    assert len(left) >= len(told)
    assert names(attachments) == set(told[:3])
