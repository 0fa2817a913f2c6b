"""The queue on RabbitMQ. The only file that knows aio-pika.

Plain connections and a loop of our own rather than aio-pika's robust ones: every loss ends in the same few lines here.
Publishing and consuming have a connection each, because an alarm at the broker blocks a publishing connection whole.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import aio_pika
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import (
    CONNECTION_EXCEPTIONS,
    ChannelClosed,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
    PublishError,
)
from yarl import URL

from mailroom.logs import get_logger
from mailroom.loops import really_cancelled, start_loop
from mailroom.queue.port import Delivery, QueueUnavailable, WrongTopology
from mailroom.queue.ticket import Address, Ticket, UnreadableTicket, decode_ticket, encode_ticket

log = get_logger(__name__)

#: Seconds a publish may take, getting a channel and the confirm included.
PUBLISH_SECONDS = 3.0

#: Seconds for anything else that is asked of the broker.
ASK_SECONDS = 5.0

#: Seconds between heartbeats: a half-open connection is noticed after three.
HEARTBEAT_SECONDS = 10

#: Queues declared at the same time, each on a channel of its own.
DECLARED_AT_ONCE = 8

#: After a failure, publishes fail at once for so long instead of each waiting its own time out.
BACK_OFF_SECONDS = 0.5

#: Seconds between two proofs that the broker takes what is published, and after how many seconds without an answer it
#: is taken not to: an alarm, of which it tells only those who publish, or a connection that leads nowhere.
PROVE_SECONDS = 1.0
DOUBT_SECONDS = 2.0

#: How often a subscription looks whether the broker still knows its consumer.
WATCH_SECONDS = 5.0

#: After so many looks at which nothing had come a consumer is replaced: when tickets wait, and when it seems idle.
LOOKS_WHILE_READY = 2
LOOKS_WHILE_IDLE = 6

UNREADABLE = "mailroom.unreadable"
NUDGES = "mailroom.nudges"
PROOF = "mailroom.nowhere"

#: The same in every process and every version: the broker refuses to declare a queue again with other arguments.
#: `at-least-once` needs `reject-publish`; without a dead-letter exchange the delivery limit would drop silently.
TICKET_QUEUE_ARGUMENTS: dict[str, Any] = {
    "x-queue-type": "quorum",
    "x-delivery-limit": 20,
    "x-dead-letter-exchange": UNREADABLE,
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
    "x-max-length": 1_000_000,
}

#: Whatever aio-pika, aiormq or the socket raise when the broker is not there or says no.
_BROKER_ERRORS = (*CONNECTION_EXCEPTIONS, TimeoutError)


class _QueueRefused(Exception):
    """The broker will not have this queue as we declare it."""


class RabbitQueue:
    """Tickets on RabbitMQ; several hosts in the URL, parted by commas, are tried in turn."""

    def __init__(self, url: str, *, watch_seconds: float = WATCH_SECONDS) -> None:
        urls = _urls(url)
        self._watch_seconds = watch_seconds
        self._publishing = _Link(urls, "mailroom publisher")
        self._consuming = _Link(urls, "mailroom consumer")
        # Its own: what it waits for during an alarm holds up nobody else.
        self._proving = _Link(urls, "mailroom prover")
        self._doubtful = False
        self._channel: AbstractChannel | None = None
        self._channel_lock = asyncio.Lock()
        self._declared: set[str] = set()
        self._declaring = asyncio.Semaphore(DECLARED_AT_ONCE)
        self._turn_to_declare: dict[str, asyncio.Lock] = {}
        self._not_before = 0.0
        self._subscriptions: set[_RabbitSubscription] = set()
        self._wakers: list[Callable[[], None]] = []
        self._listening: asyncio.Task[None] | None = None
        self._prover: asyncio.Task[None] | None = None

    # --- publishing ---------------------------------------------------------------------------------------------------

    async def publish(self, address: Address, ticket: Ticket) -> None:
        """Return once the broker has confirmed the ticket; its queue is declared first. Raises QueueUnavailable."""
        if time.monotonic() < self._not_before:
            raise QueueUnavailable("the broker did not answer a moment ago")
        if self._doubtful:
            raise QueueUnavailable("the broker takes nothing at the moment")
        body = encode_ticket(ticket)
        channel: AbstractChannel | None = None
        try:
            async with _broker(PUBLISH_SECONDS):
                channel = await self._publishing_channel()
                await self._publish_declared(channel, address, body)
        except (DeliveryError, _QueueRefused) as error:
            # The broker is well and says no: the queue is full, or another than ours. Other queues are not concerned.
            raise QueueUnavailable(f"the broker refused the ticket: {_words(error)}") from error
        except _BROKER_ERRORS as error:
            await self._drop_channel(channel)
            raise QueueUnavailable(f"the broker did not take the ticket: {_words(error)}") from error

    async def _publish_declared(self, channel: AbstractChannel, address: Address, body: bytes) -> None:
        if address.queue not in self._declared:
            await self._declare_apart(address)
        try:
            await _put(channel, address.queue, body)
        except PublishError:
            # Returned as unroutable: somebody deleted the queue since we declared it.
            self._declared.discard(address.queue)
            await self._declare_apart(address)
            await _put(channel, address.queue, body)

    async def _declare_apart(self, address: Address) -> None:
        """Declare a queue on a channel of its own: a refusal closes the channel, and others publish on ours.

        Who publishes to a queue that is just being declared waits for that: a channel for each of thousands of tickets
        is more than a connection has.
        """
        async with self._turn_to_declare.setdefault(address.queue, asyncio.Lock()), self._declaring:
            if address.queue in self._declared:
                return
            connection = await self._publishing.connection()
            channel = await connection.channel()
            try:
                await _declare(channel, address.queue)
            except ChannelClosed as error:
                raise _QueueRefused(_words(error)) from error
            finally:
                await _close(channel)
            self._declared.add(address.queue)

    async def _publishing_channel(self) -> AbstractChannel:
        async with self._channel_lock:
            if self._channel is None or self._channel.is_closed:
                self._declared.clear()
                connection = await self._publishing.connection()
                channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
                try:
                    await _declare_around(channel)
                except BaseException:
                    await _close(channel)
                    raise
                self._channel = channel
            return self._channel

    async def _drop_channel(self, failed: AbstractChannel | None) -> None:
        """Begin anew after a failure on this channel; None when not even one could be opened."""
        current = self._channel
        nobody_began_anew = current is failed if failed else current is None or current.is_closed
        if not nobody_began_anew:
            return
        self._not_before = time.monotonic() + BACK_OFF_SECONDS
        self._channel = None
        self._declared.clear()
        await self._publishing.drop()

    # --- consuming ----------------------------------------------------------------------------------------------------

    async def subscribe(
        self, address: Address, prefetch: int, take: Callable[[Delivery], None]
    ) -> "_RabbitSubscription":
        """Have `take` called with every ticket, through every loss of the broker."""
        subscription = _RabbitSubscription(
            self._consuming, address, prefetch, take, self._watch_seconds, self._subscriptions.discard
        )
        self._subscriptions.add(subscription)
        return subscription

    async def ready(self, address: Address) -> int:
        """How many tickets wait there. Raises QueueUnavailable."""
        try:
            async with _broker(ASK_SECONDS):
                connection = await self._publishing.connection()
                # A channel of its own: asking for a queue that does not exist closes the channel.
                channel = await connection.channel()
                try:
                    queue = await channel.declare_queue(address.queue, passive=True)
                except ChannelNotFoundEntity:
                    return 0
                finally:
                    await _close(channel)
                return queue.declaration_result.message_count or 0
        except _BROKER_ERRORS as error:
            raise QueueUnavailable(f"the broker does not answer: {_words(error)}") from error

    # --- nudges -------------------------------------------------------------------------------------------------------

    async def nudge(self) -> None:
        """Tell every process to look now; where that fails they will look soon anyway."""
        with contextlib.suppress(*_BROKER_ERRORS):
            async with _broker(PUBLISH_SECONDS):
                channel = await self._publishing_channel()
                exchange = await channel.get_exchange(NUDGES, ensure=False)
                await exchange.publish(Message(b""), routing_key="", mandatory=False)

    def on_nudge(self, wake: Callable[[], None]) -> None:
        """Have `wake` called at every nudge."""
        self._wakers.append(wake)
        if self._listening is None:
            self._listening = start_loop("nudges of the broker", self._listen)
            self._prover = start_loop("proving that the broker takes tickets", self._prove)

    async def _listen(self) -> None:
        while not really_cancelled():
            with contextlib.suppress(*_BROKER_ERRORS):
                async with _broker():
                    await self._listen_once()
            await asyncio.sleep(_jittered(1.0))

    async def _listen_once(self) -> None:
        async with asyncio.timeout(ASK_SECONDS):
            connection = await self._consuming.connection()
            channel = await connection.channel()
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await _declare_around(channel)
                queue = await channel.declare_queue(exclusive=True, auto_delete=True)
                await queue.bind(NUDGES)
                await queue.consume(self._nudged, no_ack=True)
            while not channel.is_closed:
                # A process that has nothing to publish must know all the same whether it could.
                async with asyncio.timeout(ASK_SECONDS):
                    await self._publishing_channel()
                await asyncio.sleep(1)
        finally:
            await _close(channel)

    async def _nudged(self, _: AbstractIncomingMessage) -> None:
        for wake in self._wakers:
            wake()

    # --- what can be published ----------------------------------------------------------------------------------------

    async def _prove(self) -> None:
        """Find out for as long as the process runs whether a ticket would be taken now, without one."""
        while not really_cancelled():
            with contextlib.suppress(*_BROKER_ERRORS):
                async with _broker():
                    await self._prove_once()
            await asyncio.sleep(_jittered(PROVE_SECONDS))

    async def _prove_once(self) -> None:
        async with asyncio.timeout(ASK_SECONDS):
            connection = await self._proving.connection()
            channel = await connection.channel(publisher_confirms=True)
        try:
            while not channel.is_closed:
                doubt = asyncio.get_running_loop().call_later(DOUBT_SECONDS, self._doubt)
                try:
                    # To a queue that does not exist: confirmed like any other, and gone. During an alarm this waits for
                    # its end; a new connection each time would be left behind at the broker.
                    await channel.default_exchange.publish(Message(b""), routing_key=PROOF, mandatory=False)
                    self._doubtful = False
                finally:
                    doubt.cancel()
                await asyncio.sleep(PROVE_SECONDS)
        finally:
            await _close(channel)

    def _doubt(self) -> None:
        if not self._doubtful:
            log.warning("the broker takes nothing at the moment")
        self._doubtful = True

    # --- the rest -----------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Reach the broker now and check what it has declared. Raises QueueUnavailable or WrongTopology."""
        try:
            async with _broker(ASK_SECONDS):
                await self._publishing_channel()
        except ChannelPreconditionFailed as error:
            raise WrongTopology(
                f"the broker has {UNREADABLE} or {NUDGES} with other arguments than Mailroom's; delete it there, or give "
                f"Mailroom a virtual host of its own in MAILROOM_QUEUE_URL: {_words(error)}"
            ) from error
        except _BROKER_ERRORS as error:
            raise QueueUnavailable(f"the broker cannot be reached: {_words(error)}") from error

    @property
    def connected(self) -> bool:
        """Whether a channel to publish on is open, no publish failed a moment ago, and the broker takes what comes."""
        is_open = self._channel is not None and not self._channel.is_closed
        return is_open and time.monotonic() >= self._not_before and not self._doubtful

    async def aclose(self) -> None:
        """Close both connections; the broker puts unacknowledged tickets back."""
        for task in (self._listening, self._prover):
            if task:
                task.cancel()
                await asyncio.wait([task])
        for subscription in list(self._subscriptions):
            await subscription.cancel()
        await self._publishing.drop()
        await self._consuming.drop()
        await self._proving.drop()


