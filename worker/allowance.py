"""The allowance: what this worker may send now of the limits all workers share, without asking for each message."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from mailroom.integration import Integration
from mailroom.logs import get_logger
from mailroom.outcome import Blame, Deferred, Outcome, Rejected, Reply, Sent
from mailroom.pace import (
    LOWERED_AT_MOST_EVERY,
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


@dataclass(slots=True)
class _Hand:
    """The slice in hand of one integration, and what is under way for the next one."""

    generation: int
    number: int = 0
    left: int = 0
    begins: float = 0.0
    ends: float = 0.0
    day: str = ""
    #: Limits that were found to limit nothing any more.
    over: tuple[Any, ...] | None = None
    #: Whether the slice is the one message that is to prove a release.
    proof: bool = False
    asking: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None

    def speed(self, now: float) -> float:
        """How many of the slice we used in a second."""
        return (self.number - self.left) / max(min(now, self.ends) - self.begins, SLICE_SECONDS / 10)


class Allowance:
    """Permits by integration. `again` is called when somebody who was told no may ask once more."""

    def __init__(
        self, store: Store, again: Callable[[UUID], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._again = again
        self._clock = clock
        self._hands: dict[UUID, _Hand] = {}
        self._tempos: dict[UUID, deque[float]] = {}
        self._slowed_at: dict[UUID, float] = {}
        self._handing_on: set[asyncio.Task[None]] = set()
        self._closed = False
        #: How many slices were asked for since the start.
        self.asked = 0

    def may_take(self, integration: Integration, *, waiting: int, free: int) -> bool:
        """Whether one more message may begin, which uses up a permit; `waiting` for a seat, of which so many are free."""
        if not is_limited(integration):
            return True
        hand = self._hand(integration)
        if hand.over == _key(integration):
            return True
        now = self._clock()
        if hand.left and now < hand.begins - TIMER_SECONDS:
            self._again_in(hand.begins - now, integration.id, hand)
            return False
        if hand.left and now < hand.ends:
            hand.left -= 1
            return True
        self._ask(integration, hand, waiting, free, now)
        return False

    def put_back(self, integration_id: UUID) -> None:
        """A permit was not needed after all: nothing of the message was sent."""
        hand = self._hands.get(integration_id)
        if hand is not None and hand.left < hand.number:
            hand.left += 1
            if hand.proof:
                self._use_or_hand_on(integration_id, hand)

    async def aclose(self) -> None:
        """Ask for nothing more, and give back what a day allowed and nobody used. Raises nothing."""
        self._closed = True
        asking = [hand.asking for hand in self._hands.values() if hand.asking is not None]
        if asking or self._handing_on:
            await asyncio.wait([*asking, *self._handing_on])
        for integration_id, hand in self._hands.items():
            if hand.timer is not None:
                hand.timer.cancel()
            if (unused := _unused(hand)) is not None:
                await self._give_back(integration_id, unused, proof=hand.proof)

    # --- slices -------------------------------------------------------------------------------------------------------

    def _hand(self, integration: Integration) -> _Hand:
        hand = self._hands.get(integration.id)
        if hand is None:
            hand = self._hands[integration.id] = _Hand(integration.generation)
        elif hand.generation != integration.generation:
            # What was allowed before a reset is not allowed after it; what came with it may be what is to prove it.
            self._hand_on(integration.id, _unused(hand))
            hand.generation, hand.left, hand.number, hand.over = integration.generation, 0, 0, None
        return hand

    def _ask(self, integration: Integration, hand: _Hand, waiting: int, free: int, now: float) -> None:
        """Have the next slice fetched, unless that is under way, or the time for it has not come."""
        if self._closed or hand.asking is not None or hand.timer is not None:
            return
        # As many as will be used within the slice's time: whom we keep them from could have sent with them.
        wanted = max(1, min(waiting, free + int(hand.speed(now) * SLICE_SECONDS)))
        hand.asking = asyncio.get_running_loop().create_task(self._fetch(integration, hand, wanted))

    async def _fetch(self, integration: Integration, hand: _Hand, wanted: int) -> None:
        unused = _unused(hand)
        hand.left = hand.number = 0
        self.asked += 1
        taken: Slice
        try:
            taken = await self._store.transaction(allowances.take, integration.id, wanted=wanted, unused=unused)
        except (StoreUnavailable, CommitUnknown, BadRow) as error:
            log.warning("no allowance", integration=integration.name, error=str(error))
            taken = NotNow(AGAIN_SECONDS)
        finally:
            hand.asking = None
        if hand.generation == integration.generation:
            self._receive(integration, hand, taken)
        else:
            if isinstance(taken, Granted):
                self._hand_on(integration.id, Unused(taken.day, taken.number))
            self._again_in(0.0, integration.id, hand)

    def _receive(self, integration: Integration, hand: _Hand, taken: Slice) -> None:
        match taken:
            case Granted(number, wait, lasts, day):
                hand.number = hand.left = number
                hand.begins, hand.day = self._clock() + wait, day
                hand.ends = hand.begins + lasts
                hand.proof = awaits_proof(integration)
                if hand.proof:
                    self._use_or_hand_on(integration.id, hand)
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

    def _use_or_hand_on(self, integration_id: UUID, hand: _Hand) -> None:
        """Have somebody use this permit soon, here or elsewhere: nothing else can go until a message has passed."""
        generation = hand.generation

        def look() -> None:
            if hand.left and hand.proof and hand.generation == generation:
                unused, hand.left, hand.number = _unused(hand), 0, 0
                self._hand_on(integration_id, unused)

        asyncio.get_running_loop().call_later(UNUSED_SECONDS, look)

    def _hand_on(self, integration_id: UUID, unused: Unused | None) -> None:
        """Have a permit given back that may be the only one until a message has passed."""
        if unused is not None and not self._closed:
            task = asyncio.get_running_loop().create_task(self._give_back(integration_id, unused, proof=True))
            self._handing_on.add(task)
            task.add_done_callback(self._handing_on.discard)

    async def _give_back(self, integration_id: UUID, unused: Unused, *, proof: bool) -> None:
        """Take off the day what was not used; another worker may have at once what is to prove a release."""
        try:
            await self._store.transaction(allowances.give_back, integration_id, unused)
            if proof:
                await self._store.transaction(allowances.probe_again, integration_id)
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
                return await self._store.transaction(allowances.proven, integration.id, integration.generation)
            case Deferred(blame=blame) | Rejected(blame=blame) if blame in _FOR_ITS_OWN_SAKE and awaits_proof(
                integration
            ):
                await self._store.transaction(allowances.probe_again, integration.id)
        return False

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


def _unused(hand: _Hand) -> Unused | None:
    return Unused(hand.day, hand.left) if hand.left else None


def asks_the_account_to_wait(reply: Reply) -> bool:
    """Whether a throttling reply is about all our mail; to RCPT it mostly means one mailbox, or a greylist."""
    return reply.command != "RCPT" or reply.code in _ABOUT_THE_ACCOUNT
