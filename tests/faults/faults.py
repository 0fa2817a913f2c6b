"""Everything that is done to the system in a fault run, one after the other. Each undoes itself."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from mailroom.integration import ReportedState
from tests.fault_proxy import FaultProxy, Mode, Trap
from tests.faults.clients import Clients
from tests.faults.mail_server import MATRIX, MailServer, Weather
from tests.faults.system import CannotBeDone, Member, System, fill_up, meanwhile
from tests.journeys.office import standing_still

#: A fault that is being inflicted: while inside.
Inflicting = AbstractAsyncContextManager[None]


#: What a statement of ours carries that no other does: the subject of a form, and the answer to a final dot.
SUBJECT, ANSWER = b"fault run", b"2.0.0 Ok"

Troubled = TypeVar("Troubled")


@dataclass(frozen=True)
class Fault(Generic[Troubled]):
    """`inflict` troubles the system while inside, for so many seconds."""

    name: str
    inflict: Callable[[Troubled, Clients], Inflicting]
    seconds: float
    #: Whether it can come between a completed message and the record of it.
    cuts_records: bool = False
    #: Nothing may be begun while it lasts, after the second that a change of state may take.
    closes: bool = False
    #: Whether it leaves anybody who could answer.
    mute: bool = False


class TakesMail(Protocol):
    """Whatever sends through the mail server that fails as it is told."""

    mail: MailServer


class Administered(Protocol):
    """Whatever has operators."""

    async def command(self, *arguments: str) -> str:
        """What a command of ours prints."""
        ...

    async def active(self) -> None:
        """Return once the integration may send."""
        ...


# --- the broker -------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def broker_stopped(system: System, _: Clients) -> AsyncIterator[None]:
    """In order: connections are closed, nobody listens."""
    await asyncio.to_thread(system.rabbitmq.stop_app)
    try:
        yield
    finally:
        await asyncio.to_thread(system.rabbitmq.start_app)


@contextlib.asynccontextmanager
async def broker_killed(system: System, _: Clients) -> AsyncIterator[None]:
    """The node is gone at once, and comes back with what was on its disk."""
    await asyncio.to_thread(system.rabbitmq.kill)
    try:
        yield
    finally:
        await asyncio.to_thread(system.rabbitmq.start)


@contextlib.asynccontextmanager
async def memory_alarm(system: System, _: Clients) -> AsyncIterator[None]:
    """Publishers are blocked without a word."""
    await asyncio.to_thread(system.rabbitmq.evaluate, "vm_memory_monitor:set_vm_memory_high_watermark(0.0).")
    try:
        yield
    finally:
        await asyncio.to_thread(system.rabbitmq.evaluate, "vm_memory_monitor:set_vm_memory_high_watermark(0.9).")


@contextlib.asynccontextmanager
async def disk_alarm(system: System, _: Clients) -> AsyncIterator[None]:
    """The same, for want of room on its disk."""
    await asyncio.to_thread(system.rabbitmq.evaluate, "rabbit_disk_monitor:set_disk_free_limit(1 bsl 60).")
    try:
        yield
    finally:
        await asyncio.to_thread(system.rabbitmq.evaluate, "rabbit_disk_monitor:set_disk_free_limit(50000000).")


@contextlib.asynccontextmanager
async def connections_closed(system: System, _: Clients) -> AsyncIterator[None]:
    """By an operator of the broker."""
    await asyncio.to_thread(system.rabbitmq.close_all_connections)
    yield


@contextlib.asynccontextmanager
async def queues_deleted(system: System, _: Clients) -> AsyncIterator[None]:
    """All of ours, with the tickets in them."""
    vhost = system.queue_url.rpartition("/")[2]
    await asyncio.to_thread(
        system.rabbitmq.evaluate,
        f'lists:foreach(fun(Q) -> rabbit_amqqueue:delete(Q, false, false, <<"test">>) end, '
        f'rabbit_amqqueue:list(<<"{vhost}">>)).',
    )
    yield


@contextlib.asynccontextmanager
async def broker_wiped(system: System, _: Clients) -> AsyncIterator[None]:
    """Nothing of ours is left in it: no queue, no exchange, no ticket."""
    vhost = system.queue_url.rpartition("/")[2]
    await asyncio.to_thread(
        system.rabbitmq.evaluate,
        f'rabbit_vhost:delete(<<"{vhost}">>, <<"mailroom">>), ok = rabbit_vhost:add(<<"{vhost}">>, <<"mailroom">>), '
        f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{vhost}">>, <<".*">>, <<".*">>, <<".*">>, '
        '<<"mailroom">>).',
    )
    yield


@contextlib.asynccontextmanager
async def broker_cut(system: System, _: Clients) -> AsyncIterator[None]:
    """Every connection is reset, again and again."""
    async with _cut_again_and_again([member.broker for member in system.members]):
        yield


@contextlib.asynccontextmanager
async def broker_half_open(system: System, _: Clients) -> AsyncIterator[None]:
    """Connections stand, and nothing comes through."""
    async with _holes([member.broker for member in system.members]):
        yield


# --- the database -----------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def database_restarted(system: System, _: Clients) -> AsyncIterator[None]:
    """In order, and back after a moment ("fast")."""
    await asyncio.to_thread(system.postgres.stop)
    try:
        yield
    finally:
        await asyncio.to_thread(system.postgres.start)


@contextlib.asynccontextmanager
async def database_crashed(system: System, _: Clients) -> AsyncIterator[None]:
    """At once, and back after a moment by way of its log ("immediate")."""
    await asyncio.to_thread(system.postgres.crash)
    try:
        yield
    finally:
        await asyncio.to_thread(system.postgres.start)


@contextlib.asynccontextmanager
async def database_half_open(system: System, _: Clients) -> AsyncIterator[None]:
    """Connections stand, and nothing comes through: what was asked meanwhile is done when the hole closes."""
    async with _holes([member.database for member in system.members]):
        yield


@contextlib.asynccontextmanager
async def database_cut(system: System, _: Clients) -> AsyncIterator[None]:
    """Every connection is reset, again and again."""
    async with _cut_again_and_again([member.database for member in system.members]):
        yield


@contextlib.asynccontextmanager
async def pool_exhausted(system: System, _: Clients) -> AsyncIterator[None]:
    """Every connection that we have waits for a lock, and with them whoever waits for one of them."""
    async with standing_still(system.database_url):
        yield


@contextlib.asynccontextmanager
async def answers_of_commits_lost(system: System, _: Clients) -> AsyncIterator[None]:
    """Commits are done, and their answers do not arrive."""
    async with _sprung_again_and_again(system, lambda proxy: proxy.lose_answer(b"INSERT 0 1\x00")):
        yield


@contextlib.asynccontextmanager
async def commits_lost(system: System, _: Clients) -> AsyncIterator[None]:
    """Commits do not arrive."""
    async with _sprung_again_and_again(system, lambda proxy: proxy.lose_request(SUBJECT)):
        yield


@contextlib.asynccontextmanager
async def disk_full(system: System, _: Clients) -> AsyncIterator[None]:
    """There is no room any more for the database, its log and our attachments, and then there is again."""
    if system.small_disk is None:
        raise CannotBeDone("a file system of our own cannot be made here")
    try:
        async with fill_up(system.small_disk):
            yield
    finally:
        await asyncio.to_thread(system.postgres.start)


# --- our processes ----------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def rolling_restart(system: System, _: Clients) -> AsyncIterator[None]:
    """Every process in turn is told to stop, and started again when it has."""
    for member in system.members:
        member.signal(signal.SIGTERM)
        await _again(member)
    yield


@contextlib.asynccontextmanager
async def paused_worker(system: System, _: Clients) -> AsyncIterator[None]:
    """A worker stands still for longer than a session may, as a machine does that is moved, and then goes on."""
    worker = system.workers[0]
    worker.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.signal(signal.SIGCONT)


def clock_jumps(offset: str) -> Callable[[System, Clients], Inflicting]:
    """The clocks of a gateway and a worker are wrong by so much."""

    @contextlib.asynccontextmanager
    async def inflict(system: System, _: Clients) -> AsyncIterator[None]:
        if not system.clock_can_jump:
            raise CannotBeDone("libfaketime is not installed")
        system.clock.write_text(offset)
        try:
            yield
        finally:
            system.clock.write_text("+0")

    return inflict


async def _again(member: Member) -> None:
    await member.ended()
    member.start()
    await member.is_ready()


#: Has a process be signalled when it comes to a point; gives what is set when it has come there.
Point = Callable[[System, Member, signal.Signals], asyncio.Event]


def signalled_at(point: Point, of: str, number: signal.Signals) -> Callable[[System, Clients], Inflicting]:
    """One process is told to stop, or killed, at this point, is gone for a while, and started again."""

    @contextlib.asynccontextmanager
    async def inflict(system: System, _: Clients) -> AsyncIterator[None]:
        member = (system.gateways if of == "gateway" else system.workers)[1]
        come = point(system, member, number)
        try:
            async with asyncio.timeout(30):
                await come.wait()
        finally:
            system.mail.at_phase = None
            member.database.disarm()
            member.broker.disarm()
        member.signal(number)
        await member.ended()
        try:
            yield
        finally:
            member.start()
            await member.is_ready()

    return inflict


def at_smtp(phase: str) -> Point:
    """When this worker has said so to the mail server, before it is answered."""

    def arm(system: System, member: Member, number: signal.Signals) -> asyncio.Event:
        come = asyncio.Event()

        def at_phase(said: str, port: int) -> None:
            if said == phase and not come.is_set() and member.has_port(port):
                member.signal(number)
                come.set()
                system.mail.at_phase = None

        system.mail.at_phase = at_phase
        return come

    return arm


def before_statement(pattern: bytes) -> Point:
    """When it has sent this to the database, which never gets it."""
    return lambda _, member, __: member.database.lose_request(pattern).sprung


def after_statement(pattern: bytes) -> Point:
    """When the database has done it and its answer is on its way."""
    return lambda _, member, __: member.database.lose_answer(pattern).sprung


def before_publish(system: System, member: Member, number: signal.Signals) -> asyncio.Event:
    """When a ticket is on its way to the broker, which never gets it."""
    return member.broker.lose_request(b"mailroom.form.").sprung


@contextlib.asynccontextmanager
async def clients_leave(_: Any, clients: Clients) -> AsyncIterator[None]:
    """In the middle of what they send."""
    clients.aborting = 0.4
    try:
        yield
    finally:
        clients.aborting = 0.0


# --- the mail server and the state of its integration -------------------------------------------------------------------


def weather(now: Weather) -> Callable[[TakesMail, Clients], Inflicting]:
    """The mail server fails in one way, with its odds."""

    @contextlib.asynccontextmanager
    async def inflict(system: TakesMail, _: Clients) -> AsyncIterator[None]:
        system.mail.weather = [now]
        try:
            yield
        finally:
            system.mail.weather = []

    return inflict


@contextlib.asynccontextmanager
async def mail_server_gone(system: TakesMail, _: Clients) -> AsyncIterator[None]:
    """Its connections are dropped, and it does not listen."""
    system.mail.leave()
    try:
        yield
    finally:
        await system.mail.listen()


@contextlib.asynccontextmanager
async def disabled(system: Administered, _: Clients) -> AsyncIterator[None]:
    """An administrator switches the integration off, and on again."""
    await system.command("integrations", "disable", "main", "--why", "the fault run wants it")
    try:
        yield
    finally:
        await _reset(system)


@contextlib.asynccontextmanager
async def refused_account(system: System, _: Clients) -> AsyncIterator[None]:
    """The server refuses the account, which sets ERROR until somebody resets it."""
    system.unattended = True
    system.mail.weather = [Weather("MAIL", 1.0, b"530 5.7.0 Authentication required")]
    try:
        async with asyncio.timeout(20):
            while await system.state() is not ReportedState.ERROR:
                await asyncio.sleep(0.05)
        yield
    finally:
        system.mail.weather = []
        system.unattended = False
        await _reset(system)


async def _reset(system: Administered) -> None:
    await system.command("integrations", "reset", "main", "--why", "the fault run is done with it")
    await system.active()


# --- all of them ------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _holes(proxies: list[FaultProxy]) -> AsyncIterator[None]:
    for proxy in proxies:
        await proxy.set_mode(Mode.HOLE)
    try:
        yield
    finally:
        for proxy in proxies:
            await proxy.set_mode(Mode.OK)


@contextlib.asynccontextmanager
async def _again_and_again(act: Callable[[], None], every: float = 1.0) -> AsyncIterator[None]:
    async def repeat() -> None:
        while True:
            act()
            await asyncio.sleep(every)

    async with meanwhile(repeat()):
        yield


@contextlib.asynccontextmanager
async def _sprung_again_and_again(system: System, set_trap: Callable[[FaultProxy], Trap]) -> AsyncIterator[None]:
    """Each gateway's way to its database has a trap twice a second, and none afterwards."""
    proxies = [gateway.database for gateway in system.gateways]

    def set_traps() -> None:
        for proxy in proxies:
            proxy.disarm()
            set_trap(proxy)

    try:
        async with _again_and_again(set_traps, every=0.5):
            yield
    finally:
        for proxy in proxies:
            proxy.disarm()


