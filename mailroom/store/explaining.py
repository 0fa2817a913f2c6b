"""What explaining a message needs to know beside where it stands."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.store.schema import live, messages


@dataclass(frozen=True, slots=True)
class Fate:
    """Until when a message may be sent, and whether its client was told that it failed."""

    expires_at: datetime | None
    answered: bool


def fate(tx: Connection, message_id: UUID) -> Fate:
    """Of a message that exists. One that was re-driven has a time of its own."""
    row = tx.execute(
        sa.select(sa.func.coalesce(live.c.expires_at, messages.c.expires_at).label("expires_at"), messages.c.answered)
        .select_from(messages.outerjoin(live, live.c.id == messages.c.id))
        .where(messages.c.id == message_id)
    ).one()
    return Fate(row.expires_at, answered=row.answered != 0)
