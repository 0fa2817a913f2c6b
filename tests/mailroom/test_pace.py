"""How fast an integration may send: its limits, the slow start after a reset, and what a server wished for."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom import pace
from mailroom.pace import (
    AHEAD_SECONDS,
    BEYOND_ANY_USE,
    FURTHEST_ESTIMATE,
    LATE_SECONDS,
    LEAST_RATE,
    LOWERED_AT_MOST_EVERY,
    PROBE_SECONDS,
    SLICE_SECONDS,
    SLOWEST,
    Granted,
    Limits,
    NoLimit,
    NotNow,
    Slice,
    Spent,
    awaits_proof,
    drain_seconds,
    is_limited,
    lowered,
    rate_now,
    released,
    take_release,
    take_slice,
)

NOW = datetime(2026, 1, 6, 12, tzinfo=UTC)
TODAY = "2026-01-06"
NOTHING_SPENT = Spent(datetime(1970, 1, 1, tzinfo=UTC), "", 0)


def after(seconds: float) -> datetime:
    """A moment so much later."""
    return NOW + timedelta(seconds=seconds)


def ago(seconds: float) -> datetime:
    """A moment so much earlier."""
    return NOW - timedelta(seconds=seconds)


moments = st.floats(min_value=0, max_value=100_000).map(ago)
limits = st.builds(
    Limits,
    per_second=st.none() | st.floats(min_value=0.01, max_value=5000),
    per_day=st.none() | st.integers(min_value=1, max_value=10_000),
    released_at=st.none() | moments,
    proven_at=st.none() | moments,
    pace=st.none() | st.floats(min_value=SLOWEST, max_value=500),
    paced_at=st.none() | moments,
)


# --- the rate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limited", "rate"),
    [
        (Limits(), None),
        (Limits(per_day=5), None),
        (Limits(per_second=12.5), 12.5),
        # Released: one message, and another one a minute later, until one is known to have passed.
        (Limits(released_at=ago(0)), 1 / PROBE_SECONDS),
        (Limits(released_at=ago(9999), per_second=50), 1 / PROBE_SECONDS),
        (Limits(released_at=ago(5), proven_at=ago(6)), 1 / PROBE_SECONDS),
        # Proven: two a second, doubling every five seconds, until nobody could use more.
        (Limits(released_at=ago(60), proven_at=ago(0)), 2),
        (Limits(released_at=ago(60), proven_at=ago(5)), 4),
        (Limits(released_at=ago(60), proven_at=ago(20)), 32),
        (Limits(released_at=ago(60), proven_at=ago(20), per_second=10), 10),
        (Limits(released_at=ago(60), proven_at=ago(45)), None),
        (Limits(released_at=ago(9e8), proven_at=ago(9e8)), None),
        (Limits(released_at=ago(60), proven_at=ago(45), per_second=10), 10),
        # Another's clock is ahead of ours.
        (Limits(released_at=ago(60), proven_at=after(3)), 2),
        # Slowed down: a tenth more every ten seconds, until it limits no more than anything else does.
        (Limits(pace=10, paced_at=ago(0)), 10),
        (Limits(pace=10, paced_at=ago(10)), 11),
        (Limits(pace=10, paced_at=ago(20), per_second=12), 12),
        (Limits(pace=10, paced_at=ago(20), per_second=12.2), 12.1),
        (Limits(pace=10, paced_at=ago(500)), None),
        (Limits(pace=0.1, paced_at=ago(9e8)), None),
        # So slow that its spans would have no date.
        (Limits(per_second=5e-324), LEAST_RATE),
        # The least of all.
        (Limits(per_second=100, released_at=ago(60), proven_at=ago(20), pace=30, paced_at=ago(0)), 30),
    ],
)
def test_the_least_of_all_limits_is_the_rate(limited: Limits, rate: float | None) -> None:
    """An integration may send as fast as its own limit, its slow start and its server's wish allow, all at once."""
    assert rate_now(limited, NOW) == (None if rate is None else pytest.approx(rate))


@given(limits, st.floats(min_value=0, max_value=10_000))
def test_without_news_a_rate_never_falls(limited: Limits, seconds: float) -> None:
    """While nothing happens the rate only grows, and it stays between nothing and the integration's own limit."""
    now, later = rate_now(limited, NOW), rate_now(limited, after(seconds))

    assert later is None or (now is not None and 0 < now <= later * (1 + 1e-9))
    assert limited.per_second is None or (now is not None and now <= limited.per_second)


