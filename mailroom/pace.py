"""How fast an integration may send, all workers together: its limits, the slow start after a reset, and a server's wish.

Pure; the caller brings the time. What the workers share is `Spent`, one row per integration; each takes a slice of the
rate from it, a fraction of a second's worth, and needs nobody until that is used up.

Of any ten seconds no more than 4.5 % too much can go: slices follow each other without overlap, so only a part of the
first and of the last one (`SLICE_SECONDS`) and what was used late of the first (`LATE_SECONDS`) come on top.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

#: Until a first message is known to have passed, one may go; after so many seconds without news of it, another one.
PROBE_SECONDS = 60.0

#: The slow start, once a message has passed: this many a second, doubling every so many seconds.
FIRST_RATE = 2.0
DOUBLES_IN_SECONDS = 5.0

#: What a server asked us to slow down to grows again by so much in so many seconds.
GROWS_BY = 1.1
GROWS_IN_SECONDS = 10.0

#: No integration's own rate is less: one message in three hours. Fewer is what a limit of the day is for, and spans
#: of a far smaller rate go beyond any calendar.
LEAST_RATE = 0.0001

#: A rate so high limits nobody: the slow start is over, a throttle forgotten.
BEYOND_ANY_USE = 1000.0

#: However often a server throttles, we try one message in ten seconds.
SLOWEST = 0.1

#: A server that throttles us at less than this was not overrun; it is no reason to go down to nothing.
LEAST_SEEN = 1.0

#: What was refused at the same moment is one wish to slow down.
LOWERED_AT_MOST_EVERY = timedelta(seconds=5)

#: A slice is worth this much of the rate, but at least one message, and may be used so much later than its own time.
SLICE_SECONDS = 0.15
LATE_SECONDS = 0.15

#: Slices are given out so far ahead: workers that ask in turn each find theirs, and none has to ask twice.
AHEAD_SECONDS = 2.0

#: Of what a day has left a worker takes no more at a time: what dies with it is no great part.
SHARE_OF_DAY = 16

#: Where only the day is limited: seconds until a worker gives back what it did not use.
DAY_SLICE_SECONDS = 5.0

#: Nobody waits longer before asking again: limits can be changed, and a message can pass, at any time.
ASK_AGAIN_SECONDS = 1.0

#: What one connection carries in a second where nothing limits it; for estimates only.
USUAL_PER_CONNECTION = 5.0

#: An estimate does not look further than this many seconds.
FURTHEST_ESTIMATE = 365 * 86400.0

#: Powers are taken of no more than this; it is beyond every rate above.
_LARGEST_EXPONENT = 1000.0


class Limited(Protocol):
    """What limits an integration: an Integration has it, and so does its row."""

    @property
    def per_second(self) -> float | None:
        """Messages a second; None = no such limit."""
        ...

    @property
    def per_day(self) -> int | None:
        """Messages in a UTC day; None = no such limit."""
        ...

    @property
    def released_at(self) -> datetime | None:
        """When a reset last made it ACTIVE."""
        ...

    @property
    def proven_at(self) -> datetime | None:
        """When a first message was known to have passed since."""
        ...

    @property
    def pace(self) -> float | None:
        """Messages a second it was slowed down to when its server last asked for that."""
        ...

    @property
    def paced_at(self) -> datetime | None:
        """When that was."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits by themselves."""

    per_second: float | None = None
    per_day: int | None = None
    released_at: datetime | None = None
    proven_at: datetime | None = None
    pace: float | None = None
    paced_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """What all workers together have taken of the limits: the rate up to a moment, and a number in a day."""

    until: datetime
    day: str
    used: int


@dataclass(frozen=True, slots=True)
class Granted:
    """So many may go, from `wait` seconds on, within `lasts` seconds; they count for this day."""

    number: int
    wait: float
    lasts: float
    day: str
    #: The release, by its moment, that this one message is to prove; None when it is no such message.
    proves: datetime | None = None


@dataclass(frozen=True, slots=True)
class NotNow:
    """None may go; asking again makes sense after so many seconds."""

    again: float


@dataclass(frozen=True, slots=True)
class NoLimit:
    """Nothing limits it at the moment, and nothing will that is known now."""


