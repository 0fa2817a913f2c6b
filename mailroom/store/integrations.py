"""Queries about integrations: their configuration, their state, who moved it, and their live tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.integration import Cause, IntendedState, ReportedState
from mailroom.message import Lane
from mailroom.store.absent import insert_absent
from mailroom.store.schema import audit, connection_tests, facts, integrations


class UnknownIntegration(Exception):
    """No integration has this name."""


class AlreadyDecided(Exception):
    """The integration cannot be asked for that in the state it is in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewIntegration:
    """An integration to be created; `sealed_password` is already encrypted."""

    name: str
    host: str
    port: int
    security: str
    from_address: str
    max_connections: int
    username: str | None = None
    sealed_password: str | None = None
    from_name: str | None = None
    default_mailbox: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionTest:
    """A live test as it stands; `passed` is None until it ended."""

    id: UUID
    integration_id: UUID
    generation: int
    decides: bool
    requested_at: datetime
    taken_at: datetime | None
    ended_at: datetime | None
    passed: bool | None
    cause: Cause | None
    transcript: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blamed:
    """A failure that is the account's, the host's or the connection's fault, from an attempt begun under `generation`."""

    integration_id: UUID
    generation: int
    cause: Cause
    threshold: int
    transcript: str
    who: str
    #: When the attempt began. It counts when that is at least `apart` after the last failure that was counted.
    began_at: datetime
    apart: timedelta


_LANE_COLUMN = {
    Lane.AGENT: integrations.c.agent_lane,
    Lane.FORM: integrations.c.form_lane,
    Lane.CAMPAIGN: integrations.c.campaign_lane,
}


def all_rows(tx: Connection) -> Sequence[Any]:
    """Every integration as a row, with `test_waiting` and its queued lanes; one statement."""
    waiting = (
        sa.select(sa.literal(1))
        .where(
            connection_tests.c.integration_id == integrations.c.id,
            connection_tests.c.ended_at.is_(None),
            connection_tests.c.taken_at.is_(None),
        )
        .exists()
    )
    return tx.execute(sa.select(integrations, waiting.label("test_waiting")).order_by(integrations.c.name)).all()


def create_absent(tx: Connection, new: NewIntegration, *, who: str, now: datetime) -> bool:
    """Create an integration, ENABLED and about to be tested; False when one of this name exists already."""
    integration_id = uuid4()
    row = {
        "id": integration_id,
        "name": new.name,
        "host": new.host,
        "port": new.port,
        "security": new.security,
        "username": new.username,
        "sealed_password": new.sealed_password,
        "from_address": new.from_address,
        "from_name": new.from_name,
        "default_mailbox": new.default_mailbox,
        "max_connections": new.max_connections,
        "intended_state": IntendedState.ENABLED,
        "reported_state": ReportedState.ACTIVATING,
        "since": now,
    }
    if not insert_absent(tx, integrations, [row]):
        return False
    _ask_for_test(tx, integration_id, 1, decides=True, who=who, now=now)
    _note(tx, integration_id, "created", who=who, before=None, after=ReportedState.ACTIVATING, why=None, now=now)
    return True


def mark_lane(tx: Connection, integration_id: UUID, lane: Lane) -> None:
    """Tell every worker that this queue exists."""
    column = _LANE_COLUMN[lane]
    tx.execute(
        sa.update(integrations)
        .where(integrations.c.id == integration_id, column.is_(sa.false()))
        .values({column.name: True})
    )


def set_ehlo_size(tx: Connection, integration_id: UUID, size: int | None) -> None:
    """Remember what the server's last EHLO gave as its SIZE."""
    tx.execute(sa.update(integrations).where(integrations.c.id == integration_id).values(ehlo_size=size))


def count_failure(tx: Connection, blamed: Blamed, *, now: datetime) -> bool:
    """Count a failure for all workers together; True when it was the one that set the integration to ERROR."""
    mine = sa.and_(
        integrations.c.id == blamed.integration_id,
        integrations.c.generation == blamed.generation,
        integrations.c.reported_state == ReportedState.ACTIVE,
    )
    counted = tx.execute(
        sa.update(integrations)
        .where(
            mine,
            sa.or_(integrations.c.failed_at.is_(None), integrations.c.failed_at <= blamed.began_at - blamed.apart),
        )
        .values(failures=integrations.c.failures + 1, failed_at=now)
        .returning(integrations.c.failures)
    ).scalar_one_or_none()
    if counted is None or counted < blamed.threshold:
        return False
    tx.execute(
        sa.update(integrations)
        .where(mine)
        .values(reported_state=ReportedState.ERROR, cause=blamed.cause, transcript=blamed.transcript, since=now)
    )
    _note(
        tx, blamed.integration_id, "error", who=blamed.who, before=ReportedState.ACTIVE, after=ReportedState.ERROR,
        why=f"{blamed.cause} after {counted} failures in a row", now=now,
    )  # fmt: skip
    return True


