"""The SMTP door against real servers that misbehave at every phase."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from mailroom.destinations import NOT_ALLOWED, Destinations, destinations
from mailroom.integration import Account, Security
from mailroom.outcome import Blame, Deferred, Held, Outcome, Rejected, Sent, Uncertain
from tests.services import Sink, free_port
from tests.smtp_server import Act, Certificate, HangUp, Say, ScriptedSmtp, Stall, scripted_smtp
from tests.worker.test_pool import an_integration
from worker import smtp
from worker.lookups import Found, Lookups
from worker.opening import Timeouts
from worker.pool import Pool
from worker.smtp import Connection, open_connection

WIRE = b"Subject: hello\r\n\r\nText\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"A" * 76 + b"\r\n" + b".dotted\r\n" + b"0123456789" * 7 * 20_000
#: For servers that never answer; everything they do answer must come within it.
SHORT = Timeouts(connect=30, command=0.5, data=0.5, progress=0.5, dot=0.5, reset=0.5, quit=0.5)
PATIENT = Timeouts(connect=30, command=30, data=30, progress=30, dot=30, reset=30, quit=5)


@pytest.fixture(params=[False, True], ids=["one by one", "in groups"])
def pipelining(request: pytest.FixtureRequest) -> bool:
    """Whether the server takes MAIL, RCPT and DATA at once (RFC 2920)."""
    return bool(request.param)


@pytest.fixture
async def server(pipelining: bool) -> AsyncIterator[ScriptedSmtp]:  # noqa: FBT001 - a fixture
    async with scripted_smtp(pipelining=pipelining) as server:
        yield server


@asynccontextmanager
async def connected(server: ScriptedSmtp, timeouts: Timeouts = PATIENT) -> AsyncIterator[Connection]:
    connection = await open_connection(server.account(), "worker.test", timeouts, trust=server.trust)
    assert isinstance(connection, Connection)
    try:
        yield connection
    finally:
        await connection.quit()


async def send(connection: Connection, wire: bytes = WIRE, to: str = "a@example.com") -> Outcome:
    return await connection.send("forms@company.com", to, wire, lambda: True)


def lines(count: int) -> bytes:
    return b"Subject: large\r\n\r\n" + b"".join(b"%08d %s\r\n" % (n, b"x" * 60) for n in range(count))


@asynccontextmanager
async def raw_server(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Account]:
    """A server that does what no real one does; how to reach it."""
    done = asyncio.Event()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await serve(reader, writer)
            await reader.read()
        writer.transport.abort()
        done.set()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    async with server:
        yield Account(host="127.0.0.1", port=server.sockets[0].getsockname()[1], security=Security.NONE)
        await done.wait()


async def speak(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answers: dict[bytes, bytes],
    greeting: bytes = b"220 raw",
) -> list[bytes]:
    """Greet and answer 250, or what is given for a verb, up to the last of these verbs; what was heard."""
    writer.write(greeting and greeting + b"\r\n")
    heard = []
    while line := await reader.readline():
        heard.append(line)
        writer.write(answers.get(line.split()[0], b"250 ok") + b"\r\n")
        if line.split()[0] == list(answers)[-1]:
            break
    return heard


# --- A message that goes through -------------------------------------------------------------------------------------


async def test_a_message_is_sent(server: ScriptedSmtp) -> None:
    """The envelope is what was given, the content arrives as it was, and the answer is kept."""
    async with connected(server) as connection:
        outcome = await send(connection)

    assert isinstance(outcome, Sent)
    assert (outcome.reply.command, outcome.reply.code, outcome.reply.enhanced) == ("dot", 250, "2.0.0")
    assert [(m.mail_from, m.rcpt_to, m.content) for m in server.inbox] == [
        ("forms@company.com", ("a@example.com",), WIRE)
    ]
    assert server.inbox[0].mail_options == (f"SIZE={len(WIRE)}",)


async def test_a_connection_carries_many_messages(server: ScriptedSmtp) -> None:
    """One connection serves one message after another."""
    async with connected(server) as connection:
        outcomes = [await send(connection, to=f"r{n}@example.com") for n in range(5)]

    assert all(isinstance(outcome, Sent) for outcome in outcomes)
    assert (server.connections, connection.messages) == (1, 5)
    assert [m.rcpt_to[0] for m in server.inbox] == [f"r{n}@example.com" for n in range(5)]


async def test_snd_6_dots_at_line_starts_arrive(server: ScriptedSmtp) -> None:
    """A line of one dot does not end the message, in its first line or anywhere else."""
    wire = b".first\r\n.\r\n..\r\ntext.\r\n.\r\n"
    async with connected(server) as connection:
        outcome = await send(connection, wire)

    assert isinstance(outcome, Sent)
    assert server.inbox[0].content == wire


async def test_snd_10_a_large_message_arrives_whole_and_leaves_the_loop_free() -> None:
    """14 MB go out piece by piece, dots at the seams included, while other tasks keep getting their turn."""
    wire = lines(200_000).replace(b"5 xxxx", b"\r\n..x")
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with scripted_smtp(size_limit=None) as server, connected(server) as connection:
        probe = asyncio.create_task(take_turns())
        outcome = await send(connection, wire)
        probe.cancel()

    assert isinstance(outcome, Sent)
    assert len(wire) > 14_000_000
    assert server.inbox[0].content == wire
    assert turns > len(wire) / smtp.PIECE


# --- Every phase, and what a fault there means -----------------------------------------------------------------------

LATER, NEVER = "451 4.3.0 try later", "554 5.7.1 no"
HANG_UP, STALL = HangUp(), Stall()
GOODBYE = Say("421 4.3.2 closing", then_close=True)

TRANSACTION_FAULTS: list[tuple[str, Act | str, str, type[Outcome], Blame | None]] = [
    ("MAIL", LATER, "MAIL", Deferred, Blame.PROVIDER),
    ("MAIL", NEVER, "MAIL", Rejected, Blame.US),
    ("MAIL", HANG_UP, "MAIL", Deferred, Blame.PROVIDER),
    ("MAIL", STALL, "MAIL", Deferred, Blame.PROVIDER),
    ("MAIL", GOODBYE, "MAIL", Deferred, Blame.THROTTLE),
    ("RCPT", LATER, "RCPT", Deferred, Blame.PROVIDER),
    ("RCPT", "550 5.1.1 no such user", "RCPT", Rejected, Blame.RECIPIENT),
    ("RCPT", HANG_UP, "RCPT", Deferred, Blame.PROVIDER),
    ("RCPT", STALL, "RCPT", Deferred, Blame.PROVIDER),
    ("DATA", LATER, "DATA", Deferred, Blame.PROVIDER),
    ("DATA", HANG_UP, "DATA", Deferred, Blame.PROVIDER),
    ("DATA", STALL, "DATA", Deferred, Blame.PROVIDER),
    ("dot", LATER, "dot", Deferred, Blame.PROVIDER),
    ("dot", NEVER, "dot", Rejected, Blame.MESSAGE),
    ("dot", GOODBYE, "dot", Deferred, Blame.THROTTLE),
    ("dot", HANG_UP, "dot", Uncertain, None),
    ("dot", STALL, "dot", Uncertain, None),
    ("dot", Say("nonsense"), "dot", Uncertain, None),
]


@pytest.mark.parametrize(("command", "act", "phase", "kind", "blame"), TRANSACTION_FAULTS)
async def test_snd_1_the_phase_of_a_failure_is_known(
    server: ScriptedSmtp, command: str, act: Act | str, phase: str, kind: type[Outcome], blame: Blame | None
) -> None:
    """A fault before the final dot is a clean retry or refusal; a lost answer to the dot alone is uncertain."""
    server.script(command, act)
    async with connected(server, SHORT if act == STALL else PATIENT) as connection:
        outcome = await send(connection)

    assert type(outcome) is kind
    assert isinstance(outcome, Deferred | Rejected | Uncertain)
    assert outcome.reply.command == phase
    assert getattr(outcome, "blame", None) is blame
    assert len(server.completed) == (1 if command == "dot" else 0)


@pytest.mark.parametrize(
    ("act", "kind", "blame"),
    [
        (Say("552 5.3.4 too big after all"), Rejected, Blame.MESSAGE),
        (Say("451 4.3.1 disk full"), Deferred, Blame.PROVIDER),
        (HANG_UP, Deferred, Blame.PROVIDER),
        (STALL, Deferred, Blame.PROVIDER),
    ],
)
async def test_a_fault_inside_a_large_message_is_seen_at_once(
    server: ScriptedSmtp, act: Act, kind: type[Outcome], blame: Blame
) -> None:
    """A server that refuses, leaves or stops reading half way is heard before the dot, and never has the message."""
    server.script("content", act)
    async with connected(server, SHORT if act == STALL else PATIENT) as connection:
        outcome = await send(connection, lines(200_000))

    assert type(outcome) is kind
    assert isinstance(outcome, Deferred | Rejected)
    assert (outcome.reply.command, outcome.blame) == ("DATA", blame)
    assert server.completed == []
    assert connection.broken


@pytest.mark.parametrize(
    ("command", "act", "phase", "blame"),
    [
        ("connect", "554 5.7.1 go away", "connect", Blame.CONNECTION),
        ("connect", "421 4.3.2 busy", "connect", Blame.THROTTLE),
        ("connect", HANG_UP, "connect", Blame.CONNECTION),
        ("connect", STALL, "connect", Blame.TIMEOUT),
        ("connect", "nonsense", "connect", Blame.CONNECTION),
        ("EHLO", "550 no", "EHLO", Blame.CONNECTION),
        ("EHLO", HANG_UP, "EHLO", Blame.CONNECTION),
        ("EHLO", STALL, "EHLO", Blame.TIMEOUT),
        ("AUTH", "535 5.7.8 wrong password", "AUTH", Blame.CREDENTIALS),
        ("AUTH", "454 4.7.0 too many login attempts", "AUTH", Blame.THROTTLE),
        ("AUTH", HANG_UP, "AUTH", Blame.CONNECTION),
        ("AUTH", STALL, "AUTH", Blame.TIMEOUT),
    ],
)
async def test_a_failure_to_open_says_whose_it_is(command: str, act: Act | str, phase: str, blame: Blame) -> None:
    """Before the first message a fault is about the host, the line, the login or our pace, and never final."""
    async with scripted_smtp(username="forms", password="secret") as server:
        server.script(command, act)
        timeouts = replace(SHORT, connect=0.3) if act == STALL else PATIENT
        outcome = await open_connection(server.account(), "worker.test", timeouts)

    assert isinstance(outcome, Deferred)
    assert (outcome.reply.command, outcome.blame) == (phase, blame)


@pytest.mark.parametrize(
    ("host", "blame"),
    [
        ("127.0.0.1", Blame.CONNECTION),
        ("no-such-host.invalid", Blame.HOST),
        ("a" * 70 + ".example", Blame.HOST),
        ("a..b", Blame.HOST),
    ],
)
async def test_a_server_that_cannot_be_found_or_does_not_listen(host: str, blame: Blame) -> None:
    """A name without an address is told apart from an address without a server."""
    account = Account(host=host, port=free_port(), security=Security.NONE)
    outcome = await open_connection(account, "worker.test", PATIENT)

    assert isinstance(outcome, Deferred)
    assert (outcome.reply.command, outcome.reply.code, outcome.blame) == ("connect", None, blame)


SINK_FAULTS: list[tuple[tuple[str, ...], str, type[Outcome]]] = [
    ((), "dot", Sent),
    (("-w", "5"), "DATA", Deferred),
    (("-f", "RCPT"), "RCPT", Rejected),
    (("-r", "RCPT"), "RCPT", Deferred),
    (("-q", "RCPT"), "RCPT", Deferred),
    (("-Q", "MAIL"), "MAIL", Deferred),
    (("-q", "DATA"), "DATA", Deferred),
    (("-f", "."), "dot", Rejected),
    (("-r", "."), "dot", Deferred),
    (("-Q", "."), "dot", Deferred),
    (("-q", "."), "dot", Uncertain),
    (("-W", ".:5"), "dot", Uncertain),
    (("-8",), "dot", Sent),
    (("-e",), "EHLO", Deferred),
    (("-q", "CONNECT"), "connect", Deferred),
    (("-f", "CONNECT"), "connect", Deferred),
    (("-q", "EHLO"), "EHLO", Deferred),
    (("-q", "MAIL"), "MAIL", Deferred),
    (("-Q", "RCPT"), "RCPT", Deferred),
    (("-Q", "DATA"), "DATA", Deferred),
    (("-q", "QUIT"), "dot", Sent),
]


@pytest.mark.parametrize(("options", "phase", "kind"), SINK_FAULTS)
async def test_snd_1_postfix_sink_faults(
    smtp_sink: Sink,
    options: tuple[str, ...],
    phase: str,
    kind: type[Outcome],
    pipelining: bool,  # noqa: FBT001
) -> None:
    """Each fault that Postfix' own test server can play is the outcome it should be."""
    smtp_sink.start_counting(*options, *(() if pipelining else ("-p",)))
    account = Account(host="127.0.0.1", port=smtp_sink.port, security=Security.NONE)
    slow = "-w" in options or "-W" in options
    if "-w" in options and pipelining:
        phase = "MAIL"  # the replies to a group leave that server together
    timeouts = replace(PATIENT, command=1, data=1, dot=1) if slow else PATIENT
    opened = await open_connection(account, "worker.test", timeouts)
    outcome = await send(opened) if isinstance(opened, Connection) else opened
    if isinstance(opened, Connection):
        await opened.quit()

    assert type(outcome) is kind
    assert not isinstance(outcome, Held)
    assert outcome.reply.command == phase