Slice = Granted | NotNow | NoLimit


# --- the rate ---------------------------------------------------------------------------------------------------------


def rate_now(limits: Limited, now: datetime) -> float | None:
    """Messages a second that all workers together may send at this moment; None = as many as they can."""
    own = max(limits.per_second, LEAST_RATE) if limits.per_second else limits.per_second
    rates = (own, _slow_start(limits, now), _after_throttle(limits, now))
    return min((rate for rate in rates if rate is not None), default=None)


def awaits_proof(limits: Limited) -> bool:
    """Whether it was released, and no message is known to have passed since."""
    return limits.released_at is not None and (limits.proven_at is None or limits.proven_at < limits.released_at)


def is_limited(limits: Limited) -> bool:
    """Whether anything can limit it; a slow start or a throttle may be over by now."""
    return not (
        limits.per_second is None and limits.per_day is None and limits.released_at is None and limits.pace is None
    )


def _slow_start(limits: Limited, now: datetime) -> float | None:
    if limits.released_at is None:
        return None
    if limits.proven_at is None or limits.proven_at < limits.released_at:
        return 1 / PROBE_SECONDS
    return _below_any_use(FIRST_RATE * 2 ** _steps(limits.proven_at, now, DOUBLES_IN_SECONDS))


def _after_throttle(limits: Limited, now: datetime) -> float | None:
    if limits.pace is None or limits.paced_at is None:
        return None
    return _below_any_use(limits.pace * GROWS_BY ** _steps(limits.paced_at, now, GROWS_IN_SECONDS))


def _steps(since: datetime, now: datetime, seconds: float) -> float:
    """How many such spans have passed; none when another's clock is ahead of ours."""
    return min(max((now - since).total_seconds(), 0.0) / seconds, _LARGEST_EXPONENT)


def _below_any_use(rate: float) -> float | None:
    return rate if rate < BEYOND_ANY_USE else None


def lowered(limits: Limited, seen: float, now: datetime) -> float | None:
    """What a throttle lowers the pace to: half of what was sent or allowed, whichever is less.

    `seen` is the rate of all workers together. None = it was lowered a moment ago, and this is the same wish.
    """
    if limits.paced_at is not None and now - limits.paced_at < LOWERED_AT_MOST_EVERY:
        return None
    # Until a message has passed the slow start allows next to nothing, for another reason.
    start = None if awaits_proof(limits) else _slow_start(limits, now)
    allowed = [rate for rate in (limits.per_second, start, _after_throttle(limits, now)) if rate is not None]
    return min(max(min(max(seen, LEAST_SEEN), *allowed, BEYOND_ANY_USE) / 2, SLOWEST), BEYOND_ANY_USE / 2)


# --- slices -----------------------------------------------------------------------------------------------------------


def take_slice(limits: Limited, spent: Spent, wanted: int, now: datetime) -> tuple[Slice, Spent]:
    """What one worker may have now of the limits, and what is spent afterwards."""
    rate = rate_now(limits, now)
    if rate is None and limits.per_day is None:
        return NoLimit(), spent
    if rate is not None and rate <= 0:
        return NotNow(ASK_AGAIN_SECONDS), spent
    begins = now if rate is None else _begin(limits, spent.until, rate, now)
    wait = (begins - now).total_seconds()
    if wait > AHEAD_SECONDS or (wait > 0 and awaits_proof(limits)):
        return NotNow(min(max(wait - AHEAD_SECONDS, SLICE_SECONDS), ASK_AGAIN_SECONDS)), spent
    day = _day(spent, begins, now)
    used = spent.used if spent.day == day else 0
    size = max(wanted, 1) if rate is None else min(max(wanted, 1), worth(rate, SLICE_SECONDS))
    if limits.per_day is not None:
        size = min(size, _of_day(limits.per_day - used))
    if size <= 0:
        return NotNow(ASK_AGAIN_SECONDS), spent
    # What counts for a day is not used on the next.
    most = float("inf") if limits.per_day is None else _until_midnight(begins)
    if rate is None:
        return Granted(size, 0.0, min(DAY_SLICE_SECONDS, most), day), Spent(spent.until, day, used + size)
    seconds = size / rate
    proves = limits.released_at if awaits_proof(limits) else None
    return (
        Granted(size, wait, min(seconds + LATE_SECONDS, most), day, proves),
        Spent(begins + timedelta(seconds=seconds), day, used + size),
    )


