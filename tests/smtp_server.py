"""ScriptedSmtp: a real SMTP server (aiosmtpd) on a free loopback port that answers what a test scripted."""

import asyncio
import datetime as dt
import ipaddress
import ssl
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, AnyStr, Self, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mailroom.integration import Account, Security


@dataclass(frozen=True, slots=True)
class Say:
    """Answer this instead; `seconds` later. `then_close` hangs up after it."""

    reply: str
    seconds: float = 0.0
    then_close: bool = False


@dataclass(frozen=True, slots=True)
class HangUp:
    """Close the connection without an answer."""


@dataclass(frozen=True, slots=True)
class Stall:
    """Never answer."""


Act = Say | HangUp | Stall


@dataclass(slots=True)
class _Scripted:
    command: str
    act: Act
    address: str | None
    times: int | None


@dataclass(frozen=True, slots=True)
class Received:
    """A message whose final dot arrived, whatever was answered to it."""

    mail_from: str
    rcpt_to: tuple[str, ...]
    content: bytes
    mail_options: tuple[str, ...]


@dataclass(slots=True)
class ScriptedSmtp:
    """Scripts and records of one server.

    Phases: connect, EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, content, dot, RSET, NOOP, QUIT.

    `content` acts after 354, when the first line of the message has come.
    """

    username: str | None = None
    password: str | None = None
    starttls: bool = False
    implicit_tls: bool = False
    size_limit: int | None = 33_554_432
    smtputf8: bool = False
    #: Whether it offers to take several commands at once (RFC 2920); it takes them whether or not it does.
    pipelining: bool = False
    port: int = 0
    #: Messages answered 250 at the dot.
    inbox: list[Received] = field(default_factory=list)
    #: Messages whose final dot arrived, the refused and unanswered included.
    completed: list[Received] = field(default_factory=list)
    #: Command verbs of all connections, in order.
    verbs: list[str] = field(default_factory=list)
    connections: int = 0
    #: The most connections there were at the same time.
    most_at_once: int = 0
    _scripts: list[_Scripted] = field(default_factory=list)
    _reached: defaultdict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    _sessions: set["_Conversation"] = field(default_factory=set)
    _server: asyncio.Server | None = None
    _certificate: "Certificate | None" = None

    def script(self, command: str, act: Act | str, *, address: str | None = None, times: int | None = None) -> None:
        """At this command (for this address, so many times) do that instead of the usual; a str is a reply."""
        self._scripts.append(_Scripted(command, Say(act) if isinstance(act, str) else act, address, times))

    def forget(self, command: str) -> None:
        """At this command do the usual again."""
        self._scripts = [one for one in self._scripts if one.command != command]

    def act_at(self, command: str, argument: str = "") -> Act | None:
        """What is scripted for this moment; a script with a number of times is used up."""
        self._reached[command].set()
        for scripted in self._scripts:
            if scripted.command != command or (scripted.address or "") not in argument or scripted.times == 0:
                continue
            if scripted.times is not None:
                scripted.times -= 1
            return scripted.act
        return None

    async def reached(self, command: str) -> None:
        """Return once a client has come to this phase for the first time."""
        await self._reached[command].wait()

    def account(self, **changes: Any) -> Account:
        """How a client gets in."""
        secured = Security.STARTTLS if self.starttls else Security.TLS if self.implicit_tls else Security.NONE
        values: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.port,
            "security": secured,
            "username": self.username,
            "password": self.password,
        }
        return Account(**(values | changes))

    @property
    def trust(self) -> ssl.SSLContext | None:
        """A client context that trusts this server's certificate."""
        return self._certificate.client_context() if self._certificate else None

    def hang_up(self) -> None:
        """Close every connection, as a server does with idle ones."""
        for session in list(self._sessions):
            session.hang_up()

    async def __aenter__(self) -> Self:
        if self.starttls or self.implicit_tls:
            self._certificate = await asyncio.to_thread(Certificate)
        context = self._certificate.server_context() if self._certificate else None
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Conversation(self, context if self.starttls else None),
            "127.0.0.1",
            self.port,
            ssl=context if self.implicit_tls else None,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.hang_up()
        for _ in range(100):
            if not self._sessions:
                break
            await asyncio.sleep(0.01)
        await self._server.wait_closed()


