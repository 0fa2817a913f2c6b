"""How often a sign-in may fail (ASVS 6.3.1): a rule over moments, the same for a name and for an address."""

from collections.abc import Sequence
from datetime import datetime, timedelta

#: Failures within this time that stop any further try until the oldest of them is as old as this.
MOST_FAILURES = 5
WINDOW = timedelta(minutes=15)

#: Seconds to wait after a second failure in a row; after each further one twice as long. A first slip costs nothing.
FIRST_PAUSE = timedelta(seconds=2)


def may_try_at(failures: Sequence[datetime]) -> datetime | None:
    """From when on another try is allowed, given the failures of the last WINDOW, oldest first; None = at once."""
    if len(failures) >= MOST_FAILURES:
        return failures[-MOST_FAILURES] + WINDOW
    if len(failures) > 1:
        return failures[-1] + FIRST_PAUSE * (1 << (len(failures) - 2))
    return None
