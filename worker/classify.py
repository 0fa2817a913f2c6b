"""What a server's reply, or its silence, means: an outcome, and whom it is about. Pure; the test is a table.

The rule is the reply code: 4yz is not now, 5yz is never (RFC 5321 section 4.2.1). Everything else here is an exception
to it that real servers have taught, most specific first.

Only four blames can ever take an integration out of service (`mailroom.integration.CAUSE_OF`), and they are given only
for what happens before the first message: while connecting, greeting, securing and logging in, and for a server that
says at MAIL or RCPT that we did not log in. A failure inside a transaction is the provider's, however it looks.
"""

import re
from enum import StrEnum

from mailroom.outcome import Blame, Deferred, Rejected, Reply, Sent, Uncertain

#: Reply text is stored and logged: no longer than this, and on one line (SND-12).
LONGEST_TEXT = 512

#: Nothing of a message has been said yet: what fails here fails for every message.
BEFORE_A_MESSAGE = frozenset({"connect", "TLS", "EHLO", "AUTH"})

_NOT_AVAILABLE = 421
_AUTHENTICATION_REQUIRED = 530
_PASSWORD_TRANSITION = 432
_BAD_SEQUENCE = 503
_OUT_OF_STORAGE_FOR_MESSAGE = 552


class Silence(StrEnum):
    """Why no reply came."""

    LOST = "lost"
    TIMED_OUT = "timed out"
    UNRESOLVED = "unresolved"


_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?!\S)")

#: Slow down. "Too many hops" and "too many Received headers" are a mail loop and mean the opposite of trying again.
_THROTTLED = re.compile(
    r"too many (?!hops|.?received)|throttl|rate.?limit|receiving mail at a rate|concurrent connections? limit"
    r"|(daily|hourly|sending|submission|outgoing|message).{0,20}(limit|quota).{0,12}(exceed|reached)"
    r"|exceeded.{0,40}(sending|daily|hourly|rate) (limit|quota)|submissionquotaexceeded|gr[ea]ylist|slow down",
    re.IGNORECASE,
)
#: The account may not use this sender: our configuration, neither the recipient's nor the message's fault.
_SENDER_NOT_OURS = re.compile(
    r"send ?as ?denied|permissions? to send as|not owned by user|sender address rejected|is not verified"
    r"|not (allowed|authori[sz]ed|permitted) to (send|use)|sender (verify|not allowed|not authori[sz]ed)",
    re.IGNORECASE,
)
_RELAY_DENIED = re.compile(
    r"relay(ing)?( access)?( is)? (denied|not (permitted|allowed))|unable to relay|not permitted to relay",
    re.IGNORECASE,
)
_LOGIN_MISSING = re.compile(
    r"authentication (is )?required|auth(enticate)? first|not authenticated|must (login|log in|authenticate)",
    re.IGNORECASE,
)
_MAILBOX_FULL = re.compile(
    r"(mailbox|user|account|inbox).{0,40}(full|over.?quota|out of (storage|space))", re.IGNORECASE
)
_UNKNOWN_USER = re.compile(
    r"(user|recipient|mailbox|address|account).{0,40}"
    r"(unknown|not found|does ?n.t exist|does not exist|unavailable|invalid)"
    r"|(no such|unknown|invalid) (user|recipient|mailbox|address)|no mailbox",
    re.IGNORECASE,
)
_SENDER_NOT_ALLOWED_CODES = frozenset({"5.7.60", "5.1.7", "5.1.8", "5.7.26", "5.7.27"})


def read_reply(command: str, code: int, text: str) -> Reply:
    """The server's words as we keep them: trimmed, on one line, with the enhanced code (RFC 3463) beside them."""
    found = _ENHANCED.match(text)
    if found and text.count("\n"):
        text = text.replace(f"\n{found[1]} ", "\n")  # every line of a long reply repeats it
    return Reply(command, code, printable(text), found[1] if found else None)


def printable(text: str) -> str:
    """At most 512 characters on one line; what would move the cursor or end the line is escaped."""
    text = " ".join(text[: 2 * LONGEST_TEXT].split("\n"))
    if not text.isprintable():
        text = "".join([c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text])
    return text.strip()[:LONGEST_TEXT]


def classify(reply: Reply, silence: Silence = Silence.LOST) -> Sent | Deferred | Rejected | Uncertain:
    """What the reply to this command comes to; `silence` says why there is none when its code is None."""
    if reply.command in BEFORE_A_MESSAGE:
        return classify_opening(reply, silence)
    if reply.code is None:
        return Uncertain(reply) if reply.command == "dot" else Deferred(reply, Blame.PROVIDER)
    if reply.code // 100 == 4:  # noqa: PLR2004  # RFC 5321 section 4.2.1: 4yz
        return Deferred(reply, _blame_of_4yz(reply.code, reply))
    if reply.code // 100 == 5:  # noqa: PLR2004  # RFC 5321 section 4.2.1: 5yz
        return _never(reply.code, reply)
    return _out_of_turn(reply.code, reply)


