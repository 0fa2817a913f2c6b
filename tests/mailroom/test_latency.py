"""How long messages took, as buckets tell it."""

from math import inf

import pytest

from mailroom.latency import SECONDS_OF, bucket_of, quantile


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(-1.0, "within 0.05"), (0.0, "within 0.05"), (0.05, "within 0.05"), (0.051, "within 0.1"), (1.0, "within 1"),
     (59.0, "within 60"), (3600.0, "within 3600"), (3601.0, "longer")],
)  # fmt: skip
def test_every_time_has_one_bucket(seconds: float, bucket: str) -> None:
    """A time is counted in the first bucket that it does not exceed; clocks that differ do no harm."""
    assert bucket_of(seconds) == bucket
    assert bucket in SECONDS_OF


@pytest.mark.parametrize(
    ("counts", "share", "seconds"),
    [
        ({}, 0.5, None),
        ({"within 0.1": 1}, 0.5, 0.1),
        ({"within 0.1": 1}, 0.95, 0.1),
        ({"within 0.1": 50, "within 5": 50}, 0.5, 0.1),
        ({"within 0.1": 49, "within 5": 51}, 0.5, 5.0),
        ({"within 0.1": 94, "within 5": 5, "longer": 1}, 0.95, 5.0),
        ({"within 0.1": 94, "longer": 6}, 0.95, inf),
        ({"sent": 100, "within 2": 1}, 0.5, 2.0),
    ],
)
def test_a_share_took_at_most_so_long(counts: dict[str, int], share: float, seconds: float | None) -> None:
    """A share of the messages took at most what its bucket says; what is no bucket does not count."""
    assert quantile(counts, share) == seconds
