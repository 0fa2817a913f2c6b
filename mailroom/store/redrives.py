"""Queries about re-drives: one dead letter at once, or a whole group on its way back to the queue, a few each second."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.fingerprint import cause_of
from mailroom.message import new_message_id
from mailroom.store import messages
from mailroom.store.audit import Entry, note
from mailroom.store.dead_letters import SUBJECT, count_redrivable, counted, redrivable
from mailroom.store.schema import dead_letters, redrives
from mailroom.store.sweeping import Due, hold_sweep_lock

#: Messages a second of one re-drive.
USUAL_RATE = 50.0
HIGHEST_RATE = 1000.0
#: One in a quarter of an hour. Of much less the time between two cannot be said, and no round of re-drives gets past it.
LOWEST_RATE = 0.001

#: However long nobody looked after a re-drive, what it missed is not made up for: no round queues more than what two
#: seconds allow, or one message.
_MADE_UP_FOR = timedelta(seconds=2)

#: Who ends a re-drive of which nothing is left.
_SWEEP = "the sweep"

#: Messages under which workers died; they must not take neighbours along.
_SUSPECTS = cause_of("crashed", None).fingerprint


class NothingToRedrive(Exception):
    """No dead letter of the group can be re-driven."""


class AlreadyRunning(Exception):
    """A re-drive of this group is under way."""


class NoSuchRedrive(Exception):
    """No re-drive of this id is under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redrive:
    """A group on its way back; it is over when it has `ended_at`, by somebody's hand when it was `stopped_by` them."""

    id: UUID
    integration_id: UUID
    fingerprint: str
    per_second: float
    requested_at: datetime
    requested_by: str
    why: str | None
    #: How many there were when it was asked for, and how many were queued since.
    total: int
    done: int
    ended_at: datetime | None
    stopped_by: str | None


def is_rate(per_second: float) -> bool:
    """Whether a re-drive can go at this rate."""
    return LOWEST_RATE <= per_second <= HIGHEST_RATE


def redrive_one(
    tx: Connection, message_id: UUID, *, who: str, now: datetime, why: str | None = None
) -> messages.Revived:
    """Give one dead letter fresh attempts and the time its kind is entitled to, and put that on record.

    Raises NotADeadLetter.
    """
    revived = messages.redrive_all(tx, [message_id], at=now)
    if not revived:
        raise messages.NotADeadLetter(f"{message_id} is not a dead letter that can be re-driven")
    note(tx, Entry(subject="message", subject_id=message_id, action="re-driven", who=who, at=now, why=why))
    return revived[0]


def request(
    tx: Connection, integration_id: UUID, fingerprint: str, *, per_second: float, who: str, now: datetime,
    why: str | None = None,
) -> Redrive:  # fmt: skip
    """Have all of a group re-driven that has ended by now, so many a second. Raises AlreadyRunning, NothingToRedrive."""
    if any(one.fingerprint == fingerprint for one in listed(tx, integration_id=integration_id, running=True)):
        raise AlreadyRunning("a re-drive of these dead letters is under way; stop it first, or let it end")
    total = count_redrivable(tx, integration_id, fingerprint, now)
    if not total:
        raise NothingToRedrive("none of these dead letters can be re-driven")
    redrive = Redrive(
        id=new_message_id(now), integration_id=integration_id, fingerprint=fingerprint, per_second=per_second,
        requested_at=now, requested_by=who, why=why, total=total, done=0, ended_at=None, stopped_by=None,
    )  # fmt: skip
    values = {name: getattr(redrive, name) for name in Redrive.__slots__}
    tx.execute(sa.insert(redrives).values(values | {"spent_until": now}))
    _note(tx, redrive, "re-drive requested", who, f"{per_second:g} a second", now, why)
    return redrive