@pytest.mark.parametrize(
    ("wire", "kinds"),
    [
        # More than all buffers on the way hold: the server cannot have it.
        pytest.param(lines(200_000), {Rejected, Deferred}, id="large"),
        # The dot goes out with the rest of it: where it is gone before the refusal was heard, nobody knows.
        pytest.param(WIRE, {Rejected, Deferred, Uncertain}, id="small"),
    ],
)
async def test_snd_1_a_refusal_straight_after_354_is_heard_or_in_doubt(
    smtp_sink: Sink, wire: bytes, kinds: set[type[Outcome]]
) -> None:
    """Of a server that says no and leaves nothing counts as sent; in doubt is only what it may have in whole."""
    smtp_sink.start_counting("-A", "0")
    account = Account(host="127.0.0.1", port=smtp_sink.port, security=Security.NONE)
    connection = await open_connection(account, "worker.test", PATIENT)
    assert isinstance(connection, Connection)
    outcome = await send(connection, wire)
    await connection.quit()

    assert type(outcome) in kinds


@pytest.mark.parametrize(
    ("command", "phase", "limit"),
    [
        ("connect", "connect", "connect"),
        ("EHLO", "EHLO", "command"),
        ("MAIL", "MAIL", "command"),
        ("RCPT", "RCPT", "command"),
        ("DATA", "DATA", "data"),
        ("content", "DATA", "progress"),
        ("dot", "dot", "dot"),
    ],
)
async def test_snd_3_each_phase_has_a_limit_of_its_own(
    server: ScriptedSmtp, command: str, phase: str, limit: str
) -> None:
    """A server that falls silent is left when the limit of the phase it fell silent in is over, whatever others are."""
    server.script(command, STALL)
    loop = asyncio.get_running_loop()
    began = loop.time()
    opened = await open_connection(server.account(), "worker.test", replace(PATIENT, **{limit: 0.3}))
    outcome = await send(opened, lines(200_000)) if isinstance(opened, Connection) else opened

    # The loop counts whole milliseconds; a difference of two such floats may be a hair less than it says.
    assert round(loop.time() - began, 3) >= 0.3
    assert isinstance(outcome, Deferred | Uncertain)
    assert outcome.reply.command == phase


