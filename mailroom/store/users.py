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
    note(tx, user_id, "created", who=who, now=now, after=f"{name} ({role})")
    return user_id


def is_anybody(tx: Connection) -> bool:
    """Whether there is, or was, any user."""
    return tx.execute(sa.select(users.c.id).limit(1)).first() is not None


def set_password(tx: Connection, name: str, password_hash: str, *, who: str, now: datetime) -> UUID:
    """Give a person another password; their id. Raises UnknownUser."""
    changed = tx.execute(
        sa.update(users)
        .where(users.c.name == name, users.c.ended_at.is_(None))
        .values(password_hash=password_hash)
        .returning(users.c.id)
    ).one_or_none()
    if changed is None:
        raise _unknown(name)
    note(tx, changed.id, "password changed", who=who, now=now)
    user_id: UUID = changed.id
    return user_id


def named(tx: Connection, name: str) -> UUID:
    """The id of the person of this name. Raises UnknownUser."""
    user_id: UUID | None = tx.execute(
        sa.select(users.c.id).where(users.c.name == name, users.c.ended_at.is_(None))
    ).scalar_one_or_none()
    if user_id is None:
        raise _unknown(name)
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
        raise _unknown(name)
    note(tx, ended.id, "disabled", who=who, now=now, before=f"{name} ({ended.role})")


def note(
    tx: Connection, user_id: UUID, action: str, *, who: str, now: datetime, before: str | None = None,
    after: str | None = None,
) -> None:  # fmt: skip
    """Put on record what was done with a person's account."""
    audit.note(
        tx,
        Entry(subject=SUBJECT, subject_id=user_id, action=action, who=who, at=now, before=before, after=after),
    )  # fmt: skip


def _unknown(name: str) -> UnknownUser:
    return UnknownUser(f"there is no user {name!r}, or they were disabled already; `mailroom users list` shows all")
