"""The audit: every change of what decides, as a row that is only ever added. Secrets are never in it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.store.schema import audit


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Who changed what, when, from what to what, and what led to it."""

    #: The noun it is about; with the name in it for what has no UUID.
    subject: str
    subject_id: UUID | None
    action: str
    who: str
    at: datetime
    before: str | None = None
    after: str | None = None
    why: str | None = None
    cause: str | None = None
    #: The conversation with a server that led to it, without secrets.
    transcript: str | None = None


def note(tx: Connection, entry: Entry) -> None:
    """Put a change on record."""
    tx.execute(sa.insert(audit).values(id=uuid4(), **asdict(entry)))


def history(tx: Connection, subject: str, subject_id: UUID | None, limit: int = 20) -> Sequence[Any]:
    """The newest rows about one subject first."""
    mine = audit.c.subject_id.is_(None) if subject_id is None else audit.c.subject_id == subject_id
    return tx.execute(
        sa.select(audit).where(audit.c.subject == subject, mine).order_by(audit.c.at.desc()).limit(limit)
    ).all()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of the audit ended: the next one begins with what is older."""

    at: datetime
    id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for; what is None is not asked about."""

    since: datetime | None = None
    until: datetime | None = None
    #: A part of who it was.
    who: str | None = None
    #: The noun, or its beginning.
    subject: str | None = None
    subject_id: UUID | None = None
    action: str | None = None


def listed(tx: Connection, wanted: Wanted, *, before: Place | None = None, limit: int) -> Sequence[Any]:
    """The newest rows first, those older than `before`."""
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.since is not None:
        conditions.append(audit.c.at >= wanted.since)
    if wanted.until is not None:
        conditions.append(audit.c.at < wanted.until)
    if wanted.who is not None:
        conditions.append(audit.c.who.contains(wanted.who, autoescape=True))
    if wanted.subject is not None:
        conditions.append(audit.c.subject.startswith(wanted.subject, autoescape=True))
    if wanted.subject_id is not None:
        conditions.append(audit.c.subject_id == wanted.subject_id)
    if wanted.action is not None:
        conditions.append(audit.c.action == wanted.action)
    if before is not None:
        # The first half is what the index by time can use.
        older = sa.or_(audit.c.at < before.at, audit.c.id < before.id)
        conditions += [audit.c.at <= before.at, older]
    newest_first = (audit.c.at.desc(), audit.c.id.desc())
    return tx.execute(sa.select(audit).where(*conditions).order_by(*newest_first).limit(limit)).all()