def test_snd_3_the_limits_are_those_of_the_standard() -> None:
    """What servers are given is what RFC 5321 asks for, and a slow goodbye or reset costs no message its time."""
    assert Timeouts() == Timeouts(connect=30, command=300, data=120, progress=180, dot=600, reset=20, quit=5)


async def test_snd_3_a_slow_server_that_reads_on_gets_the_whole_message() -> None:
    """However long a transfer takes: as long as pieces leave, it is not given up."""
    wire = lines(200_000)
    taken = 0

    async def read_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await speak(reader, writer, {b"DATA": b"354 go on"})
        end = b""
        while not (end := (end + await reader.read(64 * 1024))[-5:]).endswith(b"\r\n.\r\n"):
            taken += 1
            await asyncio.sleep(0.005)
        writer.write(b"250 2.0.0 taken\r\n")

    async with raw_server(read_slowly) as account:
        connection = await open_connection(account, "worker.test", replace(PATIENT, progress=0.4))
        assert isinstance(connection, Connection)
        outcome = await send(connection, wire)
        connection.close()

    assert isinstance(outcome, Sent)
    assert taken * 0.005 > 0.4


async def test_snd_9_we_say_our_own_name() -> None:
    """The name said at EHLO is the one that was given: nobody looks it up, whatever the resolver does."""
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await speak(reader, writer, {b"EHLO": b"250 raw.test"}))

    async with raw_server(listen) as account:
        opened = await open_connection(account, "worker.test", PATIENT)
        assert isinstance(opened, Connection)
        opened.close()

    assert heard == [b"EHLO worker.test\r\n"]


