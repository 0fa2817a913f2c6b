"""The sweep: finds work that has no ticket, and claims whose worker is gone. One worker at a time does it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from mailroom.integration import ReportedState, may_send
from mailroom.kinds import KINDS
from mailroom.logs import get_logger
from mailroom.queue.port import Queue, QueueUnavailable
from mailroom.queue.ticket import Address
from mailroom.store import allowances, redrives, sessions, sign_ins, states, sweeping, tallies
from mailroom.store.port import BadRow, CommitUnknown, Store, StoreUnavailable
from mailroom.store.sessions import Position
from mailroom.store.sweeping import Due, Ended
from mailroom.tally import Tally
from mailroom.tickets import TicketWriter
from mailroom.watch import IntegrationWatch
from worker.probe import hand_on

log = get_logger(__name__)

#: Seconds between two looks for what fell due or may be released.
DUE_SECONDS = 1.0

#: Seconds between two looks for lost tickets, lost claims and what has expired.
LOST_SECONDS = 15.0

#: Seconds of this process's own clock that a beat must have stood still before its session is dead.
DEAD_AFTER_SECONDS = 30.0

#: A queue that has moved past a message by so much does not hold its ticket any more.
PASSED_BY = timedelta(seconds=60)

#: In an empty queue that nobody holds a ticket of: messages younger than this may still have theirs on the way, or be
#: about to get a tombstone.
ON_THE_WAY = timedelta(seconds=30)

#: After contact with the database was lost, lost tickets are not looked for: tombstones shall win.
QUIET_SECONDS = 30.0

#: Held messages released per integration and second, by all workers together, where its limits allow no less: so a new
#: ERROR leaves little to undo.
RELEASED_AT_ONCE = 500

#: Tickets that name one message only, published at once.
ALONE_AT_ONCE = 50

#: A look at the beats longer ago than this proves nothing: this process itself may have stood still since.
LOOK_IS_OLD_SECONDS = 5.0

#: Seconds between two looks at what waits longest.
NOTE_SECONDS = 60.0
MINUTE = timedelta(minutes=1)

#: Seconds between two looks for what is old enough to be forgotten, and how old tallies are then.
FORGET_SECONDS = 3600.0
TALLIES_KEPT = timedelta(days=8)
#: How long they are kept by the minute; then by the hour, which is what a chart of a week can show.
TALLIES_BY_MINUTE = timedelta(hours=26)

#: Rows of one kind of finding in one pass.
MOST = 5000


@dataclass(slots=True)
class _Seen:
    """A beat and since when it has stood still, by our own clock."""

    beat: int
    since: float


@dataclass(slots=True)
class Sweep:
    """Looks after what fell through: due, released, lost, abandoned, expired."""

    store: Store
    queue: Queue
    watch: IntegrationWatch
    tickets: TicketWriter
    tally: Tally
    clock: Callable[[], float] = time.monotonic
    _beats: dict[UUID, _Seen] = field(default_factory=dict)
    _looked_at: float = float("-inf")
    _quiet_until: float = 0.0
    #: When it last began to look for something, by its own clock.
    looked_for_work_at: float | None = None
    #: Seconds that the oldest waiting message had waited, as was last put on record by whichever worker.
    oldest_waiting: float = 0.0

    async def run(self) -> None:
        """Sweep for as long as the process runs."""
        lost_at, forget_at, note_at = self.clock() + LOST_SECONDS, self.clock(), self.clock()
        while True:
            await self._work(self.due)
            await self._work(self.redrive)
            if self.clock() >= lost_at:
                await self._work(self.lost)
                lost_at = self.clock() + LOST_SECONDS
            if self.clock() >= forget_at:
                await self._work(self.forget)
                forget_at = self.clock() + FORGET_SECONDS
            if self.clock() >= note_at:
                await self._work(self.note_oldest)
                note_at = self.clock() + NOTE_SECONDS
            await asyncio.sleep(DUE_SECONDS)

    async def watch_beats(self) -> None:
        """Look after dead sessions for as long as the process runs; nothing else may hold this up."""
        while True:
            await self._guarded(self.bury_dead)
            await asyncio.sleep(DUE_SECONDS)

    @property
    def stood_still(self) -> float:
        """For how many seconds it has not begun to look for anything; 0 before its first look."""
        return 0.0 if self.looked_for_work_at is None else self.clock() - self.looked_for_work_at

    async def _work(self, look: Callable[[], Awaitable[None]]) -> None:
        self.looked_for_work_at = self.clock()
        await self._guarded(look)

    async def _guarded(self, look: Callable[[], Awaitable[None]]) -> None:
        try:
            await look()
        except (StoreUnavailable, CommitUnknown, BadRow) as error:
            # Seen from here the database was away: beats may have stood still only because we could not look.
            self._quiet_until = self.clock() + QUIET_SECONDS
            self._beats.clear()
            log.warning("sweep interrupted", error=str(error))
        except QueueUnavailable as error:
            log.warning("sweep interrupted", error=str(error))

    async def own_everything(self) -> None:
        """At the start of the only process there can be: every old claim is ours, and no ticket is left."""
        now = self.watch.now()
        await self.store.transaction(sessions.declare_all_dead, at=now)
        await hand_on(self.store, now)
        await self.take_back()
        for integration_id, lane in await self.store.read(sweeping.queued_lanes):
            await self._requeue_lost(Address(lane, integration_id), before=now)

    async def due(self) -> None:
        """Ticket what fell due, and what an integration that is ACTIVE again had held."""
        now = self.watch.now()
        await self._ticket(await self.store.transaction(sweeping.wake, now=now, limit=MOST))
        if any(one.reported_state is ReportedState.DEACTIVATING for one in self.watch.all.values()):
            await self.store.transaction(states.settle_deactivating, now)
        active = [one.id for one in self.watch.all.values() if may_send(one)]
        for integration_id in await self.store.read(sweeping.with_held, active):
            await self._release(integration_id, now)

    async def _release(self, integration_id: UUID, now: datetime) -> None:
        """Queue what one integration had held. Whatever is wrong with it concerns no other one."""
        try:
            released = await self.store.transaction(allowances.release, integration_id, most=RELEASED_AT_ONCE, now=now)
        except (StoreUnavailable, CommitUnknown):
            raise
        except Exception:
            log.exception("held messages not released, by our own fault", integration_id=str(integration_id))
        else:
            await self._ticket(released)

    async def redrive(self) -> None:
        """Queue the next of the dead letters that a person has whole groups re-driven of."""
        sending = [one.id for one in self.watch.all.values() if may_send(one)]
        queued = await self.store.transaction(redrives.queue_some, sending, now=self.watch.now())
        if queued:
            log.info("dead letters re-driven", count=len(queued))
        await self._ticket(queued)

    async def bury_dead(self) -> None:
        """Declare sessions dead whose beat has stood still for long, and take their claims back."""
        now = self.clock()
        if now - self._looked_at > LOOK_IS_OLD_SECONDS:
            self._beats.clear()
        beats = await self.store.read(sessions.beats)
        self._looked_at = self.clock()
        if self._looked_at - now > LOOK_IS_OLD_SECONDS:
            self._beats.clear()
        self._beats = {
            session: seen if (seen := self._beats.get(session)) and seen.beat == beat else _Seen(beat, now)
            for session, beat in beats.items()
        }
        still = [(session, seen) for session, seen in self._beats.items() if now - seen.since >= DEAD_AFTER_SECONDS]
        for session, seen in still:
            if await self.store.transaction(sessions.declare_dead, session, seen.beat, at=self.watch.now()):
                log.warning("session declared dead", session=str(session))
        if still:
            await self.take_back()
            await hand_on(self.store, self.watch.now())
            self._looked_at = self.clock()

    async def take_back(self) -> None:
        """Treat the claims of sessions that are no more by their kind's policy."""
        recovered = await self.store.transaction(sweeping.recover, now=self.watch.now(), limit=MOST)
        self._count(recovered.ended)
        await self._ticket(recovered.again)

    async def lost(self) -> None:
        """Look for lost tickets, lost claims, abandoned tests and expired messages."""
        now = self.watch.now()
        await self.take_back()
        await hand_on(self.store, now)
        while expired := await self.store.transaction(sweeping.expire, now=now, limit=MOST):
            log.warning("messages expired", count=expired.total())
            self._count(expired)
        if self.clock() >= self._quiet_until:
            await self._look_for_lost_tickets(now)

    async def note_oldest(self) -> None:
        """Put on record how long the oldest waiting message has waited, for whoever draws it."""
        now = self.watch.now()
        await self.store.transaction(sweeping.note_oldest, now=now)
        noted = await self.store.read(tallies.oldest, now - 2 * MINUTE, now + MINUTE, MINUTE)
        self.oldest_waiting = float(noted[-1].number) if noted else 0.0

    async def forget(self) -> None:
        """Put the tallies of yesterday together by the hour, and delete those of last week and sign-ins that ended."""
        await self.store.transaction(sign_ins.forget_old, now=self.watch.now())
        while await self.store.transaction(tallies.merge, before=self.watch.now() - TALLIES_BY_MINUTE):
            pass
        while await self.store.transaction(tallies.forget, before=self.watch.now() - TALLIES_KEPT):
            pass

    def _count(self, ended: Ended) -> None:
        for (status, kind, integration_id), number in ended.items():
            self.tally.count(status, self.watch.now(), kind=kind, integration_id=integration_id, number=number)

    async def _look_for_lost_tickets(self, now: datetime) -> None:
        reached = await self.store.read(sessions.reached)
        for integration_id, lane in await self.store.read(sweeping.queued_lanes):
            address = Address(lane, integration_id)
            before = lost_before(reached.get((integration_id, lane)), await self.queue.ready(address), now)
            if before is not None:
                await self._requeue_lost(address, before)

    async def _requeue_lost(self, address: Address, before: datetime) -> None:
        # What was found counts as queued now, and never as before that moment, wherever the clock was set meanwhile: so
        # each round finds others.
        while lost := await self.store.transaction(
            sweeping.lost,
            address.integration_id,
            address.lane,
            queued_before=before,
            now=max(self.watch.now(), before),
            limit=MOST,
        ):
            log.warning("tickets written anew", queue=address.queue, count=len(lost))
            await self._ticket(lost)

    async def _ticket(self, found: Sequence[Due]) -> None:
        alone = [due for due in found if due.alone]
        for due in found:
            if not due.alone:
                self.tickets.write(_address_of(due), due.id)
        for start in range(0, len(alone), ALONE_AT_ONCE):
            some = alone[start : start + ALONE_AT_ONCE]
            await asyncio.gather(*(self.tickets.write_alone(_address_of(due), due.id) for due in some))


def lost_before(reached: Position | None, ready: int, now: datetime) -> datetime | None:
    """What was queued before this has lost its ticket; None = nothing can be said.

    Queues are first in, first out: one that has come to tickets of a later time does not hold an earlier one any more.
    A ticket of a time to come was written by a clock that was wrong, and tells nothing about those of another.
    """
    newest = now - ON_THE_WAY
    if ready == 0 and (reached is None or not reached.holding):
        return newest
    passed = None if reached is None else reached.published_at - PASSED_BY
    return passed if passed is not None and passed <= newest else None


def _address_of(due: Due) -> Address:
    return Address(KINDS[due.kind].lane, due.integration_id)
