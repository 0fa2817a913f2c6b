"""The loop: tickets in, seats, claims in groups, deliveries, settlements in groups. A delivery itself is in deliver.py."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from uuid import UUID

from mailroom.batch import Batch, FlushLost
from mailroom.gate import Closed, gate
from mailroom.integration import CAUSE_OF, Cause, Integration, may_send
from mailroom.kinds import KINDS
from mailroom.latency import bucket_of
from mailroom.logs import get_logger
from mailroom.loops import really_cancelled
from mailroom.message import Lane, Status
from mailroom.outcome import Blame, Sent
from mailroom.pace import is_limited
from mailroom.queue.port import Delivery, Queue, Subscription
from mailroom.queue.ticket import MAX_IDS, Address
from mailroom.settings import ThresholdSettings
from mailroom.store import integrations, messages
from mailroom.store.allowances import Need
from mailroom.store.integrations import Blamed
from mailroom.store.messages import Attempt, Claimed, Settlement
from mailroom.store.port import BadRow, CommitUnknown, StoreUnavailable
from mailroom.store.sessions import Position
from mailroom.tally import Tally
from worker.allowance import Allowance, Permits
from worker.deliver import Desk, Tried, deliver, uncertain, was_tried
from worker.places import Place
from worker.seats import Seats, kept_for_agents
from worker.shares import Shares

log = get_logger(__name__)

#: How often subscriptions are held against the snapshot, in seconds.
LOOK_SECONDS = 0.2

#: Messages in one claim or settle.
MOST_IN_GROUP = 200

#: Seconds between two claims, and between two settlements: what comes meanwhile shares the next statement.
PAUSE_SECONDS = 0.005

#: Connections that a worker needs of each integration before it knows of any mail. One alone may be kept for agents, and
#: who takes no forms would never learn that it could use more.
LEAST_SEATS = 2

#: Seconds between two tries to claim or settle while the database is away.
AGAIN_SECONDS = 1.0

#: More results than this waiting to be settled, and nothing new is taken.
MOST_UNSETTLED = 500

#: Who has not moved for so many seconds although it should have is not at work. A database that is away takes 13 s to
#: say so.
STILL_SECONDS = 30.0

#: No message is in hand for longer: an attempt has 15 minutes, and its claim and its settlement their own.
LONGEST_SECONDS = 1200.0

#: By how much the number of tickets asked for at once must be off before a consumer is replaced.
RESIZE_FACTOR = 2

#: Seconds for which a worker leaves agents' mail to others that keep seats for it, after it could not serve some.
LEFT_TO_OTHERS_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class Hand:
    """A ticket in hand: acknowledged when each of its messages is claimed or found not ours."""

    delivery: Delivery
    line: "Line"
    open_ids: int


@dataclass(slots=True)
class Line:
    """One queue this worker consumes: its subscription, what is in hand, and how far it has come."""

    address: Address
    subscription: Subscription | None = None
    prefetch: int = 0
    in_hand: dict[Hand, None] = field(default_factory=dict)
    acknowledged: datetime | None = None
    ids_per_ticket: float = 1.0
    resized_at: float = 0.0
    #: Who stood first in line when we last looked, and until when this lane is left to other workers.
    first: tuple[Hand, UUID] | None = None
    left_until: float = 0.0

    def position(self) -> Position | None:
        """How far we are: the oldest ticket in hand, else the last acknowledged one."""
        address = self.address
        if self.in_hand:
            oldest = min(hand.delivery.ticket.written_at for hand in self.in_hand)
            return Position(address.integration_id, address.lane, holding=True, published_at=oldest)
        if self.acknowledged is None:
            return None
        return Position(address.integration_id, address.lane, holding=False, published_at=self.acknowledged)


_Place = Place[tuple[Hand, UUID]]


class Turn(Enum):
    """What a claim answers instead of a message that must be taken by itself."""

    #: Another one with a last chance is in hand here; if that one is poison, this one would die of it too.
    LATER = auto()


class Consumer:
    """Everything this worker takes from the queues."""

    def __init__(
        self,
        desk: Desk,
        queue: Queue,
        thresholds: ThresholdSettings,
        tally: Tally,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._desk = desk
        self._queue = queue
        self._thresholds = thresholds
        self._tally = tally
        self._lines: dict[Address, Line] = {}
        self._seats: dict[UUID, Seats[tuple[Hand, UUID]]] = {}
        #: Every message that is being served, and since when.
        self._working: dict[asyncio.Task[None], float] = {}
        self._clock = clock
        self._round_at: float | None = None
        self._stopping = False
        self._unsettled = 0
        self.shares = Shares(desk.store, desk.session, self._needs, self._share_seats)
        self.allowance = Allowance(desk.store, lambda integration_id: self._seat(self._seats[integration_id]))
        #: What is being delivered, and what may have become ours by a claim whose answer was lost.
        self._delivering: set[UUID] = set()
        self._doubtful: set[UUID] = set()
        self._to_hand_back: set[UUID] = set()
        #: The one message in hand whose last chance this is, after workers died with it.
        self._suspect: UUID | None = None
        self._suspect_gone = asyncio.Event()
        self.claims: Batch[UUID, Claimed | Turn | None] = Batch(
            self._claim,
            max_items=MOST_IN_GROUP,
            max_waiting=100_000,
            data_error=BadRow,
            pause=PAUSE_SECONDS,
            beside=PAUSE_SECONDS,
        )
        self.settles: Batch[Settlement, bool] = Batch(
            self._settle,
            max_items=MOST_IN_GROUP,
            max_waiting=100_000,
            data_error=BadRow,
            pause=PAUSE_SECONDS,
            # Whoever submits one form after the other does so when the mail before has been sent: its commit would share
            # the database with the settlement of that mail, for which nobody waits.
            patient=True,
        )

    def idle(self) -> str | None:
        """Why nothing moves although it should: alive is not at work. None when all is well (BRK-10)."""
        now = self._clock()
        if self._round_at is not None and now - self._round_at > STILL_SECONDS:
            return f"the consumer has stood still for {now - self._round_at:.0f} s"
        for line in self._lines.values():
            still = line.subscription.stood_still if line.subscription else 0.0
            if still > STILL_SECONDS:
                return f"mail waits in {line.address.queue}, and none has come for {still:.0f} s"
        longest = now - min(self._working.values(), default=now)
        if longest > LONGEST_SECONDS and not self._unsettled:
            return f"a message has been in hand for {longest:.0f} s"
        if self._unsettled >= MOST_UNSETTLED:
            return f"{self._unsettled} results cannot be recorded"
        return None

    def figures(self) -> dict[str, float]:
        """What it has in hand now, and how far it may go; by name."""
        seats, lines = self._seats.values(), self._lines.values()
        return {
            "mailroom_seats_taken": sum(one.taken for one in seats),
            "mailroom_seats": sum(one.total for one in seats),
            "mailroom_ids_waiting": sum(one.waiting for one in seats),
            "mailroom_tickets_in_hand": sum(len(line.in_hand) for line in lines),
            "mailroom_tickets_in_hand_most": sum(line.prefetch for line in lines if line.subscription),
            "mailroom_claims_waiting": self.claims.waiting,
            "mailroom_settles_waiting": self.settles.waiting,
            "mailroom_unsettled": self._unsettled,
        }

    # --- subscriptions ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Consume what may be consumed, for as long as the process runs."""
        while True:
            self._round_at = self._clock()
            await self._match_subscriptions()
            await self._hand_back()
            for seats in self._seats.values():
                if seats.total <= seats.kept_free:
                    seats.send_away()
                self._seat(seats)
            await asyncio.sleep(LOOK_SECONDS)

    async def _match_subscriptions(self) -> None:
        for integration_id, lane in self._desk.watch.lanes:
            integration = self._desk.watch.get(integration_id)
            if integration is None:
                continue
            self._seats_of(integration)
            line = self._lines.setdefault(Address(lane, integration_id), Line(Address(lane, integration_id)))
            if self._wants(line, integration):
                await self._consume(line, integration)
            elif line.subscription is not None:
                await self._leave(line)

    def _wants(self, line: Line, integration: Integration) -> bool:
        if self._stopping:
            return False
        if not self._desk.watch.is_fresh:
            return line.subscription is not None
        seats = self._seats[integration.id]
        if line.address.lane is Lane.AGENT:
            # Agents' mail is taken in any state: it fails visibly instead of waiting (the gate decides that).
            return seats.total > 0 and not self._left_to_others(line, seats)
        return may_send(integration) and seats.total > seats.kept_free

    def _left_to_others(self, line: Line, seats: Seats[tuple[Hand, UUID]]) -> bool:
        """Whether agents' mail would wait here for a seat while other workers keep some for it."""
        waiting = seats.lines[Lane.AGENT]
        first, line.first = line.first, waiting[0] if waiting else None
        total = self.shares.of(line.address.integration_id).total
        if seats.kept_free or not kept_for_agents(total):
            return False
        if seats.free <= 0 and first is not None and first is line.first:
            line.left_until = time.monotonic() + LEFT_TO_OTHERS_SECONDS
        return time.monotonic() < line.left_until

    async def _consume(self, line: Line, integration: Integration) -> None:
        wanted = tickets_to_hold(self._seats[integration.id].total, line.ids_per_ticket)
        if line.subscription is None:
            line.prefetch = wanted
            line.subscription = await self._queue.subscribe(line.address, wanted, self._taker_for(line))
            return
        off = max(wanted, line.prefetch) / min(wanted, line.prefetch)
        if off >= RESIZE_FACTOR and time.monotonic() - line.resized_at > 1:
            line.prefetch, line.resized_at = wanted, time.monotonic()
            await line.subscription.resize(wanted)

    async def _leave(self, line: Line) -> None:
        """Consume this queue no more; what is in hand goes back, and what is being delivered is finished."""
        subscription, line.subscription = line.subscription, None
        if subscription is not None:
            await subscription.cancel()
        dropped = set(line.in_hand)
        line.in_hand.clear()
        if dropped:
            # They are in the queue again, so that is how far we have come.
            line.acknowledged = min(hand.delivery.ticket.written_at for hand in dropped)
        seats = self._seats[line.address.integration_id]
        waiting = seats.lines[line.address.lane]
        kept = [(hand, message_id) for hand, message_id in waiting if hand not in dropped]
        # Who takes their tickets next cannot claim what may be ours.
        self._to_hand_back |= {message_id for hand, message_id in waiting if hand in dropped} & self._doubtful
        waiting.clear()
        waiting.extend(kept)

    def _taker_for(self, line: Line) -> Callable[[Delivery], None]:
        return lambda delivery: self._take(delivery, line)

    def _take(self, delivery: Delivery, line: Line) -> None:
        ids = delivery.ticket.ids
        line.ids_per_ticket += 0.2 * (len(ids) - line.ids_per_ticket)
        hand = Hand(delivery, line, len(ids))
        line.in_hand[hand] = None
        seats = self._seats[line.address.integration_id]
        for message_id in ids:
            seats.wait(line.address.lane, (hand, message_id))
        self._seat(seats)

    def _seats_of(self, integration: Integration) -> Seats[tuple[Hand, UUID]]:
        seats = self._seats.get(integration.id)
        if seats is None:
            seats = self._seats[integration.id] = Seats(
                0,
                permitted=lambda: self._permitted(integration.id),
                may_get_ready=lambda: self._needs_no_permit(integration.id),
            )
        share = self.shares.of(integration.id)
        seats.total, seats.kept = min(share.seats, integration.max_connections), share.for_agents
        # Connections that nobody uses are others' to open.
        self._desk.pool.trim(integration.id, seats.total)
        return seats

    def _share_seats(self) -> None:
        """Connections were shared anew."""
        for integration_id, seats in self._seats.items():
            integration = self._desk.watch.get(integration_id)
            if integration is not None:
                seats.peak = 0
                self._seat(self._seats_of(integration))

    def _needs(self) -> dict[UUID, Need]:
        """How many connections this worker could use, and how many it has or may be about to open."""
        # Whom no ticket can reach needs none for the next one: where there is a single one, it is another's to have.
        least = 0 if self._stopping or not self._queue.connected else LEAST_SEATS
        return {
            integration_id: Need(
                wanted=max(seats.peak, seats.taken + seats.waiting, least),
                kept=max(seats.total, seats.taken, self._desk.pool.count(integration_id)),
            )
            for integration_id, seats in self._seats.items()
        }

    def _permitted(self, integration_id: UUID) -> bool:
        """Whether the integration's limits let one more message begin."""
        integration, seats = self._desk.watch.get(integration_id), self._seats[integration_id]
        if integration is None:
            return False
        if self._passes_nothing(integration):
            # What is refused is told at once, whether or not the day has anything left.
            return self.allowance.need_none(integration_id)
        return self.allowance.may_take(integration, waiting=seats.waiting, free=seats.free)

    def _needs_no_permit(self, integration_id: UUID) -> bool:
        """Whether nothing but a seat is needed to send, as far as anybody knows now."""
        integration = self._desk.watch.get(integration_id)
        return integration is not None and may_send(integration) and not is_limited(integration)

    def _needs_a_permit(self, integration_id: UUID) -> bool:
        """Whether a limit has come since: who got ready before it has no part in what it allows."""
        integration = self._desk.watch.get(integration_id)
        return integration is not None and may_send(integration) and is_limited(integration)

    def _passes_nothing(self, integration: Integration) -> bool:
        if may_send(integration):
            return False
        states = (integration.intended_state, integration.reported_state, integration.cause)
        now = self._desk.watch.now()
        return all(isinstance(gate(kind, *states, now, self._desk.enforcement), Closed) for kind in KINDS)

    def positions(self) -> Sequence[Position]:
        """How far this worker is in each queue."""
        return [position for line in self._lines.values() if (position := line.position())]

    # --- one message --------------------------------------------------------------------------------------------------

    def _seat(self, seats: Seats[tuple[Hand, UUID]]) -> None:
        """Let everybody begin for whom there is a seat, and some get ready behind them."""
        if self._stopping:
            seats.seat_ready()
        while self._may_begin():
            if (following := seats.next()) is not None:
                permits = self.allowance.taken_of(following[0].line.address.integration_id)
                self._begin(Place(seats, seated=True), *following, permits)
            elif (following := seats.next_without()) is not None:
                self._begin(Place(seats, seated=False), *following, None)
            else:
                return

    def _begin(self, place: _Place, hand: Hand, message_id: UUID, permits: Permits | None) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(place, hand, message_id, permits))
        self._working[task] = self._clock()
        task.add_done_callback(self._working.pop)

    def _may_begin(self) -> bool:
        # Without a fresh beat a claim would soon be another's, and the attempt would end before its dot.
        return not self._stopping and self._unsettled < MOST_UNSETTLED and self._desk.session.is_fresh()

    async def _serve(self, place: _Place, hand: Hand, message_id: UUID, permits: Permits | None) -> None:
        """Claim one message and deliver it; whatever goes wrong concerns this message only."""

        def leave_seat() -> None:
            if place.leave():
                self._seat(self._seats[hand.line.address.integration_id])

        # Before the claim: two tickets may name it, and one answer to one claim would serve both.
        if message_id in self._delivering:
            self.allowance.put_back(hand.line.address.integration_id, permits)
            leave_seat()
            await self._tick(hand)
            return
        self._delivering.add(message_id)
        try:
            message = await self._claimed(hand, message_id, leave_seat)
            if message is None:
                self.allowance.put_back(hand.line.address.integration_id, permits)
            elif not await place.sit() or (place.got_ready and self._needs_a_permit(message.integration_id)):
                self._to_hand_back.add(message_id)
            else:
                self._begun_anew()
                settlement, tried = await self._delivered(message, leave_seat)
                if not was_tried(tried.outcome):
                    self.allowance.put_back(message.integration_id, permits)
                if await self._record(settlement):
                    self._count(message, settlement)
                await self._tell_about(tried, settlement.attempt)
        except Exception:
            # Nothing is known to get here. It must not take the ticket, the seat or the worker with it.
            log.exception("message left to the sweep by our own fault", message_id=str(message_id))
        finally:
            self._delivering.discard(message_id)
            if message_id not in self._doubtful:
                self._let_go_of_suspect({message_id})
            leave_seat()

    def _begun_anew(self) -> None:
        """What this task did before does not count as having its message in hand."""
        task = asyncio.current_task()
        if task is not None:
            self._working[task] = self._clock()

    async def _claimed(self, hand: Hand, message_id: UUID, leave_seat: Callable[[], None]) -> Claimed | None:
        """The message, now ours; None when it is not, or when nobody knows: then it stands in line once more."""
        try:
            message = await self.claims.add(message_id)
        except Exception as error:  # noqa: BLE001 - whatever ended the claim, the message must not be lost sight of
            log.warning("claim failed", message_id=str(message_id), error=str(error) or type(error).__name__)
            if not isinstance(error, StoreUnavailable | BadRow):
                self._doubtful.add(message_id)
            await asyncio.sleep(AGAIN_SECONDS)
            self._again(hand, message_id)
            return None
        if isinstance(message, Turn):
            leave_seat()
            await self._wait_its_turn()
            self._again(hand, message_id)
            return None
        self._doubtful.discard(message_id)
        self._to_hand_back.discard(message_id)
        await self._tick(hand)
        return message

    async def _wait_its_turn(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_SECONDS):
                await self._suspect_gone.wait()

    def _again(self, hand: Hand, message_id: UUID) -> None:
        if hand in hand.line.in_hand and not self._stopping:
            self._seats[hand.line.address.integration_id].wait(hand.line.address.lane, (hand, message_id))
        elif message_id in self._doubtful:
            # The ticket is in the queue again, but who takes it cannot claim what may be ours.
            self._to_hand_back.add(message_id)

    async def _tick(self, hand: Hand) -> None:
        hand.open_ids -= 1
        if hand.open_ids == 0 and hand in hand.line.in_hand:
            del hand.line.in_hand[hand]
            hand.line.acknowledged = hand.delivery.ticket.written_at
            try:
                await hand.delivery.acknowledge()
            except Exception:
                # The ticket comes again then, which is harmless; what it named is ours and must go on.
                log.exception("ticket not acknowledged", queue=hand.line.address.queue)

    async def _delivered(self, message: Claimed, leave_seat: Callable[[], None]) -> tuple[Settlement, Tried]:
        try:
            return await deliver(message, self._desk, leave_seat)
        except asyncio.CancelledError:
            if really_cancelled():
                raise
            log.warning("delivery was cancelled by nobody", message_id=str(message.id))
        except Exception:
            # A defect of ours must cost one message, not the worker. How far the attempt had come is not known, so the
            # server may have the message.
            log.exception("delivery failed by our own fault", message_id=str(message.id))
        return uncertain(message, self._desk)

    async def _record(self, settlement: Settlement) -> bool:
        """Settle, however long the database is away; whether its claim still stood."""
        self._unsettled += 1
        try:
            while (stood := await self._settled(settlement)) is None:
                # Whatever the server said that cannot be stored, what became of the message can.
                settlement = replace(settlement, reply=None, attempt=None)
            if not stood and settlement.status is Status.SENT:
                # The sweep may have ended it in the same moment, unseen by the first statement; a second one sees that.
                stood = await self._settled(settlement)
            if not stood:
                log.warning("result came too late", message_id=str(settlement.id), status=settlement.status)
            return bool(stood)
        finally:
            self._unsettled -= 1
            if self._unsettled == MOST_UNSETTLED - 1:
                for seats in self._seats.values():
                    self._seat(seats)

    def _count(self, message: Claimed, settlement: Settlement) -> None:
        kind, through, at = message.kind, message.integration_id, settlement.at
        self._tally.count(settlement.status, at, kind=kind, integration_id=through)
        if settlement.status is Status.SENT:
            took = (at - message.accepted_at).total_seconds()
            self._tally.count(bucket_of(took), at, kind=kind, integration_id=through)

    async def _settled(self, settlement: Settlement) -> bool | None:
        """Whether its claim still stood, once the database has said so; None when it refuses the row for its data."""
        while True:
            try:
                return await self.settles.add(settlement)
            except BadRow as error:
                log.error("settled without its reply", message_id=str(settlement.id), error=str(error))
                if settlement.reply is not None or settlement.attempt is not None:
                    return None
            except (StoreUnavailable, CommitUnknown, FlushLost) as error:
                # Settling twice does no harm: the second time the claim does not stand any more.
                log.warning("not settled yet", message_id=str(settlement.id), error=str(error))
            except Exception:
                log.exception("not settled yet, by our own fault", message_id=str(settlement.id))
            await asyncio.sleep(AGAIN_SECONDS)

    async def _tell_about(self, tried: Tried, attempt: Attempt | None) -> None:
        """What an attempt says about its integration."""
        integration = tried.integration
        if integration is None or not was_tried(tried.outcome):
            return
        try:
            if attempt and tried.blame is not None:
                await self._tell_failure(tried, tried.blame, integration, attempt)
            elif isinstance(tried.outcome, Sent) and integration.failures:
                await self._desk.store.statement(integrations.forget_failures, integration.id, integration.generation)
            await self._tell_pace(tried, integration)
            if tried.connected and tried.ehlo_size != integration.ehlo_size:
                await self._desk.store.statement(
                    integrations.set_ehlo_size, integration.id, integration.generation, tried.ehlo_size
                )
        except (StoreUnavailable, CommitUnknown, BadRow) as error:
            log.warning("integration not told about", integration=integration.name, error=str(error))

    async def _tell_failure(self, tried: Tried, blame: Blame, integration: Integration, attempt: Attempt) -> None:
        """Count it against the integration; where that ends its sending, return once this worker knows."""
        cause = CAUSE_OF[blame]
        blamed = Blamed(
            integration_id=integration.id,
            generation=integration.generation,
            cause=cause,
            threshold=getattr(self._thresholds, blame),
            began_at=attempt.started_at,
            apart=self._apart(cause),
            transcript="\n".join((*tried.transcript, attempt.reply or "")),
            who=f"worker {self._desk.session.id}",
        )
        ended = await self._desk.store.transaction(integrations.count_failure, blamed, now=self._desk.watch.now())
        if ended:
            log.error("integration set to ERROR", integration=integration.name, cause=cause)
            await self._queue.nudge()
        # A refused password may have been told by another connection a moment ago.
        if ended or cause is Cause.AUTHENTICATION_REFUSED:
            await self._desk.watch.renewed()

    def _apart(self, cause: Cause) -> timedelta:
        """A refused password is the same answer however often it is asked for."""
        return timedelta(seconds=0 if cause is Cause.AUTHENTICATION_REFUSED else self._thresholds.apart)

    async def _tell_pace(self, tried: Tried, integration: Integration) -> None:
        part = self._seats[integration.id].total / integration.max_connections
        if await self.allowance.learn(integration, tried.outcome, part):
            self._desk.watch.nudge()
            await self._queue.nudge()

    # --- groups -------------------------------------------------------------------------------------------------------

    async def _claim(self, ids: Sequence[UUID]) -> list[Claimed | Turn | None]:
        taken: dict[UUID, Claimed | Turn] = {**await self._rows_of(ids)}
        rest = [message_id for message_id in ids if message_id not in taken]
        if rest:
            taken |= await self._take_by_itself(rest)
        return [taken.get(message_id) for message_id in ids]

    async def _rows_of(self, ids: Sequence[UUID]) -> dict[UUID, Claimed]:
        doubtful = [message_id for message_id in ids if message_id in self._doubtful]
        return await self._desk.store.statement(
            messages.claim, ids, self._desk.session.id, doubtful=doubtful, suspect=self._suspect
        )

    async def _take_by_itself(self, rest: Sequence[UUID]) -> Mapping[UUID, Claimed | Turn]:
        """One of those that have a last chance, unless another is in hand; the others' turn is later.

        Nothing is raised: what else was claimed in this group is ours already.
        """
        try:
            suspects = await self._desk.store.read(messages.suspects, rest)
        except (StoreUnavailable, BadRow) as error:
            log.warning("claim failed", count=len(rest), error=str(error))
            return dict.fromkeys(rest, Turn.LATER)
        later = dict.fromkeys(suspects, Turn.LATER)
        if not suspects or self._suspect is not None:
            return later
        self._suspect = suspects[0]
        try:
            return later | await self._rows_of(suspects[:1])
        except (StoreUnavailable, CommitUnknown, BadRow) as error:
            # It may be ours: it stays the one in hand, and is asked for again.
            log.warning("claim failed", message_id=str(suspects[0]), error=str(error))
            self._doubtful.add(suspects[0])
            return later

    def _let_go_of_suspect(self, ended: Collection[UUID]) -> None:
        if self._suspect in ended:
            self._suspect = None
            self._suspect_gone.set()
            self._suspect_gone = asyncio.Event()

    async def _settle(self, group: Sequence[Settlement]) -> list[bool]:
        return await self._desk.store.statement(messages.settle, group)

    async def _hand_back(self) -> None:
        """Queue anew what a claim without an answer may have made ours, and nobody here works on any more."""
        idle = self._to_hand_back - self._delivering
        if not idle:
            return
        self._delivering |= idle  # nobody here may claim them meanwhile
        try:
            await self._desk.store.statement(
                messages.hand_back, sorted(idle), self._desk.session.id, at=self._desk.watch.now()
            )
        except (StoreUnavailable, CommitUnknown, BadRow) as error:
            log.warning("claims not handed back yet", count=len(idle), error=str(error))
            return
        finally:
            self._delivering -= idle
        self._to_hand_back -= idle
        self._doubtful -= idle
        self._let_go_of_suspect(idle)

    # --- stopping -----------------------------------------------------------------------------------------------------

    async def stop(self, seconds: float) -> bool:
        """Take nothing more, finish what was begun within so many seconds; False when something was left unfinished."""
        self._stopping = True
        for line in list(self._lines.values()):
            await self._leave(line)
        if self._working:
            await asyncio.wait(self._working, timeout=seconds)
        for seats in self._seats.values():
            seats.send_away()
        await asyncio.sleep(0)  # so that whoever was ready has left
        await self._hand_back()
        return not self._working and not self._to_hand_back


def tickets_to_hold(seats: int, ids_per_ticket: float) -> int:
    """The fewest tickets that cover twice the seats, as tickets are at the moment."""
    per_ticket = min(max(ids_per_ticket, 1.0), MAX_IDS)
    return max(1, -int(-2 * seats // per_ticket))