# --- Security --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"starttls": True}, {"implicit_tls": True}])
async def test_mail_goes_over_tls(options: dict[str, bool]) -> None:
    """STARTTLS and TLS from the first byte both lead to a login and a message."""
    async with (
        scripted_smtp(username="forms", password="secret", **options) as server,
        connected(server) as connection,
    ):
        outcomes = [await send(connection), await send(connection, lines(3000))]

    assert all(isinstance(outcome, Sent) for outcome in outcomes)
    assert len(server.inbox) == 2
    # Still known when the connection is gone.
    assert connection.tls in {"TLSv1.2", "TLSv1.3"}


async def test_clear_text_is_no_tls(server: ScriptedSmtp) -> None:
    """A connection without TLS tells no version of it."""
    async with connected(server) as connection:
        assert connection.tls is None


async def test_snd_4_without_starttls_nothing_is_sent() -> None:
    """A server that does not offer STARTTLS, or a line that strips it, sees neither login nor mail."""
    async with scripted_smtp(username="forms", password="secret") as server:
        account = server.account(security=Security.STARTTLS)
        outcome = await open_connection(account, "worker.test", PATIENT)

    assert isinstance(outcome, Deferred)
    assert (outcome.reply.command, outcome.blame) == ("TLS", Blame.CONNECTION)
    assert server.verbs == ["EHLO"]


@pytest.mark.parametrize("options", [{"starttls": True}, {"implicit_tls": True}])
async def test_snd_4_a_certificate_that_nobody_vouches_for_is_refused(options: dict[str, bool]) -> None:
    """A server with a certificate of its own making gets no login."""
    async with scripted_smtp(username="forms", password="secret", **options) as server:
        outcome = await open_connection(server.account(), "worker.test", PATIENT)

    assert isinstance(outcome, Deferred)
    assert (outcome.reply.command, outcome.blame) == ("TLS", Blame.CONNECTION)
    assert "certificate" in outcome.reply.text.lower()
    assert set(server.verbs) <= {"EHLO", "STARTTLS"}


async def test_tls_to_a_server_without_it_fails_in_time(server: ScriptedSmtp) -> None:
    """Speaking TLS to a server that does not is a failed connection and no riddle."""
    account = server.account(security=Security.TLS)
    outcome = await open_connection(account, "worker.test", PATIENT)

    assert isinstance(outcome, Deferred)
    assert outcome.blame is Blame.CONNECTION
    assert server.verbs == []


async def test_snd_5_a_line_slipped_in_before_tls_is_no_reply() -> None:
    """What somebody on the line adds to the answer to STARTTLS is not taken for what the server says under TLS."""
    certificate = await asyncio.to_thread(Certificate)

    async def slip_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await speak(reader, writer, {b"EHLO": b"250-raw.test\r\n250 STARTTLS", b"STARTTLS": b"220 go\r\n250 SIZE 1"})
        await writer.start_tls(certificate.server_context())
        await speak(reader, writer, {b"EHLO": b"250-raw.test\r\n250 SIZE 1000"}, greeting=b"")

    async with raw_server(slip_in) as account:
        secured = replace(account, security=Security.STARTTLS)
        opened = await open_connection(secured, "worker.test", PATIENT, trust=certificate.client_context())
        size = opened.ehlo_size if isinstance(opened, Connection) else None
        if isinstance(opened, Connection):
            opened.close()

    assert size in {1000, None}


