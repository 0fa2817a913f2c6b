"""The only door to aiosmtpd: takes letters in over SMTP, from anyone, and answers 250 once they are kept.

Whoever wants to see a failure asks for it by address: `reply-451@…` or `reply-550@…` is refused with that code at RCPT,
`reply-451-data@…` after the final dot, and `hang-up@…` loses the connection there without an answer. Other failures are
set on a page, for whom and how often it says there (`cli.mailbox.faults`).
"""

import asyncio
import logging
import random
import re
import time
from types import TracebackType
from typing import Any, AnyStr, Self, cast

from aiosmtpd.smtp import MISSING, SMTP, AuthResult, Envelope, LoginPassword, Session

from cli.mailbox.faults import Deed, Fault, Faults, Step
from cli.mailbox.letters import Letters
from mailroom.logs import get_logger

#: What EHLO announces (RFC 1870), in bytes.
LARGEST_LETTER = 40 * 1024 * 1024
#: RFC 5321 section 4.5.3.1.8 asks for this many at least; a client sends the rest in another transaction.
MOST_RECIPIENTS = 100

#: An answer with which a server closes the connection (RFC 5321 section 3.8).
_LAST_WORDS = frozenset({421})
#: A question of AUTH, so no answer yet (RFC 4954 section 4).
_GO_ON_LOGGING_IN = "334"

_FAULT = re.compile(r"(?:reply-(?P<code>[45]\d\d)(?P<dot>-data)?|(?P<hang_up>hang-up))@.*", re.IGNORECASE)

log = get_logger(__name__)

# aiosmtpd logs every command and line of data, so addresses and bodies, and a warning per login; none of it is ours.
logging.getLogger("mail.log").setLevel(logging.CRITICAL)


def asked_at_rcpt(address: str) -> str | None:
    """The reply that the address asks for at RCPT, if it does."""
    fault = _FAULT.fullmatch(address)
    if fault is None or fault["dot"] or fault["hang_up"]:
        return None
    return _reply(fault["code"])


def asked_at_dot(address: str) -> str | None:
    """The reply that the address asks for after the final dot, if it does; an empty one means hanging up."""
    fault = _FAULT.fullmatch(address)
    if fault is None:
        return None
    if fault["hang_up"]:
        return ""
    return _reply(fault["code"]) if fault["dot"] else None


def _reply(code: str) -> str:
    return f"{code} {code[0]}.3.0 The address asked for this reply"


async def serve_smtp(letters: Letters, host: str, port: int, faults: Faults | None = None) -> "SmtpServer":
    """Listen on the running loop; returns once connections are taken. Port 0 takes a free one."""
    server = SmtpServer(letters, faults or Faults())
    await server.listen(host, port)
    return server


