"""Waiting for outcomes: clients that asked to be answered when their message was delivered, all by one query."""

import asyncio
import contextlib
from uuid import UUID

from mailroom.message import Status
from mailroom.store import messages
from mailroom.store.port import Store, StoreUnavailable

#: Seconds between two looks while anybody waits.
LOOK_SECONDS = 0.05

#: A message that has come to one of these has an outcome, or a reason to wait longer than a client would.
ANSWERS = frozenset({Status.SENT, Status.DEFERRED, Status.HELD, Status.UNCERTAIN, Status.FAILED, Status.EXPIRED})


class Outcomes:
    """Looks after the messages somebody waits for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[UUID, asyncio.Future[Status]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def wait(self, message_id: UUID, seconds: float) -> Status | None:
        """The status once it is an answer; None when time was over first."""
        future: asyncio.Future[Status] = asyncio.get_running_loop().create_future()
        self._waiting[message_id] = future
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            return None
        finally:
            self._waiting.pop(message_id, None)

    async def _look(self) -> None:
        while self._waiting:
            with contextlib.suppress(StoreUnavailable):
                for message_id, status in (await self._store.read(messages.statuses, list(self._waiting))).items():
                    future = self._waiting.get(message_id)
                    if status in ANSWERS and future is not None and not future.done():
                        future.set_result(status)
            await asyncio.sleep(LOOK_SECONDS)