class _Link:
    """One connection, made anew when it is gone."""

    def __init__(self, urls: list[URL], name: str) -> None:
        self._urls = urls
        self._name = name
        self._turn = 0
        self._connection: AbstractConnection | None = None
        self._lock = asyncio.Lock()

    async def connection(self) -> AbstractConnection:
        """An open connection; raises what aio-pika raises."""
        async with self._lock:
            # `is_closed` tells only of our own closing; `connected` also of a broker that closed or was lost.
            if self._connection is None or not self._connection.connected.is_set():
                url = self._urls[self._turn % len(self._urls)]
                self._turn += 1
                self._connection = await aio_pika.connect(
                    url, timeout=ASK_SECONDS, client_properties={"connection_name": self._name}
                )
            return self._connection

    async def drop(self) -> None:
        """Close without waiting long: a broker that does not answer will not answer this either."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*_BROKER_ERRORS):
                async with _broker(1):
                    await connection.close()


class _RabbitSubscription:
    def __init__(
        self,
        link: _Link,
        address: Address,
        prefetch: int,
        take: Callable[[Delivery], None],
        watch_seconds: float,
        ended: Callable[["_RabbitSubscription"], None],
    ) -> None:
        self._link = link
        self._address = address
        self._prefetch = prefetch
        self._take = take
        self._watch_seconds = watch_seconds
        self._ended = ended
        self._hands = _Hands()
        #: When a ticket last came, or none waited that could have.
        self._well_at = time.monotonic()
        #: Set when there is something to look at before it is time: another prefetch, or a channel that has closed.
        self._woken = asyncio.Event()
        self._task = start_loop("consuming", self._keep_consuming)

    async def resize(self, prefetch: int) -> None:
        """Hold at most so many from now on: RabbitMQ counts per consumer, so a new one takes over from the old."""
        if prefetch != self._prefetch:
            self._prefetch = prefetch
            self._woken.set()

    @property
    def stood_still(self) -> float:
        """For how many seconds tickets have waited of which none came, or could not come."""
        still = time.monotonic() - self._well_at
        # Between two looks nobody knows better.
        return still if still > 2 * self._watch_seconds else 0.0

    async def cancel(self) -> None:
        """Want no more; closing the channel gives back what is in hand."""
        self._ended(self)
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _keep_consuming(self) -> None:
        while not really_cancelled():
            try:
                async with _broker():
                    await self._consume()
            except _BROKER_ERRORS as error:
                log.warning("consuming was interrupted", queue=self._address.queue, error=_words(error))
            await asyncio.sleep(_jittered(0.5))

    async def _consume(self) -> None:
        async with asyncio.timeout(ASK_SECONDS):
            connection = await self._link.connection()
            channel = await connection.channel()
        self._hands = _Hands()
        channel.close_callbacks.add(lambda *_: self._woken.set())
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await _declare_around(channel)
                queue = await _declare(channel, self._address.queue)
                tag = await self._consume_with_prefetch(channel, queue)
            while await self._still_consuming(channel, queue.name, tag):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._watch_seconds):
                        await self._woken.wait()
                self._woken.clear()
                if self._prefetch != self._hands.prefetch and not channel.is_closed:
                    async with asyncio.timeout(ASK_SECONDS):
                        old, tag = tag, await self._consume_with_prefetch(channel, queue)
                        await queue.cancel(old)
        finally:
            await _close(channel)

    async def _consume_with_prefetch(self, channel: AbstractChannel, queue: aio_pika.abc.AbstractQueue) -> str:
        prefetch = self._prefetch
        await channel.set_qos(prefetch_count=prefetch)
        tag = await queue.consume(self._received)
        self._hands.prefetch = prefetch
        return tag

    async def _still_consuming(self, channel: AbstractChannel, queue: str, tag: str) -> bool:
        """The broker's own view, not the socket's: connections were seen alive whose consumers were gone."""
        if channel.is_closed:
            return False
        async with asyncio.timeout(ASK_SECONDS):
            underlay: Any = await channel.get_underlay_channel()
            if tag not in underlay.consumers:
                return False
            seen = (await channel.declare_queue(queue, passive=True)).declaration_result
        if seen.consumer_count and (not seen.message_count or self._hands.full):
            self._well_at = time.monotonic()
        return bool(seen.consumer_count) and not self._hands.forgotten(seen.message_count or 0)

    async def _received(self, message: AbstractIncomingMessage) -> None:
        try:
            ticket = decode_ticket(message.body)
        except UnreadableTicket as error:
            log.error("ticket cannot be read", queue=self._address.queue, error=str(error))
            with contextlib.suppress(*_BROKER_ERRORS):
                await message.reject(requeue=False)
            return
        self._hands.taken += 1
        self._well_at = time.monotonic()
        self._take(_RabbitDelivery(ticket, message, self._hands))


@dataclass(slots=True)
class _Hands:
    """What one channel's consumer has taken and given back, for whoever watches that the broker has not forgotten it."""

    prefetch: int = 0
    taken: int = 0
    given_back: int = 0
    taken_before: int = 0
    looks_without: int = 0

    @property
    def full(self) -> bool:
        """Whether nothing more may come before something is given back."""
        return self.taken - self.given_back >= self.prefetch

    def forgotten(self, ready: int) -> bool:
        """Whether nothing came for several looks although something waits, or for many with nothing in hand.

        A consumer can be listed at the broker and get nothing: RabbitMQ 3.10 does that to one whose quorum queue was
        deleted and declared anew, and counts the tickets it never delivers as in that consumer's hand.
        """
        in_hand = self.taken - self.given_back
        came, self.taken_before = self.taken > self.taken_before, self.taken
        self.looks_without = 0 if came or in_hand >= self.prefetch else self.looks_without + 1
        return self.looks_without >= (LOOKS_WHILE_READY if ready else LOOKS_WHILE_IDLE) and (ready > 0 or not in_hand)


