"""The time of day that all processes share: the database's, carried on by this process's monotonic clock.

A machine whose clock jumps by a day must not expire in a moment what may wait for four hours, nor send what is due
tomorrow (OPS-6). What has to be waited for is measured by monotonic clocks anyway; this is for what stands in rows.
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from mailroom.logs import get_logger

log = get_logger(__name__)

#: By less than this the carried time may be off: answers travel, and quartz drifts.
CLOSE_ENOUGH = timedelta(seconds=0.25)

#: A difference that was not there a moment ago and is larger than this is a jump. Time servers step by less, or slew.
JUMP = timedelta(seconds=60)

#: Seconds that a jump must last before it is believed. Most are undone by the time server within minutes; and a real
#: one (a machine that was frozen from outside) makes everything only so much later.
BELIEVED_AFTER_SECONDS = 600.0


if sys.platform == "linux":

    def steady() -> float:
        """Seconds that have passed since whenever, those in which the machine was suspended too."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:
    steady = time.monotonic


class SharedClock:
    """Now, as the database has it; own time until the database was heard."""

    def __init__(self, monotonic: Callable[[], float] = steady) -> None:
        self._monotonic = monotonic
        self._base, self._base_at = datetime.now(UTC), monotonic()
        self._heard = False
        self._jumped_at: float | None = None

    def now(self) -> datetime:
        """The time of day, in UTC."""
        return self._at(self._monotonic())

    def hear(self, told: datetime, asked_at: float) -> None:
        """Take in what time the database had when it was asked at this moment of the monotonic clock."""
        off = told - self._at(asked_at)
        if not self._heard or abs(off) <= JUMP:
            self._heard, self._jumped_at = True, None
            if abs(off) > CLOSE_ENOUGH:
                self._set(told, asked_at)
        elif self._jumped_at is None:
            self._jumped_at = asked_at
            log.error("the database's clock jumped; not believed yet", seconds=off.total_seconds())
        elif asked_at - self._jumped_at >= BELIEVED_AFTER_SECONDS:
            self._jumped_at = None
            self._set(told, asked_at)
            log.error("the database's clock stays where it jumped to; it is believed now", seconds=off.total_seconds())

    def _at(self, moment: float) -> datetime:
        return self._base + timedelta(seconds=moment - self._base_at)

    def _set(self, told: datetime, asked_at: float) -> None:
        self._base, self._base_at = told, asked_at
