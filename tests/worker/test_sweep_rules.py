"""When a ticket counts as lost."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from mailroom.message import Lane
from mailroom.store.sessions import Position
from worker.sweep import ON_THE_WAY, PASSED_BY, lost_before

NOW = datetime(2026, 1, 6, 12, tzinfo=UTC)
QUEUE = UUID(int=1)


def at(minutes: float, *, holding: bool) -> Position:
    """A worker that is at a ticket written so many minutes ago."""
    return Position(QUEUE, Lane.FORM, holding=holding, published_at=NOW - timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("reached", "ready", "before"),
    [
        # Nobody ever took a ticket there and some wait: nothing can be said.
        (None, 5, None),
        # An empty queue that nobody holds a ticket of: only what is quite new may still have one on its way.
        (None, 0, NOW - ON_THE_WAY),
        # Somebody holds a ticket: whatever is a minute older than that was passed by, and nothing else.
        (at(10, holding=True), 5, NOW - timedelta(minutes=10) - PASSED_BY),
        (at(10, holding=True), 0, NOW - timedelta(minutes=10) - PASSED_BY),
        # Nobody holds one, the last acknowledged tells how far the queue is.
        (at(2, holding=False), 5, NOW - timedelta(minutes=2) - PASSED_BY),
        (at(2, holding=False), 0, NOW - ON_THE_WAY),
        # The clock that wrote its ticket was ahead: what came after that by a right clock was not passed by.
        (at(-1440, holding=True), 5, None),
        (at(-1440, holding=True), 0, None),
        (at(-1440, holding=False), 5, None),
        (at(-1440, holding=False), 0, NOW - ON_THE_WAY),
        # A little ahead is nothing, and no bound is ever younger than what may be on its way.
        (at(-0.25, holding=True), 5, NOW + timedelta(seconds=15) - PASSED_BY),
    ],
)
def test_a_ticket_is_lost_only_when_its_queue_has_moved_past_it(
    reached: Position | None, ready: int, before: datetime | None
) -> None:
    """A queued message counts as without a ticket only by what first in, first out allows to conclude."""
    assert lost_before(reached, ready, NOW) == before