async def test_starttls_refused_is_no_connection() -> None:
    """A server that offers STARTTLS and then will not is left."""
    async with scripted_smtp(starttls=True) as server:
        server.script("STARTTLS", "554 5.3.0 not today")
        outcome = await open_connection(server.account(), "worker.test", PATIENT, trust=server.trust)

    assert isinstance(outcome, Deferred)
    assert (outcome.reply.command, outcome.blame) == ("TLS", Blame.CONNECTION)


async def test_a_login_that_is_not_offered_is_about_the_credentials(server: ScriptedSmtp) -> None:
    """An account with a password on a server without AUTH must be looked at by its administrator."""
    outcome = await open_connection(server.account(username="u", password="p"), "worker.test", PATIENT)

    assert isinstance(outcome, Deferred)
    assert (outcome.reply.command, outcome.blame) == ("AUTH", Blame.CREDENTIALS)


async def test_a_wrong_password_is_about_the_credentials() -> None:
    """A real refusal of a real login, tried once and not by every mechanism in turn."""
    async with scripted_smtp(username="forms", password="secret") as server:
        outcome = await open_connection(server.account(password="wrong"), "worker.test", PATIENT)

    assert isinstance(outcome, Deferred)
    assert (outcome.reply.command, outcome.reply.code, outcome.blame) == ("AUTH", 535, Blame.CREDENTIALS)
    assert server.verbs.count("AUTH") == 1


async def test_another_mechanism_is_tried_when_one_is_not_taken() -> None:
    """A server that offers PLAIN and does not know it still gets LOGIN."""
    async with scripted_smtp(username="forms", password="secret") as server:
        server.script("AUTH", "504 5.5.4 unrecognized authentication type", address="PLAIN")
        async with connected(server) as connection:
            outcome = await send(connection)

    assert isinstance(outcome, Sent)


# --- What is never begun ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "kept"), [(0, None), (2**63 - 1, 2**63 - 1), (2**63, None), (10**25, None)])
async def test_a_size_beyond_all_counting_is_no_limit(said: int, kept: int | None) -> None:
    """What a server says of its SIZE is taken as a number only when it is one that can be kept."""
    async with scripted_smtp(size_limit=said) as server, connected(server) as connection:
        assert connection.ehlo_size == kept


async def test_snd_7_a_message_above_the_servers_size_is_refused_before_mail() -> None:
    """SIZE is obeyed: a final refusal that tells both sizes, and the server never hears of it (RFC 1870)."""
    async with scripted_smtp(size_limit=20) as server, connected(server) as connection:
        outcome = await send(connection)

    assert isinstance(outcome, Rejected)
    assert outcome.blame is Blame.MESSAGE
    assert f"{len(WIRE)} bytes" in outcome.reply.text
    assert "20" in outcome.reply.text
    assert "MAIL" not in server.verbs


@pytest.mark.parametrize(
    "address", ["a@example.com\r\nRCPT TO:<b@example.com>", "a@example.com> NOTIFY=NEVER", "a b@example.com", "<>", "x"]
)
async def test_sec_2_no_address_can_add_a_command(server: ScriptedSmtp, address: str) -> None:
    """An address with anything but an address in it is refused here, as recipient and as sender."""
    async with connected(server) as connection:
        as_recipient = await send(connection, to=address)
        as_sender = await connection.send(address, "a@example.com", WIRE, lambda: True)

    assert isinstance(as_recipient, Rejected)
    assert isinstance(as_sender, Rejected)
    assert "MAIL" not in server.verbs


