"""What goes wrong on purpose: the faults somebody set, and which of them strike at a command. Pure; the test is a table.

The caller brings the time and the luck.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

#: A client waits minutes for an answer; whoever looks at a page does not.
LONGEST_DELAY = 60.0
#: An SMTP line has room for 512 bytes (RFC 5321 section 4.5.3.1.5).
LONGEST_TEXT = 200
LONGEST_ADDRESS = 254
MOST_STARS = 3
MOST_FAULTS = 50
MOST_TIMES = 1_000_000
CERTAIN = 100
_MINUTE = 60.0

#: What is answered when nobody wrote a text.
PLAIN_TEXT = "The mailbox was told to answer this"


class Step(StrEnum):
    """The commands of a conversation at which something can go wrong, in their order."""

    CONNECT = "CONNECT"
    EHLO = "EHLO"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    DOT = "dot"


#: Nothing before these has named an address.
KNOWS_ADDRESSES = frozenset({Step.MAIL, Step.RCPT, Step.DATA, Step.DOT})


class Deed(StrEnum):
    """What a fault does."""

    ANSWER = "answer"
    DELAY = "delay"
    #: The connection is lost instead of an answer; the command has no effect.
    DROP = "drop"
    #: The connection is lost right after the answer; at DATA, so while the letter is on its way.
    DROP_AFTER = "drop-after"
    #: The command has its effect, at the dot the letter is kept, and the connection is lost instead of the answer.
    LOSE_ANSWER = "lose-answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What shall go wrong, where, and when; good when `problems` finds none."""

    at: Step
    do: Deed
    #: Of the answer.
    code: int = 451
    text: str = ""
    #: Of the delay.
    seconds: float = 0.0
    #: Only for this sender or recipient: an address with `*` for anything, or a domain. Empty: for all.
    address: str = ""
    #: Only above so many commands a minute.
    above_per_minute: int | None = None
    #: Only the next so many times.
    times: int | None = None
    #: Only with so many chances in a hundred.
    odds: int = CERTAIN

    @property
    def answer(self) -> str:
        """The line that is answered."""
        return f"{self.code} {self.text or PLAIN_TEXT}"


def problems(fault: Fault) -> Mapping[str, str]:
    """Everything that is wrong with a fault, by field, in words for whoever wrote it."""
    found = {
        "code": None if 400 <= fault.code <= 599 else "must be from 400 to 599",  # noqa: PLR2004 - RFC 5321 section 4.2.1
        "text": _problem_of_text(fault.text),
        "seconds": None if 0 <= fault.seconds <= LONGEST_DELAY else f"must be from 0 to {LONGEST_DELAY:.0f}",
        "address": _problem_of_address(fault),
        "above_per_minute": _outside(fault.above_per_minute, 0, MOST_TIMES),
        "times": _outside(fault.times, 1, MOST_TIMES),
        "odds": _outside(fault.odds, 1, CERTAIN),
        "do": "only the dot has a letter to keep"
        if fault.do is Deed.LOSE_ANSWER and fault.at is not Step.DOT
        else None,
    }
    return {name: problem for name, problem in found.items() if problem}


def _problem_of_text(text: str) -> str | None:
    if len(text) > LONGEST_TEXT:
        return f"must have at most {LONGEST_TEXT} characters"
    return None if text.isascii() and text.isprintable() else "must be one line of plain characters"


def _problem_of_address(fault: Fault) -> str | None:
    if fault.address and fault.at not in KNOWS_ADDRESSES:
        return f"cannot be asked for at {fault.at}: no address was named yet"
    if len(fault.address) > LONGEST_ADDRESS or not fault.address.isprintable() or " " in fault.address:
        return "must be an address, a domain, or either with * for anything"
    # Each more makes the search for a match longer by a factor.
    return f"may have at most {MOST_STARS} *" if fault.address.count("*") > MOST_STARS else None


