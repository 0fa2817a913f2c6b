"""The shares: how many connections of each integration are this worker's, of those that all workers share."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from mailroom.logs import get_logger
from mailroom.store import allowances
from mailroom.store.allowances import Lease, Need
from mailroom.store.port import BadRow, CommitUnknown, Store, StoreUnavailable
from worker.seats import kept_of_part
from worker.session import BEAT_SECONDS, Session

log = get_logger(__name__)

#: Seconds between two looks whether there is a reason to ask.
LOOK_SECONDS = 0.2

#: Who has fewer than it needs asks again after so many seconds.
SHORT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Share:
    """This worker's part of an integration's connections.

    `seats` may be taken, so many of them by agents' mail only; `open` connections may exist until others are closed.
    """

    seats: int
    for_agents: int
    open: int
    total: int


NOTHING = Share(0, 0, 0, 0)


class Shares:
    """Leased connections by integration: good for as long as nobody can have declared this session dead."""

    def __init__(
        self,
        store: Store,
        session: Session,
        needs: Callable[[], Mapping[UUID, Need]],
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._session = session
        self._needs = needs
        self._changed = changed
        self._clock = clock
        self._leases: Mapping[UUID, Lease] = {}
        self._leased_to: UUID | None = None
        self._asked_at = float("-inf")

    async def run(self) -> None:
        """Ask when there is a reason, for as long as the process runs."""
        while True:
            needs = self._needs()
            if self._is_time(needs):
                await self.renew(needs)
            await asyncio.sleep(LOOK_SECONDS)

    def of(self, integration_id: UUID) -> Share:
        """What is this worker's at this moment."""
        lease = self._leases.get(integration_id)
        if lease is None or self._leased_to != self._session.id or not self._session.is_fresh():
            return NOTHING
        kept = kept_of_part(lease.part, lease.before, lease.total)
        return Share(lease.part, kept, lease.seats, lease.total)

    async def renew(self, needs: Mapping[UUID, Need]) -> None:
        """Say what we need, and hear what we may have."""
        session, self._asked_at = self._session.id, self._clock()
        try:
            self._leases = await self._store.transaction(allowances.share, session, needs)
        except (StoreUnavailable, CommitUnknown, BadRow) as error:
            # What we have stays ours while our session lives: whatever was done, it took nothing that we keep.
            log.warning("connections not shared anew", error=str(error))
            return
        self._leased_to = session
        self._changed()

    def _is_time(self, needs: Mapping[UUID, Need]) -> bool:
        passed = self._clock() - self._asked_at
        if self._leased_to != self._session.id:
            return passed >= SHORT_SECONDS
        if passed >= BEAT_SECONDS:
            return True
        return any(self._matters(self._leases.get(one), need, passed) for one, need in needs.items())

    def _matters(self, lease: Lease | None, need: Need, passed: float) -> bool:
        if lease is None:
            return passed >= SHORT_SECONDS or not self._leases
        to_give_back = lease.seats > lease.part and need.kept < lease.seats
        short = need.wanted > lease.part and lease.part < lease.total
        return to_give_back or (short and passed >= SHORT_SECONDS)
