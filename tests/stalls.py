"""A probe of the event loop: it comes round all the while, or the test fails."""

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Stall:
    """The longest time for which the loop did not come round, in seconds of processor time."""

    longest: float = 0.0


@contextlib.asynccontextmanager
async def probed() -> AsyncIterator[Stall]:
    """What steps of the loop, and threads that keep it from going on, take at most while inside.

    Counted in processor time of this process, so that a machine that is busy with others does not count. Whatever the
    test itself does on the loop does.
    """
    stall = Stall()

    async def probe() -> None:
        while True:
            before = time.process_time()
            await asyncio.sleep(0)
            stall.longest = max(stall.longest, time.process_time() - before)

    # A collection of all that the tests of this process have made is no step of the gateway's.
    gc.collect()
    gc.disable()
    probing = asyncio.create_task(probe())
    try:
        # Its first round would count what was done before.
        await asyncio.sleep(0)
        yield stall
    finally:
        gc.enable()
        probing.cancel()


@contextlib.asynccontextmanager
async def never_stalled(longest: float) -> AsyncIterator[None]:
    """The loop comes round at least once in so many seconds."""
    async with probed() as stall:
        yield
    assert stall.longest < longest, f"the loop stood still for {stall.longest:.3f} s"


async def never_stalls(longest: float, work: Callable[[int], Awaitable[object]], tries: int = 3) -> None:
    """The same of work that can be done again, which is told how often it was: once it must be well.

    Threads that compute beside the loop are counted with it, and the system may let them run for a while before it.
    """
    found = []
    for number in range(tries):
        async with probed() as stall:
            await work(number)
        found.append(stall.longest)
        if stall.longest < longest:
            return
    raise AssertionError(f"the loop stood still for {', '.join(f'{one:.3f}' for one in found)} s")
