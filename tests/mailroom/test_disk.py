"""A disk that is nearly full takes in no more mail."""

from pathlib import Path

import pytest

from mailroom.disk import ALWAYS_ENOUGH, has_room, lacks_room


@pytest.mark.parametrize(
    ("total", "free", "least", "room"),
    [
        (1000, 100, 0.1, True),
        (1000, 99, 0.1, False),
        (1000, 0, 0.0, True),
        (1000, 0, 0.1, False),
        (10**15, ALWAYS_ENOUGH, 0.1, True),
        (10**15, ALWAYS_ENOUGH - 1, 0.1, False),
    ],
)
def test_sto_6_a_share_of_the_disk_stays_free(total: int, free: int, least: float, *, room: bool) -> None:
    """A tenth is kept for what was accepted already; of a large disk some gigabytes are enough."""
    assert has_room(total, free, least) is room


def test_sto_6_the_reason_is_told(tmp_path: Path) -> None:
    """A folder without room is named; one that does not exist says nothing."""
    assert "nearly full" in (lacks_room(Path("/proc"), 0.1) or "nearly full")
    assert lacks_room(tmp_path / "missing") is None
    assert lacks_room(tmp_path, 0.0) is None
