"""SMTP transactions on an open connection. What a server does comes back as an outcome; nothing it does is raised.

MAIL, RCPT and DATA go together where the server offers it (RFC 2920), else one by one. Their replies are heard one by
one either way, so that the phase of a failure is always known: before the final dot the message is still ours, after it
the server may have it (RFC 1047). A live transaction is never cancelled from outside, because its late reply would be
read as the next message's; whoever must end one calls `Connection.close`.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mailroom.destinations import ANYWHERE, Destinations
from mailroom.integration import Account
from mailroom.mime import LINE, UnsafeMessage, ascii_address
from mailroom.outcome import Blame, Deferred, Held, Outcome, Rejected, Reply, Sent
from worker.classify import Silence, classify, classify_opening, printable, read_reply
from worker.dialogue import MORE_THAN_ASKED, Answer
from worker.lookups import Lookups
from worker.opening import LOOKUPS, Opened, Timeouts, Transcript, Trust, Way, open_dialogue

#: Bytes handed to the transport at once; it is drained after each, so a large mail is never buffered whole (F18).
PIECE = 64 * 1024
#: The most digits a SIZE may have (RFC 1870 section 4), and the largest number that can be kept.
_SIZE_DIGITS = 20
_LARGEST_SIZE = 2**63 - 1

#: Seconds a live test may take to be let in, all steps together: somebody waits for it.
_TEST_SECONDS = 60

_START_INPUT = 354
_NOT_AVAILABLE = 421


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


async def open_connection(
    account: Account,
    local_hostname: str,
    timeouts: Timeouts,
    *,
    trust: Trust = None,
    destinations: Destinations = ANYWHERE,
    lookups: Lookups = LOOKUPS,
) -> "Connection | Deferred":
    """Connect, greet, secure and log in. `trust` replaces the machine's certificate authorities."""
    way = Way(
        account=account, local_hostname=local_hostname, timeouts=timeouts, trust=trust, destinations=destinations,
        lookups=lookups,
    )  # fmt: skip
    transcript = Transcript(account)
    opened = await open_dialogue(way, transcript)
    return opened if isinstance(opened, Deferred) else Connection(way, opened, transcript)


async def test_connection(
    account: Account,
    local_hostname: str,
    timeouts: Timeouts,
    *,
    trust: Trust = None,  # noqa: PT028  # this tests an integration; pytest never sees it
    destinations: Destinations = ANYWHERE,  # noqa: PT028  # as above
    letter: TestLetter | None = None,  # noqa: PT028  # as above
) -> TestResult:
    """Open a connection by the same code as real mail, see that it answers, and leave. Without a letter nothing is sent."""
    way = Way(account=account, local_hostname=local_hostname, timeouts=timeouts, trust=trust, destinations=destinations)
    transcript = Transcript(account)
    try:
        async with asyncio.timeout(_TEST_SECONDS):
            opened = await open_dialogue(way, transcript)
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


# --- Sending ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Letter:
    """One transaction: its commands as they go over the wire, and the bytes."""

    mail: bytes
    rcpt: bytes
    wire: bytes


_DATA = b"DATA\r\n"


def _nothing_objects() -> Held | None:
    return None


