"""What every process of ours does for itself."""

import asyncio
import gc
import resource
from collections.abc import Callable
from typing import Any

from mailroom.process import quick_loop, ready, run_process
from mailroom.settings import Settings


def test_ovl_1_rubbish_is_seldom_looked_for_everywhere() -> None:
    """Half a million objects that come and stay, as connections do, make Python look through all there are but once."""
    looks: list[int] = []

    def note(phase: str, told: dict[str, Any]) -> None:
        if phase == "start":
            looks.append(told["generation"])

    async def story(_: Settings) -> None:
        kept = [[number] for number in range(500_000)]
        assert len(kept) == 500_000

    before = gc.get_threshold()
    gc.callbacks.append(note)
    try:
        code = _run(story)
    finally:
        gc.callbacks.remove(note)
        gc.set_threshold(*before)

    assert code == 0
    assert looks.count(0) > 10
    assert looks.count(2) <= 1


def test_ovl_1_a_process_is_ready_for_many() -> None:
    """Each of our processes, `mailroom up` too, has the quick loop and may open as many files as it is allowed."""

    async def loop_and_files() -> tuple[type, tuple[int, int]]:
        return type(asyncio.get_running_loop()), resource.getrlimit(resource.RLIMIT_NOFILE)

    gc_before, files_before = gc.get_threshold(), resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        with ready() as runner:
            loop, (files, most) = runner.run(loop_and_files())
    finally:
        gc.set_threshold(*gc_before)
        resource.setrlimit(resource.RLIMIT_NOFILE, files_before)

    assert loop is type(_closed(quick_loop()))
    assert files == most


def _closed(loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
    loop.close()
    return loop


def _run(story: Callable[[Settings], Any]) -> int:
    return run_process(story, Settings)