@given(limits)
def test_what_is_not_limited_has_no_rate(limited: Limits) -> None:
    """Whoever asks only whether there is anything to look at misses nothing."""
    assert is_limited(limited) or (rate_now(limited, NOW) is None and limited.per_day is None)


# --- throttles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limited", "seen", "pace_after"),
    [
        (Limits(), 80, 40),
        (Limits(per_second=50), 80, 25),
        (Limits(per_second=50), 20, 10),
        # A server that throttles one message in a minute was not overrun by it.
        (Limits(), 0.01, 0.5),
        (Limits(pace=8, paced_at=ago(5)), 100, pytest.approx(4, rel=0.06)),
        (Limits(pace=0.15, paced_at=ago(6)), 100, SLOWEST),
        # The same wish once more.
        (Limits(pace=8, paced_at=ago(4.9)), 100, None),
        # Faster than any rate that limits: the wish must not be forgotten at once.
        (Limits(), 9000, BEYOND_ANY_USE / 2),
        # Until a message has passed the rate is low for another reason; a pace from before still counts.
        (Limits(released_at=ago(5)), 3, 1.5),
        (Limits(released_at=ago(5), pace=0.5, paced_at=ago(5)), 3, pytest.approx(0.25, rel=0.06)),
    ],
)
def test_a_throttle_halves_the_pace(limited: Limits, seen: float, pace_after: float | None) -> None:
    """A server that asks for it gets half of what was sent or allowed, once in five seconds, and never nothing."""
    assert lowered(limited, seen, NOW) == pace_after


@given(limits, st.floats(min_value=0, max_value=100_000))
def test_a_lowered_pace_is_slower_and_never_nothing(limited: Limits, seen: float) -> None:
    """Whatever was allowed, a throttle allows less from then on, unless it is the slowest already."""
    before, new = rate_now(limited, NOW), lowered(limited, seen, NOW)

    if new is None:
        assert limited.paced_at is not None
        assert NOW - limited.paced_at < LOWERED_AT_MOST_EVERY
    else:
        assert SLOWEST <= new <= BEYOND_ANY_USE / 2
        assert before is None or awaits_proof(limited) or new <= max(before / 2, SLOWEST)


