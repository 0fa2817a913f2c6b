"""The clock that all workers share: the database's."""

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.store.schema import Instant


def moment(tx: Connection, at: datetime | None = None) -> sa.ColumnElement[datetime]:
    """Now, as the database has it; on SQLite, which has one process, as that has it. `at` puts another time in its place."""
    if at is None and tx.dialect.name == "postgresql":
        return sa.func.clock_timestamp(type_=Instant())
    return sa.literal(at or datetime.now(UTC), Instant())


def told(tx: Connection) -> datetime:
    """What time the database has."""
    return tx.execute(sa.select(moment(tx))).scalar_one()
