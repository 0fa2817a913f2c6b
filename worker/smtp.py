"""SMTP: the only door to aiosmtplib. What a server does comes back as an outcome; nothing it does is raised.

MAIL, RCPT, DATA and the final dot are driven one by one, so that the phase of a failure is always known: before the dot
the message is still ours, after it the server may have it (RFC 1047). A live transaction is never cancelled from
outside, because its late reply would be read as the next message's; whoever must end one calls `Connection.close`.

The address that is connected to is the one that was looked at (mailroom.destinations): a name is resolved once.

A password goes over a connection in clear only with `security = "none"` and only when the server's address is a
loopback one: the development mailbox, or a relay on the same machine. Everywhere else it is refused before AUTH.
"""

import asyncio
import contextlib
import functools
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import aiosmtplib
import pybase64
from aiosmtplib.protocol import SMTPProtocol

from mailroom.destinations import ANYWHERE, NOT_ALLOWED, Destinations
from mailroom.integration import Account, Security
from mailroom.mime import UnsafeMessage, ascii_address
from mailroom.outcome import Blame, Deferred, Held, Outcome, Rejected, Reply, Sent
from worker.classify import Silence, classify, classify_opening, printable, read_reply
from worker.lookups import Lookups

#: Bytes handed to the transport at once; it is drained after each, so a large mail is never buffered whole (F18).
PIECE = 64 * 1024
#: The most digits a SIZE may have (RFC 1870 section 4), and the largest number that can be kept.
_SIZE_DIGITS = 20
_LARGEST_SIZE = 2**63 - 1

#: Seconds a live test may take to be let in, all steps together: somebody waits for it.
_TEST_SECONDS = 60

#: Lines of a transcript; an EHLO has a dozen.
_LONGEST_TRANSCRIPT = 100
#: PLAIN first: it runs over TLS only, and servers that offer CRAM-MD5 often cannot do it.
_MECHANISMS = ("plain", "login", "cram-md5")
_MECHANISM_NOT_TAKEN = 504
_START_INPUT = 354
_NOT_AVAILABLE = 421

#: One for all connections of the process.
_lookups = Lookups()

_Answer = aiosmtplib.SMTPResponse
_Trust = ssl.SSLContext | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds to wait in each phase (RFC 5321 section 4.5.3.2). The total deadline is the caller's, by `close`."""

    #: TCP and TLS together; and once more for the greeting.
    connect: float = 30.0
    #: EHLO, AUTH, MAIL, RCPT.
    command: float = 300.0
    data: float = 120.0
    #: Without one piece of the message leaving.
    progress: float = 180.0
    dot: float = 600.0
    reset: float = 20.0
    quit: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """How a live test of an account went: `failure` is None when it may be used."""

    failure: Deferred | None
    transcript: tuple[str, ...]
    ehlo_size: int | None
    #: What became of its letter; None when none was tried.
    posted: Outcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TestLetter:
    """A mail that a live test sends too; `before_mail` and `before_dot` are asked as for any other."""

    envelope_from: str
    recipient: str
    wire: bytes
    before_mail: "Callable[[], Held | Deferred | None]"
    before_dot: Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How to get to the server."""

    account: Account
    local_hostname: str
    timeouts: Timeouts
    trust: _Trust
    destinations: Destinations
    lookups: Lookups = _lookups


async def open_connection(
    account: Account,
    local_hostname: str,
    timeouts: Timeouts,
    *,
    trust: _Trust = None,
    destinations: Destinations = ANYWHERE,
    lookups: Lookups = _lookups,
) -> "Connection | Deferred":
    """Connect, greet, secure and log in. `trust` replaces the machine's certificate authorities."""
    way = _Way(
        account=account, local_hostname=local_hostname, timeouts=timeouts, trust=trust, destinations=destinations,
        lookups=lookups,
    )  # fmt: skip
    transcript = Transcript(account)
    opened = await _open(way, transcript)
    return opened if isinstance(opened, Deferred) else Connection(way, opened, transcript)


