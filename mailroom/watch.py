"""The watch: this process's snapshot of all integrations, refreshed by one query however many messages pass."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

from mailroom.clock import SharedClock, steady
from mailroom.integration import Account, Cause, Integration, IntendedState, ReportedState, Security
from mailroom.logs import get_logger
from mailroom.message import Lane
from mailroom.store import integrations
from mailroom.store.port import Store, StoreUnavailable
from mailroom.vault import CannotDecrypt, Vault

log = get_logger(__name__)

#: How often the snapshot is refreshed, in seconds; a nudge refreshes it at once.
REFRESH_SECONDS = 0.3

#: An older snapshot is no answer: nothing may start on an integration a second after it left ACTIVE.
FRESH_SECONDS = 1.0

#: Seconds after which the database is asked for the time again. Clocks drift by less than a millisecond meanwhile.
HEAR_SECONDS = 5.0


class IntegrationWatch:
    """What is known of every integration, and how old that is."""

    def __init__(self, store: Store, vault: Vault, clock: Callable[[], float] = steady) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._time = SharedClock(clock)
        self._heard_at = float("-inf")
        self._taken_at = float("-inf")
        self._by_id: Mapping[UUID, Integration] = MappingProxyType({})
        self._by_name: Mapping[str, Integration] = MappingProxyType({})
        self._lanes: frozenset[tuple[UUID, Lane]] = frozenset()
        self._opened: dict[str, str | None] = {}
        self._rows: Any = None
        self._wake = asyncio.Event()
        self._refreshed = asyncio.Event()

    async def run(self) -> None:
        """Keep the snapshot fresh for as long as the process runs."""
        while True:
            try:
                await self.refresh()
            except StoreUnavailable as error:
                log.warning("integrations cannot be read", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_SECONDS):
                    await self._wake.wait()
            self._wake.clear()

    def nudge(self) -> None:
        """Refresh now rather than soon."""
        self._wake.set()

    async def refresh(self) -> None:
        """Take a new snapshot. Raises StoreUnavailable."""
        # As old as its question: the answer may have been on its way for a while.
        asked_at = self._clock()
        if asked_at - self._heard_at >= HEAR_SECONDS:
            rows, moment = await self._store.read(integrations.all_rows_now)
            self._time.hear(moment, asked_at)
            self._heard_at = asked_at
        else:
            rows = await self._store.read(integrations.all_rows)
        self._tell_of_a_gap(asked_at)
        if rows != self._rows:
            self._adopt(rows)
            self._rows = rows
        self._taken_at = asked_at
        self._refreshed.set()
        self._refreshed.clear()

    def _tell_of_a_gap(self, asked_at: float) -> None:
        """Have it known that nothing could be decided for a while: clients were told to come again, and nobody failed."""
        now = self._clock()
        unknown = now - self._taken_at - FRESH_SECONDS
        if 0 < unknown < math.inf:
            took = now - asked_at
            log.warning("integrations were not known", seconds=round(unknown, 3), answer_took=round(took, 3))

    def now(self) -> datetime:
        """The time of day as all processes have it: whatever is decided by what stands in rows is decided by this."""
        return self._time.now()

    @property
    def is_fresh(self) -> bool:
        """Whether the snapshot is young enough to decide by."""
        return self._clock() - self._taken_at <= FRESH_SECONDS

    async def fresh(self) -> None:
        """Return once the snapshot is young enough to decide by."""
        while not self.is_fresh:
            await self._refreshed.wait()

    async def renewed(self) -> None:
        """Return once the snapshot shows what was committed before this call, or is too old to decide by."""
        called_at = self._clock()
        self.nudge()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FRESH_SECONDS):
                # One of the same moment of the clock may have been asked for before.
                while self._taken_at <= called_at:
                    await self._refreshed.wait()

    def get(self, integration_id: UUID) -> Integration | None:
        """The integration of this id in the last snapshot."""
        return self._by_id.get(integration_id)

    def named(self, name: str) -> Integration | None:
        """The integration of this name in the last snapshot."""
        return self._by_name.get(name)

    @property
    def all(self) -> Mapping[UUID, Integration]:
        """Every integration of the last snapshot."""
        return self._by_id

    @property
    def lanes(self) -> frozenset[tuple[UUID, Lane]]:
        """Every queue that ever had a message."""
        return self._lanes

    def _adopt(self, rows: Any) -> None:
        views = [view for row in rows if (view := self._view(row)) is not None]
        self._by_id = MappingProxyType({view.id: view for view in views})
        self._by_name = MappingProxyType({view.name: view for view in views})
        self._lanes = frozenset(
            (row.id, lane)
            for row in rows
            for lane, used in (
                (Lane.AGENT, row.agent_lane),
                (Lane.FORM, row.form_lane),
                (Lane.CAMPAIGN, row.campaign_lane),
            )
            if used
        )

    def _view(self, row: Any) -> Integration | None:
        try:
            return integration_of(row, self._password(row.name, row.sealed_password))
        except ValueError as error:
            # A newer Mailroom knows a state that we do not. What leaves through it waits for the newer one's workers.
            log.error("integration cannot be read and is left out", integration=row.name, error=str(error))
            return None

    def _password(self, name: str, sealed: str | None) -> str | None:
        if sealed is None:
            return None
        if sealed not in self._opened:
            try:
                self._opened[sealed] = self._vault.open(sealed)
            except CannotDecrypt as error:
                # Without its password the account's log-in is refused, which is what its administrator then reads.
                log.error("password cannot be decrypted", integration=name, error=str(error))
                self._opened[sealed] = None
        return self._opened[sealed]


def integration_of(row: Any, password: str | None) -> Integration:
    """A row of `integrations.all_rows` as an integration."""
    return Integration(
        id=row.id,
        name=row.name,
        account=Account(
            host=row.host,
            port=row.port,
            security=Security(row.security),
            username=row.username,
            password=password,
        ),
        from_address=row.from_address,
        from_name=row.from_name,
        default_mailbox=row.default_mailbox,
        intended_state=IntendedState(row.intended_state),
        reported_state=ReportedState(row.reported_state),
        cause=Cause(row.cause) if row.cause else None,
        since=row.since,
        generation=row.generation,
        max_connections=row.max_connections,
        ehlo_size=row.ehlo_size,
        failures=row.failures,
        test_waiting=bool(row.test_waiting),
        per_second=row.per_second,
        per_day=row.per_day,
        released_at=row.released_at,
        proven_at=row.proven_at,
        pace=row.pace,
        paced_at=row.paced_at,
    )
