"""Queries about what the workers share of an integration's limits: slices of its rate and day, and its connections.

Time is the database's: the clocks of workers differ. `at` puts another time in its place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from mailroom import pace
from mailroom.pace import Slice, Spent
from mailroom.store import sweeping
from mailroom.store.absent import insert_absent
from mailroom.store.clock import moment
from mailroom.store.schema import EPOCH, allowances, integrations, seat_leases, sessions
from mailroom.store.sweeping import Due

#: Any constant does; it names this lock among all of the database.
_SEATS_LOCK = 0x73656174


@dataclass(frozen=True, slots=True)
class Unused:
    """Of a slice that counted for this day so many were not used."""

    day: str
    number: int


@dataclass(frozen=True, slots=True)
class Need:
    """How many connections a worker could use, and how many it keeps whatever the answer: open, or about to be."""

    wanted: int
    kept: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's part of an integration's connections.

    `seats` are its own until it says that it keeps fewer; it should do with `part`, which may be fewer because others
    need them. `before` is how many are with workers that come before it in order, `total` how many there are.
    """

    seats: int
    part: int
    before: int
    total: int


@dataclass(frozen=True, slots=True)
class Held:
    """What another worker has, and how many it could use."""

    seats: int
    wanted: int


# --- the rate and the day ---------------------------------------------------------------------------------------------


def take(
    tx: Connection, integration_id: UUID, *, wanted: int, unused: Unused | None = None, at: datetime | None = None
) -> Slice:
    """Take a slice of what an integration may send, at most so many messages, and give back what is left of another."""
    row = _locked(tx, integration_id, at)
    if row is None:
        return pace.NotNow(pace.ASK_AGAIN_SECONDS)
    before = Spent(row.spent_until, row.day, row.used)
    taken, after = pace.take_slice(row, _without(before, unused), wanted, row.now)
    if after != before:
        _write(tx, integration_id, spent_until=after.until, day=after.day, used=after.used)
    return taken


def give_back(tx: Connection, integration_id: UUID, unused: Unused) -> None:
    """Take off the day what was not used of a slice after all."""
    tx.execute(
        sa.update(allowances)
        .where(allowances.c.integration_id == integration_id, allowances.c.day == unused.day)
        .values(used=sa.case((allowances.c.used > unused.number, allowances.c.used - unused.number), else_=0))
    )


def used_today(tx: Connection, integration_id: UUID, *, now: datetime) -> int:
    """How many messages count for this UTC day so far."""
    row = tx.execute(
        sa.select(allowances.c.used).where(
            allowances.c.integration_id == integration_id, allowances.c.day == pace.day_of(now)
        )
    ).one_or_none()
    return row.used if row else 0


def slow_down(
    tx: Connection, integration_id: UUID, generation: int, *, seen: float, at: datetime | None = None
) -> float | None:
    """A server asked for it: lower the pace of all workers. The new one; None when it was lowered a moment ago.

    `seen` is about how many messages a second all workers together had sent. Nothing happens after a reset since.
    """
    row = tx.execute(
        sa.select(integrations, moment(tx, at).label("now"))
        .where(integrations.c.id == integration_id, integrations.c.generation == generation)
        .with_for_update()
    ).one_or_none()
    lowered = pace.lowered(row, seen, row.now) if row else None
    if row is not None and lowered is not None:
        tx.execute(
            sa.update(integrations).where(integrations.c.id == integration_id).values(pace=lowered, paced_at=row.now)
        )
    return lowered


def proven(tx: Connection, integration_id: UUID, generation: int, *, at: datetime | None = None) -> bool:
    """A message passed: from now on the slow start speeds up. False when that was known, or is about a former state."""
    unproven = sa.or_(integrations.c.proven_at.is_(None), integrations.c.proven_at < integrations.c.released_at)
    changed = tx.execute(
        sa.update(integrations)
        .where(
            integrations.c.id == integration_id,
            integrations.c.generation == generation,
            integrations.c.released_at.is_not(None),
            unproven,
        )
        .values(proven_at=moment(tx, at))
    )
    return changed.rowcount == 1


def probe_again(tx: Connection, integration_id: UUID, released_at: datetime | None) -> None:
    """The message that was to prove this release proved nothing, for its own sake: another may go at once."""
    awaiting = sa.select(integrations.c.id).where(
        integrations.c.id == integration_id,
        integrations.c.released_at == released_at,
        sa.or_(integrations.c.proven_at.is_(None), integrations.c.proven_at < integrations.c.released_at),
    )
    tx.execute(
        sa.update(allowances)
        .where(allowances.c.integration_id.in_(awaiting))
        .values(spent_until=EPOCH, released_until=EPOCH)
    )


def release(tx: Connection, integration_id: UUID, *, most: int, now: datetime, at: datetime | None = None) -> list[Due]:
    """Queue the oldest held messages of an integration that may send again: a second's worth, by all sweeps together.

    Until a first message has passed since a reset that is one; `most` a second when nothing limits it.
    """
    if not sweeping.hold_sweep_lock(tx):
        return []
    row = _locked(tx, integration_id, at)
    if row is None:
        return []
    number, until = pace.take_release(row, row.released_until, most, row.now)
    if number == 0:
        return []
    _write(tx, integration_id, released_until=until)
    return sweeping.release(tx, integration_id, now=now, limit=number)


