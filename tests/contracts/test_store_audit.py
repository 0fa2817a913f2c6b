"""What every store promises about reading the audit."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection

from mailroom.store import audit
from mailroom.store.audit import Entry, Place, Wanted
from mailroom.store.port import Store
from tests.builders import NOW

MINUTE = timedelta(minutes=1)
ONE, TWO = uuid4(), uuid4()


def noted(tx: Connection, entries: list[Entry]) -> None:
    """Put these on record."""
    for entry in entries:
        audit.note(tx, entry)


def entry(minute: int, subject: str = "integration", subject_id: UUID | None = ONE, **changes: str) -> Entry:
    """Something that was done so many minutes after NOW."""
    return Entry(
        **{
            "subject": subject,
            "subject_id": subject_id,
            "action": "reset",
            "who": "cli jane",
            "at": NOW + minute * MINUTE,
        }
        | changes  # type: ignore[arg-type]  # the tests change texts only
    )


@pytest.fixture
async def told(store: Store) -> Store:
    """A store with some history."""
    entries = [
        entry(0), entry(1, who="worker 7", action="error"), entry(2, subject_id=TWO),
        entry(3, "inbound domain a_b.test", None), entry(4, "inbound domain axb.test", None, who="client crm"),
        entry(5, "keys", None, action="resealed"),
    ]  # fmt: skip
    await store.transaction(noted, entries)
    return store


@pytest.mark.parametrize(
    ("wanted", "minutes"),
    [
        (Wanted(), [5, 4, 3, 2, 1, 0]),
        (Wanted(since=NOW + 2 * MINUTE), [5, 4, 3, 2]),
        (Wanted(until=NOW + 2 * MINUTE), [1, 0]),
        (Wanted(since=NOW + MINUTE, until=NOW + 2 * MINUTE), [1]),
        (Wanted(who="jane"), [5, 3, 2, 0]),
        (Wanted(who="%"), []),
        (Wanted(subject="integration"), [2, 1, 0]),
        (Wanted(subject="inbound domain"), [4, 3]),
        (Wanted(subject="inbound domain a_b"), [3]),
        (Wanted(subject="integration", subject_id=ONE), [1, 0]),
        (Wanted(action="error"), [1]),
        (Wanted(action="reset", who="crm"), [4]),
    ],
    ids=range(12),
)
async def test_what_is_asked_for_is_listed(told: Store, wanted: Wanted, minutes: list[int]) -> None:
    """Every condition narrows the list, signs of patterns are plain text, and the newest is first."""
    rows = await told.read(audit.listed, wanted, limit=10)

    assert [(row.at - NOW) // MINUTE for row in rows] == minutes


async def test_pages_follow_each_other(store: Store) -> None:
    """However many happened at the same moment: each row is on one page, and on one only."""
    await store.transaction(noted, [entry(0) for _ in range(7)] + [entry(1) for _ in range(3)])
    seen: list[UUID] = []
    place = None
    while rows := await store.read(audit.listed, Wanted(), before=place, limit=4):
        seen += [row.id for row in rows]
        place = Place(rows[-1].at, rows[-1].id)

    assert len(seen) == len(set(seen)) == 10
