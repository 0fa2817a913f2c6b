"""Work in groups: whatever arrives while one flush is in flight makes up the next.

No added delay when idle: the first item starts a flush at once, and under load one statement or one publish serves as
many items as gathered meanwhile. Where nobody waits for the answer, a line may `pause` after each start: groups grow,
and with them what one statement is worth. A `patient` line lets its first item wait as long.
"""

import asyncio
import functools
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class LineFull(Exception):
    """As many items wait already as may; this one was not taken."""


class FlushLost(Exception):
    """The flush ended without an answer; whether the item was flushed is not known."""


class LineClosed(Exception):
    """The line takes nothing any more: the process is stopping."""


class NeverRaised(Exception):
    """No item of such a line can be refused for what it is."""


class Batch(Generic[Item, Result]):
    """A line of items and the flushes that empty it.

    `flush` gets the items of one group and returns their results in the same order. When it raises `data_error`, the group
    is repeated one item at a time, so that only the bad one fails. Whatever else ends a flush, CancelledError included, is
    raised to its members, and the next flush starts all the same. Who stopped waiting before its flush began is left out.
    `pause` is the least number of seconds from one start to the next, but for a group that is full; where the line is
    `patient`, it is also the least from the first item of a quiet line. There is one flush at a time; where one takes
    longer than `beside` seconds, a second one starts beside it.
    """

    def __init__(  # noqa: PLR0913 - each bounds a group, or when it starts
        self,
        flush: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        max_items: int,
        max_waiting: int,
        data_error: type[Exception] = NeverRaised,
        size_of: Callable[[Item], int] = lambda _: 0,
        max_bytes: int = 2_000_000,
        pause: float = 0.0,
        patient: bool = False,
        beside: float = math.inf,
    ) -> None:
        self._flush = flush
        self._max_items = max_items
        self._max_waiting = max_waiting
        self._data_error = data_error
        self._size_of = size_of
        self._max_bytes = max_bytes
        self._pause = pause
        self._patient = patient
        self._beside = beside
        self._most_flights = 1 if beside == math.inf else 2
        self._last_start = float("-inf")
        self._starting: asyncio.TimerHandle | None = None
        self._line: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._flying: set[asyncio.Task[None]] = set()
        self._closed = False
        #: How many groups were flushed and how many items they held, since the start.
        self.groups = 0
        self.items = 0

    @property
    def waiting(self) -> int:
        """How many items are in the line, not counting those in flight."""
        return len(self._line)

    def put(self, item: Item) -> "asyncio.Future[Result]":
        """Join the line now; the future is the item's result, or what ended its flush. Raises LineFull or LineClosed."""
        if self._closed:
            raise LineClosed
        if len(self._line) >= self._max_waiting:
            raise LineFull
        if self._patient and not self._line and not self._flying:
            self._note_start()
        future: asyncio.Future[Result] = self._loop.create_future()
        self._line.append((item, future))
        self._take_off_soon()
        return future

    async def add(self, item: Item) -> Result:
        """Join the line and return the item's result. Raises LineFull, LineClosed, or what ended its flush."""
        return await self.put(item)

    @functools.cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """The one that this line is used in; to ask which is running costs a call of the kernel each time."""
        return asyncio.get_running_loop()

    async def aclose(self) -> None:
        """Take nothing more and return once the line is empty."""
        self._closed = True
        self._take_off_soon()
        while self._flying:
            await asyncio.wait(self._flying)

    def _take_off_soon(self) -> None:
        """Start a flush for whoever waits, unless as many are in flight as may, or the last one started just now."""
        waiting = len(self._line)
        if not waiting or len(self._flying) >= self._most_flights:
            return
        if self._flying and self._starting is not None and waiting < self._max_items and not self._closed:
            return  # the timer looks whether the flight takes too long
        pause = max(self._pause, self._beside) if self._flying else self._pause
        wait = self._last_start + pause - self._loop.time() if pause else 0.0
        if wait <= 0 or self._closed or waiting >= self._max_items:
            self._take_off()
        elif self._starting is None:
            self._starting = self._loop.call_later(wait, self._start)

    def _start(self) -> None:
        self._starting = None
        self._take_off_soon()

    def _take_off(self) -> None:
        self._note_start()
        task = self._loop.create_task(self._fly())
        self._flying.add(task)
        task.add_done_callback(self._landed)

    def _note_start(self) -> None:
        self._last_start = self._loop.time()

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        self._take_off_soon()

    async def _fly(self) -> None:
        while group := self._next_group():
            self.groups += 1
            self.items += len(group)
            self._note_start()
            await self._serve(group)
            if self._pause:
                return

    def _next_group(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        """The next members that still want their result, or nobody."""
        group: list[tuple[Item, asyncio.Future[Result]]] = []
        size = 0
        while self._line and len(group) < self._max_items:
            item, future = member = self._line[0]
            if not future.done():
                size += self._size_of(item)
                if group and size > self._max_bytes:
                    break
                group.append(member)
            self._line.popleft()
        return group

    async def _serve(self, group: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._flush([item for item, _ in group])
            for (_, future), result in zip(group, results, strict=True):
                if not future.done():
                    future.set_result(result)
        except self._data_error as error:
            if len(group) == 1:
                _fail(group, error)
            else:
                for member in group:
                    await self._serve([member])
        except asyncio.CancelledError:
            # aiormq cancels waiters when a connection dies although nobody cancelled us; a real
            # cancellation (the loop is ending) must not leave anybody waiting either.
            _fail(group, FlushLost("the flush was cancelled"))
        except Exception as error:  # noqa: BLE001 - whatever it was belongs to the members, not to the line
            _fail(group, error)


def _fail(group: Sequence[tuple[Item, "asyncio.Future[Result]"]], error: Exception) -> None:
    for _, future in group:
        if not future.done():
            future.set_exception(error)
            future.exception()  # whoever left meanwhile need not hear of it