async def test_connection(
    account: Account,
    local_hostname: str,
    timeouts: Timeouts,
    *,
    trust: _Trust = None,  # noqa: PT028  # this tests an integration; pytest never sees it
    destinations: Destinations = ANYWHERE,  # noqa: PT028  # as above
    letter: TestLetter | None = None,  # noqa: PT028  # as above
) -> TestResult:
    """Open a connection by the same code as real mail, see that it answers, and leave. Without a letter nothing is sent."""
    way = _Way(
        account=account, local_hostname=local_hostname, timeouts=timeouts, trust=trust, destinations=destinations
    )
    transcript = Transcript(account)
    try:
        async with asyncio.timeout(_TEST_SECONDS):
            opened = await _open(way, transcript)
    except TimeoutError:
        slow = Reply("connect", None, f"the server had not let us in after {_TEST_SECONDS} s")
        opened = classify_opening(slow, Silence.TIMED_OUT)
    if isinstance(opened, Deferred):
        return TestResult(failure=opened, transcript=transcript.lines, ehlo_size=None)
    connection = Connection(way, opened, transcript)
    answered = await connection.revive()
    posted = await _posted(connection, letter, transcript) if letter is not None and answered else None
    await connection.quit()
    lost = Reply("EHLO", None, "the server did not answer after it had let us in")
    return TestResult(
        failure=None if answered else classify_opening(lost),
        transcript=transcript.lines,
        ehlo_size=connection.ehlo_size,
        posted=posted,
    )


async def _posted(connection: "Connection", letter: TestLetter, transcript: "Transcript") -> Outcome:
    """What became of the letter; it has as long as the log-in had."""
    transcript.we_say(f"a letter to {letter.recipient}, {len(letter.wire)} bytes")
    timer = asyncio.get_running_loop().call_later(_TEST_SECONDS, connection.give_up)
    try:
        outcome = await connection.send(
            letter.envelope_from, letter.recipient, letter.wire, letter.before_dot, before_mail=letter.before_mail
        )
    finally:
        timer.cancel()
    if isinstance(outcome, Held):
        transcript.we_hear(None, f"not sent: {outcome.reason}")
    else:
        transcript.we_hear(outcome.reply.code, f"{outcome.reply.text} (to {outcome.reply.command})")
    return outcome


class Transcript:
    """What was said while opening a connection: bounded, and without secrets."""

    def __init__(self, account: Account) -> None:
        self._lines: list[str] = []
        self._secrets = _secrets(account)

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(self._lines)

    def we_say(self, line: str) -> None:
        self._add(f"> {line}")

    def we_hear(self, code: int | None, text: str) -> None:
        """The server's lines; a server that quotes our password back is not helped to show it."""
        for line in text.split("\n"):
            self._add(f"< {line}" if code is None else f"< {code} {line}")

    def _add(self, line: str) -> None:
        if len(self._lines) < _LONGEST_TRANSCRIPT:
            self._lines.append(printable(self.without_secrets(line)))

    def without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _secrets(account: Account) -> tuple[str, ...]:
    """The password and the forms in which AUTH sends it."""
    if not account.password:
        return ()
    username, password = (account.username or "").encode(), account.password.encode()
    sent = (b"\0" + username + b"\0" + password, password)
    return (*(pybase64.b64encode_as_string(form) for form in sent), account.password)


# --- Opening ---------------------------------------------------------------------------------------------------------


class _Unwilling(Exception):
    """We do not go on: the server does not offer what this account must have."""

    def __init__(self, blame: Blame, why: str) -> None:
        super().__init__(why)
        self.blame = blame
        self.why = why


