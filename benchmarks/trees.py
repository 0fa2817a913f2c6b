"""What processes use, with all they started: CPU and memory, from /proc."""

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")

#: Makes a process' highest memory so far its present one (proc(5), clear_refs).
_FORGET_PEAK = "5"


def tree(roots: Collection[int]) -> set[int]:
    """These processes and all that descend from them."""
    children: dict[int, list[int]] = {}
    for pid, fields in _stats():
        children.setdefault(int(fields[1]), []).append(pid)
    found, waiting = set[int](), list(roots)
    while waiting:
        pid = waiting.pop()
        found.add(pid)
        waiting += children.get(pid, [])
    return found


def cpu_seconds(roots: Collection[int]) -> float:
    """User and system time so far, with that of descendants that ended and were waited for."""
    wanted = tree(roots)
    return sum(sum(map(int, fields[11:15])) for pid, fields in _stats() if pid in wanted) / _TICKS


def forget_peaks(roots: Collection[int]) -> None:
    """From now on the highest memory is that of what comes."""
    for pid in tree(roots):
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text(_FORGET_PEAK)


def peak_megabytes(roots: Collection[int]) -> float:
    """The highest memory of each process, added up; what they share is counted in each."""
    return sum(map(_peak_kilobytes, tree(roots))) / 1024


def _peak_kilobytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        _, _, rest = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")
        return int(rest.split(maxsplit=1)[0]) if rest else 0
    return 0


def _stats() -> Iterator[tuple[int, list[str]]]:
    """Every process, and the fields of its stat from the state on (proc(5), where that is the third)."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(entry.name), (entry / "stat").read_text().rpartition(")")[2].split()