class SmtpServer:
    """A listening SMTP server: `close()`, then `await wait_closed()`, or `async with`."""

    def __init__(self, letters: Letters, faults: Faults) -> None:
        self._letters = letters
        self._faults = faults
        self._conversations: set[_Conversation] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> None:
        """Take connections; raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._begin, host, port)

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server is not None  # noqa: S101 - listen() comes first, and nobody else makes one
        number: int = self._server.sockets[0].getsockname()[1]
        return number

    def close(self) -> None:
        """Take no more connections; those that are open end in `wait_closed`."""
        if self._server is not None:
            self._server.close()

    async def wait_closed(self) -> None:
        """Return once the letters under way to the disk are there and every connection has ended."""
        await self._letters.settle()
        await asyncio.gather(*(one.hang_up() for one in tuple(self._conversations)))
        await self._letters.settle()
        if self._server is not None:
            await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        await self.wait_closed()

    def _begin(self) -> "_Conversation":
        return _Conversation(_Clerk(self._letters), self._faults, self._conversations)


class _Conversation(SMTP):
    """One connection, known to its server as long as it lasts."""

    def __init__(self, clerk: "_Clerk", faults: Faults, others: "set[_Conversation]") -> None:
        super().__init__(
            clerk,
            data_size_limit=LARGEST_LETTER,
            enable_SMTPUTF8=True,
            hostname="mailbox.localhost",  # named, because aiosmtpd would ask the DNS for it and block
            ident="Mailroom development mailbox",
            auth_require_tls=False,
            authenticator=_let_in,
            loop=asyncio.get_running_loop(),
        )
        self._faults = faults
        self._others = others
        self._leaving = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._others.add(self)
        if self._handler_coroutine is not None:
            # A client that vanished is no news: look at the exception, so that asyncio does not print it.
            self._handler_coroutine.add_done_callback(lambda task: task.cancelled() or task.exception())

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._others.discard(self)

    async def suffer(self, step: Step, *addresses: str) -> Fault | None:
        """Wait, or lose the connection, as the faults that strike here will have it; what is left to do is returned."""
        struck = self._faults.strike(step, addresses, time.monotonic(), random.random)
        await asyncio.sleep(struck.seconds)
        if struck.fault is None:
            return None
        match struck.fault.do:
            case Deed.DROP:
                raise ConnectionResetError("a fault asked for it")  # aiosmtpd closes the connection without a word
            case Deed.DROP_AFTER:
                self._leaving = True
            case Deed.ANSWER:
                self._leaving = struck.fault.code in _LAST_WORDS or step is Step.CONNECT
        return struck.fault

    async def refused(self, step: Step, *addresses: str) -> str | None:
        """What is answered in place of carrying the command out, if a fault will have it."""
        fault = await self.suffer(step, *addresses)
        return fault.answer if fault and fault.do is Deed.ANSWER else None

    async def push(self, status: AnyStr) -> None:
        """Answer, and leave when these were the last words."""
        await super().push(status)
        line = status.decode() if isinstance(status, bytes) else status
        if self._leaving and line[3:4] != "-" and not line.startswith(_GO_ON_LOGGING_IN):
            self._writer.close()
            raise ConnectionResetError("a fault asked for it")  # nothing that was sent meanwhile is carried out

    async def _handle_client(self) -> None:
        try:
            answer = await self.refused(Step.CONNECT)
        except ConnectionResetError:
            self._writer.close()
            raise
        if answer is None:
            await super()._handle_client()
        else:
            await self.push(answer)

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802 - the name is aiosmtpd's
        """DATA, before its 354; `handle_DATA` is called after the dot."""
        envelope = self.envelope
        answer = None
        if envelope is not None and envelope.rcpt_tos and not arg:
            answer = await self.refused(Step.DATA, *_addresses(envelope))
        if answer is None:
            await super().smtp_DATA(arg)
        else:
            await self.push(answer)

    async def hang_up(self) -> None:
        """Close the connection and return once its task has ended."""
        if self.transport is not None:
            cast("asyncio.Transport", self.transport).abort()  # uvloop's are none by their class
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
            await asyncio.wait({self._handler_coroutine})


class _Clerk:
    """Answers the commands that matter to us; aiosmtpd finds its methods by their names."""

    def __init__(self, letters: Letters) -> None:
        self._letters = letters

    async def handle_EHLO(  # noqa: N802 - the name is aiosmtpd's
        self, server: "_Conversation", session: Session, envelope: Envelope, name: str, responses: list[str]
    ) -> list[str]:
        refused = await server.refused(Step.EHLO)
        if refused is not None:
            return [refused]
        session.host_name = name
        return responses

    async def handle_HELO(  # noqa: N802 - the same
        self, server: "_Conversation", session: Session, envelope: Envelope, name: str
    ) -> str:
        # A client that is refused EHLO tries this (RFC 5321 section 3.2), and is to be refused again.
        refused = await server.refused(Step.EHLO)
        if refused is not None:
            return refused
        session.host_name = name
        return f"250 {server.hostname}"

    async def handle_AUTH(  # noqa: N802 - the same
        self, server: "_Conversation", session: Session, envelope: Envelope, arguments: list[str]
    ) -> Any:
        return await server.refused(Step.AUTH) or MISSING

    async def handle_MAIL(  # noqa: N802 - the same
        self, server: "_Conversation", session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> Any:
        return await server.refused(Step.MAIL, address) or MISSING

    async def handle_RCPT(  # noqa: N802 - the name is aiosmtpd's
        self, server: "_Conversation", session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        refused = await server.refused(Step.RCPT, envelope.mail_from or "", address) or asked_at_rcpt(address)
        if refused is not None:
            return refused
        if len(envelope.rcpt_tos) >= MOST_RECIPIENTS:
            return "452 4.5.3 Too many recipients"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(  # noqa: N802 - the same
        self, server: "_Conversation", session: Session, envelope: Envelope
    ) -> str:
        fault = await server.suffer(Step.DOT, *_addresses(envelope))
        if fault is not None and fault.do is Deed.ANSWER:
            return fault.answer
        for address in envelope.rcpt_tos:
            asked = asked_at_dot(address)
            if asked == "":
                raise ConnectionResetError("the address asked for it")  # aiosmtpd closes the connection without a word
            if asked is not None:
                return asked
        answer = await self._keep(envelope)
        if fault is not None and fault.do is Deed.LOSE_ANSWER:
            raise ConnectionResetError("a fault asked for it")
        return answer

    async def _keep(self, envelope: Envelope) -> str:
        try:
            letter = await self._letters.store(
                envelope.mail_from or "", envelope.rcpt_tos, envelope.original_content or b""
            )
        except OSError as error:
            log.exception("letter not kept", error=type(error).__name__)
            return "452 4.3.1 The mailbox cannot write to its disk"
        return f"250 2.0.0 Kept as {letter.id}"

    async def handle_exception(self, error: Exception) -> str:
        """Whatever a client provoked in aiosmtpd ends its command, not the server."""
        log.warning("command not understood", error=type(error).__name__)
        return "500 5.5.2 Not understood"


def _addresses(envelope: Envelope) -> tuple[str, ...]:
    """The sender and the recipients that were taken."""
    return envelope.mail_from or "", *envelope.rcpt_tos


def _let_in(
    server: SMTP, session: Session, envelope: Envelope, mechanism: str, credentials: LoginPassword
) -> AuthResult:
    """Any user and password will do, so that a configured account works here unchanged."""
    return AuthResult(success=True)
