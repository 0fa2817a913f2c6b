"""The allowance: what this worker may send now of the limits all workers share, without asking for each message."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from mailroom.integration import Integration
from mailroom.logs import get_logger
from mailroom.outcome import Blame, Deferred, Outcome, Rejected, Reply, Sent
from mailroom.pace import (
    LOWERED_AT_MOST_EVERY,
    PROBE_SECONDS,
    SLICE_SECONDS,
    Granted,
    NoLimit,
    NotNow,
    Slice,
    awaits_proof,
    is_limited,
)
from mailroom.store import allowances
from mailroom.store.allowances import Unused
from mailroom.store.port import BadRow, CommitUnknown, Store, StoreUnavailable

log = get_logger(__name__)

Result = TypeVar("Result")

#: Seconds until the next try while the database is away.
AGAIN_SECONDS = 1.0

#: Timers of the event loop may ring so much before their time.
TIMER_SECONDS = 0.001

#: Whoever has had the one permit of an unproven release for so many seconds, and nothing to use it for, hands it on.
UNUSED_SECONDS = 1.0

#: What was sent in so many seconds tells how fast we are.
TEMPO_SECONDS = 5

#: Codes that mean all our mail whatever they answer: goodbye, and the one that providers use for a sending rate.
_ABOUT_THE_ACCOUNT = frozenset({421, 454})

#: A message that ends like this says nothing about its integration.
_FOR_ITS_OWN_SAKE = frozenset({Blame.RECIPIENT, Blame.MESSAGE, Blame.US})


@dataclass(slots=True, eq=False)
class Permits:
    """A slice: so many permits, good from `begins` to `ends`, and how many of them nobody has taken."""

    number: int
    left: int
    begins: float
    ends: float
    day: str
    #: Whether a number a day limits the integration, so that what is not used must be given back.
    counted: bool
    #: The release that its one message is to prove.
    proves: datetime | None

    def speed(self, now: float) -> float:
        """How many of them we used in a second."""
        return (self.number - self.left) / max(min(now, self.ends) - self.begins, SLICE_SECONDS / 10)

    def unused(self) -> Unused | None:
        """What nobody has taken of it."""
        return Unused(self.day, self.left) if self.left else None


@dataclass(slots=True)
class _Hand:
    """The slice in hand of one integration, and what is under way for the next one."""

    #: The generation and the release that the slice, or the question for one, is about.
    state: tuple[int, datetime | None]
    permits: Permits | None = None
    #: Limits that were found to limit nothing any more.
    over: tuple[Any, ...] | None = None
    asking: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None


class Allowance:
    """Permits by integration. `again` is called when somebody who was told no may ask once more."""

    def __init__(
        self, store: Store, again: Callable[[UUID], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._again = again
        self._clock = clock
        self._hands: dict[UUID, _Hand] = {}
        self._taken_of: dict[UUID, Permits | None] = {}
        self._tempos: dict[UUID, deque[float]] = {}
        self._slowed_at: dict[UUID, float] = {}
        self._handing_on: set[asyncio.Task[None]] = set()
        self._closed = False
        #: How many slices were asked for since the start.
        self.asked = 0

    def may_take(self, integration: Integration, *, waiting: int, free: int) -> bool:
        """Whether one more message may begin, which uses up a permit; `waiting` for a seat, of which so many are free."""
        if not is_limited(integration):
            self._taken_of[integration.id] = None
            return True
        hand = self._hand(integration)
        if hand.over == _key(integration):
            self._taken_of[integration.id] = None
            return True
        now, permits = self._clock(), hand.permits
        if permits is not None and permits.left and now < permits.begins - TIMER_SECONDS:
            self._again_in(permits.begins - now, integration.id, hand)
            return False
        if permits is not None and permits.left and now < permits.ends:
            permits.left -= 1
            self._taken_of[integration.id] = permits
            return True
        self._ask(integration, hand, waiting, free, now)
        return False

    def need_none(self, integration_id: UUID) -> bool:
        """One message begins that will not be sent, so that no limit is about it: always True."""
        self._taken_of[integration_id] = None
        return True

    def taken_of(self, integration_id: UUID) -> Permits | None:
        """The slice that the last permit was of, for whoever may have to put it back; None where nothing limits."""
        return self._taken_of.get(integration_id)

    def put_back(self, integration_id: UUID, permits: Permits | None) -> None:
        """A permit of this slice was not needed after all: nothing of the message was sent."""
        if permits is None or self._closed:
            return
        if (hand := self._hands.get(integration_id)) is not None and hand.permits is permits:
            permits.left = min(permits.left + 1, permits.number)
            if permits.proves is not None:
                self._use_or_hand_on(integration_id, hand, permits)
        elif permits.counted or permits.proves is not None:
            # Somebody who waited beside it has had the next slice asked for meanwhile.
            self._hand_on(integration_id, Unused(permits.day, 1), permits.proves)

    async def aclose(self) -> None:
        """Ask for nothing more, and give back what a day allowed and nobody used. Raises nothing."""
        self._closed = True
        while under_way := [*self._handing_on, *(hand.asking for hand in self._hands.values() if hand.asking)]:
            await asyncio.wait(under_way)
        for integration_id, hand in self._hands.items():
            if hand.timer is not None:
                hand.timer.cancel()
            permits, hand.permits = hand.permits, None
            if permits is not None and (unused := permits.unused()) is not None:
                await self._give_back(integration_id, unused, permits.proves)

    # --- slices -------------------------------------------------------------------------------------------------------

    def _hand(self, integration: Integration) -> _Hand:
        hand = self._hands.get(integration.id)
        if hand is None:
            hand = self._hands[integration.id] = _Hand(_state(integration))
        elif hand.state != _state(integration):
            # What was allowed before a release is not allowed after it; what came with it may be what is to prove it.
            permits, hand.permits = hand.permits, None
            hand.state, hand.over = _state(integration), None
            if permits is not None and (unused := permits.unused()) is not None:
                self._hand_on(integration.id, unused, permits.proves)
        return hand

    def _ask(self, integration: Integration, hand: _Hand, waiting: int, free: int, now: float) -> None:
        """Have the next slice fetched, unless that is under way, or the time for it has not come."""
        if self._closed or hand.asking is not None or hand.timer is not None:
            return
        speed = hand.permits.speed(now) if hand.permits is not None else 0.0
        # As many as will be used within the slice's time: whom we keep them from could have sent with them.
        wanted = max(1, min(waiting, free + int(speed * SLICE_SECONDS)))
        hand.asking = asyncio.get_running_loop().create_task(self._fetch(integration, hand, wanted))

    async def _fetch(self, integration: Integration, hand: _Hand, wanted: int) -> None:
        taken: Slice
        try:
            taken = await self._next_slice(integration, hand, wanted)
        except (StoreUnavailable, CommitUnknown, BadRow) as error:
            log.warning("no allowance", integration=integration.name, error=str(error))
            taken = NotNow(AGAIN_SECONDS)
        finally:
            hand.asking = None
        if hand.state == _state(integration):
            self._receive(integration, hand, taken)
        else:
            if isinstance(taken, Granted):
                self._hand_on(integration.id, Unused(taken.day, taken.number), taken.proves)
            self._again_in(0.0, integration.id, hand)

    async def _next_slice(self, integration: Integration, hand: _Hand, wanted: int) -> Slice:
        """What may be had now in place of the slice in hand."""
        permits = hand.permits
        if permits is not None and permits.left and self._clock() < permits.ends:
            # One was put back right after the last one had been taken.
            return NotNow(0.0)
        hand.permits = None
        unused = permits.unused() if permits is not None else None
        if permits is not None and unused is not None and permits.proves is not None:
            await self._give_back(integration.id, unused, permits.proves)
            unused = None
        self.asked += 1
        return await self._store.transaction(allowances.take, integration.id, wanted=wanted, unused=unused)

    def _receive(self, integration: Integration, hand: _Hand, taken: Slice) -> None:
        match taken:
            case Granted(number, wait, lasts, day, proves):
                begins, counted = self._clock() + wait, integration.per_day is not None
                hand.permits = Permits(number, number, begins, begins + lasts, day, counted, proves)
                if proves is not None:
                    self._use_or_hand_on(integration.id, hand, hand.permits)
                self._again_in(wait, integration.id, hand)
            case NotNow(again):
                self._again_in(again, integration.id, hand)
            case NoLimit():
                hand.over = _key(integration)
                self._again_in(0.0, integration.id, hand)

    def _again_in(self, seconds: float, integration_id: UUID, hand: _Hand) -> None:
        def ring() -> None:
            hand.timer = None
            self._again(integration_id)

        if not self._closed and hand.timer is None:
            hand.timer = asyncio.get_running_loop().call_later(seconds, ring)

    def _use_or_hand_on(self, integration_id: UUID, hand: _Hand, permits: Permits) -> None:
        """Have somebody use this permit soon, here or elsewhere: nothing else can go until a message has passed."""

        def look() -> None:
            if hand.permits is permits and (unused := permits.unused()) is not None:
                hand.permits = None
                self._hand_on(integration_id, unused, permits.proves)

        asyncio.get_running_loop().call_later(UNUSED_SECONDS, look)

    def _hand_on(self, integration_id: UUID, unused: Unused, proves: datetime | None) -> None:
        """Have permits given back that others may be waiting for."""
        task = asyncio.get_running_loop().create_task(self._give_back(integration_id, unused, proves))
        self._handing_on.add(task)
        task.add_done_callback(self._handing_on.discard)

    async def _give_back(self, integration_id: UUID, unused: Unused, proves: datetime | None) -> None:
        """Take off the day what was not used; another worker may have at once what is to prove a release."""
        try:
            await self._store.transaction(allowances.give_back, integration_id, unused)
            if proves is not None:
                await self._store.transaction(allowances.probe_again, integration_id, proves)
        except (StoreUnavailable, CommitUnknown, BadRow) as error:
            log.warning("unused allowance not given back", integration_id=str(integration_id), error=str(error))

    # --- what attempts tell -------------------------------------------------------------------------------------------

    async def learn(self, integration: Integration, outcome: Outcome, part: float) -> bool:
        """Have all workers hear what an attempt tells about the pace; True when that is something new.

        `part` is which part of the integration's connections this worker has. Raises StoreUnavailable, CommitUnknown.
        """
        self._count(integration.id)
        match outcome:
            case Deferred(reply, Blame.THROTTLE) if asks_the_account_to_wait(reply):
                return await self._slow_down(integration, part)
            case Sent() if awaits_proof(integration):
                return await self._told(allowances.proven, integration.id, integration.generation)
            case Deferred(blame=blame) | Rejected(blame=blame) if blame in _FOR_ITS_OWN_SAKE and awaits_proof(
                integration
            ):
                await self._told(allowances.probe_again, integration.id, integration.released_at)
        return False

    async def _told(self, query: Callable[..., Result], *about: Any) -> Result:
        """Tell what became of the message that was to prove a release: as long as that is not known, nothing else goes."""
        ends = self._clock() + PROBE_SECONDS
        while True:
            try:
                return await self._store.transaction(query, *about)
            except (StoreUnavailable, CommitUnknown) as error:
                if self._closed or self._clock() >= ends:
                    raise
                log.warning("release not proven yet", error=str(error))
                await asyncio.sleep(AGAIN_SECONDS)

    async def _slow_down(self, integration: Integration, part: float) -> bool:
        now = self._clock()
        slowed_at = self._slowed_at.get(integration.id, float("-inf"))
        if now - slowed_at < LOWERED_AT_MOST_EVERY.total_seconds():
            return False
        self._slowed_at[integration.id] = now
        # The others are as busy as we are, as far as we know.
        seen = self.tempo(integration.id) / min(max(part, 0.01), 1.0)
        lowered = await self._store.transaction(allowances.slow_down, integration.id, integration.generation, seen=seen)
        if lowered is None:
            return False
        log.warning("slowed down at the server's wish", integration=integration.name, per_second=round(lowered, 2))
        return True

    def tempo(self, integration_id: UUID) -> float:
        """How many attempts a second this worker ended lately."""
        return len(self._ended_lately(integration_id)) / TEMPO_SECONDS

    def _count(self, integration_id: UUID) -> None:
        self._ended_lately(integration_id).append(self._clock())

    def _ended_lately(self, integration_id: UUID) -> deque[float]:
        ended = self._tempos.setdefault(integration_id, deque())
        since = self._clock() - TEMPO_SECONDS
        while ended and ended[0] < since:
            ended.popleft()
        return ended


def _key(integration: Integration) -> tuple[Any, ...]:
    return (
        integration.per_second,
        integration.per_day,
        integration.released_at,
        integration.proven_at,
        integration.pace,
        integration.paced_at,
    )


def _state(integration: Integration) -> tuple[int, datetime | None]:
    return integration.generation, integration.released_at


def asks_the_account_to_wait(reply: Reply) -> bool:
    """Whether a throttling reply is about all our mail; to RCPT it mostly means one mailbox, or a greylist."""
    return reply.command != "RCPT" or reply.code in _ABOUT_THE_ACCOUNT
