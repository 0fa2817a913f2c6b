"""The memory guard: what counts as used, which limit counts, and when nothing more is taken on."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.memory import Bound, Limits, MemoryGuard, working_set

ROOT = Path(__file__).parents[2]
GIGABYTE = 1024**3


class Stage:
    """A process whose memory the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.used = 0
        self.freed = 0
        self.looks = 0
        self.given_back = 0

    def look(self) -> list[Bound]:
        """Two limits, of which the second is the tighter one."""
        self.looks += 1
        return [Bound("a wide one", self.used, 1000), Bound("a tight one", self.used, 100)]

    def give_back(self) -> None:
        """What Python had freed leaves the process."""
        self.given_back += 1
        self.used -= self.freed
        self.freed = 0

    def guard(self) -> MemoryGuard:
        """A guard on this stage."""
        return MemoryGuard(self.look, self.give_back, lambda: self.now)


@pytest.mark.parametrize(
    ("current", "inactive_file", "anonymous", "used"),
    [(100, 0, 50, 100), (100, 40, 50, 60), (100, 80, 50, 50), (100, 100, 0, 0)],
)
def test_ovl_5_what_counts_as_used(current: int, inactive_file: int, anonymous: int, used: int) -> None:
    """Files that nobody reads any more do not count; pages of our own always do."""
    assert working_set(current, inactive_file, anonymous) == used


@pytest.mark.parametrize(("used", "short"), [(75, False), (76, True), (0, False)])
def test_ovl_5_above_three_quarters_memory_is_short(used: int, *, short: bool) -> None:
    """The tightest limit decides, and is named."""
    stage = Stage()
    stage.used = used

    assert (stage.guard().short() is not None) is short
    assert stage.guard().share == used / 100
    assert "a tight one" in (stage.guard().short() or "a tight one")


def test_ovl_5_what_bodies_will_need_is_counted_before_it_is_used() -> None:
    """Many bodies that come at once are not all let in because none of them has arrived yet; nothing is counted twice."""
    stage = Stage()
    guard = stage.guard()
    stage.used = 12
    alone = [guard.short(0, coming) for coming in (26, 27)]
    stage.now += 1
    stage.used = 70  # twenty have come, and are in memory
    beside = [guard.short(20, coming) for coming in (6, 7)]

    assert alone == [None, "memory is short (a tight one)"]
    assert beside == [None, "memory is short (a tight one)"]


def test_ovl_5_what_has_grown_under_load_is_counted() -> None:
    """A process that never has nothing in hand takes on no more than fits beside what it uses now."""
    stage = Stage()
    guard = stage.guard()
    stage.used = 10
    assert guard.short() is None
    stage.now += 1
    stage.used = 60

    assert [guard.short(1, coming) for coming in (10, 11)] == [None, "memory is short (a tight one)"]


def test_ovl_5_what_does_not_help_is_tried_ever_less() -> None:
    """While nothing can be given back it is tried seven times in a minute; once it has helped, soon again."""
    stage = Stage()
    guard = stage.guard()
    stage.used = 90
    for _ in range(60):
        assert guard.short() is not None
        stage.now += 1
    seldom = stage.given_back
    stage.freed = 90
    stage.now += 60
    assert guard.short() is None
    stage.used = stage.freed = 90
    stage.now += 1
    assert guard.short() is None

    assert (seldom, stage.given_back) == (7, 9)


def test_ovl_5_it_recovers() -> None:
    """Memory that Python has freed and the allocator kept is given back, and then there is room again."""
    stage = Stage()
    guard = stage.guard()
    stage.used = stage.freed = 90

    assert guard.short() is None
    assert stage.given_back == 1


def test_looks_are_few() -> None:
    """However many ask, the kernel is asked ten times a second, and memory is given back once a second."""
    stage = Stage()
    guard = stage.guard()
    stage.used = 90
    for _ in range(1000):
        assert guard.short() == "memory is short (a tight one)"
        stage.now += 0.001

    assert stage.looks <= 12
    assert stage.given_back == 1


def test_ovl_5_limits_of_control_groups_are_found(tmp_path: Path) -> None:
    """Of our group and those it is in, of both versions of control groups, each limit is read; others are not."""
    files = {
        "proc/self/cgroup": "5:cpu,memory:/docker/one\n0::/system.slice/mailroom.service\n",
        "sys/fs/cgroup/system.slice/mailroom.service/memory.max": "max\n",
        "sys/fs/cgroup/system.slice/memory.max": f"{GIGABYTE}\n",
        "sys/fs/cgroup/system.slice/memory.current": "500\n",
        "sys/fs/cgroup/system.slice/memory.stat": "anon 100\nfile 400\ninactive_file 300\n",
        "sys/fs/cgroup/memory/docker/one/memory.limit_in_bytes": "2000\n",
        "sys/fs/cgroup/memory/docker/one/memory.usage_in_bytes": "900\n",
        "sys/fs/cgroup/memory/docker/one/memory.stat": "total_rss 850\ntotal_inactive_file 300\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2**63 - 4096}\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)

    assert Limits(tmp_path).bounds() == [
        Bound("the control group", 850, 2000),
        Bound("the control group", 200, GIGABYTE),
    ]


def test_a_machine_without_any_of_it_has_no_limit(tmp_path: Path) -> None:
    """Where the kernel tells nothing, nothing is short."""
    guard = MemoryGuard(Limits(tmp_path).bounds)

    assert guard.share == 0
    assert guard.short() is None


def test_ovl_5_a_limit_of_the_shell_counts() -> None:
    """Under `ulimit -v` a real process finds itself short before it fails, and well again once it has let go."""
    script = (
        "from gateway.memory import MemoryGuard\n"
        "guard = MemoryGuard()\n"
        "held, before = [], guard.short()\n"
        "while guard.short() is None: held.append(bytearray(16 * 1024**2)); guard._looked_at = 0\n"
        "full = guard.short()\n"
        "held.clear(); guard._looked_at = 0\n"
        "print(before, '|', full, '|', guard.short())\n"
    )
    limit = 2 * GIGABYTE
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": os.defpath}, check=True,
        capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )  # fmt: skip

    assert ended.stdout.splitlines()[-1] == "None | memory is short (ulimit -v) | None"