def take_release(limits: Limited, until: datetime, most: int, now: datetime) -> tuple[int, datetime]:
    """How many held messages may be queued now, and up to when their release is spent then: a second's worth.

    `most` a second where nothing limits it. What waits in front of an ERROR that comes back is no more than that.
    """
    allowed = rate_now(limits, now)
    rate = float(most) if allowed is None else min(allowed, float(most))
    if rate <= 0:
        return 0, until
    begins = _begin(limits, until, rate, now)
    if begins > now:
        return 0, until
    number = worth(rate, 1.0)
    # Whoever looks a little late makes up for it, so that looks every second come to the whole rate.
    on_time = now if awaits_proof(limits) else max(until, now - timedelta(seconds=1))
    return number, min(on_time, now) + timedelta(seconds=number / rate)


def worth(rate: float, seconds: float) -> int:
    """How many messages so many seconds of a rate are worth; at least one."""
    return max(1, int(rate * seconds))


def _begin(limits: Limited, until: datetime, rate: float, now: datetime) -> datetime:
    if awaits_proof(limits) and limits.released_at is not None:
        # The one that may go has gone when the rate is spent for longer than an earlier slice could have.
        probed = until >= limits.released_at + timedelta(seconds=PROBE_SECONDS)
        return max(now, until) if probed else now
    if until > now + timedelta(seconds=AHEAD_SECONDS + SLICE_SECONDS + 1 / rate):
        # Spent at a rate so slow that it is not true any more, or by a clock that was set back since.
        return now
    return max(now, until)


def _day(spent: Spent, begins: datetime, now: datetime) -> str:
    """The UTC day it counts for: never an earlier one than another slice did, unless that was a clock's mistake."""
    latest = day_of(now + timedelta(seconds=AHEAD_SECONDS + 1))
    return max(spent.day, day_of(begins)) if spent.day <= latest else day_of(begins)


def day_of(moment: datetime) -> str:
    """The UTC day, as limits are counted by."""
    return moment.astimezone(UTC).date().isoformat()


def _of_day(left: int) -> int:
    return min(left, max(1, left // SHARE_OF_DAY))


# --- what a reset will mean -------------------------------------------------------------------------------------------


def released(limits: Limited, now: datetime) -> Limits:
    """The limits as they are right after a reset at this moment whose first message passes."""
    # A reset is no reason for the server to bear more than it did.
    return Limits(
        per_second=limits.per_second, per_day=limits.per_day, released_at=now, proven_at=now,
        pace=limits.pace, paced_at=limits.paced_at,
    )  # fmt: skip


def drain_seconds(waiting: int, limits: Limited, now: datetime, *, connections: int, used_today: int = 0) -> float:
    """About how long so many messages take from now on, were nothing else sent; a year when they never end."""
    fastest = max(connections, 1) * USUAL_PER_CONNECTION
    midnight = _until_midnight(now)
    left = float(waiting)
    left_today = float("inf") if limits.per_day is None else float(max(limits.per_day - used_today, 0))
    passed, step = 0.0, 1.0
    while left > 0 and passed < FURTHEST_ESTIMATE:
        allowed = rate_now(limits, now + timedelta(seconds=passed))
        rate = fastest if allowed is None else min(fastest, allowed)
        if rate <= 0:
            return FURTHEST_ESTIMATE
        until = min(passed + step, midnight)
        go = min(left, left_today, rate * (until - passed))
        left, left_today = left - go, left_today - go
        if left <= 0:
            return passed + go / rate
        passed = midnight if left_today <= 0 else until
        if passed >= midnight:
            midnight += 86400
            left_today = float("inf") if limits.per_day is None else float(limits.per_day)
        # A rate changes ever more slowly.
        step = min(step * GROWS_BY, 600.0)
    return min(passed, FURTHEST_ESTIMATE)


def _until_midnight(now: datetime) -> float:
    here = now.astimezone(UTC)
    return (datetime(here.year, here.month, here.day, tzinfo=UTC) + timedelta(days=1) - here).total_seconds()
