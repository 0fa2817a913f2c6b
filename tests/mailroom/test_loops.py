"""Loops that run as long as their process: they begin again after every failure, and end when they are told to."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mailroom import loops
from mailroom.loops import start_loop


async def go_on() -> None:
    """Work without end."""
    await asyncio.Event().wait()


async def keep_it_secret() -> None:
    """Work that keeps its cancellation for itself, as some libraries do."""
    try:
        await go_on()
    except asyncio.CancelledError:
        return


async def fail_instead() -> None:
    """Work that fails while it cleans up after its cancellation."""
    try:
        await go_on()
    finally:
        raise ConnectionError("the connection died")


@pytest.mark.parametrize("work", [go_on, keep_it_secret, fail_instead])
async def test_a_loop_that_is_cancelled_ends(work: Callable[[], Awaitable[None]]) -> None:
    """Whatever its work makes of the cancellation, it does not begin again."""
    begun = 0

    async def counted() -> None:
        nonlocal begun
        begun += 1
        await work()

    loop = start_loop("a test", counted)
    await asyncio.sleep(0)
    loop.cancel()
    done, _ = await asyncio.wait([loop], timeout=10)

    assert (done, begun) == ({loop}, 1)


async def test_a_loop_goes_on_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure, an end, and a cancellation by nobody: each time its work begins again."""
    monkeypatch.setattr(loops, "AGAIN_SECONDS", 0)
    begun, all_seen = 0, asyncio.Event()

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            raise ValueError("a defect")
        if begun == 2:
            raise asyncio.CancelledError
        if begun == 4:
            all_seen.set()
            await go_on()

    loop = start_loop("a test", work)
    async with asyncio.timeout(10):
        await all_seen.wait()
    loop.cancel()
    await asyncio.wait([loop])

    assert begun == 4
