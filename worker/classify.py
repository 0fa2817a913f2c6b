"""What a server's reply, or its silence, means: an outcome, and whom it is about. Pure; the test is a table.

The rule is the reply code: 4yz is not now, 5yz is never (RFC 5321 section 4.2.1). Everything else here is an exception
to it that real servers have taught, most specific first; docs/blame.md tells it to operators.

Only four blames can ever take an integration out of service (`mailroom.integration.CAUSE_OF`), and they are given only
for what happens before the first message: while connecting, greeting, securing and logging in, and for a server that
says at MAIL that we did not log in. What is said once MAIL was accepted may be the recipient's server speaking, and
421, 454 and 4.7.x ask us to slow down, whatever they answer: neither ever costs an integration its state.
"""

import re
from enum import StrEnum

from mailroom.outcome import Blame, Deferred, Rejected, Reply, Sent, Uncertain

#: Reply text is stored and logged: no longer than this, and on one line (SND-12).
LONGEST_TEXT = 512

#: Nothing of a message has been said yet: what fails here fails for every message.
BEFORE_A_MESSAGE = frozenset({"connect", "TLS", "EHLO", "AUTH"})

#: Codes that ask for a pause at whatever command: service not available (RFC 5321), try again later (RFC 4954, 3207).
_SLOW_DOWN_CODES = frozenset({421, 454})
_AUTHENTICATION_REQUIRED = 530
_BAD_SEQUENCE = 503
_OUT_OF_STORAGE_FOR_MESSAGE = 552


class Silence(StrEnum):
    """Why no reply came."""

    LOST = "lost"
    TIMED_OUT = "timed out"
    UNRESOLVED = "unresolved"


#: Where it belongs (RFC 2034), with a mark before it (IronPort), or at the end in brackets (qmail and its descendants).
_ENHANCED = re.compile(r"#?([245]\.\d{1,3}\.\d{1,3})(?=[\s:;]|$)|[^\n]*\(#([245]\.\d{1,3}\.\d{1,3})\)")

