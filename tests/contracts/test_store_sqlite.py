"""What the SQLite store promises: one process, any number of its event loops, one writer, nothing lost."""

import asyncio
import contextlib
import resource
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.message import new_message_id
from mailroom.store import messages
from mailroom.store.port import BadRow, CommitUnknown, StoreUnavailable
from mailroom.store.sqlite import AlreadyOpen, SqliteStore
from tests.builders import NOW, a_message, every_standing

#: An integration's id; whether it exists is not asked at accept.
NOBODY = uuid4()

SECOND_PROCESS = """
import sys
from pathlib import Path
from mailroom.store.sqlite import AlreadyOpen, SqliteStore
try:
    SqliteStore(Path(sys.argv[1]))
except AlreadyOpen as error:
    print("refused:", error)
"""


@pytest.fixture
async def store(sqlite_file: Path) -> AsyncIterator[SqliteStore]:
    """A store with our tables."""
    store = SqliteStore(sqlite_file)
    yield store
    await store.aclose()


def ask(tx: Connection) -> int:
    """The shortest question."""
    return int(tx.execute(sa.text("SELECT 1")).scalar_one())


@contextlib.contextmanager
def failing_disk() -> Iterator[None]:
    """Nothing can be written to any file meanwhile: beyond this length the system refuses (EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def full(tx: Connection) -> None:
    """Let the database have no more pages than it has."""
    pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
    tx.exec_driver_sql(f"PRAGMA max_page_count={pages}")


def asked_elsewhere(file: Path) -> str:
    """What another process says when it opens the file."""
    command = [sys.executable, "-c", SECOND_PROCESS, str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


async def test_sto_3_a_second_process_is_refused(store: SqliteStore, sqlite_file: Path) -> None:
    """Two processes on one file are slow together and can damage it: the second is told so, until the first is gone."""
    assert (await asyncio.to_thread(asked_elsewhere, sqlite_file)).startswith("refused: another process")
    with pytest.raises(AlreadyOpen):
        SqliteStore(sqlite_file)
    await store.aclose()

    assert await asyncio.to_thread(asked_elsewhere, sqlite_file) == ""


async def test_two_event_loops_share_one_store(store: SqliteStore) -> None:
    """Gateway and worker each run in a loop of their own; both write, and each sees what the other wrote."""
    here, there = [[a_message(NOBODY) for _ in range(50)] for _ in range(2)]

    async def accept_each(group: list[messages.NewMessage]) -> None:
        await asyncio.gather(*(store.statement(messages.accept, [message]) for message in group))

    await asyncio.gather(accept_each(here), asyncio.to_thread(asyncio.run, accept_each(there)))

    found = await store.read(every_standing)
    assert {one.id for one in found} == {message.id for message in here + there}


async def test_sto_3_a_reader_does_not_wait_for_the_writer(store: SqliteStore) -> None:
    """While a transaction is open, reads are answered, with what was committed before it."""
    message = a_message(NOBODY)
    written, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def accept_and_wait(tx: Connection) -> None:
        messages.accept(tx, [message])
        loop.call_soon_threadsafe(written.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)

    writing = asyncio.create_task(store.transaction(accept_and_wait))
    await written.wait()
    before = await store.read(messages.standing, message.id)
    go_on.set()
    await writing

    assert before is None
    assert await store.read(messages.standing, message.id)


async def test_a_reader_cannot_write(store: SqliteStore) -> None:
    """Work that was said to change nothing cannot change anything."""
    with pytest.raises(StoreUnavailable):
        await store.read(messages.accept, [a_message(NOBODY)])


async def test_what_fails_leaves_nothing(store: SqliteStore) -> None:
    """A transaction that ends in an error, whatever error, is undone, and the next one works."""
    message = a_message(NOBODY)

    def accept_then_fail(tx: Connection) -> None:
        messages.accept(tx, [message])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.transaction(accept_then_fail)

    assert await store.read(messages.standing, message.id) is None
    await store.statement(messages.accept, [message])


async def test_a_number_too_large_is_a_bad_row(store: SqliteStore) -> None:
    """What the driver cannot encode is the row's fault."""
    with pytest.raises(BadRow):
        await store.statement(messages.accept, [a_message(NOBODY, size=2**70)])


async def test_work_that_has_begun_is_finished(store: SqliteStore) -> None:
    """Whoever is cancelled while it waits leaves the work to its end; nothing is half done."""
    message = a_message(NOBODY)
    begun, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly(tx: Connection) -> None:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)
        messages.accept(tx, [message])

    waiting = asyncio.create_task(store.transaction(slowly))
    await begun.wait()
    waiting.cancel()
    await asyncio.wait([waiting])
    go_on.set()
    await store.transaction(ask)

    assert waiting.cancelled()
    assert await store.read(messages.standing, message.id)


async def test_a_closed_store_is_unavailable(sqlite_file: Path) -> None:
    """After the store was closed nothing is done, and that is what is told."""
    store = SqliteStore(sqlite_file)
    await store.aclose()

    with pytest.raises(StoreUnavailable):
        await store.read(ask)


async def test_dlv_14_a_commit_is_on_the_disk(store: SqliteStore, sqlite_file: Path) -> None:
    """Every commit is synced, the writer checkpoints alone, and another connection sees what was committed."""

    def pragmas(tx: Connection) -> tuple[object, ...]:
        return tuple(
            tx.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        )

    message = a_message(NOBODY, id=new_message_id())
    await store.statement(messages.accept, [message])

    assert await store.transaction(pragmas) == ("wal", 2, 1)
    assert await store.read(lambda tx: tx.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar_one()) == 0
    other = sqlite3.connect(f"file:{sqlite_file}?mode=ro", uri=True)
    [(count,)] = other.execute("SELECT count(*) FROM live").fetchall()
    other.close()
    assert count == 1


# --- the disk ---------------------------------------------------------------------------------------------------------


async def test_dlv_14_a_commit_that_the_disk_refused_is_in_doubt(store: SqliteStore) -> None:
    """What the next process may find in the log is not told as undone; a tombstone settles it, and the store goes on."""
    before, doubtful, after = [a_message(NOBODY) for _ in range(3)]
    await store.statement(messages.accept, [before])
    with failing_disk(), pytest.raises(CommitUnknown):
        await store.statement(messages.accept, [doubtful])
    settled = await store.transaction(messages.bury, [(doubtful.id, doubtful.kind)], NOW)
    await store.statement(messages.accept, [after])

    assert settled == {doubtful.id: False}
    assert {one.id for one in await store.read(every_standing)} == {before.id, after.id}


async def test_sto_6_a_full_disk_accepts_nothing_until_there_is_room(store: SqliteStore) -> None:
    """Without room nothing of a message is kept and everybody is told; with room again the same store goes on."""
    kept, refused, later = a_message(NOBODY), a_message(NOBODY, body=b"x" * 100_000), a_message(NOBODY)
    await store.statement(messages.accept, [kept])
    await store.transaction(full)
    with pytest.raises(StoreUnavailable, match="full"):
        await store.statement(messages.accept, [refused])
    await store.transaction(lambda tx: tx.exec_driver_sql("PRAGMA max_page_count=1073741823").close())
    await store.statement(messages.accept, [later])

    assert {one.id for one in await store.read(every_standing)} == {kept.id, later.id}