async def _open(way: _Way, transcript: Transcript) -> aiosmtplib.SMTP | Deferred:
    """A client that may send, or why there is none."""
    account = way.account
    client = aiosmtplib.SMTP(
        hostname=account.host,  # the name that TLS holds the server's certificate against
        local_hostname=way.local_hostname,  # without it a DNS look-up in a thread (SND-9)
        timeout=way.timeouts.command,
        use_tls=account.security is Security.TLS,
        start_tls=False,  # None would mean "if available" (SND-4)
        tls_context=None if account.security is Security.NONE else way.trust or await _machine_trust(),
    )
    steps: tuple[tuple[str, _Step], ...] = (
        ("connect", _connect),
        ("EHLO", _greet),
        ("TLS", _secure),
        ("AUTH", _log_in),
    )
    try:
        for command, step in steps:
            failure = await _outcome_of(command, step(client, way, transcript), transcript)
            if failure is not None:
                transcript.we_hear(failure.reply.code, failure.reply.text)
                _abort(client)
                harmless = replace(failure.reply, text=transcript.without_secrets(failure.reply.text))
                return replace(failure, reply=harmless)
    except BaseException:
        _abort(client)
        raise
    return client


_Step = Callable[[aiosmtplib.SMTP, _Way, Transcript], Awaitable[None]]


async def _connect(client: aiosmtplib.SMTP, way: _Way, transcript: Transcript) -> None:
    transcript.we_say(f"connect to {way.account.host}:{way.account.port} ({way.account.security})")
    async with asyncio.timeout(way.timeouts.connect):
        sock = await _socket_to(way)
    greeting = await client.connect(sock=sock, timeout=way.timeouts.connect)
    transcript.we_hear(greeting.code, greeting.message)


async def _socket_to(way: _Way) -> socket.socket:
    """A socket connected to the first address of the host that answers, when all of them may be connected to.

    A name that is resolved a second time may have another answer for whoever looked at the first (DNS rebinding).
    """
    host, port = way.account.host, way.account.port
    found = await way.lookups.addresses(host, port)
    if not way.destinations.allow(host, port, [str(where[0]) for *_, where in found]):
        raise _Unwilling(Blame.CONNECTION, NOT_ALLOWED)
    trouble = OSError("the host has no address")
    for family, kind, protocol, _, where in found:
        try:
            return await _connected(socket.socket(family, kind, protocol), where)
        except OSError as error:
            trouble = error
    raise trouble


async def _connected(sock: socket.socket, where: Any) -> socket.socket:
    sock.setblocking(False)  # noqa: FBT003 - the library's way to say it
    try:
        await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


async def _greet(client: aiosmtplib.SMTP, way: _Way, transcript: Transcript) -> None:
    transcript.we_say(f"EHLO {way.local_hostname}")
    answer = await client.ehlo(timeout=way.timeouts.command)
    transcript.we_hear(answer.code, answer.message)


async def _secure(client: aiosmtplib.SMTP, way: _Way, transcript: Transcript) -> None:
    """STARTTLS where the account asks for it; a server without it gets nothing more from us."""
    if way.account.security is not Security.STARTTLS:
        return
    if not client.supports_extension("starttls"):
        raise _Unwilling(Blame.CONNECTION, "the server does not offer STARTTLS, and nothing is sent in clear")
    transcript.we_say("STARTTLS")
    answer = await client.starttls(timeout=way.timeouts.connect)
    transcript.we_hear(answer.code, answer.message)
    await _greet(client, way, transcript)


async def _log_in(client: aiosmtplib.SMTP, way: _Way, transcript: Transcript) -> None:
    """AUTH by the first mechanism both sides know; the next one is tried only when that one is not taken at all."""
    username, password = way.account.username, way.account.password or ""
    if username is None:
        return
    if way.account.security is Security.NONE and not _is_loopback(client):
        raise _Unwilling(Blame.CREDENTIALS, "a password is not sent in clear: this account needs starttls or tls")
    mechanisms = [name for name in _MECHANISMS if name in client.server_auth_methods]
    if not mechanisms:
        raise _Unwilling(Blame.CREDENTIALS, "the server offers no way to log in that we know (PLAIN, LOGIN, CRAM-MD5)")
    ways = {"plain": client.auth_plain, "login": client.auth_login, "cram-md5": client.auth_crammd5}
    for name in mechanisms:
        transcript.we_say(f"AUTH {name.upper()} ***")
        try:
            answer = await ways[name](username, password, timeout=way.timeouts.command)
        except aiosmtplib.SMTPAuthenticationError as error:
            if error.code != _MECHANISM_NOT_TAKEN or name == mechanisms[-1]:
                raise
            transcript.we_hear(error.code, error.message)
        else:
            transcript.we_hear(answer.code, answer.message)
            return