def forget_failures(tx: Connection, integration_id: UUID, generation: int) -> None:
    """A send went through: the row of failures is broken."""
    tx.execute(
        sa.update(integrations)
        .where(
            integrations.c.id == integration_id, integrations.c.generation == generation, integrations.c.failures > 0
        )
        .values(failures=0, failed_at=None)
    )


# --- what a person does -----------------------------------------------------------------------------------------------


def _locked(tx: Connection, name: str) -> Any:
    row = tx.execute(sa.select(integrations).where(integrations.c.name == name).with_for_update()).one_or_none()
    if row is None:
        known = ", ".join(tx.execute(sa.select(integrations.c.name).order_by(integrations.c.name)).scalars())
        raise UnknownIntegration(f"there is no integration {name!r}; there are: {known or 'none'}")
    return row


def reset(tx: Connection, name: str, *, who: str, why: str | None, now: datetime) -> UUID:
    """Ask for a way back to ACTIVE: ENABLED, ACTIVATING, and a live test that decides. Returns the test's id."""
    row = _locked(tx, name)
    generation = row.generation + 1
    tx.execute(
        sa.update(integrations)
        .where(integrations.c.id == row.id)
        .values(
            intended_state=IntendedState.ENABLED,
            reported_state=ReportedState.ACTIVATING,
            generation=generation,
            failures=0,
            failed_at=None,
            since=now,
        )
    )
    # An older test of an older configuration decides nothing any more.
    tx.execute(
        sa.update(connection_tests)
        .where(connection_tests.c.integration_id == row.id, connection_tests.c.ended_at.is_(None))
        .values(ended_at=now, passed=False, transcript="a newer reset took this test's place")
    )
    _note(
        tx, row.id, "reset", who=who, before=row.reported_state, after=ReportedState.ACTIVATING, why=why, now=now
    )  # fmt: skip
    return _ask_for_test(tx, row.id, generation, decides=True, who=who, now=now)


def disable(tx: Connection, name: str, *, who: str, why: str | None, now: datetime) -> None:
    """Send nothing through it any more until it is reset; what is accepted waits."""
    row = _locked(tx, name)
    tx.execute(
        sa.update(integrations)
        .where(integrations.c.id == row.id)
        .values(
            intended_state=IntendedState.DISABLED,
            reported_state=ReportedState.INACTIVE,
            generation=row.generation + 1,
            cause=None,
            since=now,
        )
    )
    _note(
        tx, row.id, "disabled", who=who, before=row.reported_state, after=ReportedState.INACTIVE, why=why, now=now
    )  # fmt: skip


def request_test(tx: Connection, name: str, *, who: str, now: datetime) -> UUID:
    """Ask a worker for a live test that only tells; the state stays as it is."""
    row = _locked(tx, name)
    return _ask_for_test(tx, row.id, row.generation, decides=False, who=who, now=now)


def history(tx: Connection, integration_id: UUID, limit: int = 20) -> Sequence[Any]:
    """The newest audit rows of one integration first."""
    return tx.execute(
        sa.select(audit)
        .where(audit.c.subject == "integration", audit.c.subject_id == integration_id)
        .order_by(audit.c.at.desc())
        .limit(limit)
    ).all()


def transcript_of(tx: Connection, integration_id: UUID) -> str | None:
    """The conversation with the server that set or last tested the state."""
    return tx.execute(
        sa.select(integrations.c.transcript).where(integrations.c.id == integration_id)
    ).scalar_one_or_none()


# --- live tests -------------------------------------------------------------------------------------------------------


def _ask_for_test(
    tx: Connection, integration_id: UUID, generation: int, *, decides: bool, who: str, now: datetime
) -> UUID:
    test_id = uuid4()
    tx.execute(
        sa.insert(connection_tests).values(
            id=test_id, integration_id=integration_id, generation=generation, decides=decides, requested_at=now,
            requested_by=who,
        )
    )  # fmt: skip
    return test_id


def test(tx: Connection, test_id: UUID) -> ConnectionTest:
    """A live test as it stands."""
    row = tx.execute(sa.select(connection_tests).where(connection_tests.c.id == test_id)).one()
    return _test(row)