#: Slow down: our pace, or a limit of the account that passes. "Too many hops" and "too many Received headers" are a
#: mail loop and mean the opposite of trying again; "too many bad logins" is a wrong password.
_THROTTLED = re.compile(
    r"too (many|frequent) (?!hops|.?received|messages on the server|(bad|failed|invalid) (auth|log))"
    r"|throttl|rate.?limit|frequency limit|(connections?|thread) limit|gr[ea]ylist|slow down|credits exceeded"
    r"|receiv(ing|ed) (e?mail|too much e?mail) (too quickly|at a rate|in a short)|unusual (rate|sending)"
    r"|(daily|hourly|sending|submission|outgoing|relay).{0,25}(limit|quota).{0,12}(exceed|reached)"
    r"|(reached|exceeded).{0,25}(daily|hourly|sending|rate).{0,20}(limit|quota)"
    r"|exceeded (the|their|its|permitted) limit|submission ?quota",
    re.IGNORECASE,
)
_LOGIN_MISSING = re.compile(
    r"authentication (is )?required|auth(enticate)?( command)? first|must (login|log in|authenticate)|not logged in"
    r"|(?<!sender )(?<!domain )not authenticated|unauthenticated senders",
    re.IGNORECASE,
)
#: The account may not use this sender: our configuration, neither the recipient's nor the message's fault.
_SENDER_NOT_OURS = re.compile(
    r"send ?as ?denied|permissions? to send as|not owned by user|verified sender|is not verified|sending paused"
    r"|sender (address |is |name )*(rejected|denied|verify|blocked|not (allowed|authori[sz]ed|valid))|outbound sender"
    r"|not (allowed|authori[sz]ed|permitted) to (send|use|perform)(?! (e?mail )?to)"
    r"|must be same as auth|your envelope sender",
    re.IGNORECASE,
)
_RELAY_DENIED = re.compile(
    r"relay(ing)?( access)?( is)? (denied|disallowed|not (permitted|allowed))|unable to relay"
    r"|for relay\b|as a relay|rcpthosts|not (permitted|configured|allowed) to relay",
    re.IGNORECASE,
)
#: Our machine or our domain is not welcome: block lists, reputation, reverse DNS, and what SPF, DKIM and DMARC found.
_NOT_WELCOME = re.compile(
    r"\b(spf|dkim|dmarc|ptr)\b|unauthenticated (e?mail|senders?)|authentication (information|checks|level)"
    r"|\blist(ed|ing) (in|on|by)\b|block.?list|blacklist|blocked using|banned send|(low|poor) reputation"
    r"|client host .{0,60}(blocked|rejected)|reverse (dns|hostname)|helo command rejected|not accepted from (this )?ip"
    r"|tenant has exceeded threshold|outboundspam",
    re.IGNORECASE,
)
#: Codes that say the same: sender address (RFC 3463), SPF, DKIM and reverse DNS (RFC 7372), a sender that takes no mail
#: (RFC 7505); and, of no RFC, TLS and DKIM at Gmail (29, 30) and Send As at Exchange (60).
_OURS = re.compile(r"[45]\.1\.[78]|5\.7\.(2[0-7]|29|30|60)")
_TOO_BIG = re.compile(r"message.{0,40}(size|limit)|too (large|big|long)", re.IGNORECASE)
_TOO_BIG_CODES = frozenset({"5.3.4", "5.2.3"})
_MAILBOX_FULL = re.compile(
    r"(mailbox|user|account|inbox|recipient).{0,40}"
    r"(\bfull|over.?quota|quota (exceeded|violation)|out of (storage|space)|storage space|too many messages on)"
    r"|storage allocation",
    re.IGNORECASE,
)
_UNKNOWN_USER = re.compile(
    r"(user|recipient|mailbox|address|account).{0,40}"
    r"(unknown|not found|does ?n.t exist|does not exist|unavailable|invalid|disabled|no longer)"
    r"|(no such|unknown|invalid) (user|recipient|mailbox|address)|no mailbox|does ?n.t have an? .{1,40} account"
    r"|no longer valid",
    re.IGNORECASE,
)
#: The recipient address does not exist or takes no mail, in any of the codes of RFC 3463 and Exchange for it.
_RECIPIENT_CODES = re.compile(r"5\.1\.(\d|1[01])|5\.2\.1")
#: Exchange while it looks up a recipient, or what that recipient accepts ("RST" is a restriction of theirs).
_RESOLVING_RECIPIENT = re.compile(r"RESOLVER\.(ADR|RST)\.")


def read_reply(command: str, code: int, text: str) -> Reply:
    """The server's words as we keep them: trimmed, on one line, with the enhanced code (RFC 3463) beside them."""
    found = _ENHANCED.match(text)
    enhanced = (found[1] or found[2]) if found else None
    if enhanced and text.count("\n"):
        text = text.replace(f"\n{enhanced} ", "\n")  # every line of a long reply repeats it
    return Reply(command, code, printable(text), enhanced)


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
    """A server that wants us to slow down, one in trouble of its own, a password refused, or one that turns us away."""
    if _is_told_to_slow_down(code, reply) or _THROTTLED.search(reply.text):
        return Blame.THROTTLE
    if code // 100 == 4:  # noqa: PLR2004  # RFC 5321 section 4.2.1: 4yz
        # A server that cannot check passwords just now must not look like one that refuses ours.
        return Blame.PROVIDER
    if code // 100 == 5 and (reply.command == "AUTH" or code == _AUTHENTICATION_REQUIRED):  # noqa: PLR2004  # 5yz
        return Blame.CREDENTIALS
    return Blame.CONNECTION


def _is_told_to_slow_down(code: int, reply: Reply) -> bool:
    """421, 454 and 4.7.x: by their code alone, before any word is read."""
    return code in _SLOW_DOWN_CODES or (reply.enhanced or "").startswith("4.7.")