def _outside(value: int | None, least: int, most: int) -> str | None:
    return None if value is None or least <= value <= most else f"must be from {least} to {most}"


def covers(pattern: str, address: str) -> bool:
    """Whether an address is meant: `jane@a.example`, `*@a.example`, or `a.example` for all of that domain."""
    whole = pattern if "@" in pattern or pattern == "*" else f"*@{pattern}"
    wanted = ".*".join(re.escape(part) for part in whole.split("*"))
    return re.fullmatch(wanted, address, re.IGNORECASE | re.DOTALL) is not None


@dataclass(slots=True)
class Standing:
    """A fault that is set, and what became of it so far."""

    id: int
    fault: Fault
    struck: int = 0
    #: When the commands of the last minute came that it let pass, while it counts them.
    _passed: deque[float] = field(default_factory=deque)

    @property
    def over(self) -> bool:
        """Whether it has struck as often as it may."""
        return self.fault.times is not None and self.struck >= self.fault.times

    def strikes(self, step: Step, addresses: Sequence[str], now: float, luck: Callable[[], float]) -> bool:
        """Whether it strikes at this command, which is counted. `luck` is from 0 to below 1."""
        fault = self.fault
        if fault.at is not step or (fault.address and not any(covers(fault.address, one) for one in addresses)):
            return False
        if self.over or not self._is_above_rate(now) or (fault.odds < CERTAIN and luck() * CERTAIN >= fault.odds):
            self._let_pass(now)
            return False
        self.struck += 1
        return True

    def _is_above_rate(self, now: float) -> bool:
        rate = self.fault.above_per_minute
        while self._passed and self._passed[0] <= now - _MINUTE:
            self._passed.popleft()
        return rate is None or len(self._passed) >= rate

    def _let_pass(self, now: float) -> None:
        if self.fault.above_per_minute is not None and not self.over:
            self._passed.append(now)


@dataclass(frozen=True, slots=True)
class Struck:
    """What happens at one command: a wait, and then perhaps one fault that takes the place of what should happen."""

    seconds: float = 0.0
    fault: Fault | None = None


class Faults:
    """The faults of one mailbox, in the order in which they were set."""

    def __init__(self, standing: Iterable[Standing] = (), changed: Callable[[], None] = lambda: None) -> None:
        self._standing = list(standing)
        self._changed = changed
        #: No id is given twice: a page that is old must not take back what it never showed.
        self._last = max((one.id for one in self._standing), default=0)

    @property
    def standing(self) -> Sequence[Standing]:
        """All that are set, those that are over included."""
        return tuple(self._standing)

    @property
    def in_force(self) -> int:
        """How many may still strike."""
        return sum(not one.over for one in self._standing)

    @property
    def is_full(self) -> bool:
        """Whether no more can be set."""
        return len(self._standing) >= MOST_FAULTS

    def add(self, fault: Fault) -> None:
        """Set one more."""
        self._standing.append(Standing(self._next_id(), fault))
        self._changed()

    def remove(self, fault_id: int) -> None:
        """Take one back, if it is still set."""
        self._standing = [one for one in self._standing if one.id != fault_id]
        self._changed()

    def replace(self, faults: Iterable[Fault]) -> None:
        """Take all back and set these."""
        self._standing = [Standing(self._next_id(), fault) for fault in faults]
        self._changed()

    def strike(self, step: Step, addresses: Sequence[str], now: float, luck: Callable[[], float]) -> Struck:
        """What happens at this command: every delay that strikes, and the first other fault that does."""
        seconds, decided = 0.0, None
        for one in self._standing:
            if (decided is None or one.fault.do is Deed.DELAY) and one.strikes(step, addresses, now, luck):
                self._changed()
                if one.fault.do is Deed.DELAY:
                    seconds += one.fault.seconds
                else:
                    decided = one.fault
        return Struck(min(seconds, LONGEST_DELAY), decided)

    def _next_id(self) -> int:
        self._last += 1
        return self._last