class _RabbitDelivery:
    def __init__(self, ticket: Ticket, message: AbstractIncomingMessage, hands: _Hands) -> None:
        self._ticket = ticket
        self._message = message
        self._hands = hands

    @property
    def ticket(self) -> Ticket:
        return self._ticket

    async def acknowledge(self) -> None:
        # The channel may be gone: then the broker delivers the ticket again, and its claims find nothing.
        with contextlib.suppress(*_BROKER_ERRORS):
            async with _broker(ASK_SECONDS):
                await self._message.ack()
                self._hands.given_back += 1


async def _close(channel: AbstractChannel) -> None:
    """Without waiting long: a broker that does not answer will not answer this either."""
    with contextlib.suppress(*_BROKER_ERRORS):
        async with _broker(1):
            await channel.close()


async def _put(channel: AbstractChannel, queue: str, body: bytes) -> None:
    # The id is new for every try: two publishes in flight under one id can get each other's answer.
    message = Message(
        body, delivery_mode=DeliveryMode.PERSISTENT, content_type="application/msgpack", message_id=uuid4().hex
    )
    await channel.default_exchange.publish(message, routing_key=queue, mandatory=True)


async def _declare(channel: AbstractChannel, queue: str) -> aio_pika.abc.AbstractQueue:
    return await channel.declare_queue(queue, durable=True, arguments=TICKET_QUEUE_ARGUMENTS)


