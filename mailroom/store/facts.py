"""Single facts about this deployment."""

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.store.absent import insert_absent
from mailroom.store.schema import facts


def fact(tx: Connection, name: str, value: str) -> str:
    """The value of a fact; the given one when nobody has stated it yet."""
    insert_absent(tx, facts, [{"name": name, "value": value}])
    return str(tx.execute(sa.select(facts.c.value).where(facts.c.name == name)).scalar_one())


def stated(tx: Connection, name: str) -> str | None:
    """The value of a fact; None when nobody has stated it."""
    return tx.execute(sa.select(facts.c.value).where(facts.c.name == name)).scalar_one_or_none()


def restate(tx: Connection, name: str, value: str) -> None:
    """Let a fact that was stated be this from now on."""
    tx.execute(sa.update(facts).where(facts.c.name == name).values(value=value))
