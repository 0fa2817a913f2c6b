"""Choose the store that a URL names, and bring its tables up to date."""

import logging
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from mailroom.store.port import Store
from mailroom.store.postgresql import PostgresqlStore
from mailroom.store.sqlite import SqliteStore

#: Any constant does; it names this lock among all of the database.
_MIGRATION_LOCK = 0x6D696772


# It tells at every look at the schema which dialect it found.
logging.getLogger("alembic").setLevel(logging.WARNING)


class SchemaMismatch(Exception):
    """The tables are not what this version needs."""


def open_store(url: str, *, connections: int = 8, command_seconds: float = 10) -> Store:
    """A store for this URL: `sqlite:///path` or `postgresql://…`; nothing is connected before the first query.

    On PostgreSQL no statement may take longer than `command_seconds`.
    """
    scheme = url.partition(":")[0].partition("+")[0]
    if scheme == "sqlite":
        return SqliteStore(Path(sa.make_url(url).database or "mailroom.db"))
    return PostgresqlStore(url, connections=connections, command_timeout=command_seconds)


def migrate(tx: Connection) -> None:
    """Bring the tables up to this version; two at once wait for each other."""
    if tx.dialect.name == "postgresql":
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
    command.upgrade(_config(tx), "head")


def check_schema(tx: Connection) -> None:
    """Raises SchemaMismatch unless the tables are this version's (or a newer one's, during a rolling update)."""
    known = {script.revision for script in _scripts().walk_revisions()}
    current = MigrationContext.configure(tx).get_current_revision()
    if current is None:
        raise SchemaMismatch("the database has no Mailroom tables yet: run `mailroom migrate`")
    if current in known and current != _scripts().get_current_head():
        raise SchemaMismatch("the database's tables are older than this Mailroom: run `mailroom migrate`")


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config(None))


def _config(tx: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = tx
    return config