async def _outcome_of(command: str, step: Awaitable[None], transcript: Transcript) -> Deferred | None:
    """None when the step was made; every exception aiosmtplib has for it is an outcome here."""
    try:
        await step
    except _Unwilling as refusal:
        return Deferred(Reply(command, None, refusal.why), refusal.blame)
    except aiosmtplib.SMTPResponseException as error:
        # Before it is cut and escaped: half a password, or one with a tab in it, would not be found afterwards.
        return classify_opening(_reply(command, error.code, transcript.without_secrets(error.message)))
    except (aiosmtplib.SMTPException, OSError, UnicodeError) as error:
        return _nothing_heard(command, error)
    return None


def _nothing_heard(command: str, error: Exception) -> Deferred:
    """No reply while opening: which of the three silences it was is in the exception or in its cause."""
    cause = error if error.__cause__ is None else error.__cause__
    # aiosmtplib knows no port where it is given a socket.
    text = printable(str(error).replace(" on port None", ""))
    if isinstance(cause, ssl.SSLError):
        return classify_opening(Reply("TLS", None, text), Silence.LOST)
    if isinstance(cause, socket.gaierror | UnicodeError):
        return classify_opening(Reply(command, None, text), Silence.UNRESOLVED)
    # asyncio ends a TLS handshake that takes too long with ConnectionAbortedError.
    if isinstance(error, TimeoutError) or isinstance(cause, TimeoutError | ConnectionAbortedError):
        return classify_opening(Reply(command, None, text), Silence.TIMED_OUT)
    return classify_opening(Reply(command, None, text), Silence.LOST)


def _is_loopback(client: aiosmtplib.SMTP) -> bool:
    peer = client.get_transport_info("peername")
    return bool(peer) and ipaddress.ip_address(peer[0].partition("%")[0]).is_loopback


async def _machine_trust() -> ssl.SSLContext:
    """The machine's certificate authorities, host names checked; reading them takes too long for the event loop."""
    return await asyncio.to_thread(_default_context)


@functools.cache
def _default_context() -> ssl.SSLContext:
    return ssl.create_default_context(ssl.Purpose.SERVER_AUTH)


def _reply(command: str, code: int, text: str) -> Reply:
    """A reply as we keep it. What is not a reply at all (aiosmtplib says -1) has no code."""
    reply = read_reply(command, code, text)
    return reply if code > 0 else Reply(command, None, reply.text)


def _abort(client: aiosmtplib.SMTP) -> None:
    """Close at once: a graceful close would first wait for a peer that may not be reading."""
    if isinstance(client.transport, asyncio.WriteTransport):
        client.transport.abort()
    client.close()


# --- Sending ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Letter:
    """One transaction: addresses as they go on the command line, and the bytes."""

    envelope_from: str
    recipient: str
    wire: bytes
    needs_utf8: bool


def _nothing_objects() -> Held | None:
    return None