@contextlib.asynccontextmanager
async def _cut_again_and_again(proxies: list[FaultProxy]) -> AsyncIterator[None]:
    def cut() -> None:
        for proxy in proxies:
            proxy.cut()

    async with _again_and_again(cut):
        yield


#: Seconds for which a process is gone.
GONE = {"gateway": 5.0, "worker": 1.0}

POINTS: list[tuple[str, str, Point, bool]] = [
    ("gateway", "before the commit", before_statement(SUBJECT), False),
    ("gateway", "after the commit, before the answer", after_statement(b"INSERT 0 "), False),
    ("gateway", "before the ticket is published", before_publish, False),
    ("worker", "after the claim, before the ticket is acknowledged", after_statement(SUBJECT), False),
    ("worker", "before MAIL", at_smtp("MAIL"), False),
    ("worker", "after RCPT", at_smtp("DATA"), False),
    ("worker", "after the dot, before its answer", at_smtp("dot"), True),
    ("worker", "after the dot's answer, before the settle", before_statement(ANSWER), True),
]

BROKER: list[Fault[System]] = [
    Fault("broker stopped", broker_stopped, 6),
    Fault("broker killed", broker_killed, 4),
    Fault("broker: memory alarm", memory_alarm, 8),
    Fault("broker: disk alarm", disk_alarm, 8),
    Fault("broker: connections closed", connections_closed, 3),
    Fault("broker: queues deleted", queues_deleted, 3),
    Fault("broker wiped", broker_wiped, 5),
    Fault("broker: connections cut", broker_cut, 5),
    Fault("broker: half-open", broker_half_open, 35),
]

