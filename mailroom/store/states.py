"""The reported state of integrations: the only place that changes it, and only by the table of moves."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.integration import STATE_MOVES, Cause, Move, Mover, ReportedState
from mailroom.message import Status
from mailroom.store import audit
from mailroom.store.audit import Entry
from mailroom.store.clock import moment
from mailroom.store.schema import integrations, live

#: What audit rows about integrations name as their subject.
SUBJECT = "integration"


class IllegalMove(Exception):
    """This is not for whoever tried it to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A move as it is made: whose it is, and what its audit row says."""

    name: Move
    by: Mover
    who: str
    at: datetime
    why: str | None = None
    #: In place of the table's word for it.
    noted_as: str | None = None
    #: It is made only while this is the integration's generation.
    generation: int | None = None
    cause: Cause | None = None
    #: None leaves the integration the last one.
    transcript: str | None = None


def move(tx: Connection, /, integration_id: UUID, made: Made, **values: Any) -> bool:
    """Make a move, write these values with it and put it on record. Raises IllegalMove.

    False, and nothing is done, when the integration is not in a state that the move starts from, or has another
    generation: somebody else was quicker.
    """
    rules = STATE_MOVES[made.name]
    if made.by not in rules.by:
        raise IllegalMove(f"{made.name} is for {' or '.join(sorted(rules.by))} to do, not for {made.by}")
    row = tx.execute(
        sa.select(integrations.c.reported_state, integrations.c.generation)
        .where(integrations.c.id == integration_id)
        .with_for_update()
    ).one_or_none()
    if row is None or row.reported_state not in rules.sources or made.generation not in (None, row.generation):
        return False
    if made.transcript is not None:
        values["transcript"] = made.transcript
    # Every reset raises the generation: what is ACTIVE for the first time has nothing to be released slowly. In any other
    # state nothing is released, and agents' mail that fails there must not wait for the slow start to come round.
    released = rules.target is ReportedState.ACTIVE and row.generation > 1
    # By the clock that slices are given out by: a worker's may be ahead of it, and the slow start would not begin then.
    values |= {"released_at": moment(tx) if released else None, "proven_at": None}
    tx.execute(
        sa.update(integrations)
        .where(integrations.c.id == integration_id)
        .values(reported_state=rules.target, cause=made.cause, since=made.at, **values)
    )
    audit.note(
        tx,
        Entry(
            subject=SUBJECT, subject_id=integration_id, action=made.noted_as or rules.noted_as, who=made.who,
            at=made.at, before=row.reported_state, after=rules.target, why=made.why or rules.why, cause=made.cause,
            transcript=made.transcript,
        ),
    )  # fmt: skip
    return True


def is_sending(tx: Connection, integration_id: UUID) -> bool:
    """Whether a worker has a message of this integration in hand."""
    in_hand = sa.select(live.c.id).where(live.c.integration_id == integration_id, live.c.status == Status.SENDING)
    return tx.execute(in_hand.limit(1)).first() is not None


def settle_deactivating(tx: Connection, now: datetime) -> list[UUID]:
    """Make INACTIVE what was switched off and has nothing in hand any more; the integrations it concerns."""
    winding_down = tx.execute(
        sa.select(integrations.c.id).where(integrations.c.reported_state == ReportedState.DEACTIVATING)
    ).scalars()
    settled = Made(name=Move.SETTLE, by=Mover.SWEEP, who="sweep", at=now)
    return [
        integration_id
        for integration_id in winding_down.all()
        if not is_sending(tx, integration_id) and move(tx, integration_id, settled)
    ]
