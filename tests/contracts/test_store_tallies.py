"""What every store promises about the tallies of each minute."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

from mailroom.store import tallies
from mailroom.store.port import Store
from mailroom.store.schema import EPOCH
from mailroom.store.tallies import NO_INTEGRATION, By, Key, Point, Total
from tests.builders import NOW

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def key(minute: int = 0, what: str = "sent", kind: str = "form", service: str = "", of: UUID = NO_INTEGRATION) -> Key:
    """Something that happened so many minutes after NOW."""
    return Key((NOW - EPOCH) // MINUTE + minute, what, kind, service, of)


async def test_numbers_add_up(store: Store) -> None:
    """What two processes add to the same minute is there together."""
    await store.statement(tallies.add, {key(): 2, key(1): 1})
    await store.statement(tallies.add, {key(1): 4, key(): 3, key(what="failed"): 1})

    assert await store.read(tallies.totals, NOW, NOW + HOUR, what=["sent", "failed"]) == [
        Total("failed", None, 1),
        Total("sent", None, 10),
    ]


async def test_many_may_add_at_once(store: Store) -> None:
    """Processes that add to the same rows at the same time do not lock each other up, and lose nothing."""
    forth = {key(minute): 1 for minute in range(200)}
    back = dict(reversed(forth.items()))
    await asyncio.gather(*(store.statement(tallies.add, counts) for counts in [forth, back] * 5))

    [total] = await store.read(tallies.totals, NOW, NOW + 9 * HOUR, what=["sent"])
    assert total.number == 2000


async def test_a_series_has_a_point_a_step(store: Store) -> None:
    """Minutes are added up to steps that begin at whole multiples; what is before, after or not asked for is not in."""
    counts = {key(minute): 1 for minute in range(-10, 20)} | {key(2, "held"): 7, key(2, "refused"): 100}
    await store.statement(tallies.add, counts)
    found = await store.read(
        tallies.series, NOW, NOW + 12 * MINUTE, 5 * MINUTE, what=["sent", "held"]
    )  # fmt: skip

    assert found == [
        Point(NOW, "held", None, 7),
        Point(NOW, "sent", None, 5),
        Point(NOW + 5 * MINUTE, "sent", None, 5),
        Point(NOW + 10 * MINUTE, "sent", None, 2),
    ]


async def test_what_happened_is_told_apart(store: Store) -> None:
    """By kind, by service, or by integration: each sum is of all the rest."""
    one, two = sorted([uuid4(), uuid4()])
    await store.statement(
        tallies.add,
        {
            key(kind="form", service="a", of=one): 1,
            key(kind="form", service="b", of=two): 2,
            key(kind="acd", of=one): 4,
        },
    )
    asked = {"what": ["sent"]}
    by_kind = await store.read(tallies.totals, NOW, NOW + HOUR, **asked, by=By.KIND)
    by_service = await store.read(tallies.totals, NOW, NOW + HOUR, **asked, by=By.SERVICE)
    through = await store.read(tallies.series, NOW, NOW + HOUR, HOUR, **asked, by=By.INTEGRATION)

    assert by_kind == [Total("sent", "acd", 4), Total("sent", "form", 3)]
    assert by_service == [Total("sent", "", 4), Total("sent", "a", 1), Total("sent", "b", 2)]
    assert through == [Point(NOW, "sent", one, 5), Point(NOW, "sent", two, 2)]


async def test_the_old_are_forgotten(store: Store) -> None:
    """What is older goes, an hour's worth at a time, until only what is young enough is left."""
    await store.statement(tallies.add, {key(minute): 1 for minute in range(-150, 10)})
    passes = []
    while gone := await store.transaction(tallies.forget, before=NOW):
        passes.append(gone)

    [left] = await store.read(tallies.totals, NOW - 9 * HOUR, NOW + HOUR, what=["sent"])
    assert (passes, left.number) == ([60, 60, 30], 10)


async def test_old_minutes_are_put_together_by_the_hour(store: Store) -> None:
    """The sums of each hour stay what they are, in a sixtieth of the rows; what is younger stays by the minute."""
    await store.statement(tallies.add, {key(minute): 2 for minute in range(-150, 10)})
    before = await store.read(tallies.series, NOW - 9 * HOUR, NOW + HOUR, HOUR, what=["sent"])
    merged = []
    while gone := await store.transaction(tallies.merge, before=NOW):
        merged.append(gone)

    after = await store.read(tallies.series, NOW - 9 * HOUR, NOW + HOUR, HOUR, what=["sent"])
    by_minute = await store.read(tallies.series, NOW - 9 * HOUR, NOW + HOUR, HOUR / 60, what=["sent"])
    assert after == before
    assert merged == [30, 59]
    assert len(by_minute) == 2 + 60 + 10, (
        "of the hours that are over one row each; the last hour and ours are as they were"
    )


async def test_the_oldest_waiting_message_is_noted_once_a_minute(store: Store) -> None:
    """Whoever comes first in a minute writes it; a step has its longest, and no sum; merging leaves it alone."""
    for second, waited in ((0, 30), (20, 45), (60, 90), (3600, 5)):
        await store.transaction(tallies.note_oldest, timedelta(seconds=waited), at=NOW + timedelta(seconds=second))
    await store.transaction(tallies.merge, before=NOW + 9 * HOUR)

    by_hour = await store.read(tallies.oldest, NOW, NOW + 9 * HOUR, HOUR)
    assert [(point.at, point.number) for point in by_hour] == [(NOW, 90), (NOW + HOUR, 5)]
    by_minute = await store.read(tallies.oldest, NOW, NOW + HOUR, timedelta(minutes=1))
    assert [point.number for point in by_minute] == [30, 90]
    assert await store.read(tallies.oldest_is_noted, at=NOW + timedelta(seconds=70))
    assert not await store.read(tallies.oldest_is_noted, at=NOW + timedelta(seconds=130))