@pytest.mark.parametrize("wire", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\n.\r\nb\n.\n", b"a", b"", b"x" * 200_000 + b"\r\n"])
async def test_snd_6_a_message_with_bare_line_breaks_never_ends(server: ScriptedSmtp, wire: bytes) -> None:
    """What could smuggle a second message is not given its final dot."""
    async with connected(server) as connection:
        outcome = await send(connection, wire)

    assert isinstance(outcome, Rejected)
    assert outcome.blame is Blame.US
    assert server.completed == []
    assert connection.broken


async def test_snd_6_smtputf8_is_used_only_where_an_address_needs_it() -> None:
    """A local part beyond ASCII asks for SMTPUTF8; a domain goes as A-labels and asks for nothing."""
    async with scripted_smtp(smtputf8=True) as server, connected(server) as connection:
        outcomes = [await send(connection, to="info@bücher.de"), await send(connection, to="jürgen@example.com")]

    assert all(isinstance(outcome, Sent) for outcome in outcomes)
    assert server.inbox[0].rcpt_to == ("info@xn--bcher-kva.de",)
    assert "SMTPUTF8" not in server.inbox[0].mail_options
    assert server.inbox[1].rcpt_to == ("jürgen@example.com",)
    assert "SMTPUTF8" in server.inbox[1].mail_options


async def test_a_recipient_that_needs_smtputf8_is_refused_without_it(server: ScriptedSmtp) -> None:
    """A server that cannot carry the address is not asked to."""
    async with connected(server) as connection:
        outcome = await send(connection, to="jürgen@example.com")

    assert isinstance(outcome, Rejected)
    assert outcome.blame is Blame.RECIPIENT
    assert "MAIL" not in server.verbs


async def test_a_worker_that_lost_touch_does_not_send_the_dot(server: ScriptedSmtp) -> None:
    """When the answer before the dot is no, the socket is closed and the message is ours to send again."""
    async with connected(server) as connection:
        outcome = await connection.send("forms@company.com", "a@example.com", WIRE, lambda: False)

    assert isinstance(outcome, Deferred)
    assert (outcome.reply.command, outcome.blame) == ("DATA", Blame.US)
    assert connection.broken
    assert server.completed == []


async def test_the_gate_is_asked_before_mail(server: ScriptedSmtp) -> None:
    """A gate that has closed since holds the message, and the server does not hear of it."""
    held = Held("the integration is disabled")
    async with connected(server) as connection:
        outcome = await connection.send(
            "forms@company.com", "a@example.com", WIRE, lambda: True, before_mail=lambda: held
        )

    assert outcome == held
    assert "MAIL" not in server.verbs


# --- Commands in groups ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offers", "groups"),
    [
        (b"250-raw.test\r\n250 PIPELINING", [b"MAIL RCPT DATA"]),
        (b"250 raw.test", [b"MAIL", b"RCPT", b"DATA"]),
    ],
)
async def test_commands_go_together_only_where_that_is_offered(offers: bytes, groups: list[bytes]) -> None:
    """What RFC 2920 allows in one group goes in one piece, so that a message costs two round trips instead of four."""
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await speak(reader, writer, {b"EHLO": offers})
        while not (heard and heard[-1].endswith(b"DATA")):
            verbs = [line.split()[0].split(b":")[0] for line in (await reader.read(4096)).splitlines()]
            heard.append(b" ".join(verbs))
            for verb in verbs:
                writer.write(b"354 go on\r\n" if verb == b"DATA" else b"250 ok\r\n")
        await reader.readuntil(b"\r\n.\r\n")
        writer.write(b"250 2.0.0 taken\r\n")

    async with raw_server(listen) as account:
        connection = await open_connection(account, "worker.test", PATIENT)
        assert isinstance(connection, Connection)
        outcome = await send(connection)
        connection.close()

    assert isinstance(outcome, Sent)
    assert heard == groups


@pytest.mark.parametrize(
    ("mail", "rcpt", "kind", "phase"),
    [
        (b"250 ok", b"550 5.1.1 no such user", Rejected, "RCPT"),
        (b"451 4.3.0 later", b"503 5.5.1 MAIL first", Deferred, "MAIL"),
    ],
)
async def test_data_that_may_begin_although_nobody_takes_it_is_left(
    mail: bytes, rcpt: bytes, kind: type[Outcome], phase: str
) -> None:
    """RFC 2920 section 3.1: a server may say 354 after it refused what went before. It is given nothing, not even a dot."""
    rest: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await speak(reader, writer, {b"EHLO": b"250-raw.test\r\n250 PIPELINING"})
        await speak(reader, writer, {b"MAIL": mail, b"RCPT": rcpt, b"DATA": b"354 go on"}, greeting=b"")
        rest.append(await reader.read())

    async with raw_server(serve) as account:
        connection = await open_connection(account, "worker.test", PATIENT)
        assert isinstance(connection, Connection)
        outcome = await send(connection)

    assert type(outcome) is kind
    assert isinstance(outcome, Rejected | Deferred)
    assert outcome.reply.command == phase
    assert connection.broken
    assert rest == [b""]