async def _declare_around(channel: AbstractChannel) -> None:
    """What every ticket queue leans on: where unreadable tickets go, and the nudges."""
    unreadable = await channel.declare_exchange(UNREADABLE, ExchangeType.FANOUT, durable=True)
    queue = await channel.declare_queue(UNREADABLE, durable=True, arguments={"x-queue-type": "quorum"})
    await queue.bind(unreadable)
    await channel.declare_exchange(NUDGES, ExchangeType.FANOUT, durable=True)


def _urls(url: str) -> list[URL]:
    """One URL per host of `amqp://user:pass@a:5672,b/vhost`."""
    scheme, _, rest = url.partition("://")
    place, slash, tail = rest.partition("/")
    user, at, hosts = place.rpartition("@")
    return [
        url if "heartbeat" in url.query else url.update_query(heartbeat=HEARTBEAT_SECONDS)
        for url in (URL(f"{scheme}://{user}{at}{host}{slash}{tail}") for host in hosts.split(","))
    ]


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311 - spreads reconnects, decides nothing secret


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300] if str(error) else type(error).__name__


@contextlib.asynccontextmanager
async def _broker(seconds: float | None = None) -> AsyncIterator[None]:
    """Whatever is asked of the broker: bounded in time, and a connection that dies raises ConnectionError.

    aiormq cancels its waiters then; only a task that somebody else cancelled is really to stop.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except asyncio.CancelledError as error:
        if really_cancelled():
            raise
        raise ConnectionError("the connection died") from error
