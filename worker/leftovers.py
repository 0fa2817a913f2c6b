"""Leftovers: files that a process wrote and did not live to name in a row."""

import asyncio
import itertools
from collections.abc import Callable
from datetime import datetime, timedelta

from mailroom.attachments import SHELVES, AttachmentStore
from mailroom.logs import get_logger
from mailroom.provisioning import is_ours
from mailroom.store import leftovers
from mailroom.store.port import BadRow, CommitUnknown, Store, StoreUnavailable

log = get_logger(__name__)

#: Seconds between two looks, and how many looks it takes to see every shelf: each file is looked at once a day.
LOOK_SECONDS = 3600.0
LOOKS = 24

#: A file is younger than this for as long as somebody may yet name it: a request takes minutes, clocks may differ.
YOUNG = timedelta(days=2)

#: Keys asked about at once.
ASKED_AT_ONCE = 1000


class Leftovers:
    """Removes files of the attachment store that no row names. Several workers take turns."""

    def __init__(self, store: Store, attachments: AttachmentStore, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._attachments = attachments

    async def run(self) -> None:
        """Look for as long as the process runs."""
        while True:
            try:
                await self.look()
            except (StoreUnavailable, CommitUnknown, BadRow, OSError) as error:
                log.warning("leftovers not looked for", error=str(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Look at this hour's part of the shelves, unless another worker does."""
        now = self._now()
        turn = int(now.timestamp() // LOOK_SECONDS)
        # In the folder of another database everything would belong to nothing.
        if not await is_ours(self._store, self._attachments):
            return
        if not await self._store.transaction(leftovers.take_turn, turn):
            return
        for shelf in SHELVES[turn % LOOKS :: LOOKS]:
            await self._clear(shelf, now - YOUNG)

    async def _clear(self, shelf: str, before: datetime) -> None:
        keys = iter(await self._attachments.untouched(shelf, before))
        while some := list(itertools.islice(keys, ASKED_AT_ONCE)):
            for key in sorted(await self._store.read(leftovers.unnamed, some)):
                await self._attachments.delete(key)
                log.warning("file removed that belongs to nothing", key=key)
