"""The session: this worker as a row whose beat it raises. Who stops beating loses its claims."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

from mailroom.logs import get_logger
from mailroom.store import sessions
from mailroom.store.port import BadRow, CommitUnknown, Store, StoreUnavailable
from mailroom.store.sessions import Position

log = get_logger(__name__)

#: Seconds between two beats.
BEAT_SECONDS = 5.0

#: Nobody sends a final dot when the last beat that succeeded is older: by 30 s without one the session is dead, and
#: its claims are another's.
FRESH_SECONDS = 20.0


class Session:
    """A running worker's claim to be alive."""

    def __init__(self, store: Store, where: Callable[[], Sequence[Position]]) -> None:
        self._store = store
        self._where = where
        self._beaten_at = float("-inf")
        self.id: UUID = uuid4()

    async def open(self) -> None:
        """Enter the session. Raises StoreUnavailable or CommitUnknown."""
        asked_at = time.monotonic()
        session = uuid4()
        await self._store.transaction(
            sessions.open_session, session, host=socket.gethostname(), pid=os.getpid(), at=datetime.now(UTC)
        )
        self.id = session
        self._beaten_at = asked_at

    async def run(self) -> None:
        """Beat for as long as the process runs."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await self.beat()

    async def beat(self) -> None:
        """Raise the beat; a session that was declared dead meanwhile is followed by a new one."""
        asked_at = time.monotonic()
        try:
            if await self._store.transaction(sessions.beat, self.id, self._where()):
                self._beaten_at = asked_at
                return
            log.warning("this session was declared dead; going on as a new one", session=str(self.id))
            await self.open()
        except (StoreUnavailable, CommitUnknown, BadRow) as error:
            log.warning("beat failed", session=str(self.id), error=str(error))

    def is_fresh(self) -> bool:
        """Whether nobody can have declared this session dead yet."""
        return time.monotonic() - self._beaten_at < FRESH_SECONDS

    def holds(self, session: UUID) -> bool:
        """Whether what was claimed for that session is ours for certain, now."""
        return session == self.id and self.is_fresh()

    async def end(self) -> None:
        """Take leave; everything claimed is settled."""
        try:
            await self._store.transaction(sessions.end_session, self.id, at=datetime.now(UTC))
        except (StoreUnavailable, CommitUnknown, BadRow) as error:
            log.warning("session not ended; it will be declared dead", session=str(self.id), error=str(error))
