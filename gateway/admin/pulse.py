"""Figures of the whole deployment that every page shows, taken once for all who look, and never more often than they cost."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Figure = TypeVar("Figure")

#: A figure is at least so many seconds old before it is taken anew, and this many times as old as taking it lasted: over
#: a backlog of millions a count takes long, and looking at a page must not be what the database is busy with.
YOUNG_SECONDS = 0.8
TIMES_ITS_COST = 10


@dataclass(slots=True)
class Taken(Generic[Figure]):
    """One figure, kept for as long as it is young."""

    take: Callable[[], Awaitable[Figure]]
    _value: Figure | None = None
    _good_until: float = float("-inf")
    _taking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def now(self) -> Figure:
        """The figure, taken anew where it is old. Raises what taking it raises."""
        async with self._taking:
            if self._value is None or time.monotonic() >= self._good_until:
                began = time.monotonic()
                self._value = await self.take()
                ended = time.monotonic()
                self._good_until = ended + max(YOUNG_SECONDS, TIMES_ITS_COST * (ended - began))
            return self._value
