"""How often a password may be tried: a table of failures and of when the next try is allowed."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.admin.patience import MOST_FAILURES, WINDOW, may_try_at
from mailroom.store.sign_ins import FAILURES_KEPT

NOON = datetime(2026, 1, 6, 12, tzinfo=UTC)


def test_no_failure_is_forgotten_while_it_counts() -> None:
    """What is dropped from the database could not make anybody wait any more."""
    assert FAILURES_KEPT > WINDOW


@pytest.mark.parametrize(
    ("seconds", "wait"),
    [
        ([], None),
        ([0], None),
        ([0, 10], 10 + 2),
        ([0, 10, 20], 20 + 4),
        ([0, 10, 20, 30], 30 + 8),
        ([0, 10, 20, 30, 40], 0 + 900),
        ([0, 10, 20, 30, 40, 50], 10 + 900),
        ([0] * 5, 900),
        (list(range(100)), 95 + 900),
    ],
    ids=["none", "one", "two", "three", "four", "five", "six", "at once", "many"],
)
def test_each_failure_makes_the_next_try_wait_longer(seconds: list[int], wait: int | None) -> None:
    """A slip costs nothing, then it doubles; with the fifth it waits until the oldest of five is out of the window."""
    failures = [NOON + timedelta(seconds=one) for one in seconds]

    assert may_try_at(failures) == (None if wait is None else NOON + timedelta(seconds=wait))


def test_nobody_gets_more_tries_than_the_window_allows() -> None:
    """Who tries whenever it is allowed has no more than five failures in any quarter of an hour."""
    now, failures = NOON, list[datetime]()
    while now < NOON + 8 * WINDOW:
        recent = [one for one in failures if one >= now - WINDOW]
        allowed = may_try_at(recent)
        if allowed is None or allowed <= now:
            failures.append(now)
        now += timedelta(seconds=1)

    for one in failures:
        assert sum(one <= other < one + WINDOW for other in failures) <= MOST_FAILURES
