"""How pages write lengths of time, moments and numbers."""

from datetime import UTC, datetime, timedelta, timezone
from math import inf

import pytest
from markupsafe import Markup

from gateway.admin.layout import NOTHING, ago, moment, number, roughly, size, span, within

NOON = datetime(2026, 1, 6, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (-5, "0 ms"),
        (0, "0 ms"),
        (0.0421, "42 ms"),
        (1, "1.0 s"),
        (9.94, "9.9 s"),
        (42.4, "42 s"),
        (59.6, "1 min"),
        (60, "1 min"),
        (190, "3 min 10 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h"),
        (18_120, "5 h 2 min"),
        (86_400, "1 d"),
        (86_400 + 3599, "1 d"),
        (3 * 86_400 + 4 * 3600 + 59, "3 d 4 h"),
    ],
)
def test_a_length_is_said_in_two_units(seconds: float, written: str) -> None:
    """The two largest, the smaller left out where it is nothing; the same for a number and for a length."""
    assert span(seconds) == written
    assert span(timedelta(seconds=seconds)) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (-3, "0 s"),
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (119, "1 min"),
        (3661, "1 h 1 min"),
        (90_061, "1 d 1 h"),
    ],
)
def test_what_is_watched_is_said_roughly(seconds: float, written: str) -> None:
    """From a minute on to the minute."""
    assert roughly(timedelta(seconds=seconds)) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(None, NOTHING), (0.2, "0.2 s"), (30, "30 s"), (60, "1 min"), (300, "5 min"), (inf, "more than 1 h")],
)
def test_a_bucket_says_its_bound(seconds: float | None, written: str) -> None:
    """How long something took at most; beyond the last bound, more than that."""
    assert within(seconds) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [(None, NOTHING), (0, "0"), (999, "999"), (1234567, "1\u202f234\u202f567"), (2.0, "2"), (1234.56, "1\u202f234.6")],
)
def test_a_number_has_its_thousands_apart(value: float | None, written: str) -> None:
    """Three digits at a time, one after the point where there is anything after it."""
    assert number(value) == written


def test_moments_are_in_utc() -> None:
    """Whatever zone they are told in; what is not yet is a dash."""
    elsewhere = NOON.astimezone(timezone(timedelta(hours=14)))

    assert moment(elsewhere) == '<time datetime="2026-01-06T12:00:00.000+00:00">2026-01-06 12:00:00</time>'
    assert ago(elsewhere, NOON + timedelta(seconds=61)) == (
        '<time datetime="2026-01-06T12:00:00.000+00:00" title="2026-01-06 12:00:00 UTC">1 min</time>'
    )
    assert isinstance(moment(NOON), Markup)
    assert moment(None) == ago(None, NOON) == size(None) == NOTHING
