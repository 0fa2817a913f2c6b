"""Choose the store that a URL names, and see that its tables are those of this version."""

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.store.port import Store
from mailroom.store.postgresql import PostgresqlStore
from mailroom.store.sqlite import SqliteStore

#: What Alembic keeps.
_VERSION = sa.table("alembic_version", sa.column("version_num", sa.Text))

_MIGRATIONS = Path(__file__).with_name("migrations") / "versions"


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


def check_schema(tx: Connection) -> None:
    """Raises SchemaMismatch unless the tables are this version's (or a newer one's, during a rolling update).

    Alembic could tell too; to load it takes a process a tenth of its start, and 8 MB for as long as it runs.
    """
    current = tx.scalar(sa.select(_VERSION)) if sa.inspect(tx).has_table(_VERSION.name) else None
    if current is None:
        raise SchemaMismatch("the database has no Mailroom tables yet: run `mailroom migrate`")
    if current < newest_version():
        raise SchemaMismatch("the database's tables are older than this Mailroom: run `mailroom migrate`")


def newest_version() -> str:
    """The tables' version that this Mailroom is written for: four digits, with which the name of each migration begins."""
    return max(file.name[:4] for file in _MIGRATIONS.glob("[0-9]*.py"))
