"""How long messages take from their acceptance to the server's 250, counted in buckets."""

from bisect import bisect_left
from collections.abc import Mapping
from math import inf
from types import MappingProxyType

#: Seconds: a message is counted in the first that it took no longer than. What took longer than all is in the last.
BUCKETS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, inf)


def _name(seconds: float) -> str:
    return "longer" if seconds == inf else f"within {seconds:g}"


#: The name that each has among what is counted, the shortest first.
SECONDS_OF: Mapping[str, float] = MappingProxyType({_name(seconds): seconds for seconds in BUCKETS})
_NAMES = tuple(SECONDS_OF)


def bucket_of(seconds: float) -> str:
    """What a message that took so long is counted as; one that took less than nothing (clocks differ) as the quickest."""
    return _NAMES[bisect_left(BUCKETS, seconds)]


def quantile(counts: Mapping[str, int], share: float) -> float | None:
    """How many seconds this share of the messages took at most, to the bucket; None when there were none."""
    total = sum(counts.get(name, 0) for name in SECONDS_OF)
    seen = 0
    for name, seconds in SECONDS_OF.items():
        seen += counts.get(name, 0)
        if seen and seen >= share * total:
            return seconds
    return None
