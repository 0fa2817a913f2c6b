"""The store on PostgreSQL, through asyncpg."""

import asyncio
import re
import socket
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Concatenate, ParamSpec, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy import Connection, event
from sqlalchemy.exc import DataError, DBAPIError, DisconnectionError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import greenlet_spawn

from mailroom.loops import really_cancelled
from mailroom.store.port import BadRow, CommitUnknown, StoreUnavailable

Args = ParamSpec("Args")
Result = TypeVar("Result")

#: Bytes that wait for us at the kernel on each connection; it doubles what it is asked for.
_TAKEN_AT_ONCE = 64 * 1024

#: Classes of SQLSTATE after which the server has lost the work or the connection: 08 connection exception, 57P0x the
#: server is shutting down or crashed, 58 system error. Whether it had committed is anybody's guess.
_LOST = ("08", "57P0", "58")

#: A prepared statement is not on the connection it was prepared on, or is there already.
_STATEMENT_GONE = ("26000", "42P05")

#: Where a pooled connection keeps when the server last answered on it.
_ANSWERED_AT = "answered_at"

#: What blames the rows rather than the server: 22 data exception, 23 integrity constraint violation.
_ABOUT_DATA = ("22", "23")


class PostgresqlStore:
    """Two pools of connections to one PostgreSQL database, half for statements. Times are in seconds."""

    def __init__(
        self, url: str, *, connections: int = 8, connect_timeout: float = 3, command_timeout: float = 10
    ) -> None:
        self._budget = connect_timeout + command_timeout

        def engine() -> AsyncEngine:
            made = create_async_engine(
                _driver_url(url),
                pool_size=max(1, connections // 2),
                max_overflow=0,
                pool_timeout=connect_timeout,
                connect_args={
                    "timeout": connect_timeout,
                    "command_timeout": command_timeout,
                    "server_settings": {"application_name": "mailroom", "timezone": "UTC"},
                },
                # Single statements commit by themselves, so a connection comes back with nothing to reset.
                pool_reset_on_return=None,
                isolation_level="AUTOCOMMIT",
            )
            event.listen(made.sync_engine, "connect", _note_time)
            event.listen(made.sync_engine, "connect", _take_little_at_once)
            event.listen(made.sync_engine, "checkout", self._refuse_dead)
            return made

        #: Connections without an answer since are not used again: one of them gave none to what was asked then.
        self._distrusted = float("-inf")

        # What every message passes finds its rows by key. A plan that was made and kept while the tables were small,
        # or after `live` was seen empty, would read them whole ever after: settling took five times as long at 30,000
        # rows as at none.
        self._statements = engine()
        event.listen(self._statements.sync_engine, "connect", _never_read_whole_tables)
        self._questions = engine()
        self._transactions: AsyncEngine = self._questions.execution_options(isolation_level="READ COMMITTED")

    async def statement(
        self, work: Callable[Concatenate[Connection, Args], Result], *args: Args.args, **kwargs: Args.kwargs
    ) -> Result:
        """Run work of a single statement that finds its rows by key, committed when this returns."""
        return await self._run(self._statements, work, *args, **kwargs)

    async def transaction(
        self, work: Callable[Concatenate[Connection, Args], Result], *args: Args.args, **kwargs: Args.kwargs
    ) -> Result:
        """Run work in one transaction, committed when this returns."""
        return await self._run(self._transactions, work, *args, **kwargs)

    async def read(
        self, work: Callable[Concatenate[Connection, Args], Result], *args: Args.args, **kwargs: Args.kwargs
    ) -> Result:
        """Run work that changes nothing."""
        try:
            return await self._run(self._questions, work, *args, **kwargs)
        except CommitUnknown as error:
            raise StoreUnavailable(str(error)) from error

    async def aclose(self) -> None:
        """Close both pools."""
        await self._statements.dispose()
        await self._questions.dispose()

    async def _run(
        self,
        engine: AsyncEngine,
        work: Callable[Concatenate[Connection, Args], Result],
        *args: Args.args,
        **kwargs: Args.kwargs,
    ) -> Result:
        reach, asked_at = _Reach.NOWHERE, float("-inf")

        def all_of_it() -> Result:
            """In one go: each step of SQLAlchemy's asynchronous connection takes a greenlet, and its end a task."""
            nonlocal reach, asked_at
            with engine.sync_engine.connect() as connection:
                reach = _Reach.SERVER if engine is self._transactions else _Reach.COMMIT
                asked_at = time.monotonic()
                result = work(connection, *args, **kwargs)
                reach = _Reach.COMMIT
                connection.commit()
                connection.info[_ANSWERED_AT] = time.monotonic()
                return result

        try:
            # The driver's own timeouts do not cover the pool, nor what it does after a cancelled statement.
            async with asyncio.timeout(self._budget):
                return await greenlet_spawn(all_of_it)
        except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            if reach is not _Reach.NOWHERE and _timed_out(error):
                # Whatever swallowed this answer swallows those of the connections beside it: each would cost its time.
                # Not of those that have answered meanwhile: then it was this question that is slow.
                self._distrusted = max(self._distrusted, asked_at)
            raise _told(error, reach) from error
        except asyncio.CancelledError as error:
            # A dying connection cancels its waiters although nobody cancelled us.
            if really_cancelled():
                raise
            raise _told(error, reach) from error

    def _refuse_dead(self, dbapi_connection: Any, record: Any, proxy: Any) -> None:
        """Let the pool make a new connection in place of one that is closed or not trusted, without asking it first."""
        connection = dbapi_connection.driver_connection
        if record.info[_ANSWERED_AT] < self._distrusted:
            connection.terminate()
        if connection.is_closed():
            raise DisconnectionError


class _Reach(Enum):
    """How far the work had come when it failed."""

    NOWHERE = auto()
    #: In a transaction whose commit was not asked for: the server undoes it.
    SERVER = auto()
    COMMIT = auto()


def _timed_out(error: BaseException) -> bool:
    """Whether there was no answer at all, neither good nor bad."""
    return isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError)


