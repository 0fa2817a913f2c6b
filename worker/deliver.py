"""READ THIS FIRST. What happens to one claimed message: the gate, one attempt, and where it stands afterwards."""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from mailroom.attachments import AttachmentMissing, AttachmentStore
from mailroom.gate import Closed, Enforcement, gate
from mailroom.integration import CAUSE_OF, Integration
from mailroom.logs import get_logger
from mailroom.message import Content, Status
from mailroom.mime import BUILT_ON_THE_LOOP, UnsafeMessage, compose_off_loop
from mailroom.outcome import Blame, Deferred, Held, Outcome, Rejected, Reply, Sent, Uncertain
from mailroom.store import messages
from mailroom.store.content import NewerContent, UnreadableContent, decode_content
from mailroom.store.messages import HELD, Attempt, Claimed, Settlement
from mailroom.store.port import Store, StoreUnavailable
from mailroom.watch import IntegrationWatch
from worker.pool import Pool
from worker.retry import Finish, GiveUp, Hold, Retry, RetryPolicy, Step, counts_as_attempt
from worker.session import Session
from worker.smtp import Connection

log = get_logger(__name__)

#: Seconds an attempt may take from connecting to the answer to the dot. Well under the 30 minutes after which RabbitMQ
#: takes a consumer for dead, although no ticket is held so long.
ATTEMPT_SECONDS = 15 * 60

#: Seconds that the files of a message may take to be read: a share that hangs must not keep the seats of all other mail.
READ_SECONDS = 30


#: Large messages that are composed at once: while that lasts each takes four times its files in memory, and each thread
#: more that computes keeps the loop waiting longer.
LARGE_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Desk:
    """What an attempt works with."""

    store: Store
    attachments: AttachmentStore
    watch: IntegrationWatch
    pool: Pool
    policy: RetryPolicy
    enforcement: Enforcement
    session: Session
    room_for_large: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_AT_ONCE))


