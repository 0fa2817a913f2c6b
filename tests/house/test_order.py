"""The longest tests begin first, in each process."""

import pytest

from tests.order import spread


@pytest.mark.parametrize(
    ("longest", "others", "shares", "ordered"),
    [
        ("", "", 1, ""),
        ("", "abcd", 2, "abcd"),
        ("A", "bcd", 1, "Abcd"),
        # Cut by pytest-xdist into Abcd and efgh.
        ("A", "bcdefgh", 2, "Abcdefgh"),
        # Into Abc, Bde, and fghi: a remainder is the last one's.
        ("AB", "bcdefghi", 3, "AbcBdefghi"),
        # Into AC and Bd.
        ("ABC", "d", 2, "ACBd"),
        # Longest ones only: nobody has more than one more than the others.
        ("ABCDE", "", 2, "ACEBD"),
        # More processes than tests.
        ("A", "b", 3, "Ab"),
    ],
)
def test_each_share_begins_with_its_part_of_the_longest(longest: str, others: str, shares: int, ordered: str) -> None:
    """Nothing is lost or doubled, the others keep the order that chance gave them."""
    assert "".join(spread(longest, others, shares)) == ordered
