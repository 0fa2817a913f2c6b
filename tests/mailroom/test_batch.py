"""Work in groups: nobody waits for a timer, nobody is lost, and nobody suffers for a neighbour."""

import asyncio
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.batch import Batch, FlushLost, LineClosed, LineFull


class BadItem(Exception):
    """An item that cannot be flushed."""


class Flusher:
    """Flushes numbers to their squares; what it does on the way is the test's choice."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.bad: set[int] = set()
        self.cancels: set[int] = set()
        self.breaks: set[int] = set()
        self.seconds = 0.0
        self.under_way = self.most_under_way = 0

    async def flush(self, group: Sequence[int]) -> list[int]:
        """The squares, once the way is open."""
        self.groups.append(list(group))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(self.seconds)
        await self.open.wait()
        self.under_way -= 1
        if self.bad & set(group):
            raise BadItem
        if self.cancels & set(group):
            raise asyncio.CancelledError
        if self.breaks & set(group):
            raise ConnectionError("gone")
        return [number**2 for number in group]

    def line(
        self, *, max_items: int = 1000, max_waiting: int = 1000, max_bytes: int = 10**9, pause: float = 0.0,
        patient: bool = False, beside: float = math.inf,
    ) -> Batch[int, int]:  # fmt: skip
        """A line that ends in this flusher; each item's size is its number."""
        return Batch(
            self.flush, max_items=max_items, max_waiting=max_waiting, max_bytes=max_bytes, pause=pause,
            patient=patient, data_error=BadItem, size_of=lambda number: number, beside=beside,
        )  # fmt: skip


@pytest.fixture
def flusher() -> Flusher:
    """Something to flush with."""
    return Flusher()


async def outcomes(line: Batch[int, int], numbers: Sequence[int]) -> list[int | BaseException]:
    """What each gets that joins the line now."""
    return await asyncio.gather(*(line.add(number) for number in numbers), return_exceptions=True)


async def test_one_item_is_flushed_at_once(flusher: Flusher) -> None:
    """An idle line waits for nobody."""
    assert await flusher.line().add(7) == 49
    assert flusher.groups == [[7]]


async def test_what_arrives_during_a_flush_makes_up_the_next(flusher: Flusher) -> None:
    """However many arrive while one flush is under way, one more flush serves them all, in order."""
    line = flusher.line()
    flusher.open.clear()
    first = line.put(1)
    await asyncio.sleep(0)
    others = [line.put(number) for number in range(2, 100)]
    await asyncio.sleep(0)
    assert line.waiting == 98
    flusher.open.set()

    assert await asyncio.gather(first, *others) == [number**2 for number in range(1, 100)]
    assert flusher.groups == [[1], list(range(2, 100))]
    assert (line.groups, line.items, line.waiting) == (2, 99, 0)


async def test_a_pause_gathers_what_comes_meanwhile(flusher: Flusher) -> None:
    """The first is flushed at once; what comes in the pause after it shares one flush, also while none is in flight."""
    line = flusher.line(pause=0.2)
    assert await line.add(1) == 1
    others = [line.put(2), line.put(3)]
    await asyncio.sleep(0.05)
    others.append(line.put(4))

    assert await asyncio.gather(*others) == [4, 9, 16]
    assert flusher.groups == [[1], [2, 3, 4]]


async def test_a_patient_line_lets_the_first_one_wait_too(flusher: Flusher) -> None:
    """What follows the first item of a quiet line within the pause shares its flush, each time the line was quiet."""
    line = flusher.line(pause=0.2, patient=True)
    for first in (1, 4):
        gathered = [line.put(first)]
        await asyncio.sleep(0.05)
        gathered.append(line.put(first + 1))
        await asyncio.gather(*gathered)

    assert flusher.groups == [[1, 2], [4, 5]]


async def test_a_full_group_and_a_closing_line_pause_for_nothing(flusher: Flusher) -> None:
    """As many as one flush may have are flushed at once; so is what waits in a line that closes."""
    line = flusher.line(pause=60, max_items=3)
    await line.add(1)
    full = [line.put(number) for number in (2, 3, 4)]
    assert await asyncio.gather(*full) == [4, 9, 16]
    last = line.put(5)
    await line.aclose()

    assert await last == 25
    assert flusher.groups == [[1], [2, 3, 4], [5]]