class _Conversation(SMTP):
    """One connection: aiosmtpd, with the script asked before every command."""

    def __init__(self, script: ScriptedSmtp, starttls: ssl.SSLContext | None) -> None:
        super().__init__(
            _Handler(script),
            hostname="scripted.test",
            ident="ready",
            data_size_limit=script.size_limit,
            enable_SMTPUTF8=script.smtputf8,
            tls_context=starttls,
            auth_require_tls=False,
            authenticator=self._check_password,
            auth_exclude_mechanism=() if script.username else ("PLAIN", "LOGIN"),
            loop=asyncio.get_running_loop(),
        )
        self._script = script
        self._greeted = False
        self._smtp_methods = {verb: self._scripted(verb, method) for verb, method in self._smtp_methods.items()}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self not in self._script._sessions:
            self._script._sessions.add(self)
            self._script.connections += 1
            self._script.most_at_once = max(self._script.most_at_once, len(self._script._sessions))
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._script._sessions.discard(self)
        super().connection_lost(error)

    def hang_up(self) -> None:
        if self.transport is not None:
            cast(asyncio.Transport, self.transport).abort()

    async def push(self, status: AnyStr) -> None:
        """Every reply goes through here; the first one is the greeting."""
        if not self._greeted:
            self._greeted = True
            act = self._script.act_at("connect")
            if act is not None:
                await self.perform(act)
                return
        await super().push(status)

    async def perform(self, act: Act) -> None:
        """Do what was scripted."""
        match act:
            case Say():
                await asyncio.sleep(act.seconds)
                reply = act.reply.encode("utf-8", "surrogateescape").replace(b"\n", b"\r\n")
                await super().push(reply)
                if act.then_close and self.transport is not None:
                    self.transport.close()
            case HangUp():
                self.hang_up()
            case Stall():
                await asyncio.Event().wait()

    def _scripted(self, verb: str, method: Any) -> Any:
        async def answer(argument: str | None) -> None:
            self._script.verbs.append(verb)
            act = self._script.act_at(verb, argument or "")
            content = self._script.act_at("content") if verb == "DATA" and act is None else None
            if act is not None:
                await self.perform(act)
            elif content is not None:
                await super(_Conversation, self).push("354 go on")
                await self._reader.readline()
                await self.perform(content)
            else:
                await method(argument)

        return answer

    def _check_password(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: LoginPassword
    ) -> AuthResult:
        expected = (str(self._script.username).encode(), str(self._script.password).encode())
        return AuthResult(success=(login.login, login.password) == expected, handled=False)


class _Handler:
    """Takes the finished messages."""

    def __init__(self, script: ScriptedSmtp) -> None:
        self._script = script

    async def handle_EHLO(  # noqa: N802  # as below
        self, server: _Conversation, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return ["250-PIPELINING", *responses] if self._script.pipelining else responses

    async def handle_DATA(  # noqa: N802  # the name aiosmtpd calls
        self, server: _Conversation, session: Session, envelope: Envelope
    ) -> str:
        received = Received(
            envelope.mail_from or "",
            tuple(envelope.rcpt_tos),
            envelope.original_content or b"",
            tuple(envelope.mail_options),
        )
        self._script.completed.append(received)
        act = self._script.act_at("dot")
        match act:
            case Say(then_close=False):
                await asyncio.sleep(act.seconds)
                if act.reply.startswith("2"):
                    self._script.inbox.append(received)
                return act.reply
            case Say() | HangUp() | Stall():
                await server.perform(act)
                raise asyncio.CancelledError
            case None:
                self._script.inbox.append(received)
                return "250 2.0.0 taken"


class Certificate:
    """A certificate for 127.0.0.1 and localhost, signed by itself, for one test."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "scripted.test")])
        now = dt.datetime.now(dt.UTC)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def _pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def server_context(self) -> ssl.SSLContext:
        key = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "server.pem")
            path.write_bytes(key + self._pem)
            context.load_cert_chain(path)
        return context

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self._pem.decode("ascii"))


@asynccontextmanager
async def scripted_smtp(**options: Any) -> AsyncIterator[ScriptedSmtp]:
    """A running server; options are ScriptedSmtp's."""
    async with ScriptedSmtp(**options) as server:
        yield server
