"""Loops of a process that run as long as it does, whatever happens in one round of them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mailroom.logs import get_logger

log = get_logger(__name__)

#: Seconds before a loop that failed begins again.
AGAIN_SECONDS = 1.0


def start_loop(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
    """Keep `work` going until the task is cancelled: a defect in it is logged, and it begins again."""
    return asyncio.get_running_loop().create_task(_for_ever(name, work))


def really_cancelled() -> bool:
    """Whether somebody cancelled this task; a CancelledError of a library that lost its connection is none."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _for_ever(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    while True:
        try:
            await work()
        except asyncio.CancelledError:
            if really_cancelled():
                raise
            log.warning("a loop was cancelled by nobody; it goes on", loop=name)
        except Exception:
            log.exception("a loop failed; it goes on", loop=name)
        if really_cancelled():
            # A library has kept the CancelledError for itself, or put an error of its own in its place.
            return
        await asyncio.sleep(AGAIN_SECONDS)
