"""The time of day that all processes share, whatever their own machines think."""

import functools
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from mailroom.clock import BELIEVED_AFTER_SECONDS, JUMP, SharedClock, steady

TRUE = datetime(2026, 1, 6, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class Monotonic:
    """A monotonic clock that the test moves."""

    now = 500.0

    def __call__(self) -> float:
        """Its reading."""
        return self.now


@pytest.fixture
def monotonic() -> Monotonic:
    """The clock underneath."""
    return Monotonic()


@pytest.fixture
def clock(monotonic: Monotonic) -> SharedClock:
    """A clock that has heard the database, which had another time than this machine."""
    clock = SharedClock(monotonic)
    clock.hear(TRUE, monotonic.now)
    return clock


def test_it_is_the_databases_time_carried_on(clock: SharedClock, monotonic: Monotonic) -> None:
    """From the first answer on it shows the database's time, and what has passed since."""
    monotonic.now += 2.5

    assert clock.now() == TRUE + timedelta(seconds=2.5)


def test_before_the_database_was_heard_it_is_our_own() -> None:
    """Until then there is no better one."""
    assert abs(SharedClock().now() - datetime.now(UTC)) < timedelta(seconds=10)


@pytest.mark.parametrize("off", [timedelta(seconds=20), timedelta(seconds=-20), JUMP, -JUMP])
def test_small_steps_are_followed(clock: SharedClock, monotonic: Monotonic, off: timedelta) -> None:
    """What a time server corrects now and then is followed at once, forwards and backwards."""
    clock.hear(TRUE + off, monotonic.now)

    assert clock.now() == TRUE + off


def test_the_way_of_an_answer_moves_nothing(clock: SharedClock, monotonic: Monotonic) -> None:
    """Answers that were a little longer on their way do not make the clock go back and forth."""
    for late in (0.1, 0.0, 0.2):
        clock.hear(TRUE + timedelta(seconds=late), monotonic.now)

    assert clock.now() == TRUE


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_ops_6_a_jump_is_not_believed_at_once(clock: SharedClock, monotonic: Monotonic, jump: timedelta) -> None:
    """A clock that is a day off and is put right again within minutes was never followed."""
    for _ in range(9):
        monotonic.now += 60
        clock.hear(TRUE + jump + timedelta(seconds=monotonic.now - 500), monotonic.now)
    assert clock.now() == TRUE + timedelta(seconds=540)
    clock.hear(TRUE + timedelta(seconds=540), monotonic.now)
    monotonic.now += 300
    clock.hear(TRUE + jump + timedelta(seconds=840), monotonic.now)

    assert clock.now() == TRUE + timedelta(seconds=840)


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_jump_that_lasts_is_believed(clock: SharedClock, monotonic: Monotonic, jump: timedelta) -> None:
    """A clock that stays where it has jumped to is right: the machine had slept, or was wrong before."""
    clock.hear(TRUE + jump, monotonic.now)
    monotonic.now += BELIEVED_AFTER_SECONDS
    told = TRUE + jump + timedelta(seconds=BELIEVED_AFTER_SECONDS)
    clock.hear(told, monotonic.now)

    assert clock.now() == told


def test_what_it_goes_by_counts_the_time_in_which_the_machine_slept() -> None:
    """A machine that was suspended for an hour is not an hour behind, where the system has a clock that tells (Linux)."""
    clock = functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic
    before = clock()
    reading = steady()

    assert before <= reading <= clock()