class Connection:
    """One open connection to one account's server, for one message at a time."""

    def __init__(self, way: _Way, client: aiosmtplib.SMTP, transcript: Transcript) -> None:
        self._way = way
        self._client = client
        self._transcript = transcript
        self._envelope_open = False
        self._given_up = False
        self._ehlo_size = _offered_size(client)
        self._tls = _tls_version(client)
        #: Messages tried on it since it was opened.
        self.messages = 0

    @property
    def account(self) -> Account:
        return self._way.account

    @property
    def transcript(self) -> tuple[str, ...]:
        """What was said while it was opened, without secrets."""
        return self._transcript.lines

    @property
    def ehlo_size(self) -> int | None:
        """The largest message the server takes, in bytes (RFC 1870); None when it sets no limit."""
        return self._ehlo_size

    @property
    def tls(self) -> str | None:
        """The version of TLS that it is spoken over ("TLSv1.3"); None for clear text."""
        return self._tls

    @property
    def broken(self) -> bool:
        """It can carry no further message."""
        return not self._client.is_connected

    @property
    def needs_reset(self) -> bool:
        """An envelope was begun and not finished: `revive` before the next message."""
        return self._envelope_open

    def close(self) -> None:
        """Drop it at once. A transaction on it ends now, as what the phase it was in makes of a lost connection."""
        _abort(self._client)

    def give_up(self) -> None:
        """Drop it at once, and open no other in its place."""
        self._given_up = True
        self.close()

    async def quit(self) -> None:
        """Take leave politely, within 5 s; says nothing about any message."""
        with contextlib.suppress(aiosmtplib.SMTPException, OSError):
            await self._client.execute_command(b"QUIT", timeout=self._way.timeouts.quit)
        self.close()

    async def revive(self) -> bool:
        """Whether it is alive and free of an unfinished envelope (RSET)."""
        reply = await self._say("RSET", b"RSET", self._way.timeouts.reset)
        if not _is_positive(reply):
            self.close()
            return False
        self._envelope_open = False
        return True

    async def send(
        self,
        envelope_from: str,
        recipient: str,
        wire: bytes,
        before_dot: Callable[[], bool],
        *,
        before_mail: Callable[[], Held | Deferred | None] = _nothing_objects,
    ) -> Outcome:
        """Hand one message over.

        `before_mail` is asked just before each MAIL and may hold the message; `before_dot` just before the final dot,
        and False closes the socket instead. A connection used before that turns out dead at MAIL is opened anew, once:
        the server had closed it while it was idle, which is nobody's attempt.
        """
        letter = self._addressed(envelope_from, recipient, wire)
        if isinstance(letter, Rejected):
            return letter
        held = before_mail()
        if held is not None:
            return held
        mail = await self._mail(letter)
        if self.messages and _had_gone(mail) and not self._given_up:
            failure = await self._reopen()
            return failure or await self.send(envelope_from, recipient, wire, before_dot, before_mail=before_mail)
        self.messages += 1
        return await self._deliver(letter, before_dot) if _is_positive(mail) else classify(mail)

    async def _deliver(self, letter: _Letter, before_dot: Callable[[], bool]) -> Outcome:
        """What follows an accepted MAIL."""
        rcpt = await self._say("RCPT", f"RCPT TO:<{letter.recipient}>".encode(), self._way.timeouts.command)
        if not _is_positive(rcpt):
            return classify(rcpt)
        data = await self._say("DATA", b"DATA", self._way.timeouts.data)
        if data.code != _START_INPUT:
            return classify(data)
        return await self._hand_over(letter.wire, before_dot)

    def _addressed(self, envelope_from: str, recipient: str, wire: bytes) -> _Letter | Rejected:
        """The transaction, or why this server can never take it; nothing has been said yet."""
        try:
            envelope_from = envelope_from and ascii_address(envelope_from)
            recipient = ascii_address(recipient)
        except UnsafeMessage as error:
            return Rejected(Reply("MAIL", None, str(error)), Blame.US)
        ascii_only = envelope_from.isascii() and recipient.isascii() and wire.isascii()
        letter = _Letter(envelope_from=envelope_from, recipient=recipient, wire=wire, needs_utf8=not ascii_only)
        if self.ehlo_size is not None and len(wire) > self.ehlo_size:
            text = f"the message has {len(wire)} bytes on the wire, the server takes at most {self.ehlo_size}"
            return Rejected(Reply("MAIL", None, text, "5.3.4"), Blame.MESSAGE)
        if letter.needs_utf8 and not self._client.supports_extension("smtputf8"):
            text = "an address is not ASCII before its @, and the server does not take such (no SMTPUTF8)"
            blame = Blame.MESSAGE if letter.recipient.isascii() else Blame.RECIPIENT
            return Rejected(Reply("MAIL", None, text, "5.6.7"), blame)
        return letter

    async def _mail(self, letter: _Letter) -> Reply:
        line = f"MAIL FROM:<{letter.envelope_from}>"
        if "size" in self._client.esmtp_extensions:
            line += f" SIZE={len(letter.wire)}"
        if letter.needs_utf8:
            line += " BODY=8BITMIME SMTPUTF8"  # RFC 6531 section 3.1: who offers the second offers the first
        self._envelope_open = True
        return await self._say("MAIL", line.encode(), self._way.timeouts.command)

    async def _reopen(self) -> Deferred | None:
        """A fresh connection in place of one that had gone; None when there is one."""
        self.close()
        self._transcript = Transcript(self.account)
        opened = await _open(self._way, self._transcript)
        if isinstance(opened, Deferred):
            return opened
        if self._given_up:
            _abort(opened)
            return classify_opening(Reply("connect", None, "time ran out while reconnecting"), Silence.TIMED_OUT)
        self._client = opened
        self._ehlo_size = _offered_size(opened)
        self._tls = _tls_version(opened)
        self._envelope_open = False
        self.messages = 0
        return None

    async def _say(self, command: str, line: bytes, seconds: float) -> Reply:
        """One command and its reply."""
        return await self._reply_to(command, self._client.execute_command(line, timeout=None), seconds)

    async def _reply_to(self, command: str, reading: Awaitable[_Answer], seconds: float) -> Reply:
        """The reply; when there is no readable one in time the connection is closed, and the reply has no code.

        Time runs out by closing, not by cancelling what reads: a reply that comes late can then never be taken for the
        next message's, and a timer is cheaper than `asyncio.wait_for`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.call_later(seconds, self.close)
        try:
            code, text = await reading
            return self._heard(_reply(command, code, text))
        except aiosmtplib.SMTPResponseException as error:
            return self._heard(_reply(command, error.code, error.message))
        except (aiosmtplib.SMTPException, OSError) as error:
            late = loop.time() >= deadline.when()
            return self._heard(Reply(command, None, f"no answer in {seconds:g} s" if late else printable(str(error))))
        except BaseException:
            self.close()
            raise
        finally:
            deadline.cancel()

    def _heard(self, reply: Reply) -> Reply:
        """A server that says goodbye, nothing, or more than one reply to one command gets no other command."""
        protocol = self._client.protocol
        # aiosmtplib would take the rest for the reply to the next command.
        spoke_twice = protocol is not None and bool(protocol._buffer)  # noqa: SLF001  # no public name tells it
        if reply.code is None or reply.code == _NOT_AVAILABLE or spoke_twice:
            self.close()
        return reply

    # --- DATA, without aiosmtplib's two regular expressions over the whole message (0.4 s of event loop for 14 MB) ---

    async def _hand_over(self, wire: bytes, before_dot: Callable[[], bool]) -> Outcome:
        """The message and the final dot; the server's answer is listened for from the first byte on."""
        protocol = self._client.protocol
        if protocol is None:
            return classify(Reply("DATA", None, "the connection was closed before the message was sent"))
        answer = asyncio.get_running_loop().create_task(protocol.read_response())
        try:
            last = await self._pour(protocol, wire, answer)
            if not isinstance(last, bytes):
                return last
            if not before_dot():
                return Deferred(Reply("DATA", None, "this worker lost touch and may no longer send"), Blame.US)
            return await self._dot(protocol, last, answer)
        finally:
            if not answer.done():
                self.close()
                answer.cancel()

    async def _pour(self, protocol: SMTPProtocol, wire: bytes, answer: asyncio.Task[_Answer]) -> bytes | Outcome:
        """Send all pieces but the last, which is returned; or how it ended before."""
        pieces = _pieces(wire)
        try:
            piece = next(pieces)
            for following in pieces:
                protocol.write(piece)
                if not await self._drained(protocol, answer):
                    return await self._stopped(answer)
                piece = following
        except UnsafeMessage as error:
            return Rejected(Reply("DATA", None, str(error)), Blame.US)
        except ConnectionError:
            return await self._stopped(answer)
        return piece

    async def _dot(self, protocol: SMTPProtocol, last: bytes, answer: asyncio.Task[_Answer]) -> Outcome:
        """The last piece with the final dot. From its first byte on the server may have the message."""
        if answer.done():
            return await self._stopped(answer)
        try:
            protocol.write(last + b".\r\n")
        except ConnectionError:
            return await self._stopped(answer)
        outcome = classify(await self._reply_to("dot", answer, self._way.timeouts.dot))
        self._envelope_open = not isinstance(outcome, Sent)
        return outcome

    async def _drained(self, protocol: SMTPProtocol, answer: asyncio.Task[_Answer]) -> bool:
        """Whether the piece left in time, with nothing said against it meanwhile."""
        drain = protocol._drain_helper()  # noqa: SLF001  # asyncio's contract with a protocol: StreamWriter calls it
        draining = asyncio.get_running_loop().create_task(drain)
        waited_for = {draining, answer}
        try:
            await asyncio.wait(waited_for, timeout=self._way.timeouts.progress, return_when=asyncio.FIRST_COMPLETED)
            return draining.done() and draining.exception() is None and not answer.done()
        finally:
            draining.cancel()

    async def _stopped(self, answer: asyncio.Task[_Answer]) -> Outcome:
        """The transfer ended before the dot: the server refused early, went away, or stopped reading."""
        if answer.done():
            reply = await self._reply_to("DATA", answer, 0)
        else:
            reply = Reply("DATA", None, "the server stopped reading the message")
        self.close()
        return classify(reply)


