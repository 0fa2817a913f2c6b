"""Bring a database's tables up to this version, with Alembic; apart, because no running process needs it."""

import logging
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

#: Any constant does; it names this lock among all of the database.
_MIGRATION_LOCK = 0x6D696772


# It tells at every look at the schema which dialect it found.
logging.getLogger("alembic").setLevel(logging.WARNING)


def migrate(tx: Connection) -> None:
    """Bring the tables up to this version; two at once wait for each other."""
    if tx.dialect.name == "postgresql":
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
    command.upgrade(config(tx), "head")


def config(tx: Connection | None) -> Config:
    """What Alembic needs to know: where the migrations are, and the transaction they belong to."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    settings.attributes["connection"] = tx
    return settings
