"""Queries of the sweep: find work that has no ticket, and work whose worker is gone."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.fingerprint import cause_of
from mailroom.kinds import KINDS, WhenUncertain
from mailroom.message import Kind, Lane, Status
from mailroom.store import dead_letters, tallies
from mailroom.store.messages import CRASHES_ALLOWED, NEVER
from mailroom.store.schema import live, messages, sessions

#: Any constant does; it names this lock among all of the database.
_SWEEP_LOCK = 0x6D61696C


@dataclass(frozen=True, slots=True)
class Due:
    """A message that needs a ticket; `alone` when it has seen a worker die and must not take neighbours along."""

    id: UUID
    kind: Kind
    integration_id: UUID
    alone: bool


#: How many messages were ended how, by kind and integration.
Ended = Counter[tuple[Status, Kind, UUID]]


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of the claims of dead sessions: what needs a ticket now, and what ended."""

    again: list[Due]
    ended: Ended


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits to be sent of one kind through one integration: how many by status, and since when the oldest does."""

    integration_id: UUID
    kind: Kind
    numbers: dict[Status, int]
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Impact:
    """What waits for one integration: by status, since when, and how many wait longer than their kind may."""

    held: int
    queued: int
    deferred: int
    oldest: datetime | None
    past_expiry: int

    @property
    def to_send(self) -> int:
        """How many will be tried once it may send."""
        return self.held + self.queued + self.deferred - self.past_expiry


#: Rows of a kind that only a newer Mailroom knows are left to its workers, during a rolling update (OPS-3).
_KNOWN = live.c.kind.in_([*Kind])


def hold_sweep_lock(tx: Connection) -> bool:
    """Be the one sweeper until this transaction ends; False when another is. All that changes rows here asks first."""
    if tx.dialect.name != "postgresql":
        return True
    return bool(tx.execute(sa.select(sa.func.pg_try_advisory_xact_lock(_SWEEP_LOCK))).scalar_one())


def wake(tx: Connection, *, now: datetime, limit: int) -> list[Due]:
    """Queue the deferred messages that fell due, earliest first."""
    if not hold_sweep_lock(tx):
        return []
    due = sa.select(live.c.id).where(live.c.wake_at <= now, live.c.status == Status.DEFERRED, _KNOWN)
    return _queue(tx, due.order_by(live.c.wake_at).limit(limit), now)


def release(tx: Connection, integration_id: UUID, *, now: datetime, limit: int) -> list[Due]:
    """Queue held messages of an integration that may send again, oldest first."""
    if not hold_sweep_lock(tx):
        return []
    held = sa.select(live.c.id).where(
        live.c.wake_at == NEVER, live.c.integration_id == integration_id, live.c.status == Status.HELD, _KNOWN
    )
    return _queue(tx, held.order_by(live.c.id).limit(limit), now)


def with_held(tx: Connection, integration_ids: Collection[UUID]) -> list[UUID]:
    """Which of these integrations have held messages."""
    rows = tx.execute(
        sa.select(live.c.integration_id)
        .where(live.c.wake_at == NEVER, live.c.integration_id.in_(integration_ids))
        .distinct()
    )
    return list(rows.scalars())


def lost(
    tx: Connection, integration_id: UUID, lane: Lane, *, queued_before: datetime, now: datetime, limit: int
) -> list[Due]:
    """Queue anew what was queued before a moment that its queue has moved past."""
    if not hold_sweep_lock(tx):
        return []
    missed = sa.select(live.c.id).where(
        live.c.integration_id == integration_id,
        live.c.kind.in_([kind for kind in Kind if KINDS[kind].lane is lane]),
        live.c.status == Status.QUEUED,
        live.c.queued_at < queued_before,
    )
    return _queue(tx, missed.order_by(live.c.queued_at).limit(limit), now)


def queued_lanes(tx: Connection) -> set[tuple[UUID, Lane]]:
    """Every queue that some queued message belongs to."""
    rows = tx.execute(
        sa.select(live.c.integration_id, live.c.kind).where(live.c.status == Status.QUEUED, _KNOWN).distinct()
    )
    return {(row.integration_id, KINDS[Kind(row.kind)].lane) for row in rows}


def _queue(tx: Connection, chosen: sa.Select[tuple[UUID]], now: datetime) -> list[Due]:
    if tx.dialect.name == "postgresql":
        chosen = chosen.with_for_update(skip_locked=True)
    # As a table expression it runs once: inside IN a nested loop may run it, limit and all, for every row.
    once = chosen.cte("chosen")
    rows = tx.execute(
        sa.update(live)
        .where(live.c.id.in_(sa.select(once.c.id)))
        .values(status=Status.QUEUED, queued_at=now, wake_at=None)
        .returning(live.c.id, live.c.kind, live.c.integration_id, live.c.crashes)
    )
    due = [Due(row.id, Kind(row.kind), row.integration_id, alone=row.crashes > 0) for row in rows]
    return sorted(due, key=lambda d: d.id)


def recover(tx: Connection, *, now: datetime, limit: int) -> Recovered:
    """Give every claim of a dead session its kind's treatment; what is to be tried again needs a ticket of its own.

    Several may do this at once: each takes what the others have not.
    """
    alive = sa.select(sessions.c.id).where(sessions.c.ended_at.is_(None))
    orphans = sa.select(
        live.c.id, live.c.kind, live.c.integration_id, live.c.crashes, live.c.claim, live.c.attempts
    ).where(live.c.status == Status.SENDING, live.c.session.not_in(alive), _KNOWN)
    if tx.dialect.name == "postgresql":
        orphans = orphans.with_for_update(skip_locked=True)
    found = tx.execute(orphans.limit(limit)).all()
    crashed = {row.id for row in found if row.crashes >= CRASHES_ALLOWED}
    doubtful = {row.id for row in found if KINDS[Kind(row.kind)].when_uncertain is WhenUncertain.DEAD_LETTER} - crashed
    _end(tx, crashed, Status.FAILED, "crashed", now)
    _end(tx, doubtful, Status.UNCERTAIN, "session_lost", now)
    again = [row for row in found if row.id not in crashed | doubtful]
    tx.execute(
        sa.update(live)
        .where(live.c.id.in_([row.id for row in again]))
        .values(
            status=Status.QUEUED,
            session=None,
            crashes=live.c.crashes + 1,
            possible_duplicate=True,
            queued_at=now,
        )
    )
    return Recovered(
        [Due(row.id, Kind(row.kind), row.integration_id, alone=True) for row in again],
        Counter(
            (Status.FAILED if row.id in crashed else Status.UNCERTAIN, Kind(row.kind), row.integration_id)
            for row in found
            if row.id in crashed | doubtful
        ),
    )


#: What a worker may yet take up.
_WAITING = (Status.QUEUED, Status.DEFERRED, Status.HELD)


def expire(tx: Connection, *, now: datetime, limit: int) -> Ended:
    """End what waits longer than its kind may; how many those were."""
    if not hold_sweep_lock(tx):
        return Counter()
    old = sa.select(live.c.id, live.c.kind, live.c.integration_id).where(
        live.c.expires_at < now, live.c.status.in_(_WAITING), _KNOWN
    )
    if tx.dialect.name == "postgresql":
        old = old.with_for_update(skip_locked=True)
    found = tx.execute(old.limit(limit)).all()
    _end(tx, {row.id for row in found}, Status.EXPIRED, "expired", now)
    return Counter((Status.EXPIRED, Kind(row.kind), row.integration_id) for row in found)


def _end(tx: Connection, ids: Collection[UUID], status: Status, reason: str, now: datetime) -> None:
    """End all of these in the same way, as dead letters, in three statements however many they are."""
    if not ids:
        return

    def of_live(column: sa.ColumnElement[Any]) -> sa.ScalarSelect[Any]:
        return sa.select(column).where(live.c.id == messages.c.id).scalar_subquery()

    doubtful = reason in {"crashed", "session_lost"}
    tx.execute(
        sa.update(messages)
        .where(messages.c.id.in_(ids))
        .values(
            status=status, reason=reason, ended_at=now,
            claims=of_live(live.c.claim), attempts=of_live(live.c.attempts),
            possible_duplicate=sa.true() if doubtful else of_live(live.c.possible_duplicate),
        )
    )  # fmt: skip
    dead_letters.enter_live(tx, ids, cause_of(reason, None), now)
    tx.execute(sa.delete(live).where(live.c.id.in_(ids)))


def counts(tx: Connection) -> dict[tuple[UUID, Status], int]:
    """How many unfinished messages each integration has, by status."""
    rows = tx.execute(
        sa.select(live.c.integration_id, live.c.status, sa.func.count().label("number")).group_by(
            live.c.integration_id, live.c.status
        )
    )
    return {(row.integration_id, Status(row.status)): row.number for row in rows}


def waiting(tx: Connection) -> list[Waiting]:
    """What is queued, deferred or held, by integration and kind.

    Reads every unfinished message once: a million take PostgreSQL 0.2 s, SQLite one second.
    """
    # PostgreSQL has no smallest UUID before version 18. As texts they have the same order, by bytes.
    as_text = sa.cast(live.c.id, sa.Text)
    rows = tx.execute(
        sa.select(
            live.c.integration_id,
            live.c.kind,
            live.c.status,
            sa.func.count().label("number"),
            sa.func.min(sa.collate(as_text, "C") if tx.dialect.name == "postgresql" else as_text).label("first"),
        )
        .where(live.c.status.in_(_WAITING), _KNOWN)
        .group_by(live.c.integration_id, live.c.kind, live.c.status)
    ).all()
    # Ids are given in the order of time (RFC 9562 section 5.7): the smallest is the oldest.
    firsts = [UUID(row.first) for row in rows]
    accepted = tx.execute(sa.select(messages.c.id, messages.c.accepted_at).where(messages.c.id.in_(firsts)))
    since = {row.id: row.accepted_at for row in accepted}
    lines: dict[tuple[UUID, Kind], Waiting] = {}
    for row, first in zip(rows, firsts, strict=True):
        line = lines.get((row.integration_id, Kind(row.kind)), Waiting(row.integration_id, Kind(row.kind), {}, None))
        oldest = min((moment for moment in (line.oldest, since.get(first)) if moment is not None), default=None)
        lines[line.integration_id, line.kind] = Waiting(
            line.integration_id, line.kind, line.numbers | {Status(row.status): row.number}, oldest
        )
    return [lines[key] for key in sorted(lines)]


def note_oldest(tx: Connection, *, now: datetime) -> None:
    """Put on record, once a minute by whichever worker comes first, how long the oldest waiting message has waited."""
    if tallies.oldest_is_noted(tx, at=now) or not hold_sweep_lock(tx):
        return
    since = min((one.oldest for one in waiting(tx) if one.oldest is not None), default=now)
    tallies.note_oldest(tx, now - since, at=now)


def impact(tx: Connection, integration_id: UUID, *, now: datetime) -> Impact:
    """What a release of this integration would set going."""
    waiting = sa.and_(
        live.c.integration_id == integration_id, live.c.status.in_((Status.HELD, Status.QUEUED, Status.DEFERRED))
    )
    rows = tx.execute(
        sa.select(
            live.c.status,
            sa.func.count().label("number"),
            sa.func.sum(sa.case((live.c.expires_at < now, 1), else_=0)).label("past"),
        )
        .where(waiting)
        .group_by(live.c.status)
    ).all()
    numbers = {Status(row.status): row.number for row in rows}
    # Ids are given in the order of time (RFC 9562 section 5.7): the smallest is the oldest.
    first = sa.select(live.c.id).where(waiting).order_by(live.c.id).limit(1).scalar_subquery()
    oldest = tx.execute(sa.select(messages.c.accepted_at).where(messages.c.id == first)).scalar_one_or_none()
    return Impact(
        held=numbers.get(Status.HELD, 0),
        queued=numbers.get(Status.QUEUED, 0),
        deferred=numbers.get(Status.DEFERRED, 0),
        oldest=oldest,
        past_expiry=sum(int(row.past) for row in rows),
    )
