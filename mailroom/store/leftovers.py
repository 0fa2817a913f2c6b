"""Queries about files that nobody needs: which of some keys no row names."""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.store.absent import insert_absent
from mailroom.store.schema import bundles, draft_files, facts, files, letter_files

_LAST_TURN = "leftovers_looked_for"


def take_turn(tx: Connection, turn: int) -> bool:
    """Be the one worker that looks this time; False when another was quicker."""
    insert_absent(tx, facts, [{"name": _LAST_TURN, "value": ""}])
    mine = sa.and_(facts.c.name == _LAST_TURN, facts.c.value != str(turn))
    return tx.execute(sa.update(facts).where(mine).values(value=str(turn))).rowcount == 1


def unnamed(tx: Connection, keys: Collection[str]) -> set[str]:
    """Which of these keys no message, no letter and no draft names."""
    named: set[str] = set()
    for table in (files, bundles, letter_files, draft_files):
        named.update(tx.execute(sa.select(table.c.key).where(table.c.key.in_(keys))).scalars())
    return set(keys) - named