async def test_more_replies_than_commands_refuse_nothing_for_good() -> None:
    """Nobody can tell which reply was to which command, so a refusal among them is not the recipient's."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await speak(reader, writer, {b"EHLO": b"250-raw.test\r\n250 PIPELINING"})
        await reader.readuntil(b"DATA\r\n")
        writer.write(b"250 ok\r\n250 ok\r\n550 5.1.1 no such user\r\n354 go on\r\n")

    async with raw_server(serve) as account:
        connection = await open_connection(account, "worker.test", PATIENT)
        assert isinstance(connection, Connection)
        outcome = await send(connection)

    assert isinstance(outcome, Deferred)
    assert (outcome.reply.command, outcome.blame) == ("DATA", Blame.PROVIDER)
    assert connection.broken


# --- Reuse, and ends from outside ------------------------------------------------------------------------------------


async def test_snd_8_a_connection_the_server_closed_while_idle_costs_nothing(server: ScriptedSmtp) -> None:
    """A dead connection is noticed at MAIL and opened anew; the gate is asked again before the second MAIL."""
    asked = 0

    def gate() -> None:
        nonlocal asked
        asked += 1

    async with connected(server) as connection:
        await send(connection)
        server.script("MAIL", Say("421 4.4.2 idle for too long", then_close=True), times=1)
        outcome = await connection.send("forms@company.com", "b@example.com", WIRE, lambda: True, before_mail=gate)

    assert isinstance(outcome, Sent)
    assert (server.connections, len(server.inbox), asked) == (2, 2, 2)


async def test_a_server_that_stays_away_after_closing_is_a_failure_to_connect(server: ScriptedSmtp) -> None:
    """The new connection is refused: then that is what is told, and only once is it tried."""
    async with connected(server) as connection:
        await send(connection)
        server.script("connect", "554 5.7.1 go away")
        server.hang_up()
        outcome = await send(connection)

    assert isinstance(outcome, Deferred)
    assert (outcome.reply.command, outcome.blame) == ("connect", Blame.CONNECTION)
    assert server.connections == 2


async def test_after_a_refusal_the_connection_is_used_again(server: ScriptedSmtp) -> None:
    """A refused recipient leaves an envelope that is reset before the next message."""
    server.script("RCPT", "550 5.1.1 no such user", address="nobody@")
    async with connected(server) as connection:
        refused = await send(connection, to="nobody@example.com")
        needed_reset = connection.needs_reset
        revived = await connection.revive()
        outcome = await send(connection)

    assert isinstance(refused, Rejected)
    assert (needed_reset, revived, connection.needs_reset) == (True, True, False)
    assert isinstance(outcome, Sent)
    assert [m.rcpt_to for m in server.inbox] == [("a@example.com",)]


@pytest.mark.parametrize(
    ("command", "kind"), [("MAIL", Deferred), ("RCPT", Deferred), ("DATA", Deferred), ("dot", Uncertain)]
)
async def test_snd_2_closing_from_outside_ends_a_transaction_as_its_phase_says(
    server: ScriptedSmtp, command: str, kind: type[Outcome]
) -> None:
    """The total deadline closes the connection, and the attempt still has a true outcome."""
    server.script(command, STALL)
    async with connected(server) as connection:
        sending = asyncio.create_task(send(connection))
        await server.reached(command)
        connection.close()
        outcome = await sending

    assert type(outcome) is kind


async def test_closing_ends_a_transfer_to_a_server_that_does_not_read(server: ScriptedSmtp) -> None:
    """A full socket does not keep a closed connection, nor the attempt on it."""
    server.script("content", STALL)
    async with connected(server) as connection:
        sending = asyncio.create_task(send(connection, lines(200_000)))
        await server.reached("DATA")
        await asyncio.sleep(0.1)
        connection.close()
        outcome = await sending

    assert isinstance(outcome, Deferred)
    assert outcome.blame is Blame.PROVIDER


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA", "dot"])
async def test_snd_2_a_cancelled_transaction_breaks_its_connection(server: ScriptedSmtp, command: str) -> None:
    """A late reply can never be read as the next message's, because there is no next message."""
    server.script(command, Say("250 late", seconds=0.2))
    async with connected(server) as connection:
        sending = asyncio.create_task(send(connection))
        await server.reached(command)
        sending.cancel()
        await asyncio.wait({sending})

    assert sending.cancelled()
    assert connection.broken


async def test_snd_5_a_second_reply_to_one_command_is_not_taken_for_the_next_ones(server: ScriptedSmtp) -> None:
    """A server that answers twice is left before its second answer can be paired with another command."""
    server.script("RCPT", "250 2.1.5 ok\n550 5.1.1 no such user", times=1)
    async with connected(server) as connection:
        outcome = await send(connection)

    assert isinstance(outcome, Deferred)
    assert (outcome.reply.command, outcome.blame) == ("DATA", Blame.PROVIDER)
    assert connection.broken
    assert server.completed == []


async def test_snd_2_whenever_a_transaction_is_ended_no_reply_is_anothers() -> None:
    """Cancelled or closed at any moment: an outcome is of its own message, and what is told as not sent was not."""
    dice = random.Random(7)  # noqa: S311 - chooses moments, guards nothing
    told: dict[str, Outcome] = {}
    async with scripted_smtp() as server:
        pool = Pool("worker.test", PATIENT)
        for number in range(1000):
            to = f"{number}@example.com"
            server.script("RCPT", f"550 5.1.1 {to} is unknown", address=f"<{to}>") if number % 3 == 0 else None
            connection = await pool.acquire(an_integration(server))
            assert isinstance(connection, Connection)
            sending = asyncio.create_task(connection.send("forms@company.com", to, WIRE, lambda: True))
            await asyncio.wait({sending}, timeout=dice.choice([dice.uniform(0, 0.002), 5]))
            if not sending.done() and number % 2:
                sending.cancel()
            elif not sending.done():
                connection.give_up()
            await asyncio.wait({sending})
            if sending.cancelled():
                pool.discard(connection)
            else:
                told[to] = sending.result()
                pool.release(connection)
        await pool.aclose()
        arrived = {received.rcpt_to[0] for received in server.completed}

    assert len(told) < 1000
    for to, outcome in told.items():
        match outcome:
            case Sent():
                assert to in arrived
            case Rejected():
                assert outcome.reply.text.startswith(f"5.1.1 {to} ")
            case Deferred():
                assert to not in arrived
            case _:
                assert isinstance(outcome, Uncertain)


# --- The live test ---------------------------------------------------------------------------------------------------


async def test_sec_6_a_live_test_says_what_was_said_and_keeps_the_secret() -> None:
    """The transcript shows the conversation without the password, even when the server quotes it."""
    async with scripted_smtp(starttls=True, username="forms", password="s3cret-word") as server:
        passed = await smtp.test_connection(server.account(), "worker.test", PATIENT, trust=server.trust)
        server.script("AUTH", "535 5.7.8 s3cret-word AGZvcm1zAHMzY3JldC13b3Jk is wrong")
        failed = await smtp.test_connection(server.account(), "worker.test", PATIENT, trust=server.trust)

    assert passed.failure is None
    assert passed.ehlo_size == 33_554_432
    assert "> STARTTLS" in passed.transcript
    assert any(line.startswith("< 235") for line in passed.transcript)
    assert failed.failure is not None
    assert failed.failure.blame is Blame.CREDENTIALS
    assert failed.failure.reply.text == "5.7.8 *** *** is wrong"
    assert failed.transcript[-1] == "< 535 5.7.8 *** *** is wrong"
    assert "MAIL" not in server.verbs