@dataclass(frozen=True, slots=True)
class Tried:
    """What one attempt came to, and on what it was made: None when nothing was tried."""

    outcome: Outcome
    integration: Integration | None = None
    connected: bool = False
    transcript: tuple[str, ...] = ()
    ehlo_size: int | None = None
    #: The version of TLS; None for clear text, or where no connection came about.
    tls: str | None = None

    @property
    def blame(self) -> Blame | None:
        """What of the integration is to blame; None where it did not fail for the integration's sake."""
        return self.outcome.blame if isinstance(self.outcome, Deferred) and self.outcome.blame in CAUSE_OF else None


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who is named to the server: bounces go to the sender, the mail to the recipient."""

    sender: str
    recipient: str


async def deliver(message: Claimed, desk: Desk, leave_seat: Callable[[], None]) -> tuple[Settlement, Tried]:
    """Try the message once and decide what becomes of it; the caller records that.

    The seat is left as soon as the attempt has ended, unless that was the integration's fault: until that is told, and
    known here, the next message would only hear the same, and accounts are locked for being asked too often.
    """
    started_at = desk.watch.now()
    try:
        tried = await attempt(message, desk, started_at)
    except BaseException:
        leave_seat()
        raise
    if tried.blame is None:
        leave_seat()
    return conclude(message, tried, started_at, desk), tried


def uncertain(message: Claimed, desk: Desk) -> tuple[Settlement, Tried]:
    """The settlement of an attempt that ended by a defect of ours, nobody knows how far it had come."""
    tried = Tried(Uncertain(Reply("attempt", None, "the attempt ended by a defect of Mailroom; its log says more")))
    return conclude(message, tried, desk.watch.now(), desk), tried


def conclude(message: Claimed, tried: Tried, started_at: datetime, desk: Desk) -> Settlement:
    """What becomes of the message after this attempt."""
    ended_at = desk.watch.now()
    number = message.attempts + was_tried(tried.outcome)
    blamed = message.blamed + counts_as_attempt(tried.outcome)
    step = desk.policy.next_step(
        tried.outcome,
        kind=message.kind,
        attempts_blamed=blamed,
        attempts=max(number, 1),
        already_uncertain=message.possible_duplicate,
        now=ended_at,
        expires_at=message.expires_at,
        jitter=random.random(),  # noqa: S311 - spreads retries, decides nothing secret
    )
    settlement = settlement_of(
        message,
        step,
        tried.outcome,
        ended_at,
        attempts=number,
        blamed=blamed,
        record=as_record(tried, number, started_at, ended_at),
    )
    # What went well is in the message's row, where people look for it; a line for each would cost a twentieth of all.
    level = logging.DEBUG if isinstance(tried.outcome, Sent) else logging.INFO
    if log.is_enabled_for(level):
        _tell(level, message, number, tried.outcome, settlement)
    return settlement


def _tell(level: int, message: Claimed, number: int, outcome: Outcome, settlement: Settlement) -> None:
    log.log(
        level,
        "attempt ended",
        message_id=str(message.id),
        attempt=number,
        outcome=type(outcome).__name__.lower(),
        status=settlement.status,
        detail=settlement.reply or settlement.reason,
    )


async def attempt(message: Claimed, desk: Desk, started_at: datetime) -> Tried:
    """Gate, content, connection, MIME, gate again, MAIL to the final dot: whatever ends it is an outcome."""
    if started_at >= message.expires_at:
        return Tried(Deferred(Reply("gate", None, "it waited longer than its kind may"), Blame.US))
    await desk.watch.fresh()
    integration = desk.watch.get(message.integration_id)
    refusal = refused(message, integration, desk)
    if integration is None or refusal is not None:
        return Tried(refusal or Held("the integration does not exist"))
    content = await content_of(message, desk)
    if not isinstance(content, Content):
        return Tried(content, integration)
    wire = await wire_of(message, content, integration, desk)
    if not isinstance(wire, bytes):
        return Tried(wire, integration)
    deadline = asyncio.get_running_loop().time() + ATTEMPT_SECONDS
    connection = await connection_to(integration, desk, deadline)
    if isinstance(connection, Deferred):
        return Tried(connection, integration)
    envelope = Envelope(integration.from_address or content.from_address or "", content.to)
    return await transact(message, envelope, wire, connection, integration, desk, deadline)


def refused(message: Claimed, integration: Integration | None, desk: Desk) -> Held | Deferred | None:
    """What the gate says now: held, or deferred while nobody knows; None lets it pass."""
    if integration is None:
        return Held("the integration does not exist")
    if not desk.watch.is_fresh:
        return Deferred(Reply("gate", None, "the state of the integration is not known at the moment"), Blame.US)
    verdict = gate(
        message.kind,
        integration.intended_state,
        integration.reported_state,
        integration.cause,
        desk.watch.now(),
        desk.enforcement,
    )
    if isinstance(verdict, Closed):
        return Held(verdict.reason)
    if verdict.warning:
        log.warning("sent in spite of its integration's state", message_id=str(message.id), reason=verdict.warning)
    return None


async def content_of(message: Claimed, desk: Desk) -> Content | Rejected | Deferred:
    """What the message says."""
    try:
        body = message.body if message.body is not None else await desk.store.read(messages.body_of, message.id)
        return decode_content(body)
    except StoreUnavailable as error:
        return Deferred(Reply("compose", None, str(error)), Blame.US)
    except NewerContent as error:
        # A rolling update: another worker will be able to. Where none ever is, it expires, visibly (OPS-3).
        log.error("content is newer than this worker", message_id=str(message.id), error=str(error))
        return Deferred(Reply("compose", None, str(error)), Blame.US)
    except UnreadableContent as error:
        return Rejected(Reply("compose", None, str(error)), Blame.US)


async def wire_of(
    message: Claimed, content: Content, integration: Integration, desk: Desk
) -> bytes | Rejected | Deferred:
    """The message as it goes over the wire."""
    size = len(content.text) + len(content.html or "") + sum([file.size for file in content.attachments])
    try:
        if size <= BUILT_ON_THE_LOOP:
            return await _composed(message, content, integration, desk)
        async with desk.room_for_large:
            return await _composed(message, content, integration, desk)
    except UnsafeMessage as error:
        return Rejected(Reply("compose", None, str(error)), Blame.US)
    except (AttachmentMissing, OSError) as error:
        # The folder may only be unmounted for the moment; where the file is really gone the message expires, visibly.
        why = str(error) or f"no answer within {READ_SECONDS} s"
        log.error("attachment cannot be read", message_id=str(message.id), error=why)
        return Deferred(Reply("compose", None, f"an attachment cannot be read: {why}"), Blame.US)


async def _composed(message: Claimed, content: Content, integration: Integration, desk: Desk) -> bytes:
    files: list[bytes | bytearray] = []
    if content.attachments:
        async with asyncio.timeout(READ_SECONDS):
            files = [await desk.attachments.content_of(file) for file in content.attachments]
    return await compose_off_loop(
        message.id, content, integration.from_address, integration.from_name, message.accepted_at, files
    )


async def connection_to(integration: Integration, desk: Desk, deadline: float) -> Connection | Deferred:
    """A connection that may send. Nothing of a message is said while it is opened, so its time may simply run out."""
    if (kept := desk.pool.at_hand(integration)) is not None:
        return kept
    try:
        async with asyncio.timeout_at(deadline):
            return await desk.pool.acquire(integration)
    except TimeoutError:
        return Deferred(Reply("connect", None, f"not ready to send after {ATTEMPT_SECONDS} s"), Blame.TIMEOUT)


async def transact(
    message: Claimed,
    envelope: Envelope,
    wire: bytes,
    connection: Connection,
    integration: Integration,
    desk: Desk,
    deadline: float,
) -> Tried:
    """One SMTP transaction on this connection, which is given back or thrown away."""
    await desk.watch.fresh()
    timer = asyncio.get_running_loop().call_at(deadline, connection.give_up)
    try:
        outcome = await connection.send(
            envelope.sender,
            envelope.recipient,
            wire,
            before_dot=lambda: desk.session.holds(message.session),
            before_mail=lambda: refused(message, desk.watch.get(message.integration_id), desk),
        )
    except BaseException:
        desk.pool.discard(connection)
        raise
    finally:
        timer.cancel()
    desk.pool.release(connection)
    return Tried(
        outcome,
        integration,
        connected=True,
        # Nobody reads how the connection was opened that did what it is for.
        transcript=() if isinstance(outcome, Sent) else connection.transcript,
        ehlo_size=connection.ehlo_size,
        tls=connection.tls,
    )


def settlement_of(
    message: Claimed,
    step: Step,
    outcome: Outcome,
    at: datetime,
    *,
    attempts: int,
    blamed: int,
    record: Attempt | None,
) -> Settlement:
    """What is written about the message."""
    status, wake_at, reason, possible_duplicate = Status.SENT, None, None, message.possible_duplicate
    match step:
        case Finish():
            pass
        case Retry(again_at, doubtful):
            status, wake_at, possible_duplicate = Status.DEFERRED, again_at, possible_duplicate or doubtful
        case Hold():
            status = Status.HELD
        case GiveUp(end, why):
            status, reason, possible_duplicate = end, why, possible_duplicate or end is Status.UNCERTAIN
        case _:
            assert_never(step)
    return Settlement(
        id=message.id,
        claim=message.claim,
        status=status,
        at=at,
        attempts=attempts,
        blamed=blamed,
        possible_duplicate=possible_duplicate,
        reason=reason,
        reply=None if isinstance(outcome, Held) else words_of(outcome.reply),
        wake_at=wake_at,
        session=message.session,
        attempt=record,
    )


def as_record(tried: Tried, number: int, started_at: datetime, ended_at: datetime) -> Attempt | None:
    """The attempt as it is kept: None where nobody knew what the gate would say, which says nothing of the message.

    What was held is on record without being an attempt: it keeps the number of the one before.
    """
    outcome = tried.outcome
    if isinstance(outcome, Held):
        return Attempt(
            number=number, started_at=started_at, ended_at=ended_at, outcome=HELD, command="gate", reply=outcome.reason
        )
    if not was_tried(outcome):
        return None
    return Attempt(
        number=number,
        started_at=started_at,
        ended_at=ended_at,
        outcome=type(outcome).__name__.lower(),
        blame=outcome.blame if isinstance(outcome, Deferred | Rejected) else None,
        command=outcome.reply.command,
        code=outcome.reply.code,
        reply=words_of(outcome.reply),
        tls=tried.tls,
    )


def was_tried(outcome: Outcome) -> bool:
    """Whether the message got past the gate; what is stopped there costs it no attempt."""
    return not isinstance(outcome, Held) and outcome.reply.command != "gate"


def words_of(reply: Reply) -> str:
    """A reply in one line: the command, the code, the enhanced code where the words do not begin with it, the words."""
    enhanced = None if reply.enhanced and reply.text.startswith(reply.enhanced) else reply.enhanced
    parts = (f"{reply.command}:", str(reply.code) if reply.code else None, enhanced, reply.text)
    return " ".join(part for part in parts if part)
