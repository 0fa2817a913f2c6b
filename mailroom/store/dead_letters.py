"""Queries about dead letters: what failed for good, expired or is uncertain, and what those have in common.

Whatever ends a message as one writes its row in the same transaction; whatever revives it takes the row away.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from mailroom.fingerprint import Cause
from mailroom.message import DEAD_LETTERS, Kind, Status
from mailroom.store.audit import Entry, note
from mailroom.store.schema import dead_letters, integrations, live, messages

#: What audit rows about a group name as their subject; the group is named by its fingerprint, which is read as a UUID.
SUBJECT = "dead letters"


class NoSuchGroup(Exception):
    """No dead letters of this group are open."""


class NotOpen(Exception):
    """The message is no dead letter that waits for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The open dead letters of one integration that have the same cause."""

    integration_id: UUID
    fingerprint: str
    reason: str
    command: str | None
    code: int | None
    said: str | None
    number: int
    #: When the first and the last of them ended.
    first_at: datetime
    last_at: datetime
    #: The youngest of their messages.
    sample: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One open dead letter."""

    id: UUID
    kind: Kind
    status: Status
    recipient: str | None
    sender: str | None
    subject: str | None
    accepted_at: datetime
    ended_at: datetime
    #: Its client was told that it failed: it can be sent again as a new message only.
    answered: bool


# --- entering and taking away -----------------------------------------------------------------------------------------

_CAUSE = ("reason", "command", "code", "said", "fingerprint")
_EVERYTHING_ELSE = ("integration_id", "ended_at", *_CAUSE, "dismissed_at", "dismissed_by", "dismissed_why")


def enter(tx: Connection, message_id: UUID, cause: Cause, at: datetime) -> None:
    """The message has ended as a dead letter, for this cause."""
    _put(tx, messages, (messages.c.id == message_id), cause, at)


def enter_live(tx: Connection, ids: Collection[UUID], cause: Cause, at: datetime) -> None:
    """All of these are about to end as dead letters, for the same cause; their live rows are still there."""
    _put(tx, live, live.c.id.in_(ids), cause, at)


def _put(tx: Connection, table: sa.Table, which: sa.ColumnElement[bool], cause: Cause, at: datetime) -> None:
    of = dead_letters.c
    values = {"ended_at": at} | {name: getattr(cause, name) for name in _CAUSE}
    given = [sa.literal(value, of[name].type).label(name) for name, value in values.items()]
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    rows = sa.select(table.c.id, table.c.integration_id, *given).where(which)
    statement = insert(dead_letters).from_select(["message_id", "integration_id", *values], rows)
    # There is a row when a process of the version before revived the message, which knows nothing of this table.
    again = {name: statement.excluded[name] for name in _EVERYTHING_ELSE}
    tx.execute(statement.on_conflict_do_update(index_elements=["message_id"], set_=again))


def remove(tx: Connection, ids: Collection[UUID]) -> None:
    """These are no dead letters any more."""
    tx.execute(sa.delete(dead_letters).where(dead_letters.c.message_id.in_(ids)))


# --- looking ----------------------------------------------------------------------------------------------------------

OPEN = dead_letters.c.dismissed_at.is_(None)


def of_group(integration_id: UUID, fingerprint: str) -> sa.ColumnElement[bool]:
    """The open dead letters of a group."""
    return sa.and_(
        dead_letters.c.integration_id == integration_id, dead_letters.c.fingerprint == fingerprint, OPEN
    )  # fmt: skip


def redrivable(integration_id: UUID, fingerprint: str, up_to: datetime) -> sa.Select[tuple[UUID]]:
    """Those of a group that ended by then and can be re-driven: a client that was told of a failure may have sent again."""
    return (
        sa.select(dead_letters.c.message_id)
        .join(messages, messages.c.id == dead_letters.c.message_id)
        .where(
            of_group(integration_id, fingerprint),
            dead_letters.c.ended_at <= up_to,
            messages.c.answered == 0,
            messages.c.status.in_(DEAD_LETTERS),
        )
    )


def count_redrivable(tx: Connection, integration_id: UUID, fingerprint: str, up_to: datetime) -> int:
    """How many of a group can be re-driven."""
    found = redrivable(integration_id, fingerprint, up_to).subquery()
    return tx.execute(sa.select(sa.func.count()).select_from(found)).scalar_one()