@pytest.mark.parametrize(
    ("password", "before"),
    [
        pytest.param("s3cret-word", "x" * 500, id="cut in the middle"),
        pytest.param("s3cret\tword", "", id="escaped"),
        pytest.param("s3cret\u202eword", "", id="turned round"),
    ],
)
async def test_sec_6_a_quoted_password_is_hidden_however_it_would_be_shown(password: str, before: str) -> None:
    """It is taken out of the server's words before they are cut to length or escaped."""
    async with scripted_smtp(username="forms", password=password) as server:
        server.script("AUTH", f"535 5.7.8 {before}{password}")
        failed = await smtp.test_connection(server.account(password=password), "worker.test", PATIENT)

    assert failed.failure is not None
    assert "***" in failed.failure.reply.text
    assert not any("s3cret" in text for text in (*failed.transcript, failed.failure.reply.text))


async def test_a_server_that_lets_in_and_says_no_more_fails_the_test(server: ScriptedSmtp) -> None:
    """A connection that does not answer after its opening is none."""
    server.script("RSET", HANG_UP)
    result = await smtp.test_connection(server.account(), "worker.test", PATIENT)

    assert result.failure is not None
    assert result.failure.blame is Blame.CONNECTION


async def test_sec_6_an_accounts_own_text_has_no_password() -> None:
    """What a log may show of an account is not its password."""
    assert "secret" not in repr(Account(host="h", port=1, security=Security.TLS, username="u", password="secret"))


# --- Where it may connect to -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1"])
async def test_sec_5_a_server_of_the_inside_is_not_connected_to(server: ScriptedSmtp, host: str) -> None:
    """However an administrator writes an address of the inside, nothing is said to it, and the answer tells nothing."""
    account = replace(server.account(), host=host)
    outcome = await open_connection(account, "worker.test", PATIENT, destinations=destinations((), ()))

    assert isinstance(outcome, Deferred)
    assert (outcome.reply.command, outcome.blame, outcome.reply.text) == ("connect", Blame.CONNECTION, NOT_ALLOWED)
    assert server.connections == 0


async def test_sec_5_what_is_looked_at_is_what_is_connected_to(server: ScriptedSmtp) -> None:
    """The name is resolved once: the address that was allowed is the one of the socket."""
    seen: list[str] = []

    class Looking(Destinations):
        def allow(self, host: str, port: int, addresses: Sequence[str]) -> bool:
            seen.extend(addresses)
            return True

    connection = await open_connection(server.account(), "worker.test", PATIENT, destinations=Looking())
    assert isinstance(connection, Connection)
    peer = connection._dialogue._transport.get_extra_info("peername")
    await connection.quit()

    assert peer[0] in seen


async def test_sec_5_a_name_that_flips_after_the_check_leads_nowhere(server: ScriptedSmtp) -> None:
    """A name server that first tells an allowed address and then one of the inside gets no connection to either."""
    allowed, inside = "127.0.0.2", "127.0.0.1"
    answers = [allowed, inside, inside, allowed]
    asked: list[str] = []

    def flipping(host: str, port: int) -> list[Found]:
        asked.append(answers[len(asked)])
        return list(socket.getaddrinfo(asked[-1], port, type=socket.SOCK_STREAM))

    account = replace(server.account(), host="rebinding.test")
    way, lookups = destinations([f"{allowed}:*"], ()), Lookups(flipping)
    told = [await open_connection(account, "worker.test", PATIENT, destinations=way, lookups=lookups) for _ in answers]

    # One question for each connection: the port of the allowed address is closed, and what is inside is refused.
    assert asked == answers
    assert [one.reply.text == NOT_ALLOWED for one in told if isinstance(one, Deferred)] == [False, True, True, False]
    assert server.connections == 0


async def test_sec_5_one_name_with_an_address_inside_is_refused(server: ScriptedSmtp) -> None:
    """A name that leads to an allowed address and to one of the inside, by a CNAME or otherwise, is connected to nowhere."""

    def both(host: str, port: int) -> list[Found]:
        wheres = ("127.0.0.2", "127.0.0.1", "::ffff:127.0.0.1")
        return [one for where in wheres for one in socket.getaddrinfo(where, port, type=socket.SOCK_STREAM)]

    account = replace(server.account(), host="both.test")
    way, lookups = destinations(["127.0.0.2:*"], ()), Lookups(both)
    told = await open_connection(account, "worker.test", PATIENT, destinations=way, lookups=lookups)

    assert isinstance(told, Deferred)
    assert told.reply.text == NOT_ALLOWED
    assert server.connections == 0


async def test_sec_5_an_allowed_relay_is_connected_to(server: ScriptedSmtp) -> None:
    """What the operator allows works, TLS and all that follows included."""
    allowed = destinations(["127.0.0.0/8:*", "localhost:*"], ())
    connection = await open_connection(
        server.account(), "worker.test", PATIENT, trust=server.trust, destinations=allowed
    )

    assert isinstance(connection, Connection)
    await connection.quit()
