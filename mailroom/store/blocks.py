"""The index of the search, written behind the intake: blocks of messages in the order of their ids, with their terms.

A block is made once it is full, so what is newer than the last one is at most a block and what came in the last seconds:
the search looks through that itself (mailroom/store/searching.py). Only PostgreSQL has blocks.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom import terms
from mailroom.message import first_id_at
from mailroom.store.facts import fact, restate
from mailroom.store.schema import messages, search_blocks

#: Messages in a block. More make the index smaller, and each find dearer.
BLOCK = 256

#: Messages that one round turns into blocks, and blocks that one round counts again.
AT_ONCE = 4 * BLOCK
RECOUNTED_AT_ONCE = 500

#: What is younger may still get older neighbours: a commit takes that long, and gateways' clocks differ by so much.
SETTLES_AFTER = timedelta(seconds=3)

#: When a block is counted again, for what was committed or dated even later.
RECOUNTED_AFTER = timedelta(minutes=2)

#: Any constant does; it names this lock among all of the database.
_INDEX_LOCK = 0x73656172

_RECOUNTED = "search blocks are recounted up to"
_NOTHING = UUID(int=0)

_INDEXED = sa.select(
    messages.c.id, messages.c.kind, messages.c.service, messages.c.integration_id, messages.c.recipient,
    messages.c.sender, messages.c.subject,
)  # fmt: skip


def has_blocks(tx: Connection) -> bool:
    """Whether this database is searched by blocks."""
    return tx.dialect.name == "postgresql"


def hold_index_lock(tx: Connection) -> bool:
    """Be the one that indexes until this transaction ends; False when another does."""
    return bool(tx.execute(sa.select(sa.func.pg_try_advisory_xact_lock(_INDEX_LOCK))).scalar_one())


def indexed_up_to(tx: Connection) -> UUID:
    """The last message that is in a block."""
    newest = sa.select(search_blocks.c.last_id).order_by(search_blocks.c.first_id.desc()).limit(1)
    return tx.execute(newest).scalar_one_or_none() or _NOTHING


def index_more(tx: Connection, *, now: datetime) -> int:
    """Make blocks of the oldest messages that are in none; of how many. 0 as well while somebody else does."""
    if not hold_index_lock(tx):
        return 0
    waiting = sa.and_(messages.c.id > indexed_up_to(tx), messages.c.id < first_id_at(now - SETTLES_AFTER))
    # A look at the key alone, because most of the time there is nothing to do.
    full = sa.select(messages.c.id).where(waiting).order_by(messages.c.id).offset(BLOCK - 1).limit(1)
    if tx.execute(full).scalar_one_or_none() is None:
        return 0
    rows = tx.execute(_INDEXED.where(waiting).order_by(messages.c.id).limit(AT_ONCE)).all()
    whole = rows[: len(rows) // BLOCK * BLOCK]
    _insert(tx, whole)
    return len(whole)


def recount(tx: Connection, *, now: datetime) -> int:
    """Make blocks anew that are not what they were when they were made, each looked at once; how many these were."""
    if not hold_index_lock(tx):
        return 0
    since = UUID(fact(tx, _RECOUNTED, _NOTHING.hex))
    counted = tx.execute(
        _COUNTED, {"since": since, "until": first_id_at(now - RECOUNTED_AFTER), "limit": RECOUNTED_AT_ONCE}
    ).all()
    for block in counted:
        if block.number != block.found:
            _remake(tx, block)
    if counted:
        restate(tx, _RECOUNTED, counted[-1].last_id.hex)
    return sum(block.number != block.found for block in counted)


#: A block answers for all that lies between the block before it and its own end.
_COUNTED = sa.text("""
    SELECT b.first_id, b.last_id, b.number, b.after,
           (SELECT count(*) FROM messages AS m WHERE m.id > b.after AND m.id <= b.last_id) AS found
    FROM (
        SELECT first_id, last_id, number,
               coalesce((SELECT p.last_id FROM search_blocks AS p WHERE p.first_id < s.first_id
                         ORDER BY p.first_id DESC LIMIT 1), '00000000-0000-0000-0000-000000000000') AS after
        FROM search_blocks AS s WHERE first_id > :since AND last_id < :until ORDER BY first_id LIMIT :limit
    ) AS b ORDER BY b.first_id
""").bindparams(sa.bindparam("since", type_=sa.Uuid), sa.bindparam("until", type_=sa.Uuid))


def _remake(tx: Connection, block: Any) -> None:
    mine = sa.and_(messages.c.id > block.after, messages.c.id <= block.last_id)
    tx.execute(sa.delete(search_blocks).where(search_blocks.c.first_id == block.first_id))
    _insert(tx, tx.execute(_INDEXED.where(mine).order_by(messages.c.id)).all())


def _insert(tx: Connection, rows: Sequence[Any]) -> None:
    """Make blocks of these rows, which are all there are from the first to the last."""
    made = [
        {
            "first_id": some[0].id,
            "last_id": some[-1].id,
            "number": len(some),
            "terms": terms.numbers(terms.of_all(some)),
        }
        for some in _cut(rows)
    ]
    if made:
        tx.execute(sa.insert(search_blocks), made)


def _cut(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """About even pieces, none much over a block: one that a few latecomers joined stays whole."""
    pieces = max(1, round(len(rows) / BLOCK))
    for piece in range(pieces if rows else 0):
        yield rows[len(rows) * piece // pieces : len(rows) * (piece + 1) // pieces]
