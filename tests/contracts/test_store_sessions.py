"""What every store promises about sessions: who lives, who died, and how far each has come."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

from mailroom.message import Lane
from mailroom.store import sessions
from mailroom.store.port import Store
from mailroom.store.sessions import Position
from tests.builders import NOW

QUEUE = uuid4()


async def opened(store: Store) -> UUID:
    """A worker that begins to work."""
    session = uuid4()
    await store.transaction(sessions.open_session, session, host="here", pid=1, at=NOW)
    return session


def at(seconds: int) -> datetime:
    """A moment of the test."""
    return NOW + timedelta(seconds=seconds)


def holding(seconds: int, lane: Lane = Lane.FORM) -> Position:
    """A worker whose oldest ticket in hand is of that moment."""
    return Position(QUEUE, lane, holding=True, published_at=at(seconds))


def acknowledged(seconds: int, lane: Lane = Lane.FORM) -> Position:
    """A worker with nothing in hand, which acknowledged a ticket of that moment last."""
    return Position(QUEUE, lane, holding=False, published_at=at(seconds))


async def test_a_beat_is_seen(store: Store) -> None:
    """Each beat raises the number that everybody sees."""
    session = await opened(store)
    before = await store.read(sessions.beats)
    for _ in range(3):
        assert await store.transaction(sessions.beat, session, [])

    assert before == {session: 0}
    assert await store.read(sessions.beats) == {session: 3}


async def test_whoever_has_beaten_since_is_not_dead(store: Store) -> None:
    """A death is declared of a beat that was seen; a session that has beaten since lives, and keeps its positions."""
    session = await opened(store)
    await store.transaction(sessions.beat, session, [holding(1)])

    assert not await store.transaction(sessions.declare_dead, session, 0, at=NOW)
    assert await store.read(sessions.beats) == {session: 1}
    assert await store.read(sessions.reached) == {(QUEUE, Lane.FORM): holding(1)}


async def test_the_dead_cannot_beat(store: Store) -> None:
    """A session declared dead is told so at its next beat, and holds nothing any more."""
    session = await opened(store)
    await store.transaction(sessions.beat, session, [holding(1)])

    assert await store.transaction(sessions.declare_dead, session, 1, at=NOW)
    assert not await store.transaction(sessions.beat, session, [holding(2)])
    assert not await store.transaction(sessions.declare_dead, session, 1, at=NOW)
    assert await store.read(sessions.beats) == {}
    assert await store.read(sessions.reached) == {}


async def test_who_took_leave_holds_nothing(store: Store) -> None:
    """A session that ended in order leaves behind how far it came, and cannot beat."""
    session = await opened(store)
    await store.transaction(sessions.beat, session, [holding(4)])
    await store.transaction(sessions.end_session, session, at=NOW)

    assert await store.read(sessions.reached) == {(QUEUE, Lane.FORM): acknowledged(4)}
    assert not await store.transaction(sessions.beat, session, [])


async def test_the_oldest_ticket_in_hand_is_how_far_a_queue_came(store: Store) -> None:
    """While anybody holds a ticket the oldest counts, however far others are; else the last one acknowledged."""
    one, two, three = [await opened(store) for _ in range(3)]
    await store.transaction(sessions.beat, one, [holding(5), acknowledged(1, Lane.AGENT)])
    await store.transaction(sessions.beat, two, [holding(3), acknowledged(2, Lane.AGENT)])
    await store.transaction(sessions.beat, three, [acknowledged(9)])

    assert await store.read(sessions.reached) == {
        (QUEUE, Lane.FORM): holding(3),
        (QUEUE, Lane.AGENT): acknowledged(2, Lane.AGENT),
    }


async def test_a_beat_replaces_the_positions(store: Store) -> None:
    """What a worker told with its last beat is all that counts."""
    session = await opened(store)
    await store.transaction(sessions.beat, session, [holding(1), holding(1, Lane.AGENT)])
    await store.transaction(sessions.beat, session, [acknowledged(2)])

    assert await store.read(sessions.reached) == {(QUEUE, Lane.FORM): acknowledged(2)}


async def test_a_new_owner_ends_every_session(store: Store) -> None:
    """When only one process can be, its start ends all sessions before it."""
    session = await opened(store)
    await store.transaction(sessions.beat, session, [holding(1)])
    await store.transaction(sessions.declare_all_dead, at=NOW)

    assert await store.read(sessions.beats) == {}
    assert await store.read(sessions.reached) == {}
    assert not await store.transaction(sessions.beat, session, [])