DATABASE: list[Fault[System]] = [
    Fault("database restarted (fast)", database_restarted, 3),
    Fault("database restarted (immediate)", database_crashed, 3),
    Fault("database: half-open", database_half_open, 30, cuts_records=True),
    Fault("database: connections cut", database_cut, 5),
    Fault("database: pool exhausted", pool_exhausted, 8),
    Fault("database: answers of commits lost", answers_of_commits_lost, 5),
    Fault("database: commits lost", commits_lost, 5),
]

DISK: list[Fault[System]] = [Fault("disk full", disk_full, 6)]

PROCESSES: list[Fault[System]] = [
    *(
        Fault(f"{of} {number.name} {where}", signalled_at(point, of, number), GONE[of], cuts_records=cuts)
        for of, where, point, cuts in POINTS
        for number in (signal.SIGKILL, signal.SIGTERM)
    ),
    Fault("rolling restart of every process", rolling_restart, 1),
    Fault("a worker stands still", paused_worker, 45, cuts_records=True),
    Fault("clients leave", clients_leave, 6),
]

CLOCKS: list[Fault[System]] = [
    Fault("clocks a day ahead", clock_jumps("+1d"), 10),
    Fault("clocks a day behind", clock_jumps("-1d"), 10),
]

MAIL: list[Fault[System]] = [
    *(Fault[System](f"mail server: smtp-sink {option}", weather(now), 5) for option, now in MATRIX.items()),
    Fault("mail server gone", mail_server_gone, 5),
]

STATE: list[Fault[System]] = [
    Fault("integration disabled", disabled, 6, closes=True),
    Fault("account refused", refused_account, 6, closes=True),
]


#: Whatever a machine cannot do is told as not done.
EVERY = [*BROKER, *DATABASE, *DISK, *PROCESSES, *CLOCKS, *MAIL, *STATE]
