"""A session: alive while it beats, and nothing that was claimed for an earlier one is ours."""

from collections.abc import Sequence
from datetime import UTC, datetime

from mailroom.store import sessions
from mailroom.store.sessions import Position
from mailroom.store.sqlite import SqliteStore
from worker.session import Session


def nowhere() -> Sequence[Position]:
    """Of a worker that consumes nothing."""
    return ()


async def test_what_a_dead_session_claimed_is_not_ours(store: SqliteStore) -> None:
    """A session that was declared dead is followed by a new one, which holds nothing of what the old one claimed."""
    session = Session(store, nowhere)
    await session.open()
    old = session.id
    assert session.holds(old)
    [(_, beat)] = (await store.read(sessions.beats)).items()
    assert await store.transaction(sessions.declare_dead, old, beat, at=datetime.now(UTC))
    await session.beat()

    assert session.is_fresh()
    assert session.id != old
    assert session.holds(session.id)
    assert not session.holds(old)


async def test_a_session_that_never_beat_holds_nothing(store: SqliteStore) -> None:
    """Before it is entered a session is not fresh."""
    session = Session(store, nowhere)

    assert not session.is_fresh()
    assert not session.holds(session.id)
