"""Queries about sessions: running workers, their beats, and how far they have come in each queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.message import Lane
from mailroom.store.schema import positions, sessions

#: How long the last position of a session that ended is kept.
FORGOTTEN_AFTER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a worker is in one queue: its oldest ticket in hand, or the last one it acknowledged."""

    integration_id: UUID
    lane: Lane
    holding: bool
    published_at: datetime


def open_session(tx: Connection, session: UUID, *, host: str, pid: int, at: datetime) -> None:
    """Enter a worker that begins to work."""
    tx.execute(sa.insert(sessions).values(id=session, host=host, pid=pid, started_at=at))


def beat(tx: Connection, session: UUID, where: Sequence[Position]) -> bool:
    """Raise the beat and tell the positions; False when the session was declared dead, and can never beat again."""
    raised = tx.execute(
        sa.update(sessions)
        .where(sessions.c.id == session, sessions.c.ended_at.is_(None))
        .values(beat=sessions.c.beat + 1)
    )
    if raised.rowcount != 1:
        return False
    tx.execute(sa.delete(positions).where(positions.c.session == session))
    if where:
        tx.execute(
            sa.insert(positions),
            [
                {
                    "session": session,
                    "integration_id": p.integration_id,
                    "lane": p.lane,
                    "holding": p.holding,
                    "published_at": p.published_at,
                }
                for p in where
            ],
        )
    return True


def end_session(tx: Connection, session: UUID, *, at: datetime) -> None:
    """Take leave: everything this session claimed is settled."""
    tx.execute(sa.update(sessions).where(sessions.c.id == session).values(ended_at=at))
    tx.execute(sa.update(positions).where(positions.c.session == session).values(holding=False))
    # Where earlier sessions had come to says nothing any more.
    long_gone = sa.select(sessions.c.id).where(sessions.c.ended_at < at - FORGOTTEN_AFTER)
    tx.execute(sa.delete(positions).where(positions.c.session.in_(long_gone)))


def beats(tx: Connection) -> dict[UUID, int]:
    """The beat of every session that has not ended."""
    rows = tx.execute(sa.select(sessions.c.id, sessions.c.beat).where(sessions.c.ended_at.is_(None)))
    return {row.id: row.beat for row in rows}


def declare_dead(tx: Connection, session: UUID, seen_beat: int, *, at: datetime) -> bool:
    """End a session whose beat stands still; False when it has beaten since it was looked at."""
    dead = tx.execute(
        sa.update(sessions)
        .where(sessions.c.id == session, sessions.c.beat == seen_beat, sessions.c.ended_at.is_(None))
        .values(ended_at=at, declared_dead=True)
    )
    if dead.rowcount != 1:
        return False
    tx.execute(sa.delete(positions).where(positions.c.session == session))
    return True


def declare_all_dead(tx: Connection, *, at: datetime) -> None:
    """End every session: the one process that can work on this database has only just started."""
    tx.execute(sa.update(sessions).where(sessions.c.ended_at.is_(None)).values(ended_at=at, declared_dead=True))
    tx.execute(sa.delete(positions))


def reached(tx: Connection) -> dict[tuple[UUID, Lane], Position]:
    """How far the workers together have come in each queue: the oldest ticket held, else the newest acknowledged."""
    furthest: dict[tuple[UUID, Lane], Position] = {}
    for row in tx.execute(sa.select(positions)):
        place = Position(row.integration_id, Lane(row.lane), bool(row.holding), row.published_at)
        key = (place.integration_id, place.lane)
        known = furthest.get(key)
        furthest[key] = place if known is None else _nearer(known, place)
    return furthest


def _nearer(one: Position, other: Position) -> Position:
    if one.holding != other.holding:
        return one if one.holding else other
    if one.holding:
        return min(one, other, key=lambda p: p.published_at)
    return max(one, other, key=lambda p: p.published_at)
