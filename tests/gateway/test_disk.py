"""The floor under the disks."""

from pathlib import Path

import pytest

from gateway.disk import NO_ANSWER_SECONDS, DiskFloor, Space, floor_of, space_of

MEGABYTE = 1024**2


@pytest.mark.parametrize(
    ("total", "floor"),
    [(5 * MEGABYTE, MEGABYTE // 2), (1000 * MEGABYTE, 100 * MEGABYTE), (4_000_000 * MEGABYTE, 256 * MEGABYTE)],
)
def test_sto_6_what_must_stay_free(total: int, floor: int) -> None:
    """A tenth of a small disk; of a large one no more than all bodies in hand may need."""
    assert floor_of(total, 256 * MEGABYTE) == floor


async def test_sto_6_a_disk_that_fills_up_is_short_until_there_is_room() -> None:
    """Each look says what is so now; the fullest disk decides and is named."""
    free = {Path("attachments"): 300, Path("data"): 300}
    floor = DiskFloor(free, 100, lambda folder: Space(free[folder], 10_000))
    said = []
    for left in (100, 99, 100):
        free[Path("data")] = left
        await floor.look()
        said.append((floor.short(), floor.free))

    assert said == [(None, 100), ("the disk of data is full", 99), (None, 100)]


async def test_a_disk_that_does_not_answer_is_short() -> None:
    """A share that hangs is noticed, although no look at it ever ends."""
    now = [0.0]
    floor = DiskFloor([Path("attachments")], 100, lambda _: Space(1000, 1000), lambda: now[0])
    await floor.look()
    now[0] += NO_ANSWER_SECONDS + 1

    assert floor.short() == "the disk of attachments does not answer"
    assert DiskFloor([], 100).short() is None


def test_a_folder_that_is_not_there_yet_has_the_disk_it_will_be_on(tmp_path: Path) -> None:
    """Before the first file the folder need not exist."""
    assert space_of(tmp_path / "not" / "yet").total == space_of(tmp_path).total > 0
