"""Opening an SMTP connection: the only door to aiosmtplib. It connects, greets, secures and logs in.

The address that is connected to is the one that was looked at (mailroom.destinations): a name is resolved once.

A password goes over a connection in clear only with `security = "none"` and only when the server's address is a
loopback one: the development mailbox, or a relay on the same machine. Everywhere else it is refused before AUTH.
"""

import asyncio
import functools
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import aiosmtplib
import pybase64

from mailroom.destinations import NOT_ALLOWED, Destinations
from mailroom.integration import Account, Security
from mailroom.outcome import Blame, Deferred, Reply
from worker.classify import Silence, classify_opening, printable, read_reply
from worker.dialogue import MORE_THAN_ASKED, Dialogue
from worker.lookups import Lookups

#: Lines of a transcript; an EHLO has a dozen.
_LONGEST_TRANSCRIPT = 100
#: PLAIN first: it runs over TLS only, and servers that offer CRAM-MD5 often cannot do it.
_MECHANISMS = ("plain", "login", "cram-md5")
_MECHANISM_NOT_TAKEN = 504

#: One for all connections of the process.
LOOKUPS = Lookups()

Trust = ssl.SSLContext | None


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
class Way:
    """How to get to the server."""

    account: Account
    local_hostname: str
    timeouts: Timeouts
    trust: Trust
    destinations: Destinations
    lookups: Lookups = LOOKUPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A connection that may send, and what its server offers (RFC 5321 section 4.1.1.1), in lower case."""

    dialogue: Dialogue
    extensions: Mapping[str, str]
    #: The version of TLS that it is spoken over ("TLSv1.3"); None for clear text.
    tls: str | None


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


class _Unwilling(Exception):
    """We do not go on: the server does not offer what this account must have."""

    def __init__(self, blame: Blame, why: str) -> None:
        super().__init__(why)
        self.blame = blame
        self.why = why


async def open_dialogue(way: Way, transcript: Transcript) -> Opened | Deferred:
    """A connection that may send, or why there is none."""
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
    return _taken_over(client)


def _taken_over(client: aiosmtplib.SMTP) -> Opened | Deferred:
    """From here on aiosmtplib is not asked any more."""
    protocol = client.protocol
    if protocol is None or protocol.transport is None:
        return classify_opening(Reply("EHLO", None, "the server closed the connection after it had let us in"))
    said_more = bool(protocol._buffer)  # noqa: SLF001  # no public name tells it
    opened = Opened(
        # What it has is always a transport for both ways; its class is the event loop's own.
        dialogue=Dialogue(cast(asyncio.Transport, protocol.transport)),
        extensions=client.esmtp_extensions,
        tls=_tls_version(client),
    )
    if said_more:
        opened.dialogue.close(MORE_THAN_ASKED)
    return opened


def _tls_version(client: aiosmtplib.SMTP) -> str | None:
    secured: ssl.SSLObject | None = client.get_transport_info("ssl_object")
    return secured.version() if secured is not None else None


_Step = Callable[[aiosmtplib.SMTP, Way, Transcript], Awaitable[None]]


async def _connect(client: aiosmtplib.SMTP, way: Way, transcript: Transcript) -> None:
    transcript.we_say(f"connect to {way.account.host}:{way.account.port} ({way.account.security})")
    async with asyncio.timeout(way.timeouts.connect):
        sock = await _socket_to(way)
    greeting = await client.connect(sock=sock, timeout=way.timeouts.connect)
    transcript.we_hear(greeting.code, greeting.message)


async def _socket_to(way: Way) -> socket.socket:
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


async def _greet(client: aiosmtplib.SMTP, way: Way, transcript: Transcript) -> None:
    transcript.we_say(f"EHLO {way.local_hostname}")
    answer = await client.ehlo(timeout=way.timeouts.command)
    transcript.we_hear(answer.code, answer.message)


async def _secure(client: aiosmtplib.SMTP, way: Way, transcript: Transcript) -> None:
    """STARTTLS where the account asks for it; a server without it gets nothing more from us."""
    if way.account.security is not Security.STARTTLS:
        return
    if not client.supports_extension("starttls"):
        raise _Unwilling(Blame.CONNECTION, "the server does not offer STARTTLS, and nothing is sent in clear")
    transcript.we_say("STARTTLS")
    answer = await client.starttls(timeout=way.timeouts.connect)
    transcript.we_hear(answer.code, answer.message)
    await _greet(client, way, transcript)


async def _log_in(client: aiosmtplib.SMTP, way: Way, transcript: Transcript) -> None:
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
    if client.transport is not None:
        cast(asyncio.WriteTransport, client.transport).abort()
    client.close()