class Connection:
    """One open connection to one account's server, for one message at a time."""

    def __init__(self, way: Way, opened: Opened, transcript: Transcript) -> None:
        self._way = way
        self._transcript = transcript
        self._envelope_open = False
        self._given_up = False
        #: Messages tried on it since it was opened.
        self.messages = 0
        self._use(opened)

    def _use(self, opened: Opened) -> None:
        self._dialogue = opened.dialogue
        self._tls = opened.tls
        self._ehlo_size = _offered_size(opened.extensions.get("size", ""))
        self._takes_sizes = "size" in opened.extensions
        self._takes_utf8 = "smtputf8" in opened.extensions
        self._takes_groups = "pipelining" in opened.extensions

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
        return self._dialogue.is_over

    @property
    def needs_reset(self) -> bool:
        """An envelope was begun and not finished: `revive` before the next message."""
        return self._envelope_open

    def close(self) -> None:
        """Drop it at once. A transaction on it ends now, as what the phase it was in makes of a lost connection."""
        self._dialogue.close()

    def give_up(self) -> None:
        """Drop it at once, and open no other in its place."""
        self._given_up = True
        self.close()

    async def quit(self) -> None:
        """Take leave politely, within 5 s; says nothing about any message."""
        self._dialogue.say(b"QUIT\r\n", 1)
        await self._dialogue.reply(self._way.timeouts.quit)
        self.close()

    async def revive(self) -> bool:
        """Whether it is alive and free of an unfinished envelope (RSET)."""
        self._dialogue.say(b"RSET\r\n", 1)
        if not _is_positive(await self._answer(self._way.timeouts.reset)):
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
        return await self._deliver(letter, mail, before_dot)

    async def _mail(self, letter: _Letter) -> Answer:
        """MAIL, with what follows where the server takes it at once; and the reply to it."""
        self._envelope_open = True
        if self._takes_groups:
            self._dialogue.say(letter.mail + letter.rcpt + _DATA, 3)
        else:
            self._dialogue.say(letter.mail, 1)
        return await self._answer(self._way.timeouts.command)

    async def _deliver(self, letter: _Letter, mail: Answer, before_dot: Callable[[], bool]) -> Outcome:
        """What follows MAIL, when that was accepted."""
        if not _is_positive(mail):
            await self._hear_out(2)
            return self._refused("MAIL", mail)
        rcpt = await self._answer_to(letter.rcpt, self._way.timeouts.command)
        if not _is_positive(rcpt):
            await self._hear_out(1)
            return self._refused("RCPT", rcpt)
        data = await self._answer_to(_DATA, self._way.timeouts.data)
        if data.code != _START_INPUT:
            return self._refused("DATA", data)
        return await self._hand_over(letter.wire, before_dot)

    def _refused(self, command: str, answer: Answer) -> Outcome:
        """What a refusal comes to, where it can be told what was refused."""
        if self._dialogue.confused and self._takes_groups:
            return classify(Reply(command, None, MORE_THAN_ASKED))
        return classify(_as_reply(command, answer))

    async def _answer_to(self, command: bytes, seconds: float) -> Answer:
        """The reply to this command, which has gone with MAIL or goes now."""
        if not self._takes_groups:
            self._dialogue.say(command, 1)
        return await self._answer(seconds)

    async def _hear_out(self, replies: int) -> None:
        """Hear what is said to the commands that went along with a refused one.

        A server may let DATA begin although it took no recipient (RFC 2920 section 3.1). It has nothing then, and we
        leave: nobody knows what each server makes of the dot that the standard asks for.
        """
        for _ in range(replies if self._takes_groups else 0):
            answer = await self._answer(self._way.timeouts.data)
            if answer.code is None:
                return
            if answer.code == _START_INPUT:
                self.close()

    def _addressed(self, envelope_from: str, recipient: str, wire: bytes) -> _Letter | Rejected:
        """The transaction, or why this server can never take it; nothing has been said yet."""
        try:
            envelope_from = envelope_from and ascii_address(envelope_from)
            recipient = ascii_address(recipient)
        except UnsafeMessage as error:
            return Rejected(Reply("MAIL", None, str(error)), Blame.US)
        if self.ehlo_size is not None and len(wire) > self.ehlo_size:
            text = f"the message has {len(wire)} bytes on the wire, the server takes at most {self.ehlo_size}"
            return Rejected(Reply("MAIL", None, text, "5.3.4"), Blame.MESSAGE)
        needs_utf8 = not (envelope_from.isascii() and recipient.isascii() and wire.isascii())
        if needs_utf8 and not self._takes_utf8:
            text = "an address is not ASCII before its @, and the server does not take such (no SMTPUTF8)"
            blame = Blame.MESSAGE if recipient.isascii() else Blame.RECIPIENT
            return Rejected(Reply("MAIL", None, text, "5.6.7"), blame)
        size = f" SIZE={len(wire)}" if self._takes_sizes else ""
        # RFC 6531 section 3.1: who offers the second offers the first.
        utf8 = " BODY=8BITMIME SMTPUTF8" if needs_utf8 else ""
        return _Letter(
            mail=f"MAIL FROM:<{envelope_from}>{size}{utf8}\r\n".encode(),
            rcpt=f"RCPT TO:<{recipient}>\r\n".encode(),
            wire=wire,
        )

    async def _reopen(self) -> Deferred | None:
        """A fresh connection in place of one that had gone; None when there is one."""
        self.close()
        self._transcript = Transcript(self.account)
        opened = await open_dialogue(self._way, self._transcript)
        if isinstance(opened, Deferred):
            return opened
        if self._given_up:
            opened.dialogue.close()
            return classify_opening(Reply("connect", None, "time ran out while reconnecting"), Silence.TIMED_OUT)
        self._use(opened)
        self._envelope_open = False
        self.messages = 0
        return None

    async def _answer(self, seconds: float) -> Answer:
        """The next reply. A server that says goodbye or nothing gets no other command."""
        answer = await self._dialogue.reply(seconds)
        if answer.code == _NOT_AVAILABLE:
            self.close()
        return answer

    async def _hand_over(self, wire: bytes, before_dot: Callable[[], bool]) -> Outcome:
        """The message and the final dot; the server's answer is listened for from the first byte on."""
        self._dialogue.say(b"", 1)
        last = await self._pour(wire)
        if not isinstance(last, bytes):
            self.close()
            return last
        # From the first byte of this on the server may have the message.
        self._dialogue.pour_last(last + b".\r\n", before_dot)
        answer = await self._answer(self._way.timeouts.dot)
        if self._dialogue.withheld:
            return Deferred(Reply("DATA", None, "this worker lost touch and may no longer send"), Blame.US)
        outcome = classify(_as_reply("dot", answer))
        self._envelope_open = not isinstance(outcome, Sent)
        return outcome

    async def _pour(self, wire: bytes) -> bytes | Outcome:
        """Send all pieces but the last, which is returned; or how it ended before."""
        pieces = _pieces(wire)
        try:
            last = next(pieces)
            for following in pieces:
                self._dialogue.pour(last)
                if not await self._dialogue.drained(self._way.timeouts.progress):
                    return await self._stopped()
                last = following
        except UnsafeMessage as error:
            return Rejected(Reply("DATA", None, str(error)), Blame.US)
        if self._dialogue.has_heard or self._dialogue.is_over:
            return await self._stopped()
        return last

    async def _stopped(self) -> Outcome:
        """The transfer ended before the dot: the server refused early, went away, or stopped reading."""
        return classify(_as_reply("DATA", await self._answer(0)))


