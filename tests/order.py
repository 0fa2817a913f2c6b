"""The order of the tests: chance, but the longest first."""

from collections.abc import Sequence
from typing import TypeVar

Test = TypeVar("Test")


def spread(longest: Sequence[Test], others: Sequence[Test], shares: int) -> list[Test]:
    """All of them, so that each of the shares into which pytest-xdist cuts them begins with its part of the longest.

    It cuts them into runs of neighbours, of as equal a length as can be, and the last of them the longest (worksteal); who
    has done its own takes from the end of another's. A long test that begins last would have the whole run wait for it.
    """
    ordered: list[Test] = []
    left = list(others)
    for share in range(shares):
        begin_with = longest[share::shares]
        size = (len(longest) + len(others) - len(ordered)) // (shares - share)
        rest = max(0, size - len(begin_with))
        ordered += [*begin_with, *left[:rest]]
        del left[:rest]
    return ordered + left