async def test_a_group_is_bounded_by_count(flusher: Flusher) -> None:
    """No flush gets more items than allowed."""
    assert await outcomes(flusher.line(max_items=3), range(7)) == [number**2 for number in range(7)]
    assert flusher.groups == [[0, 1, 2], [3, 4, 5], [6]]


async def test_a_group_is_bounded_by_bytes(flusher: Flusher) -> None:
    """No flush gets more bytes than allowed, except a single item that is larger by itself."""
    await outcomes(flusher.line(max_bytes=10), [4, 6, 1, 50, 2, 8])

    assert flusher.groups == [[4, 6], [1], [50], [2, 8]]


async def test_a_full_line_takes_nobody(flusher: Flusher) -> None:
    """A line is bounded: whoever comes too late is told at once, and may come back when it has moved."""
    line = flusher.line(max_waiting=2)
    flusher.open.clear()
    line.put(1)
    await asyncio.sleep(0)
    waiting = [line.put(2), line.put(3)]
    with pytest.raises(LineFull):
        line.put(4)
    flusher.open.set()

    assert await asyncio.gather(*waiting) == [4, 9]
    assert await line.add(4) == 16


async def test_one_bad_item_fails_alone(flusher: Flusher) -> None:
    """A group that fails for its data is repeated one by one: of a hundred only the bad one fails."""
    flusher.bad = {57}
    line = flusher.line()

    found = await outcomes(line, range(100))
    assert [number for number, outcome in enumerate(found) if isinstance(outcome, BadItem)] == [57]
    assert [outcome for number, outcome in enumerate(found) if number != 57] == [n**2 for n in range(100) if n != 57]
    assert (line.groups, line.items) == (1, 100)


async def test_what_ends_a_flush_ends_for_its_members_only(flusher: Flusher) -> None:
    """Whatever a flush raises is its members' answer; the next flush is as good as any."""
    flusher.breaks = {1}
    line = flusher.line(max_items=2)

    found = await outcomes(line, [0, 1, 2])
    assert [type(outcome) for outcome in found] == [ConnectionError, ConnectionError, int]


async def test_a_cancelled_flush_stops_nothing(flusher: Flusher) -> None:
    """A library that cancels under our feet loses that group's answer, which is told, and nothing else."""
    flusher.cancels = {1}
    line = flusher.line(max_items=2)

    found = await outcomes(line, [0, 1, 2, 3])
    assert [type(outcome) for outcome in found] == [FlushLost, FlushLost, int, int]
    assert await line.add(9) == 81


async def test_even_a_cancelled_task_resolves_everybody(flusher: Flusher) -> None:
    """Were the very task of a flush cancelled, its members are told and those behind them are flushed."""
    line = flusher.line()
    flusher.open.clear()
    flying = line.put(1)
    await asyncio.sleep(0)
    waiting = line.put(2)
    [task] = line._flying
    task.cancel()
    await asyncio.sleep(0)
    flusher.open.set()

    with pytest.raises(FlushLost):
        await flying
    assert await waiting == 4


async def test_a_task_cancelled_before_it_began_loses_nobody(flusher: Flusher) -> None:
    """Cancelled before its first step, a flush is taken up by the next."""
    line = flusher.line()
    waiting = line.put(3)
    [task] = line._flying
    task.cancel()

    assert await waiting == 9


async def test_whoever_leaves_harms_no_neighbour(flusher: Flusher) -> None:
    """A caller that is cancelled before its flush began is never flushed, and its neighbours hear nothing of it."""
    line = flusher.line()
    flusher.open.clear()
    line.put(0)
    await asyncio.sleep(0)
    callers = [asyncio.create_task(line.add(number)) for number in (1, 2, 3)]
    await asyncio.sleep(0)
    callers[1].cancel()
    flusher.open.set()
    found = await asyncio.gather(*callers, return_exceptions=True)

    assert [type(outcome) for outcome in found] == [int, asyncio.CancelledError, int]
    assert flusher.groups == [[0], [1, 3]]
    assert (line.groups, line.items) == (2, 3)


