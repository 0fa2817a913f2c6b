"""Queries about people: who they are, and what is kept of their passwords."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.roles import Role
from mailroom.store import audit
from mailroom.store.absent import insert_absent
from mailroom.store.audit import Entry
from mailroom.store.schema import users

SUBJECT = "user"


class UserNameTaken(Exception):
    """There is, or was, a user of this name."""


class UnknownUser(Exception):
    """There is no user of this name (any more)."""


def create(tx: Connection, name: str, role: Role, password_hash: str, *, who: str, now: datetime) -> UUID:
    """Let a person in; their id. Raises UserNameTaken."""
    user_id = uuid4()
    row = {
        "id": user_id, "name": name, "role": role, "password_hash": password_hash, "created_at": now, "created_by": who,
    }  # fmt: skip
    if not insert_absent(tx, users, [row]):
        raise UserNameTaken(f"there is, or was, a user {name!r} already; choose another name")
    _note(tx, user_id, "created", who=who, now=now, after=f"{name} ({role})")
    return user_id


def listed(tx: Connection) -> Sequence[Any]:
    """Every user by name, those that were disabled too; not what is kept of their passwords."""
    shown = (users.c.id, users.c.name, users.c.role, users.c.created_at, users.c.created_by, users.c.ended_at)
    return tx.execute(sa.select(*shown).order_by(users.c.name)).all()


def end(tx: Connection, name: str, *, who: str, now: datetime) -> None:
    """Let a person never in again. Raises UnknownUser."""
    ended = tx.execute(
        sa.update(users)
        .where(users.c.name == name, users.c.ended_at.is_(None))
        .values(ended_at=now)
        .returning(users.c.id, users.c.role)
    ).one_or_none()
    if ended is None:
        raise UnknownUser(f"there is no user {name!r}, or they were disabled already; `mailroom users list` shows all")
    _note(tx, ended.id, "disabled", who=who, now=now, before=f"{name} ({ended.role})")


def _note(
    tx: Connection, user_id: UUID, action: str, *, who: str, now: datetime, before: str | None = None,
    after: str | None = None,
) -> None:  # fmt: skip
    audit.note(
        tx,
        Entry(subject=SUBJECT, subject_id=user_id, action=action, who=who, at=now, before=before, after=after),
    )  # fmt: skip