def groups(
    tx: Connection, *, integration_id: UUID | None = None, fingerprint: str | None = None, limit: int = 100
) -> list[Group]:
    """The groups in which something happened last first; `fingerprint` may be the beginning of one."""
    of = dead_letters.c
    conditions: list[sa.ColumnElement[bool]] = [OPEN]
    if integration_id is not None:
        conditions.append(of.integration_id == integration_id)
    if fingerprint is not None:
        conditions.append(of.fingerprint.startswith(fingerprint, autoescape=True))
    last_at = sa.func.max(of.ended_at).label("last_at")
    rows = tx.execute(
        sa.select(
            of.integration_id, of.fingerprint, *(sa.func.min(of[name]).label(name) for name in _CAUSE[:4]),
            sa.func.count().label("number"), sa.func.min(of.ended_at).label("first_at"), last_at,
            _youngest(tx).label("sample"),
        )
        .where(*conditions)
        .group_by(of.integration_id, of.fingerprint)
        .order_by(last_at.desc(), of.fingerprint)
        .limit(limit)
    )  # fmt: skip
    return [Group(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name for it


def _youngest(tx: Connection) -> sa.ColumnElement[UUID]:
    """Ids sort by time. PostgreSQL has no maximum of them, but of the same digits as text."""
    if tx.dialect.name != "postgresql":
        return sa.func.max(dead_letters.c.message_id)
    return sa.cast(sa.func.max(sa.cast(dead_letters.c.message_id, sa.Text)), sa.Uuid)


_MEMBERS = sa.select(
    messages.c.id, messages.c.kind, messages.c.status, messages.c.recipient, messages.c.sender, messages.c.subject,
    messages.c.accepted_at, dead_letters.c.ended_at, messages.c.answered,
).join(dead_letters, dead_letters.c.message_id == messages.c.id)  # fmt: skip


def members(
    tx: Connection, integration_id: UUID, fingerprint: str, *, limit: int = 50, before: UUID | None = None
) -> list[Member]:
    """A page of a group, the youngest messages first; `before` is the last one of the page before."""
    query = _MEMBERS.where(of_group(integration_id, fingerprint))
    if before is not None:
        query = query.where(dead_letters.c.message_id < before)
    return _members(tx.execute(query.order_by(dead_letters.c.message_id.desc()).limit(limit)).all())


def affected(
    tx: Connection, integration_id: UUID, fingerprint: str, *, limit: int = 1000, after: UUID | None = None
) -> list[Member]:
    """Everybody whom a group concerns, page by page, the oldest messages first; `after` is the last one seen."""
    query = _MEMBERS.where(of_group(integration_id, fingerprint))
    if after is not None:
        query = query.where(dead_letters.c.message_id > after)
    return _members(tx.execute(query.order_by(dead_letters.c.message_id).limit(limit)).all())


def _members(rows: Sequence[Any]) -> list[Member]:
    return [
        Member(
            id=row.id, kind=Kind(row.kind), status=Status(row.status), recipient=row.recipient, sender=row.sender,
            subject=row.subject, accepted_at=row.accepted_at, ended_at=row.ended_at, answered=bool(row.answered),
        )
        for row in rows
    ]  # fmt: skip


# --- dismissing -------------------------------------------------------------------------------------------------------


def dismiss(
    tx: Connection, integration_id: UUID, fingerprint: str, *, who: str, why: str, now: datetime,
    until: datetime,
) -> int:  # fmt: skip
    """Put a whole group out of sight, and that on record; how many those were. Raises NoSuchGroup.

    What ended after `until` stays: whoever dismisses may not have seen it.
    """
    seen = dead_letters.c.ended_at <= until
    number = _dismiss(tx, sa.and_(of_group(integration_id, fingerprint), seen), who, why, now)
    if not number:
        raise NoSuchGroup(f"no dead letters of the group {fingerprint} are open")
    entry = Entry(
        subject=SUBJECT, subject_id=UUID(fingerprint), action="dismissed", who=who, at=now, why=why,
        before=counted(tx, integration_id, number),
    )  # fmt: skip
    note(tx, entry)
    return number


def dismiss_one(tx: Connection, message_id: UUID, *, who: str, why: str, now: datetime) -> None:
    """Put one dead letter out of sight, and that on record. Raises NotOpen."""
    mine = sa.and_(dead_letters.c.message_id == message_id, OPEN)
    if not _dismiss(tx, mine, who, why, now):
        raise NotOpen(f"{message_id} is no dead letter that waits for a person")
    note(tx, Entry(subject="message", subject_id=message_id, action="dismissed", who=who, at=now, why=why))


def replaced(tx: Connection, message_id: UUID, *, who: str, why: str, now: datetime) -> None:
    """Another message went in its place, dismissed before or not."""
    _dismiss(tx, dead_letters.c.message_id == message_id, who, why, now)


def _dismiss(tx: Connection, which: sa.ColumnElement[bool], who: str, why: str, now: datetime) -> int:
    changed = {"dismissed_at": now, "dismissed_by": who, "dismissed_why": why}
    return tx.execute(sa.update(dead_letters).where(which).values(changed)).rowcount


def counted(tx: Connection, integration_id: UUID, number: int) -> str:
    """How many of which integration, as the audit says it: "20 of main"."""
    name = tx.execute(sa.select(integrations.c.name).where(integrations.c.id == integration_id)).scalar_one_or_none()
    return f"{number} of {name or integration_id}"