async def test_too_few_results_are_told(flusher: Flusher) -> None:
    """A flush that does not answer everybody is a defect that nobody waits for in vain."""

    async def forgetful(group: Sequence[int]) -> list[int]:
        return [0] * (len(group) - 1)

    line: Batch[int, int] = Batch(forgetful, max_items=9, max_waiting=9, data_error=BadItem)
    found = await outcomes(line, [1, 2])

    assert [type(outcome) for outcome in found] == [int, ValueError]
    assert await outcomes(line, [3]) != [9]


async def test_closing_empties_the_line(flusher: Flusher) -> None:
    """A line that closes takes nothing more, and returns when everybody was served."""
    line = flusher.line(max_items=2)
    flusher.open.clear()
    waiting = [line.put(number) for number in range(5)]
    closing = asyncio.create_task(line.aclose())
    await asyncio.sleep(0)
    with pytest.raises(LineClosed):
        line.put(9)
    assert not closing.done()
    flusher.open.set()
    await closing

    assert [future.result() for future in waiting] == [0, 1, 4, 9, 16]


async def test_two_flights_are_under_way_at_once(flusher: Flusher) -> None:
    """Two flushes are under way together where they may, and no more."""
    line = flusher.line(max_items=1, beside=0)
    flusher.open.clear()
    waiting = [line.put(number) for number in range(5)]
    await asyncio.sleep(0)
    assert flusher.groups == [[0], [1]]
    flusher.open.set()

    assert await asyncio.gather(*waiting) == [0, 1, 4, 9, 16]


async def test_a_flight_that_takes_long_is_joined_by_another(flusher: Flusher) -> None:
    """What comes while one is under way gathers behind it; when that takes too long, it is flushed beside it."""
    line = flusher.line(beside=0.2)
    flusher.open.clear()
    first, *others = [line.put(number) for number in range(4)]
    await asyncio.sleep(0.05)
    gathering = list(flusher.groups)
    others.append(line.put(4))
    await asyncio.sleep(0.4)
    joined = list(flusher.groups)
    flusher.open.set()
    await asyncio.gather(first, *others)

    assert gathering == [[0, 1, 2, 3]]
    assert joined == [[0, 1, 2, 3], [4]]


async def test_each_flight_has_its_time_alone(flusher: Flusher) -> None:
    """The time counts from the start of the group that is under way, not from that of a group before it."""
    line = flusher.line(beside=1.0)
    flusher.seconds = 0.1
    waiting = []
    for number in range(30):
        waiting.append(line.put(number))
        await asyncio.sleep(0.05)
    await asyncio.gather(*waiting)

    assert flusher.most_under_way == 1


numbers = st.integers(0, 20)


@given(
    items=st.lists(numbers, max_size=40),
    bad=st.sets(numbers, max_size=3),
    cancels=st.sets(numbers, max_size=3),
    max_items=st.integers(1, 8),
    max_bytes=st.integers(1, 60),
    beside=st.sampled_from([0, math.inf]),
)
def test_everybody_is_answered_and_bounds_are_kept(
    *, items: list[int], bad: set[int], cancels: set[int], max_items: int, max_bytes: int, beside: float
) -> None:
    """Whatever comes together, each gets its own answer or its own failure, and no group exceeds its bounds."""

    async def run() -> None:
        flusher = Flusher()
        flusher.bad, flusher.cancels = bad, cancels
        line = flusher.line(max_items=max_items, max_bytes=max_bytes, beside=beside)
        found = await asyncio.wait_for(outcomes(line, items), 20)
        await line.aclose()
        for item, outcome in zip(items, found, strict=True):
            if isinstance(outcome, int):
                assert outcome == item**2
                assert item not in bad | cancels
            elif isinstance(outcome, BadItem):
                assert item in bad
            else:
                assert isinstance(outcome, FlushLost)
                assert cancels
        for group in flusher.groups:
            assert len(group) <= max_items
            assert len(group) == 1 or sum(group) <= max_bytes

    asyncio.run(run())


async def test_a_line_that_everybody_left_rests(flusher: Flusher) -> None:
    """Nothing is flushed for nobody, and the next item starts a flush again."""
    flusher.open.clear()
    line = flusher.line()
    under_way = line.put(1)
    await asyncio.sleep(0)
    line.put(2).cancel()
    flusher.open.set()
    await under_way

    assert await line.add(4) == 16
    assert flusher.groups == [[1], [4]]