# --- slices -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limited", "spent", "wanted", "slice_taken", "spent_after"),
    [
        # No rate, no day: nothing is counted.
        (Limits(), NOTHING_SPENT, 9, NoLimit(), NOTHING_SPENT),
        # A slice's worth, less where less is wanted, one at least.
        (
            Limits(per_second=100), NOTHING_SPENT, 99,
            Granted(15, 0, 0.15 + LATE_SECONDS, TODAY), Spent(after(0.15), TODAY, 15),
        ),
        (
            Limits(per_second=100), NOTHING_SPENT, 4,
            Granted(4, 0, 0.04 + LATE_SECONDS, TODAY), Spent(after(0.04), TODAY, 4),
        ),
        (
            Limits(per_second=2), NOTHING_SPENT, 4,
            Granted(1, 0, 0.5 + LATE_SECONDS, TODAY), Spent(after(0.5), TODAY, 1),
        ),
        # Behind what another has taken.
        (
            Limits(per_second=100), Spent(after(1), TODAY, 40), 10,
            Granted(10, 1, 0.1 + LATE_SECONDS, TODAY), Spent(after(1.1), TODAY, 50),
        ),
        # Not further ahead than the others will bear.
        (Limits(per_second=1), Spent(after(2.5), TODAY, 40), 10, NotNow(0.5), Spent(after(2.5), TODAY, 40)),
        (Limits(per_second=0.1), Spent(after(9), TODAY, 40), 10, NotNow(1), Spent(after(9), TODAY, 40)),
        # Spent at a rate that was much slower, or by a clock set back since.
        (
            Limits(per_second=10), Spent(after(60), TODAY, 7), 1,
            Granted(1, 0, 0.1 + LATE_SECONDS, TODAY), Spent(after(0.1), TODAY, 8),
        ),
        # A day, with some left, with little left, used up, and another day.
        (Limits(per_day=1000), Spent(ago(9), TODAY, 40), 10, Granted(10, 0, 5, TODAY), Spent(ago(9), TODAY, 50)),
        (Limits(per_day=100), Spent(ago(9), TODAY, 36), 10, Granted(4, 0, 5, TODAY), Spent(ago(9), TODAY, 40)),
        (Limits(per_day=100), Spent(ago(9), TODAY, 98), 10, Granted(1, 0, 5, TODAY), Spent(ago(9), TODAY, 99)),
        (Limits(per_day=100), Spent(ago(9), TODAY, 100), 10, NotNow(1), Spent(ago(9), TODAY, 100)),
        (Limits(per_day=50), Spent(ago(9), TODAY, 100), 10, NotNow(1), Spent(ago(9), TODAY, 100)),
        (
            Limits(per_day=1000), Spent(ago(9), "2026-01-05", 1000), 3,
            Granted(3, 0, 5, TODAY), Spent(ago(9), TODAY, 3),
        ),
        # A day that a clock has made up is not believed.
        (Limits(per_day=99), Spent(ago(9), "2031-01-01", 99), 3, Granted(3, 0, 5, TODAY), Spent(ago(9), TODAY, 3)),
        # A rate that was stored before there was a least one.
        (
            Limits(per_second=5e-324), NOTHING_SPENT, 3,
            Granted(1, 0, 10_000 + LATE_SECONDS, TODAY), Spent(after(10_000), TODAY, 1),
        ),
        # A rate of nothing.
        (Limits(per_second=0), NOTHING_SPENT, 3, NotNow(1), NOTHING_SPENT),
        # Released: one goes, whatever was spent before, and the next one only when a minute has passed.
        (
            Limits(released_at=ago(1)), Spent(after(1), TODAY, 7), 9,
            Granted(1, 0, PROBE_SECONDS + LATE_SECONDS, TODAY, ago(1)), Spent(after(60), TODAY, 8),
        ),
        (Limits(released_at=ago(1)), Spent(after(59.5), TODAY, 8), 9, NotNow(1), Spent(after(59.5), TODAY, 8)),
        (
            Limits(released_at=ago(70)), Spent(ago(5), TODAY, 8), 9,
            Granted(1, 0, PROBE_SECONDS + LATE_SECONDS, TODAY, ago(70)), Spent(after(60), TODAY, 9),
        ),
        # Released once more, a moment after the first one was tried in vain.
        (
            Limits(released_at=ago(1)), Spent(after(50), TODAY, 8), 9,
            Granted(1, 0, PROBE_SECONDS + LATE_SECONDS, TODAY, ago(1)), Spent(after(60), TODAY, 9),
        ),
        # Proven: what the first one had spent for a minute counts no more.
        (
            Limits(released_at=ago(1), proven_at=ago(0)), Spent(after(59), TODAY, 8), 9,
            Granted(1, 0, 0.5 + LATE_SECONDS, TODAY), Spent(after(0.5), TODAY, 9),
        ),
    ],
)  # fmt: skip
def test_a_worker_takes_a_slice(
    limited: Limits, spent: Spent, wanted: int, slice_taken: Slice, spent_after: Spent
) -> None:
    """A slice begins where the last one ends, is worth a moment of the rate, and counts for its day."""
    taken, then = take_slice(limited, spent, wanted, NOW)

    assert _rounded(taken) == _rounded(slice_taken)
    assert then == spent_after


def _rounded(one: Slice) -> Slice:
    match one:
        case Granted(number, wait, lasts, day, proves):
            return Granted(number, round(wait, 3), round(lasts, 3), day, proves)
        case NotNow(again):
            return NotNow(round(again, 3))
        case NoLimit():
            return one


def test_a_day_that_has_begun_is_not_left_again() -> None:
    """A slice that begins after midnight counts for the new day, and so does all that is taken after it."""
    before = datetime(2026, 1, 6, 23, 59, 59, 900_000, tzinfo=UTC)
    spent = Spent(before + timedelta(seconds=0.5), TODAY, 90)
    first, spent = take_slice(Limits(per_second=10, per_day=100), spent, 9, before)
    second, spent = take_slice(Limits(per_day=100), spent, 9, before)

    assert isinstance(first, Granted)
    assert isinstance(second, Granted)
    assert (first.day, second.day) == ("2026-01-07", "2026-01-07")
    assert spent.used == first.number + second.number


@pytest.mark.parametrize(
    ("limited", "lasts"),
    [(Limits(per_day=100), 0.1), (Limits(per_second=2, per_day=100), 0.1), (Limits(per_second=2), 0.65)],
)
def test_what_counts_for_a_day_is_not_used_on_the_next(limited: Limits, lasts: float) -> None:
    """A slice of a day ends with it: the next day would have all that was left of it on top of its own number."""
    before = datetime(2026, 1, 6, 23, 59, 59, 900_000, tzinfo=UTC)
    taken, _ = take_slice(limited, NOTHING_SPENT, 9, before)

    assert isinstance(taken, Granted)
    assert taken.lasts == pytest.approx(lasts)


