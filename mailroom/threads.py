"""Threads: what makes a mail program show a letter beneath the one that it answers. Pure rules."""

import re
from collections.abc import Sequence
from uuid import UUID

#: How many of the latest letters a chain names besides the first one. Each mail repeats its whole chain.
LATEST = 20

#: "Re[2]:", "Re(2):" and "Re^2:" are how some programs count; French puts a space before the colon, Chinese a wide one.
_COUNT_AND_COLON = r"(?:\[[0-9]{1,3}\]|\([0-9]{1,3}\)|\^[0-9]{1,3})?\s*[:\uff1a]"


def _mark(words: str) -> re.Pattern[str]:
    """One or more of the words at the start of a subject; the first one is the group."""
    mark = rf"(?:{words}){_COUNT_AND_COLON}"
    return re.compile(rf"({mark})(?:\s*{mark})*", re.IGNORECASE)


#: English, German, Scandinavian, Dutch, German again, Polish, Turkish, Chinese (three).
_REPLY = _mark("re|aw|sv|antw|antwort|odp|ynt|\u56de\u590d|\u56de\u8986|\u7b54\u590d")
#: English (three), German, Dutch, French, Spanish, Turkish, Chinese (two). "VS" is in neither list: it means a reply
#: in Finnish and a forwarded letter in Norwegian.
_FORWARD = _mark("fwd|fw|forward|wg|doorst|tr|rv|ilt|\u8f6c\u53d1|\u8f49\u5bc4")


def message_id_of(message_id: UUID, sender: str) -> str:
    """The Message-ID of what is sent from this address, whose domain is in A-labels already."""
    return f"<{message_id}@{sender.rpartition('@')[2]}>"


def reply_subject(subject: str) -> str:
    """The subject with one mark of a reply: the first one it has, in any language, else "Re:"."""
    return _marked_once(subject, "Re:", _REPLY)


def forward_subject(subject: str) -> str:
    """The subject with one mark of a forwarded letter: the first one it has, in any language, else "Fwd:"."""
    return _marked_once(subject, "Fwd:", _FORWARD)


def thread_headers(earlier: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """In-Reply-To and References (RFC 5322 section 3.6.4) of what answers these Message-IDs, oldest first."""
    if not earlier:
        return ()
    chain = [earlier[0], *earlier[1:][-LATEST:]]
    return ("In-Reply-To", earlier[-1]), ("References", " ".join(chain))


def _marked_once(subject: str, mark: str, known: re.Pattern[str]) -> str:
    rest = subject.strip()
    there = known.match(rest)
    if there is not None:
        mark, rest = there[1], rest[there.end() :].lstrip()
    return f"{mark} {rest}" if rest else mark