def _locked(tx: Connection, integration_id: UUID, at: datetime | None) -> Any:
    """Limits and what is spent of them, for this transaction alone; None where there is no such integration."""
    chosen = (
        sa.select(
            integrations.c.per_second, integrations.c.per_day, integrations.c.released_at, integrations.c.proven_at,
            integrations.c.pace, integrations.c.paced_at, allowances.c.spent_until, allowances.c.day,
            allowances.c.used, allowances.c.released_until, moment(tx, at).label("now"),
        )
        .join(allowances, allowances.c.integration_id == integrations.c.id)
        .where(integrations.c.id == integration_id)
        .with_for_update(of=allowances)
    )  # fmt: skip
    row = tx.execute(chosen).one_or_none()
    if row is not None:
        return row
    exists = sa.select(integrations.c.id).where(integrations.c.id == integration_id)
    if tx.execute(exists).one_or_none() is None:
        return None
    fresh = {"integration_id": integration_id, "spent_until": EPOCH, "released_until": EPOCH, "day": "", "used": 0}
    insert_absent(tx, allowances, [fresh])
    return tx.execute(chosen).one_or_none()


def _write(tx: Connection, integration_id: UUID, **values: Any) -> None:
    tx.execute(sa.update(allowances).where(allowances.c.integration_id == integration_id).values(**values))


def _without(spent: Spent, unused: Unused | None) -> Spent:
    if unused is None or unused.day != spent.day:
        return spent
    return Spent(spent.until, spent.day, max(spent.used - unused.number, 0))


# --- connections ------------------------------------------------------------------------------------------------------


def share(tx: Connection, session: UUID, needs: Mapping[UUID, Need]) -> dict[UUID, Lease]:
    """Say what this worker needs of each integration's connections, and hear what it may have.

    What is with living workers is never more in sum than there are. Who has more than its part while others lack some
    gives them back when it keeps them no longer; until then they stay its own.
    """
    if tx.dialect.name == "postgresql":
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_SEATS_LOCK)))
    alive = sa.select(sessions.c.id).where(sessions.c.ended_at.is_(None))
    tx.execute(sa.delete(seat_leases).where(seat_leases.c.session.not_in(alive)))
    if tx.execute(alive.where(sessions.c.id == session)).one_or_none() is None:
        return {}
    totals = _totals(tx, needs)
    held = _leases(tx, needs)
    leases = {}
    for integration_id, need in needs.items():
        if integration_id in totals:
            others = held.get(integration_id, {})
            had = others.pop(session, Held(0, 0)).seats
            leases[integration_id] = lease(totals[integration_id], session, need, had, others)
    _enter(tx, session, needs, leases)
    return leases


def lease(total: int, session: UUID, need: Need, had: int, others: Mapping[UUID, Held]) -> Lease:
    """What a worker that had so many may have now, beside these others."""
    # Who has most comes first, so that odd seats stay where they are.
    order = sorted([session, *others], key=lambda one: (-(had if one == session else others[one].seats), one))
    wanted = [need.wanted if one == session else others[one].wanted for one in order]
    parts = dict(zip(order, fair_parts(total, wanted), strict=True))
    part = parts[session]
    somebody_lacks = any(held.seats < min(held.wanted, parts[other]) for other, held in others.items())
    if not somebody_lacks:
        # Nothing is given back only to be asked for again.
        part = max(part, min(had, total))
    free = total - sum(held.seats for held in others.values())
    # Only what it had can be kept: whatever a worker says, no seat comes into being by that.
    seats = max(min(need.kept, had), min(part, free), 0)
    # What the others have, or are about to have.
    before = sum(parts[other] if somebody_lacks else held.seats for other, held in others.items() if other < session)
    return Lease(seats, min(part, seats), before, total)


def fair_parts(total: int, wanted: Sequence[int]) -> list[int]:
    """A total divided by need, the least first; what nobody needs makes the parts even. Earlier ones come first."""
    parts = [0] * len(wanted)
    for _ in range(total if parts else 0):
        lacking = [i for i, part in enumerate(parts) if part < wanted[i]] or range(len(parts))
        parts[min(lacking, key=lambda i: parts[i])] += 1
    return parts


def _totals(tx: Connection, needs: Mapping[UUID, Need]) -> dict[UUID, int]:
    rows = tx.execute(
        sa.select(integrations.c.id, integrations.c.max_connections).where(integrations.c.id.in_(list(needs)))
    )
    return {row.id: row.max_connections for row in rows}


def _leases(tx: Connection, needs: Mapping[UUID, Need]) -> dict[UUID, dict[UUID, Held]]:
    found: dict[UUID, dict[UUID, Held]] = {}
    for row in tx.execute(sa.select(seat_leases).where(seat_leases.c.integration_id.in_(list(needs)))):
        found.setdefault(row.integration_id, {})[row.session] = Held(row.seats, row.wanted)
    return found


def _enter(tx: Connection, session: UUID, needs: Mapping[UUID, Need], leases: Mapping[UUID, Lease]) -> None:
    if not leases:
        return
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    statement = insert(seat_leases)
    tx.execute(
        statement.on_conflict_do_update(
            index_elements=[seat_leases.c.session, seat_leases.c.integration_id],
            set_={"seats": statement.excluded.seats, "wanted": statement.excluded.wanted},
        ),
        [
            {
                "session": session,
                "integration_id": integration_id,
                "seats": one.seats,
                "wanted": needs[integration_id].wanted,
            }
            for integration_id, one in leases.items()
        ],
    )