def classify_opening(reply: Reply, silence: Silence = Silence.LOST) -> Deferred:
    """What a failure before the first message comes to: never about a message, so never final for one, 5yz or not."""
    if reply.code is not None:
        return Deferred(reply, _blame_before_a_message(reply.code, reply))
    match silence:
        case Silence.LOST:
            return Deferred(reply, Blame.CONNECTION)
        case Silence.TIMED_OUT:
            return Deferred(reply, Blame.TIMEOUT)
        case Silence.UNRESOLVED:
            return Deferred(reply, Blame.HOST)


def _blame_before_a_message(code: int, reply: Reply) -> Blame:
    """A password refused, a server that wants us to slow down, or one that does not take us at all."""
    if code == _PASSWORD_TRANSITION and reply.enhanced == "4.7.12":  # RFC 4954 section 6
        return Blame.CREDENTIALS
    if _asks_to_slow_down(code, reply):
        return Blame.THROTTLE
    if code // 100 == 4:  # noqa: PLR2004  # RFC 5321 section 4.2.1: 4yz
        # A server that cannot check passwords just now must not look like one that refuses ours.
        return Blame.THROTTLE if reply.command == "AUTH" else Blame.PROVIDER
    if code // 100 == 5 and (reply.command == "AUTH" or code == _AUTHENTICATION_REQUIRED):  # noqa: PLR2004  # 5yz
        return Blame.CREDENTIALS
    return Blame.CONNECTION


def _asks_to_slow_down(code: int, reply: Reply) -> bool:
    enhanced = reply.enhanced or ""
    return code == _NOT_AVAILABLE or enhanced.startswith("4.7.") or _THROTTLED.search(reply.text) is not None


def _blame_of_4yz(code: int, reply: Reply) -> Blame:
    """Not now, and for whose sake: only a full or unverified mailbox, or the message itself, uses up its attempts."""
    enhanced = reply.enhanced or ""
    if _asks_to_slow_down(code, reply):
        return Blame.THROTTLE
    if enhanced.startswith(("4.1.", "4.2.")) or _MAILBOX_FULL.search(reply.text):
        return Blame.US if reply.command == "MAIL" else Blame.RECIPIENT
    if enhanced.startswith("4.6."):
        return Blame.MESSAGE
    if not enhanced and code == 450 and reply.command == "RCPT":  # noqa: PLR2004  # RFC 5321: mailbox unavailable
        return Blame.RECIPIENT
    return Blame.PROVIDER


def _never(code: int, reply: Reply) -> Deferred | Rejected:
    """5yz inside a transaction: final, but for a missing login and for limits of the account, which pass."""
    if _says_we_did_not_log_in(code, reply):
        return Deferred(reply, Blame.CREDENTIALS)
    if reply.enhanced == "5.2.2" or _MAILBOX_FULL.search(reply.text):
        return Rejected(reply, Blame.US if reply.command == "MAIL" else Blame.RECIPIENT)
    if _asks_to_slow_down(code, reply):
        return Deferred(reply, Blame.THROTTLE)
    return Rejected(reply, _blame_of_5yz(code, reply))


def _says_we_did_not_log_in(code: int, reply: Reply) -> bool:
    """Words count at MAIL only: later they may be a recipient's ("this group takes mail of members only")."""
    if reply.command == "MAIL":
        return code == _AUTHENTICATION_REQUIRED or _LOGIN_MISSING.search(reply.text) is not None
    return reply.command == "RCPT" and code == _AUTHENTICATION_REQUIRED


def _blame_of_5yz(code: int, reply: Reply) -> Blame:
    """Whom a final refusal is about.

    A sender that the account may not use is ours to put right: the message is given up at once, where a person sees
    it and can re-drive it, and the integration stays as it is, because other senders of it may well be allowed.
    """
    enhanced = reply.enhanced or ""
    if enhanced in _SENDER_NOT_ALLOWED_CODES or _SENDER_NOT_OURS.search(reply.text) or _RELAY_DENIED.search(reply.text):
        return Blame.US
    if code == _OUT_OF_STORAGE_FOR_MESSAGE or enhanced in {"5.3.4", "5.2.3"}:
        return Blame.MESSAGE
    if code == _BAD_SEQUENCE:
        return Blame.US
    match reply.command:
        case "MAIL":
            return Blame.US
        case "RCPT":
            return Blame.RECIPIENT
        case _:
            about_the_recipient = enhanced.startswith(("5.1.", "5.2.1")) or (
                not enhanced.startswith("5.7.") and _UNKNOWN_USER.search(reply.text)
            )
            return Blame.RECIPIENT if about_the_recipient else Blame.MESSAGE


def _out_of_turn(code: int, reply: Reply) -> Sent | Deferred | Uncertain:
    """A reply that is neither 4yz nor 5yz: to the final dot 2yz is success, and anything else leaves us not knowing."""
    if reply.command != "dot":
        return Deferred(reply, Blame.PROVIDER)
    return Sent(reply) if code // 100 == 2 else Uncertain(reply)  # noqa: PLR2004  # RFC 5321 section 4.2.1: 2yz
