"""A rate: so many in so many seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most `count` in any `seconds`."""

    count: int
    seconds: float
