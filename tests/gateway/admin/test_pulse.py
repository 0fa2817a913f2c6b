"""Figures that everybody looks at: taken once for all who ask, and no more often than they cost."""

import asyncio
from dataclasses import dataclass

import pytest

from gateway.admin.pulse import TIMES_ITS_COST, YOUNG_SECONDS, Taken


@dataclass(slots=True)
class Counter:
    """Something that takes its time to count, and may fail."""

    seconds: float = 0.0
    taken: int = 0
    trouble: Exception | None = None

    async def count(self) -> int:
        """How often it was counted."""
        self.taken += 1
        await asyncio.sleep(self.seconds)
        if self.trouble is not None:
            raise self.trouble
        return self.taken


async def test_it_is_taken_once_for_all_who_ask() -> None:
    """Who asks while it is being taken waits for that, and who asks soon after gets the same."""
    counter = Counter(0.1)
    figure = Taken(counter.count)
    together = await asyncio.gather(*(figure.now() for _ in range(50)))

    assert {*together, await figure.now()} == {1}


async def test_it_is_taken_anew_when_it_is_old() -> None:
    """What was cheap to take is young for a moment only."""
    counter = Counter()
    figure = Taken(counter.count)
    first = await figure.now()
    await asyncio.sleep(YOUNG_SECONDS + 0.1)

    assert (first, await figure.now()) == (1, 2)


async def test_who_changed_it_gets_it_taken_anew() -> None:
    """Neither what is young nor what is just being taken may hide what somebody has just done."""
    counter = Counter(0.05)
    figure = Taken(counter.count)
    first = await figure.now()
    second = await figure.anew()
    begun = asyncio.create_task(figure.anew())
    await asyncio.sleep(0)
    third, fourth = await figure.anew(), await begun

    assert (first, second) == (1, 2)
    assert third > fourth == 3, "whoever came meanwhile did not get what had been begun before"


async def test_what_is_dear_is_taken_seldom() -> None:
    """What took long stays as it is for a multiple of that, however often one asks."""
    counter = Counter(0.2)
    figure = Taken(counter.count)
    await figure.now()
    await asyncio.sleep(YOUNG_SECONDS + 0.1)
    assert TIMES_ITS_COST * counter.seconds > YOUNG_SECONDS + 0.1

    assert await figure.now() == 1


async def test_nobody_waits_for_the_failures_of_others() -> None:
    """When it cannot be taken all who wait for it are told at once, and the next one tries again."""
    counter = Counter(0.1, trouble=ZeroDivisionError())
    figure = Taken(counter.count)
    told = await asyncio.gather(*(figure.now() for _ in range(50)), return_exceptions=True)
    assert (counter.taken, {type(one) for one in told}) == (1, {ZeroDivisionError})

    counter.trouble = None
    assert await figure.now() == 2


async def test_who_leaves_takes_it_from_nobody() -> None:
    """A reader who goes away while it is being taken does not end that for the others."""
    counter = Counter(0.2)
    figure = Taken(counter.count)
    first, second = asyncio.ensure_future(figure.now()), asyncio.ensure_future(figure.now())
    await asyncio.sleep(0.05)
    first.cancel()

    assert await second == 1
    with pytest.raises(asyncio.CancelledError):
        await first