def _as_reply(command: str, answer: Answer) -> Reply:
    """A reply as we keep it."""
    if answer.code is None:
        return Reply(command, None, printable(answer.text))
    return read_reply(command, answer.code, answer.text)


def _offered_size(said: str) -> int | None:
    """RFC 1870 section 4: no number, or zero, is no fixed limit. Nor is more than 20 digits, or than a database counts."""
    if not (said.isascii() and said.isdigit() and len(said) <= _SIZE_DIGITS):
        return None
    return int(said) if 0 < int(said) <= _LARGEST_SIZE else None


def _is_positive(answer: Answer) -> bool:
    return answer.code is not None and answer.code // 100 == 2  # noqa: PLR2004  # RFC 5321 section 4.2.1: 2yz


def _had_gone(mail: Answer) -> bool:
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
        if end <= start + 1 or not _has_whole_lines(piece):
            raise UnsafeMessage("the message has a bare line break or a line without end")
        yield _stuffed(piece) if b"." in piece else piece
        start = end


def _has_whole_lines(piece: bytes) -> bool:
    """Whether CR and LF come in pairs only.

    A bare one is how a message smuggles another past a server that is lenient about them (SND-6).
    """
    breaks = piece.count(b"\n")
    if piece.count(b"\r") != breaks:
        return False
    # The lines of a file in base64 all have one length, so that every pair is where it must be: six times faster than to
    # look for pairs.
    if piece[LINE :: LINE + 2] == b"\r" * breaks and piece[LINE + 1 :: LINE + 2] == b"\n" * breaks:
        return True
    return piece.count(b"\r\n") == breaks


def _stuffed(piece: bytes) -> bytes:
    """RFC 5321 section 4.5.2: a line that begins with a dot gets one more."""
    if piece.startswith(b"."):
        piece = b"." + piece
    return piece.replace(b"\r\n.", b"\r\n..") if b"\r\n." in piece else piece
