"""What failures of one cause have in common: the server's words without all that differs from message to message.

Twenty thousand failures for one reason are one group then, whoever they were for, whenever, and whatever the server
calls each of them. Two causes that become one here cost a person a second look; one cause that becomes two hides how
large it is. So what may be an id counts as one.
"""

import hashlib
import re
from dataclasses import dataclass

#: What no server said anything about, or each time something else: the reason alone tells the cause.
WITHOUT_WORDS = frozenset({"expired", "crashed", "session_lost", "integration.error"})

#: Characters of the words that are kept, and that are looked at.
LONGEST = 300
_LOOKED_AT = 1024

#: A reply in one line, as attempts have it: the command, the code where there was one, the words.
_REPLY = re.compile(r"(?P<command>[A-Za-z]+): (?:(?P<code>\d{3})(?= |$) ?)?(?P<words>.*)", re.DOTALL)
#: RFC 3463 section 2; an address of IPv4 has one part more.
_ENHANCED = r"(?<![\w.])[245]\.\d{1,3}\.\d{1,3}(?![\w.]*\d)"
#: The last label tells a host (mx7.example.com, AM0PR04.PROD.OUTLOOK.COM) from a name of Exchange's (STOREDRV.Submit).
_HOST = r"(?<![\w.-])(?:[\w-]+\.)+(?:[a-z]{2,24}|[A-Z]{2}|COM|NET|ORG)(?![\w-]|\.\w)"

#: In this order: what stands inside of another must not be replaced first.
_REPLACED = tuple(
    (re.compile(pattern, flags), by)
    for pattern, flags, by in (
        (r"\b(?:https?://|www\.)[^\s<>\"']+", re.IGNORECASE, "(url)"),
        (r"<[^<>]*>", 0, "(address)"),
        (r"[^\s<>@\[\](),;:'\"]+@[^\s<>@\[\](),;:'\"]+", 0, "(address)"),
        (r"\"[^\"]*\"|`[^`']*['`]|(?<!\w)'[^']*'(?!\w)", 0, "(quoted)"),
        # A mailbox by the name before its @ alone.
        (r"(?:^|(?<=\d ))[^\s()]+(?=\.\.\. )", 0, "(address)"),
        (r"(?i:(?<=no such user )|(?<=unknown user: )|(?<=user unknown: ))(?!here\b)[^\s()]+", 0, "(address)"),
        (_HOST, 0, "(host)"),
        (r"(?i:(?<=queued as )|(?<=queue id )|(?<=\bid=)|(?<=\bref=)|(?<=\bid: )|(?<=\bref: ))[^\s()\[\]]+", 0, "#"),
    )
)
#: Numbers, addresses of machines, dates, ids: whatever has a digit in it and is no enhanced code.
_WORD_WITH_DIGIT = re.compile(rf"({_ENHANCED})|[^\s()\[\]<>,;=]*\d[^\s()\[\]<>,;=]*")
#: Ids without a digit happen to those that have digits otherwise: queue ids, in hexadecimal or in base 32 and 64.
_ID_OF_LETTERS = re.compile(r"(?<!\w)(?:[A-F]{8,}|[a-f]{8,}|[B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{9,})(?!\w)")
_SAME_AGAIN = re.compile(r"(\(\w+\)|#)(?:[\s,]+\1)+")


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a message became a dead letter, as far as others have the same cause; `fingerprint` is 32 hex digits."""

    reason: str
    command: str | None
    code: int | None
    #: The server's words without what differs from message to message.
    said: str | None
    fingerprint: str


def cause_of(reason: str, reply: str | None) -> Cause:
    """The cause of a dead letter, by its class of reason and its last reply in one line ("RCPT: 550 5.1.1 no such user")."""
    found = _REPLY.fullmatch(reply) if reply is not None and reason not in WITHOUT_WORDS else None
    if found is None:
        return _cause(reason, None, None, None)
    return _cause(reason, found["command"], int(found["code"]) if found["code"] else None, in_common(found["words"]))


def in_common(words: str) -> str:
    """The words with a placeholder for every number, id, address, host, quotation and moment; at most 300 characters."""
    words = words[:_LOOKED_AT]
    for pattern, by in _REPLACED:
        words = pattern.sub(by, words)
    words = _WORD_WITH_DIGIT.sub(lambda match: match[1] or "#", words)
    words = _ID_OF_LETTERS.sub("#", words)
    return _SAME_AGAIN.sub(r"\1", " ".join(words.split()))[:LONGEST].rstrip()


def _cause(reason: str, command: str | None, code: int | None, said: str | None) -> Cause:
    told = "\n".join((reason, command or "", str(code or ""), (said or "").casefold()))
    return Cause(reason, command, code, said or None, hashlib.sha256(told.encode()).hexdigest()[:32])