def _offered_size(client: aiosmtplib.SMTP) -> int | None:
    """RFC 1870 section 4: no number, or zero, is no fixed limit. Nor is more than 20 digits, or than a database counts."""
    size = client.esmtp_extensions.get("size", "")
    if not (size.isascii() and size.isdigit() and len(size) <= _SIZE_DIGITS):
        return None
    return int(size) if 0 < int(size) <= _LARGEST_SIZE else None


def _tls_version(client: aiosmtplib.SMTP) -> str | None:
    secured: ssl.SSLObject | None = client.get_transport_info("ssl_object")
    return secured.version() if secured is not None else None


def _is_positive(reply: Reply) -> bool:
    return reply.code is not None and reply.code // 100 == 2  # noqa: PLR2004  # RFC 5321 section 4.2.1: 2yz


def _had_gone(mail: Reply) -> bool:
    """No answer to MAIL, or only a goodbye."""
    return mail.code is None or mail.code == _NOT_AVAILABLE


def _pieces(wire: bytes) -> Iterator[bytes]:
    """The message in pieces of whole lines, dot-stuffed (RFC 5321 section 4.5.2); raises UnsafeMessage.

    Each piece is looked through when its turn comes, so that no message of any size holds up the event loop.
    """
    if not wire:
        raise UnsafeMessage("the message is empty")
    start = 0
    while start < len(wire):
        end = wire.rfind(b"\r\n", start, min(start + PIECE, len(wire))) + 2
        piece = wire[start:end]
        # A bare CR or LF is how one message smuggles another one past a server that is lenient about them (SND-6).
        if end <= start + 1 or not piece.count(b"\n") == piece.count(b"\r") == piece.count(b"\r\n"):
            raise UnsafeMessage("the message has a bare line break or a line without end")
        if piece.startswith(b"."):
            piece = b"." + piece
        if b"\r\n." in piece:
            piece = piece.replace(b"\r\n.", b"\r\n..")
        yield piece
        start = end