def _blame_of_4yz(code: int, reply: Reply) -> Blame:
    """Not now, and for whose sake: only a full or unverified mailbox, or the message itself, uses up its attempts."""
    enhanced = reply.enhanced or ""
    if _is_told_to_slow_down(code, reply) or _THROTTLED.search(reply.text):
        return Blame.THROTTLE
    if _OURS.fullmatch(enhanced) or _SENDER_NOT_OURS.search(reply.text):
        return Blame.US
    if enhanced.startswith(("4.1.", "4.2.")) or _MAILBOX_FULL.search(reply.text):
        return Blame.US if reply.command == "MAIL" else Blame.RECIPIENT
    if enhanced.startswith("4.6."):
        return Blame.MESSAGE
    if not enhanced and code == 450 and reply.command == "RCPT":  # noqa: PLR2004  # RFC 5321: mailbox unavailable
        return Blame.RECIPIENT
    return Blame.PROVIDER


def _never(code: int, reply: Reply) -> Deferred | Rejected:
    """5yz inside a transaction: final, but for a missing login and for limits of the account, which pass.

    A sender or a machine that is not let through is ours to put right: the message is given up at once, where a person
    sees it and can re-drive it, and the integration stays as it is, because other senders of it may well be allowed.
    """
    if _is_told_to_slow_down(code, reply):
        return Deferred(reply, Blame.THROTTLE)
    if _says_we_did_not_log_in(code, reply):
        return Deferred(reply, Blame.CREDENTIALS)
    if _is_ours_to_put_right(code, reply):
        return Rejected(reply, Blame.US)
    if reply.enhanced in _TOO_BIG_CODES or (code == _OUT_OF_STORAGE_FOR_MESSAGE and _TOO_BIG.search(reply.text)):
        return Rejected(reply, Blame.MESSAGE)
    if _THROTTLED.search(reply.text):
        return Deferred(reply, Blame.THROTTLE)
    return Rejected(reply, _blame_of_5yz(reply))


def _says_we_did_not_log_in(code: int, reply: Reply) -> bool:
    """At MAIL only: later it may be a recipient's word ("this group takes mail of members only"), or a relay's."""
    return reply.command == "MAIL" and (code == _AUTHENTICATION_REQUIRED or bool(_LOGIN_MISSING.search(reply.text)))


def _is_ours_to_put_right(code: int, reply: Reply) -> bool:
    """The sender, the way we log in or speak, our address or our domain is not let through."""
    return (
        code in {_AUTHENTICATION_REQUIRED, _BAD_SEQUENCE}
        or _OURS.fullmatch(reply.enhanced or "") is not None
        or any(pattern.search(reply.text) for pattern in (_SENDER_NOT_OURS, _RELAY_DENIED, _NOT_WELCOME))
    )


def _blame_of_5yz(reply: Reply) -> Blame:
    """Whom a final refusal is about when nothing special is said: MAIL names us, RCPT the recipient, DATA the mail."""
    match reply.command:
        case "MAIL":
            return Blame.US
        case "RCPT":
            return Blame.RECIPIENT
        case _:
            return Blame.RECIPIENT if _is_about_the_recipient(reply) else Blame.MESSAGE


def _is_about_the_recipient(reply: Reply) -> bool:
    """The mailbox and not what is sent to it; behind 5.7.x the same words are a policy for messages."""
    enhanced = reply.enhanced or ""
    if enhanced == "5.2.2" or _RECIPIENT_CODES.fullmatch(enhanced) or _RESOLVING_RECIPIENT.search(reply.text):
        return True
    words = _MAILBOX_FULL.search(reply.text) or _UNKNOWN_USER.search(reply.text)
    return words is not None and not enhanced.startswith("5.7.")


def _out_of_turn(code: int, reply: Reply) -> Sent | Deferred | Uncertain:
    """A reply that is neither 4yz nor 5yz: to the final dot 2yz is success, and anything else leaves us not knowing."""
    if reply.command != "dot":
        return Deferred(reply, Blame.PROVIDER)
    return Sent(reply) if code // 100 == 2 else Uncertain(reply)  # noqa: PLR2004  # RFC 5321 section 4.2.1: 2yz
