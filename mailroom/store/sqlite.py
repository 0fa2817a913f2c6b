"""The store on SQLite: one writer connection in a thread of its own, one reader in another.

Any number of event loops of this process may share it. A lock file keeps a second process out: two writers are slow
together, and SQLite before 3.51.3 can corrupt a WAL that two connections check-point (sqlite.org/wal.html#walresetbug).
"""

import asyncio
import fcntl
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TextIO, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DataError, IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from mailroom.store.port import BadRow, CommitUnknown, StoreUnavailable

Args = ParamSpec("Args")
Result = TypeVar("Result")

#: Prepared statements that are kept: those that insert have a text for each number of rows.
_STATEMENTS_KEPT = 512


class AlreadyOpen(Exception):
    """Another process has this SQLite database open; only one may."""


class SqliteStore:
    """One SQLite file, opened by this process alone. Raises AlreadyOpen when another process has it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(path.with_name(path.name + ".lock"))
        self._writer = _engine(path, ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON"))
        self._reader = _engine(path, ("busy_timeout=5000", "query_only=ON", "wal_autocheckpoint=0"))
        self._writing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-writer")
        self._reading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-reader")

    async def statement(
        self, work: Callable[Concatenate[Connection, Args], Result], *args: Args.args, **kwargs: Args.kwargs
    ) -> Result:
        """Run work, committed when this returns."""
        return await self.transaction(work, *args, **kwargs)

    async def transaction(
        self, work: Callable[Concatenate[Connection, Args], Result], *args: Args.args, **kwargs: Args.kwargs
    ) -> Result:
        """Run work in one transaction, committed when this returns; on the writer's thread, one after the other."""
        return await self._run(self._writing, self._writer, work, *args, **kwargs)

    async def read(
        self, work: Callable[Concatenate[Connection, Args], Result], *args: Args.args, **kwargs: Args.kwargs
    ) -> Result:
        """Run work that changes nothing, beside the writer."""
        try:
            return await self._run(self._reading, self._reader, work, *args, **kwargs)
        except CommitUnknown as error:
            raise StoreUnavailable(str(error)) from error

    async def aclose(self) -> None:
        """Finish what was begun, close both connections, and let another process open the file."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        if self._lock.closed:
            return
        for executor, engine in ((self._reading, self._reader), (self._writing, self._writer)):
            executor.submit(engine.dispose).result()
            executor.shutdown()
        self._lock.close()

    async def _run(
        self,
        executor: ThreadPoolExecutor,
        engine: Engine,
        work: Callable[Concatenate[Connection, Args], Result],
        *args: Args.args,
        **kwargs: Args.kwargs,
    ) -> Result:
        committing = False

        def in_thread() -> Result:
            nonlocal committing
            with engine.begin() as connection:
                result = work(connection, *args, **kwargs)
                committing = True
                return result

        try:
            running = asyncio.get_running_loop().run_in_executor(executor, in_thread)
        except RuntimeError as error:
            raise StoreUnavailable("the database is closed") from error
        try:
            # Shielded: work that has begun is finished, whoever waits for it.
            return await asyncio.shield(running)
        except (DataError, IntegrityError, sqlite3.DataError, sqlite3.IntegrityError) as error:
            raise BadRow(_first_line(error)) from error
        except (OverflowError, UnicodeEncodeError, sqlite3.InterfaceError) as error:
            raise BadRow(_first_line(error)) from error
        except (OperationalError, sqlite3.OperationalError) as error:
            if committing and not _is_full(error):
                # Undone as long as this process lives. What was written before the disk failed may be a whole commit,
                # though, that the next process finds in the log; another commit in its place makes it certain.
                raise CommitUnknown(f"the commit failed: {_first_line(error)}") from error
            # SQLite rolls back what it could not finish: nothing was done.
            raise StoreUnavailable(f"the database refused: {_first_line(error)}") from error
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise BadRow(_first_line(error)) from error


def _engine(path: Path, pragmas: tuple[str, ...]) -> Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        poolclass=StaticPool,
        connect_args={
            "check_same_thread": False,
            "isolation_level": None,
            "timeout": 5,
            "cached_statements": _STATEMENTS_KEPT,
        },
    )

    @event.listens_for(engine, "connect")
    def prepare(dbapi_connection: Any, record: Any) -> None:
        for pragma in pragmas:
            dbapi_connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred BEGIN that reads and then writes fails at once when another connection committed in between.
        reads_only = "query_only=ON" in pragmas
        connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

    return engine


def _lock(path: Path) -> TextIO:
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise AlreadyOpen(
            f"another process has the database beside {path} open; stop it, or use PostgreSQL to run several"
        ) from error
    return file


def _is_full(error: Exception) -> bool:
    """No room for all of it: the last part, which makes it a commit, is not there."""
    return getattr(getattr(error, "orig", error), "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _first_line(error: BaseException) -> str:
    text = str(getattr(error, "orig", error)) or type(error).__name__
    return text.splitlines()[0][:300]
