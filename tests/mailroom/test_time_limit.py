"""A time limit: each who waits has its own time, and none has a timer of its own."""

import asyncio
from collections.abc import Sequence

import pytest

from mailroom.batch import Batch
from mailroom.time_limit import TimeLimit


def somebody() -> "asyncio.Future[int]":
    """Who waits for a number."""
    return asyncio.get_running_loop().create_future()


async def test_a_result_in_time_is_the_result() -> None:
    """Whoever gets theirs in time hears nothing of the time."""
    future = TimeLimit(60).on(somebody())
    future.set_result(7)

    assert await future == 7


async def test_who_waited_long_enough_leaves() -> None:
    """There is no result within the time: TimeoutError, and that for each at its own time."""
    time_limit = TimeLimit(0.2)
    first = time_limit.on(somebody())
    await asyncio.sleep(0.1)
    second = time_limit.on(somebody())
    with pytest.raises(TimeoutError):
        await first

    assert not second.done()
    with pytest.raises(TimeoutError):
        await second


async def test_results_in_time_change_nothing_for_those_behind() -> None:
    """Who came while others had waited already waits as long as they; also who comes when all have left."""
    time_limit = TimeLimit(0.2)
    for future in [time_limit.on(somebody()) for _ in range(5)]:
        future.set_result(1)
    await asyncio.sleep(0.1)
    late = time_limit.on(somebody())
    await asyncio.sleep(0.15)
    assert not late.done()
    with pytest.raises(TimeoutError):
        await late

    last = time_limit.on(somebody())
    with pytest.raises(TimeoutError):
        await last


async def test_who_is_cancelled_while_waiting_is_cancelled() -> None:
    """A time to leave changes nothing about who is told to leave."""

    async def waiting_with(time_limit: TimeLimit) -> int:
        return await time_limit.on(somebody())

    waiting = asyncio.create_task(waiting_with(TimeLimit(60)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_whose_time_was_over_is_left_out_of_its_group() -> None:
    """Whoever left a line before its flush began is not flushed, and its neighbours are."""
    groups: list[list[int]] = []
    open_, time_limit = asyncio.Event(), TimeLimit(0.05)

    async def flush(group: Sequence[int]) -> Sequence[int]:
        groups.append(list(group))
        await open_.wait()
        return group

    line: Batch[int, int] = Batch(flush, max_items=9, max_waiting=9)
    first = line.put(1)
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await time_limit.on(line.put(2))
    third = line.put(3)
    open_.set()

    assert [await first, await third] == [1, 3]
    assert groups == [[1], [3]]
