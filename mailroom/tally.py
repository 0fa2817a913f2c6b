"""What happens in each minute, counted in memory and added to the database every two seconds.

Figures, not promises: a process that is killed takes its last two seconds with it, and what was added while contact was
lost counts as added.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from mailroom.logs import get_logger
from mailroom.loops import start_loop
from mailroom.store import tallies
from mailroom.store.port import BadRow, CommitUnknown, Store, StoreUnavailable
from mailroom.store.tallies import NO_INTEGRATION, Key

log = get_logger(__name__)

#: Seconds between two additions.
FLUSH_SECONDS = 2.0

#: Seconds that the last one may take: nothing waits for figures.
LAST_SECONDS = 3.0

#: Different things that are kept while the database is away; some hours of a usual day.
MOST_KEPT = 20_000

#: Rows of one statement.
ADDED_AT_ONCE = 1000

#: Where services that nobody named exist, all of them are counted as one: who posts shall not choose how many there are.
UNNAMED = "*"


class What(StrEnum):
    """What is counted, beside the buckets of mailroom.latency: of submissions, and of what became of messages."""

    #: Messages that were committed.
    ACCEPTED = "accepted"
    #: Forms that can never succeed (HTTP 4xx), and those that were told to come again later.
    REFUSED = "refused"
    AGAIN = "again"
    #: Results that were recorded: a message can be deferred and held several times, and end only once between re-drives.
    SENT = "sent"
    DEFERRED = "deferred"
    HELD = "held"
    FAILED = "failed"
    EXPIRED = "expired"
    UNCERTAIN = "uncertain"


class Tally:
    """The counts of one process, or of one half of `mailroom up`; used from one event loop."""

    def __init__(self, store: Store, services: Collection[str] = ()) -> None:
        self._store = store
        self._services = frozenset(services)
        self._counts: dict[Key, int] = {}
        self._adding = asyncio.Lock()

    def count(
        self,
        what: str,
        at: datetime,
        *,
        kind: str,
        service: str | None = None,
        integration_id: UUID | None = None,
        number: int = 1,
    ) -> None:
        """Count what happened at this moment; costs next to nothing, and never fails."""
        named = service if service is None or service in self._services else UNNAMED
        key = Key(int(at.timestamp()) // 60, what, kind, named or "", integration_id or NO_INTEGRATION)
        self._put(key, number)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Add to the database while inside, and what is left on leaving."""
        adding = start_loop("tallies", self._run)
        try:
            yield
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    await self.flush()
            # The lock is free again and nobody had a turn since: nothing is being added that this could interrupt.
            adding.cancel()
            await asyncio.wait([adding])

    async def flush(self) -> None:
        """Add what was counted since the last time; while the database is away it is kept for later."""
        async with self._adding:
            counts, self._counts = self._counts, {}
            while counts:
                some = {key: counts[key] for key in list(counts)[:ADDED_AT_ONCE]}
                if not await self._added(some):
                    for key, number in counts.items():
                        self._put(key, number)
                    return
                for key in some:
                    del counts[key]

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def _added(self, counts: dict[Key, int]) -> bool:
        """Whether they are dealt with: what may have been added is not added again, and what cannot be is dropped."""
        try:
            await self._store.statement(tallies.add, counts)
        except StoreUnavailable as error:
            log.debug("tallies are kept for later", error=str(error))
            return False
        except (CommitUnknown, BadRow) as error:
            log.warning("tallies may be lost", number=sum(counts.values()), error=str(error))
        return True

    def _put(self, key: Key, number: int) -> None:
        before = self._counts.get(key)
        if before is not None:
            self._counts[key] = before + number
        elif len(self._counts) < MOST_KEPT:
            self._counts[key] = number