@given(
    limits, st.integers(min_value=-10, max_value=500), st.floats(min_value=-100, max_value=100), st.integers(0, 9000)
)
def test_slices_follow_each_other_at_the_rate(limited: Limits, wanted: int, spent_for: float, used: int) -> None:
    """Whatever is asked for, a slice lasts as long as its messages take at the rate, and no day gives more than it has."""
    before = Spent(after(spent_for), TODAY, used)
    taken, then = take_slice(limited, before, wanted, NOW)

    if isinstance(taken, Granted):
        rate = rate_now(limited, NOW)
        assert 1 <= taken.number <= max(wanted, 1)
        assert 0 <= taken.wait <= AHEAD_SECONDS + 1e-6
        assert limited.per_day is None or then.used <= limited.per_day
        if rate is not None:
            begins = after(taken.wait)
            assert taken.number <= max(1, rate * SLICE_SECONDS)
            assert (then.until - begins).total_seconds() == pytest.approx(taken.number / rate, abs=1e-5)
    else:
        assert then == before


# --- release ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limited", "until", "released_now", "until_after"),
    [
        (Limits(), ago(99), 500, ago(0)),
        (Limits(), ago(0.2), 500, after(0.8)),
        (Limits(), after(0.1), 0, after(0.1)),
        (Limits(per_second=20), ago(99), 20, ago(0)),
        (Limits(per_second=0.1), ago(99), 1, after(9)),
        (Limits(per_second=0), ago(99), 0, ago(99)),
        (Limits(per_second=1e-300), ago(99), 1, after(9_999)),
        (Limits(released_at=ago(1)), after(0.9), 1, after(60)),
        (Limits(released_at=ago(1)), after(59), 0, after(59)),
        (Limits(released_at=ago(61)), after(0), 1, after(60)),
        (Limits(released_at=ago(9), proven_at=ago(5)), after(51), 4, after(1)),
    ],
)
def test_a_release_is_worth_a_second(
    limited: Limits, until: datetime, released_now: int, until_after: datetime
) -> None:
    """Held messages are queued a second's worth at a time, and one alone until it is known that messages pass."""
    number, then = take_release(limited, until, 500, NOW)

    assert number == released_now
    assert abs((then - until_after).total_seconds()) < 0.001


def test_looks_that_come_a_little_late_release_the_whole_rate() -> None:
    """A sweep that looks every 1.05 seconds still releases what a minute is worth."""
    until, total = ago(99), 0
    for look in range(58):
        number, until = take_release(Limits(per_second=100), until, 500, after(look * 1.05))
        total += number

    assert total == pytest.approx(6000, rel=0.05)


# --- estimates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waiting", "limited", "connections", "used_today", "seconds"),
    [
        (0, Limits(), 8, 0, 0),
        (400, Limits(), 8, 0, 10),
        (100, Limits(per_second=10), 8, 0, 10),
        (100, Limits(per_second=1000), 2, 0, 10),
        # 500 today, 3000 on each of the next two days, 1500 on the third.
        (8000, Limits(per_day=3000, per_second=10), 8, 2500, 60 * 3600 + 150),
        (1, Limits(per_day=0), 8, 0, FURTHEST_ESTIMATE),
        (1, Limits(per_second=0), 8, 0, FURTHEST_ESTIMATE),
        # Two a second, doubling: 14 in the first five seconds, 29 in the next.
        (43, released(Limits(), NOW), 100, 0, 10),
        # A tenth a second, growing by a tenth in ten seconds.
        (43, released(Limits(pace=0.1, paced_at=NOW), NOW), 100, 0, 171),
    ],
)
def test_how_long_a_backlog_takes(
    waiting: int, limited: Limits, connections: int, used_today: int, seconds: float
) -> None:
    """The estimate knows the rate, the slow start, the day and what connections usually carry."""
    estimate = drain_seconds(waiting, limited, NOW, connections=connections, used_today=used_today)

    assert estimate == pytest.approx(seconds, rel=0.08)


@given(limits, st.integers(0, 100_000), st.integers(0, 40), st.integers(0, 20_000))
def test_every_estimate_ends(limited: Limits, waiting: int, connections: int, used: int) -> None:
    """Whatever the limits, there is an answer, and more never takes less."""
    one = drain_seconds(waiting, limited, NOW, connections=connections, used_today=used)
    more = drain_seconds(waiting + 10, limited, NOW, connections=connections, used_today=used)

    assert 0 <= one <= more * (1 + 1e-9) <= FURTHEST_ESTIMATE * 1.01


def test_the_door_has_no_other_names() -> None:
    """A row and an Integration are limited in the same words."""
    assert set(Limits.__dataclass_fields__) == {name for name in vars(pace.Limited) if not name.startswith("_")}
