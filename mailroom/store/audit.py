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