def take_test(tx: Connection, integration_id: UUID, session: UUID, *, now: datetime) -> ConnectionTest | None:
    """Take the oldest waiting test of an integration for this session; None when there is none or one is running.

    Asked again after its answer was lost, it gives the test that this session has already.
    """
    # One taker at a time, or two could each find that nothing runs.
    tx.execute(sa.select(integrations.c.id).where(integrations.c.id == integration_id).with_for_update())
    running = tx.execute(
        sa.select(connection_tests).where(
            connection_tests.c.integration_id == integration_id,
            connection_tests.c.ended_at.is_(None),
            connection_tests.c.taken_at.is_not(None),
        )
    ).first()
    if running:
        return _test(running) if running.session == session else None
    oldest = (
        sa.select(connection_tests.c.id)
        .where(
            connection_tests.c.integration_id == integration_id,
            connection_tests.c.ended_at.is_(None),
            connection_tests.c.taken_at.is_(None),
        )
        .order_by(connection_tests.c.requested_at)
        .limit(1)
    )
    row = tx.execute(
        sa.update(connection_tests)
        .where(connection_tests.c.id.in_(oldest), connection_tests.c.taken_at.is_(None))
        .values(taken_at=now, session=session)
        .returning(connection_tests)
    ).one_or_none()
    return _test(row) if row else None


def conclude_test(
    tx: Connection, test: ConnectionTest, *, cause: Cause | None, transcript: str, ehlo_size: int | None, who: str,
    now: datetime,
) -> ReportedState | None:  # fmt: skip
    """Record how a test went (no cause = it passed); the state it decided, if it decided any."""
    ended = tx.execute(
        sa.update(connection_tests)
        .where(connection_tests.c.id == test.id, connection_tests.c.ended_at.is_(None))
        .values(ended_at=now, passed=cause is None, cause=cause, transcript=transcript)
    )
    if ended.rowcount != 1 or not test.decides:
        return None
    state = ReportedState.ACTIVE if cause is None else ReportedState.ERROR
    moved = tx.execute(
        sa.update(integrations)
        .where(
            integrations.c.id == test.integration_id,
            integrations.c.generation == test.generation,
            integrations.c.reported_state == ReportedState.ACTIVATING,
        )
        .values(
            reported_state=state, cause=cause, transcript=transcript, failures=0, failed_at=None, since=now,
            ehlo_size=sa.func.coalesce(sa.literal(ehlo_size, sa.BigInteger), integrations.c.ehlo_size),
        )
    )  # fmt: skip
    if moved.rowcount != 1:
        return None
    _note(
        tx, test.integration_id, "tested", who=who, before=ReportedState.ACTIVATING, after=state,
        why="the live test passed" if cause is None else str(cause), now=now,
    )  # fmt: skip
    return state


def give_back_test(tx: Connection, test: ConnectionTest) -> None:
    """Let another worker take a test that this one cannot end."""
    tx.execute(
        sa.update(connection_tests)
        .where(connection_tests.c.id == test.id, connection_tests.c.ended_at.is_(None))
        .values(taken_at=None, session=None)
    )


def abandoned_tests(tx: Connection, *, taken_before: datetime) -> list[ConnectionTest]:
    """Tests that a worker took and did not end in time: it died."""
    rows = tx.execute(
        sa.select(connection_tests).where(
            connection_tests.c.ended_at.is_(None), connection_tests.c.taken_at < taken_before
        )
    )
    return [_test(row) for row in rows]


def _test(row: Any) -> ConnectionTest:
    return ConnectionTest(
        id=row.id,
        integration_id=row.integration_id,
        generation=row.generation,
        decides=bool(row.decides),
        requested_at=row.requested_at,
        taken_at=row.taken_at,
        ended_at=row.ended_at,
        passed=None if row.passed is None else bool(row.passed),
        cause=Cause(row.cause) if row.cause else None,
        transcript=row.transcript,
    )


# --- audit and facts --------------------------------------------------------------------------------------------------


def _note(
    tx: Connection, integration_id: UUID, action: str, *, who: str, before: str | None, after: str | None,
    why: str | None, now: datetime,
) -> None:  # fmt: skip
    tx.execute(
        sa.insert(audit).values(
            id=uuid4(), at=now, who=who, subject="integration", subject_id=integration_id, action=action,
            before=before, after=after, why=why,
        )
    )  # fmt: skip


def fact(tx: Connection, name: str, value: str) -> str:
    """The value of a fact; the given one when nobody has stated it yet."""
    insert_absent(tx, facts, [{"name": name, "value": value}])
    return str(tx.execute(sa.select(facts.c.value).where(facts.c.name == name)).scalar_one())