def listed(
    tx: Connection, *, integration_id: UUID | None = None, running: bool = False, limit: int = 50
) -> list[Redrive]:
    """The newest re-drives first; of one integration, or only those under way."""
    query = sa.select(redrives).order_by(redrives.c.id.desc()).limit(limit)
    if integration_id is not None:
        query = query.where(redrives.c.integration_id == integration_id)
    if running:
        query = query.where(redrives.c.ended_at.is_(None))
    return [_redrive(row) for row in tx.execute(query)]


def stop(tx: Connection, redrive_id: UUID, *, who: str, now: datetime) -> Redrive:
    """Re-drive no more of it; what was queued goes on. Raises NoSuchRedrive."""
    row = tx.execute(
        sa.update(redrives)
        .where(redrives.c.id == redrive_id, redrives.c.ended_at.is_(None))
        .values(ended_at=now, stopped_by=who)
        .returning(redrives)
    ).one_or_none()
    if row is None:
        raise NoSuchRedrive(f"no re-drive {redrive_id} is under way")
    stopped = _redrive(row)
    _note(tx, stopped, "re-drive stopped", who, f"{stopped.done} were queued", now)
    return stopped


def queue_some(tx: Connection, sending: Collection[UUID], *, now: datetime) -> list[Due]:
    """Queue what the rates of all re-drives under way allow by now, the oldest first, and end those with nothing left.

    `sending` are the integrations that may send: a re-drive of another one waits, because what cannot be sent would
    only fail again.
    """
    if not sending or not hold_sweep_lock(tx):
        return []
    query = sa.select(redrives).where(redrives.c.ended_at.is_(None), redrives.c.integration_id.in_(sending))
    rows = tx.execute(query.order_by(redrives.c.id).with_for_update(skip_locked=True)).all()
    return [due for row in rows for due in _queue_some(tx, row, now)]


def _queue_some(tx: Connection, row: Any, now: datetime) -> list[Due]:
    redrive, since = _redrive(row), max(row.spent_until, now - _longest_gap(row.per_second))
    allowed = math.floor((now - since).total_seconds() * redrive.per_second)
    if allowed < 1:
        return []
    left = redrivable(redrive.integration_id, redrive.fingerprint, redrive.requested_at)
    rows = tx.execute(
        left.order_by(dead_letters.c.message_id).limit(allowed).with_for_update(of=dead_letters, skip_locked=True)
    )
    revived = messages.redrive_all(tx, [one.message_id for one in rows], at=now)
    spent = {
        "done": redrives.c.done + len(revived),
        "spent_until": since + timedelta(seconds=allowed / redrive.per_second),
    }
    tx.execute(sa.update(redrives).where(redrives.c.id == redrive.id).values(spent))
    if len(revived) < allowed and tx.execute(left.limit(1)).first() is None:
        _end(tx, redrive, redrive.done + len(revived), now)
    return [Due(one.id, one.kind, one.integration_id, alone=redrive.fingerprint == _SUSPECTS) for one in revived]


def _longest_gap(per_second: float) -> timedelta:
    """For how long back a rate is not spent yet, at the most: never less than one message takes."""
    return max(_MADE_UP_FOR, timedelta(seconds=1 / per_second))


def _end(tx: Connection, redrive: Redrive, done: int, now: datetime) -> None:
    tx.execute(sa.update(redrives).where(redrives.c.id == redrive.id).values(ended_at=now))
    _note(tx, redrive, "re-drive ended", _SWEEP, f"{done} were queued", now)


def _note(
    tx: Connection, redrive: Redrive, action: str, who: str, after: str, now: datetime, why: str | None = None
) -> None:
    entry = Entry(
        subject=SUBJECT, subject_id=UUID(redrive.fingerprint), action=action, who=who, at=now, why=why,
        before=counted(tx, redrive.integration_id, redrive.total), after=after,
    )  # fmt: skip
    note(tx, entry)


def _redrive(row: Any) -> Redrive:
    return Redrive(**{name: getattr(row, name) for name in Redrive.__slots__})
