"""A worker in a thread of its own, with an event loop of its own: delivery does not slow intake down."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future

from mailroom.process import quick_loop, unless_stopped
from worker.app import Worker


class WorkerThread:
    """The one worker of a process that has everything. `start`, then `started`, at the end `aclose`."""

    def __init__(self, make: Callable[[], Worker]) -> None:
        self._make = make
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._started: Future[Worker] = Future()
        self._ended: Future[None] = Future()
        self._loop = quick_loop()
        self._stop = asyncio.Event()

    def start(self) -> None:
        """Begin; a worker that cannot is told by `started`."""
        self._thread.start()

    async def started(self) -> None:
        """Return once it works."""
        await asyncio.shield(asyncio.wrap_future(self._started))

    async def ended(self) -> None:
        """Return when it has ended; raises what ended it."""
        await asyncio.shield(asyncio.wrap_future(self._ended))

    @property
    def worker(self) -> Worker:
        """The worker, once it has started."""
        return self._started.result(timeout=0)

    async def aclose(self) -> None:
        """Let it finish what it has begun."""
        with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended by itself
            self._loop.call_soon_threadsafe(self._stop.set)
        await asyncio.gather(self.ended(), return_exceptions=True)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._work())
        except BaseException as error:  # noqa: BLE001 - whatever it is, the process's main loop must hear of it
            if not self._started.done():
                self._started.set_exception(error)
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)

    async def _work(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            # Made here: a worker belongs to the loop it is made in.
            worker = self._make()
            await unless_stopped(self._stop, stack.enter_async_context(worker.running(alone=True)))
            self._started.set_result(worker)
            await self._stop.wait()
