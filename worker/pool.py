"""Open connections, kept for a while after use: they spare the next message a log-in. Seats are not counted here."""

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from uuid import UUID

from mailroom.destinations import ANYWHERE, Destinations
from mailroom.integration import Integration
from mailroom.outcome import Deferred
from worker.opening import Timeouts
from worker.smtp import Connection, open_connection

#: SND-8: what providers bear with, and Postfix's own limits.
MOST_MESSAGES = 100
LONGEST_LIFE = 300.0
LONGEST_IDLE = 30.0
#: A connection idle for longer is asked whether it is still there.
TRUSTED_IDLE = 5.0


@dataclass(slots=True, eq=False)
class _Kept:
    """A connection and what it was opened for."""

    connection: Connection
    integration_id: UUID
    generation: int
    opened_at: float
    idle_since: float = field(default=0.0)

    def is_for(self, integration: Integration) -> bool:
        """A reset or a change of configuration since makes it a stranger."""
        return self.generation == integration.generation and self.connection.account == integration.account

    def is_worn(self, now: float) -> bool:
        return (
            self.connection.broken or self.connection.messages >= MOST_MESSAGES or now - self.opened_at >= LONGEST_LIFE
        )


class Pool:
    """Connections by integration; one that is acquired is the caller's until released or discarded."""

    def __init__(
        self,
        local_hostname: str,
        timeouts: Timeouts,
        *,
        trust: ssl.SSLContext | None = None,
        destinations: Destinations = ANYWHERE,
        clock: Callable[[], float] = time.monotonic,
        most: Callable[[Integration], int] = lambda integration: integration.max_connections,
    ) -> None:
        self._local_hostname = local_hostname
        self._timeouts = timeouts
        self._trust = trust
        self._destinations = destinations
        self._clock = clock
        #: How many connections of an integration may be open here at once.
        self._most = most
        self._opening: dict[UUID, int] = {}
        self._idle: dict[UUID, list[_Kept]] = {}
        self._in_use: dict[Connection, _Kept] = {}
        self._leaving: dict[asyncio.Task[None], UUID] = {}

    def at_hand(self, integration: Integration) -> Connection | None:
        """The idle connection used last, when it needs nothing before the next message; None when `acquire` must look."""
        idle = self._idle.get(integration.id)
        if not idle:
            return None
        kept, now = idle[-1], self._clock()
        needs_a_look = kept.connection.needs_reset or now - kept.idle_since > TRUSTED_IDLE
        if needs_a_look or kept.is_worn(now) or not kept.is_for(integration):
            return None
        self._in_use[kept.connection] = kept
        del idle[-1]
        return kept.connection

    async def acquire(self, integration: Integration) -> Connection | Deferred:
        """An idle connection that is still good, the one used last first, or a new one."""
        idle = self._idle.get(integration.id, [])
        while idle:
            kept = idle.pop()
            self._in_use[kept.connection] = kept
            try:
                good = await self._is_good(kept, integration)
            except BaseException:
                self.discard(kept.connection)
                raise
            if good:
                return kept.connection
            del self._in_use[kept.connection]
            self._leave([kept])
        return await self._open(integration)

    def release(self, connection: Connection) -> None:
        """Give it back for the next message, unless it is worn out; then it takes leave in the background."""
        kept = self._in_use.pop(connection, None)
        if kept is None:
            return  # discarded meanwhile, because the worker is stopping
        now = self._clock()
        if kept.is_worn(now):
            self._leave([kept])
            return
        kept.idle_since = now
        self._idle.setdefault(kept.integration_id, []).append(kept)

    def discard(self, connection: Connection) -> None:
        """Close it at once; it may be anything by now."""
        self._in_use.pop(connection, None)
        connection.close()

    def close_stale(self, now: float) -> None:
        """Let go of what has been idle or open for too long, by the pool's clock. To be called every few seconds."""
        for integration_id, idle in list(self._idle.items()):
            stale = [kept for kept in idle if kept.is_worn(now) or now - kept.idle_since >= LONGEST_IDLE]
            self._leave(stale)
            idle[:] = [kept for kept in idle if kept not in stale]
            if not idle:
                del self._idle[integration_id]

    def count(self, integration_id: UUID) -> int:
        """How many connections of an integration there are: in use, idle, and those still opening or taking leave."""
        in_use = sum(kept.integration_id == integration_id for kept in self._in_use.values())
        leaving = sum(one == integration_id for one in self._leaving.values())
        return self._opening.get(integration_id, 0) + in_use + len(self._idle.get(integration_id, ())) + leaving

    def trim(self, integration_id: UUID, most: int) -> None:
        """Let idle connections go, those used longest ago first, until there are no more than so many."""
        idle = self._idle.get(integration_id, [])
        in_use = sum(kept.integration_id == integration_id for kept in self._in_use.values())
        surplus = min(in_use + self._opening.get(integration_id, 0) + len(idle) - most, len(idle))
        if surplus > 0:
            self._leave(idle[:surplus])
            del idle[:surplus]

    async def aclose(self) -> None:
        """Take leave of every idle server, within 5 s, and close what is still in use."""
        self._leave([kept for idle in self._idle.values() for kept in idle])
        self._idle.clear()
        for connection in list(self._in_use):
            self.discard(connection)
        while self._leaving:
            await asyncio.wait(self._leaving)

    async def _is_good(self, kept: _Kept, integration: Integration) -> bool:
        now = self._clock()
        idle_for = now - kept.idle_since
        if not kept.is_for(integration) or kept.is_worn(now) or idle_for >= LONGEST_IDLE:
            return False
        if kept.connection.needs_reset or idle_for > TRUSTED_IDLE:
            return await kept.connection.revive()
        return True

    async def _open(self, integration: Integration) -> Connection | Deferred:
        # One that is just taking leave is still there for the server, which counts too.
        while self.count(integration.id) >= self._most(integration) and (gone := self._leaving_of(integration.id)):
            await asyncio.wait(gone, return_when=asyncio.FIRST_COMPLETED)
        self._opening[integration.id] = self._opening.get(integration.id, 0) + 1
        try:
            opened = await open_connection(
                integration.account,
                self._local_hostname,
                self._timeouts,
                trust=self._trust,
                destinations=self._destinations,
            )
        finally:
            self._opening[integration.id] -= 1
        if isinstance(opened, Connection):
            self._in_use[opened] = _Kept(opened, integration.id, integration.generation, self._clock())
        return opened

    def _leaving_of(self, integration_id: UUID) -> list[asyncio.Task[None]]:
        return [task for task, whose in self._leaving.items() if whose == integration_id]

    def _leave(self, kept: Iterable[_Kept]) -> None:
        """QUIT in the background: no message waits for a goodbye."""
        for one in kept:
            leaving = asyncio.get_running_loop().create_task(one.connection.quit())
            self._leaving[leaving] = one.integration_id
            leaving.add_done_callback(self._leaving.pop)
