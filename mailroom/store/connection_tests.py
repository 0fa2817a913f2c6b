"""Queries about live tests: asked for, taken by one worker, concluded. Some decide the state of their integration."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.integration import STATE_MOVES, Cause, Move, Mover, ReportedState
from mailroom.store import states
from mailroom.store.schema import connection_tests, integrations, sessions
from mailroom.store.states import Made


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A mail that a live test also sends, when its integration may send at all."""

    sender: str
    recipient: str
    subject: str
    text: str
    html: str | None = None
    sender_name: str | None = None


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
    letter: Letter | None = None
    #: What the letter went out with; None when it did not.
    message_id: str | None = None


@dataclass(frozen=True, slots=True)
class Posted:
    """A letter that a live test tried to send: the Message-ID it went out with, None when the server did not take it."""

    message_id: str | None


def ask_for_test(
    tx: Connection, integration_id: UUID, generation: int, *, decides: bool, who: str, now: datetime,
    letter: Letter | None = None,
) -> UUID:  # fmt: skip
    """Let a worker test an integration; the test's id."""
    test_id = uuid4()
    tx.execute(
        sa.insert(connection_tests).values(
            id=test_id, integration_id=integration_id, generation=generation, decides=decides, requested_at=now,
            requested_by=who, letter=None if letter is None else _written(letter),
        )
    )  # fmt: skip
    return test_id


def withdraw_deciding(tx: Connection, integration_id: UUID, *, why: str, now: datetime) -> None:
    """Let waiting tests decide nothing any more, because something newer counts.

    One that runs is left to end, so that never two workers test at once; its generation is not the integration's.
    """
    tx.execute(
        sa.update(connection_tests)
        .where(
            connection_tests.c.integration_id == integration_id,
            connection_tests.c.ended_at.is_(None),
            connection_tests.c.taken_at.is_(None),
            connection_tests.c.decides,
        )
        .values(ended_at=now, passed=False, transcript=why)
    )


def test(tx: Connection, test_id: UUID) -> ConnectionTest:
    """A live test as it stands."""
    row = tx.execute(sa.select(connection_tests).where(connection_tests.c.id == test_id)).one()
    return _test(row)


def newest_test(tx: Connection, integration_id: UUID) -> ConnectionTest | None:
    """The test of an integration that was asked for last; None when there never was one."""
    row = tx.execute(
        sa.select(connection_tests)
        .where(connection_tests.c.integration_id == integration_id)
        .order_by(connection_tests.c.requested_at.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else _test(row)


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
    now: datetime, posted: Posted | None = None,
) -> ReportedState | None:  # fmt: skip
    """Record how a test went (no cause = it let us in); the state it decided, if it decided any."""
    made = Made(
        name=Move.SUCCEED if cause is None else Move.FAIL, by=Mover.WORKER, who=who, at=now, cause=cause,
        transcript=transcript, why=cause, generation=test.generation,
    )  # fmt: skip
    return _concluded(tx, test, made, ehlo_size=ehlo_size, posted=posted)


def conclude_abandoned(tx: Connection, test: ConnectionTest, *, now: datetime) -> ReportedState | None:
    """Let a test whose worker died end in ERROR rather than never."""
    why = "the worker that ran this test died before it ended"
    made = Made(
        name=Move.FAIL, by=Mover.SWEEP, who="sweep", at=now, cause=Cause.TIMED_OUT, transcript=why, why=why,
        generation=test.generation,
    )  # fmt: skip
    return _concluded(tx, test, made, ehlo_size=None, posted=None)


def _concluded(
    tx: Connection, test: ConnectionTest, made: Made, *, ehlo_size: int | None, posted: Posted | None
) -> ReportedState | None:
    ended = tx.execute(
        sa.update(connection_tests)
        .where(connection_tests.c.id == test.id, connection_tests.c.ended_at.is_(None))
        .values(
            ended_at=made.at, cause=made.cause, transcript=made.transcript,
            passed=made.cause is None and (posted is None or posted.message_id is not None),
            message_id=None if posted is None else posted.message_id,
        )
    )  # fmt: skip
    if ended.rowcount != 1 or not test.decides:
        return None
    size = sa.func.coalesce(sa.literal(ehlo_size, sa.BigInteger), integrations.c.ehlo_size)
    if states.move(tx, test.integration_id, made, failures=0, failed_at=None, ehlo_size=size):
        return STATE_MOVES[made.name].target
    overtaken = f"{made.transcript}\nIt decided nothing: the integration was reset, changed or switched off meanwhile."
    tx.execute(
        sa.update(connection_tests).where(connection_tests.c.id == test.id).values(passed=False, transcript=overtaken)
    )
    return None


def give_back_test(tx: Connection, test: ConnectionTest) -> None:
    """Let another worker take a test that this one cannot end."""
    tx.execute(
        sa.update(connection_tests)
        .where(connection_tests.c.id == test.id, connection_tests.c.ended_at.is_(None))
        .values(taken_at=None, session=None)
    )


def _is_orphaned() -> sa.ColumnElement[bool]:
    """Taken and not ended, by a session that is no more."""
    alive = sa.select(sessions.c.id).where(sessions.c.ended_at.is_(None))
    return sa.and_(
        connection_tests.c.ended_at.is_(None),
        connection_tests.c.taken_at.is_not(None),
        connection_tests.c.session.not_in(alive),
    )


def reopen_orphaned(tx: Connection, *, asked_since: datetime) -> None:
    """Let another worker take what a worker that is no more had taken; not a letter, which may be out already."""
    tx.execute(
        sa.update(connection_tests)
        .where(
            _is_orphaned(), connection_tests.c.letter.is_(None), connection_tests.c.requested_at >= asked_since
        )
        .values(taken_at=None, session=None)
    )  # fmt: skip


def abandoned_tests(tx: Connection, *, asked_before: datetime, taken_before: datetime) -> list[ConnectionTest]:
    """Tests that nobody will end: a worker died under each try, or has been at one for longer than can be."""
    orphaned = sa.and_(_is_orphaned(), connection_tests.c.requested_at < asked_before)
    stuck = sa.and_(connection_tests.c.ended_at.is_(None), connection_tests.c.taken_at < taken_before)
    return [_test(row) for row in tx.execute(sa.select(connection_tests).where(sa.or_(orphaned, stuck)))]


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
        letter=_read(row.letter) if row.letter else None,
        message_id=row.message_id,
    )


def _written(letter: Letter) -> str:
    return json.dumps(
        {
            "from": letter.sender,
            "fromName": letter.sender_name,
            "to": letter.recipient,
            "subject": letter.subject,
            "textBody": letter.text,
            "htmlBody": letter.html,
        }
    )


def _read(text: str) -> Letter:
    said = json.loads(text)
    return Letter(
        sender=said["from"],
        sender_name=said["fromName"],
        recipient=said["to"],
        subject=said["subject"],
        text=said["textBody"],
        html=said["htmlBody"],
    )
