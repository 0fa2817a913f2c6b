"""What every process of ours does for itself."""

import gc
from collections.abc import Callable
from typing import Any

from mailroom.process import run_process
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


def _run(story: Callable[[Settings], Any]) -> int:
    return run_process(story, Settings)
