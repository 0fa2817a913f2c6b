"""The indexer: keeps the index of the search a few seconds behind the intake. One worker at a time does it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from mailroom.logs import get_logger
from mailroom.store import blocks
from mailroom.store.port import BadRow, CommitUnknown, Store, StoreUnavailable

log = get_logger(__name__)

#: Seconds between two looks for messages that fill a block.
LOOK_SECONDS = 1.0

#: Seconds between two rounds while much waits, as after an update from a version without the index: the worker has
#: mail to deliver, too.
BACKLOG_SECONDS = 0.05

#: Seconds between two looks for blocks that are due to be counted again.
RECOUNT_SECONDS = 10.0


@dataclass(slots=True)
class Indexer:
    """Makes blocks of what was taken in, and makes anew what latecomers changed."""

    store: Store
    clock: Callable[[], float] = time.monotonic
    _recount_at: float = float("-inf")

    async def run(self) -> None:
        """Index for as long as the process runs; on a database that is searched without, do nothing."""
        while True:
            pause = LOOK_SECONDS
            try:
                if not await self.store.read(blocks.has_blocks):
                    await asyncio.Event().wait()
                if await self.store.transaction(blocks.index_more, now=datetime.now(UTC)) == blocks.AT_ONCE:
                    pause = BACKLOG_SECONDS
                await self._recount()
            except (StoreUnavailable, CommitUnknown, BadRow) as error:
                log.warning("indexing interrupted", error=str(error))
            await asyncio.sleep(pause)

    async def _recount(self) -> None:
        if self.clock() < self._recount_at:
            return
        remade = await self.store.transaction(blocks.recount, now=datetime.now(UTC))
        if remade:
            log.info("search blocks made anew", count=remade)
        self._recount_at = self.clock() + RECOUNT_SECONDS
