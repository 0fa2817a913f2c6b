"""Queries about requests that may be repeated: the first one does something, the others only hear of it.

Clients repeat a request when its connection drops, at once and to any gateway. Whoever takes the key first, in the same
transaction as what it does, is the one; a repetition that comes meanwhile waits for that transaction.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from mailroom.store.schema import requests

#: Rows that ran out of time and are deleted in passing.
DELETED_IN_PASSING = 20


class KeyTaken(Exception):
    """Another request came under the same key."""


@dataclass(frozen=True, slots=True)
class Repeatable:
    """How a request is known again: its key, what it says (a hash), and for how long after it was last heard of."""

    key: str
    body_hash: str
    remembered: timedelta


def first_of(tx: Connection, request: Repeatable, result_id: UUID, now: datetime) -> UUID:
    """The id that the first such request was answered with: `result_id` when this is the first. Raises KeyTaken."""
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    row = {"key": request.key, "body_hash": request.body_hash, "result_id": result_id,
           "expires_at": now + request.remembered}  # fmt: skip
    taken = insert(requests).values(row)
    statement = taken.on_conflict_do_update(
        index_elements=[requests.c.key],
        set_={name: taken.excluded[name] for name in ("body_hash", "result_id", "expires_at")},
        where=requests.c.expires_at <= now,
    ).returning(requests.c.result_id)
    if tx.execute(statement).scalar_one_or_none() is not None:
        _forget_old(tx, now)
        return result_id
    before = tx.execute(sa.select(requests).where(requests.c.key == request.key)).one()
    if before.body_hash != request.body_hash:
        raise KeyTaken(request.key)
    renew(tx, request, now)
    found: UUID = before.result_id
    return found


def renew(tx: Connection, request: Repeatable, now: datetime) -> None:
    """It came again: it is remembered for as long from now on."""
    later = sa.update(requests).where(requests.c.key == request.key, requests.c.body_hash == request.body_hash)
    tx.execute(later.values(expires_at=now + request.remembered))


def _forget_old(tx: Connection, now: datetime) -> None:
    old = sa.select(requests.c.key).where(requests.c.expires_at <= now).limit(DELETED_IN_PASSING)
    # Others delete them too; nobody waits for anybody.
    tx.execute(sa.delete(requests).where(requests.c.key.in_(old.with_for_update(skip_locked=True))))


def answered(tx: Connection, request: Repeatable, now: datetime) -> UUID | None:
    """What the first such request was answered with; None when there was none lately. Raises KeyTaken."""
    row = tx.execute(
        sa.select(requests).where(requests.c.key == request.key, requests.c.expires_at > now)
    ).one_or_none()
    if row is None:
        return None
    if row.body_hash != request.body_hash:
        raise KeyTaken(request.key)
    found: UUID = row.result_id
    return found
