"""How long somebody waits: one timer looks after all who do, where one for each would cost more than what they wait for."""

import asyncio
from collections import deque
from typing import Any, TypeVar

Result = TypeVar("Result")


class TimeLimit:
    """The same number of `seconds` for each; used in one event loop."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        #: Who waits and until when, in the order in which they began.
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def on(self, future: "asyncio.Future[Result]") -> "asyncio.Future[Result]":
        """The same future; it gets a TimeoutError when there is no result in time."""
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()
        loop = future.get_loop()
        until = loop.time() + self._seconds
        self._waiting.append((until, future))
        if self._timer is None:
            self._timer = loop.call_at(until, self._lose)
        return future

    def _lose(self) -> None:
        self._timer = None
        while self._waiting:
            until, future = self._waiting[0]
            loop = future.get_loop()
            if not future.done():
                if until > loop.time():
                    self._timer = loop.call_at(until, self._lose)
                    return
                future.set_exception(TimeoutError())
                future.exception()  # whoever left meanwhile need not hear of it
            self._waiting.popleft()