def _told(error: BaseException, reach: _Reach) -> Exception:
    """What an error means for whoever asked: not done, perhaps done, or never to be done."""
    if reach is _Reach.NOWHERE:
        return StoreUnavailable(f"the database cannot be reached: {_first_line(error)}")
    state = getattr(getattr(error, "orig", error), "sqlstate", None) or ""
    if isinstance(error, DataError | IntegrityError) or state.startswith(_ABOUT_DATA) or _is_our_mistake(error):
        return BadRow(_first_line(error))
    if state in _STATEMENT_GONE:
        return StoreUnavailable(
            "the database is behind a pooler in transaction mode; Mailroom needs one in session mode, or none: "
            f"{_first_line(error)}"
        )
    if state and not state.startswith(_LOST):
        return StoreUnavailable(f"the database refused: {_first_line(error)}")
    lost = StoreUnavailable if reach is _Reach.SERVER else CommitUnknown
    return lost(f"contact with the database was lost: {_first_line(error)}")


def _is_our_mistake(error: BaseException) -> bool:
    """Whether the driver refused to encode a value (it then never sent anything), or SQLAlchemy the question."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, SQLAlchemyError)
    return not error.connection_invalidated and isinstance(
        getattr(error.orig, "__cause__", None), asyncpg.DataError | ValueError | TypeError | OverflowError
    )


#: What the driver and the server say before they quote the value, which may be what somebody wrote (SEC-14).
_QUOTING = re.compile(r"((?:query argument \$\d+|input (?:syntax|value) for|date/time field value)[^:]*): .*")


def _first_line(error: BaseException) -> str:
    text = str(getattr(error, "orig", error)) or type(error).__name__
    return _QUOTING.sub(r"\1", text.splitlines()[0])[:300]


def _never_read_whole_tables(dbapi_connection: Any, record: Any) -> None:
    # Asked for, not told at the start of the session: a pooler in between (PgBouncer) takes only what it knows there.
    dbapi_connection.run_async(lambda connection: connection.execute("SET enable_seqscan = off"))


def _take_little_at_once(dbapi_connection: Any, record: Any) -> None:
    # uvloop reads on while what it reads fills its buffer (256 KB), up to 32 times in a round of the loop. Where threads
    # compute beside it each time waits for the interpreter: a row of 6 MB held up everybody else for 0.4 s, so for 0.07.
    transport = dbapi_connection.driver_connection._transport  # noqa: SLF001 - asyncpg offers no other way to its socket
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _TAKEN_AT_ONCE)


def _note_time(dbapi_connection: Any, record: Any) -> None:
    record.info[_ANSWERED_AT] = time.monotonic()


def _driver_url(url: str) -> sa.URL:
    parsed = sa.make_url(url)
    # libpq's name for it, which every other program takes; asyncpg has the same values under another name.
    query = {"ssl" if name == "sslmode" else name: value for name, value in parsed.query.items()}
    return parsed.set(drivername="postgresql+asyncpg", query=query)
