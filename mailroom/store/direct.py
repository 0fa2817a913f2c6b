"""The few statements that every message passes, given to the driver as they are.

SQLAlchemy looks at a statement anew each time: 0.2 ms of CPU, of which a group of a dozen messages feels a tenth.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy import Connection

#: A name in a statement, and no cast (`::text`).
_NAME = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")


class DirectStatement:
    """One statement for PostgreSQL, with `:names` for what it is given; every cast that it needs stands in it."""

    def __init__(self, text: str) -> None:
        self._asked = sa.text(text)
        self._names = tuple(dict.fromkeys(_NAME.findall(text)))
        self._text = _NAME.sub(lambda found: f"${self._names.index(found[1]) + 1}", text)

    def execute(self, tx: Connection, given: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Its rows, by the names of their columns. In a transaction SQLAlchemy is asked: it has to know of it."""
        driver: Any = tx.connection.dbapi_connection
        if not getattr(driver, "autocommit", False) or not hasattr(driver, "run_async"):
            result = tx.execute(self._asked, given)
            return [dict(row) for row in result.mappings()] if result.returns_rows else []
        values = [given[name] for name in self._names]
        try:
            rows: Sequence[Mapping[str, Any]] = driver.run_async(lambda raw: raw.fetch(self._text, *values))
        except asyncpg.PostgresError:
            raise
        except BaseException:
            # Whoever left in the middle of it, or lost contact, has left the connection in no state to be used again.
            tx.invalidate()
            raise
        return rows
