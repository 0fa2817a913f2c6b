"""What a measurement reads off the machine, and how its figures are shown and kept."""

import json
import os
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Where results are kept, beside what they are printed as.
_RESULTS = Path(__file__).parents[2] / "build"

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class _Times:
    """A process: whose child it is, and the seconds that it and the children it has waited for took."""

    parent: int
    seconds: float


def _processes() -> dict[int, _Times]:
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended since
            found[int(folder.name)] = _Times(int(fields[1]), sum(map(int, fields[11:15])) / _TICKS)
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, with all processes it started, those that have ended included."""
    processes = _processes()

    def belongs(one: int) -> bool:
        while one in processes and one != pid:
            one = processes[one].parent
        return one == pid

    return sum(times.seconds for one, times in processes.items() if belongs(one))


def resident(pid: int) -> float:
    """Megabytes of a process in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _machine() -> tuple[float, float]:
    """Seconds that all cores together were busy, and that they had."""
    fields = [int(one) / _TICKS for one in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


@dataclass(slots=True)
class Meter:
    """What some processes, by name, and the whole machine did since this was made."""

    pids: Mapping[str, int]
    _before: dict[str, float] = field(init=False)
    _machine_before: tuple[float, float] = field(init=False)
    _begun: float = field(init=False)

    def __post_init__(self) -> None:
        self._before = {name: cpu_seconds(pid) for name, pid in self.pids.items()}
        self._machine_before, self._begun = _machine(), time.monotonic()

    @property
    def seconds(self) -> float:
        """How long that is ago."""
        return time.monotonic() - self._begun

    def spent(self) -> dict[str, float]:
        """CPU seconds of each process, its children included."""
        return {name: cpu_seconds(pid) - self._before[name] for name, pid in self.pids.items()}

    def busy(self) -> float:
        """Which part of the machine's cores was busy, whoever it was."""
        (busy, had), (busy_before, had_before) = _machine(), self._machine_before
        return (busy - busy_before) / max(had - had_before, 0.01)


def percentiles(took: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and the most; 0 of nothing."""
    ordered = sorted(took) or [0.0]
    named = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {name: ordered[min(int(len(ordered) * part), len(ordered) - 1)] for name, part in named.items()} | {
        "max": ordered[-1]
    }


def slope(points: Iterable[tuple[float, float]]) -> float:
    """By how much y grows with each x: the line of least squares."""
    xs, ys = zip(*points, strict=True)
    return statistics.linear_regression(xs, ys).slope


def show(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table."""
    cells = [[str(one) for one in headings], *([_shown(one) for one in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    for row in cells:
        print("  " + "  ".join(cell.rjust(width) if at else cell.ljust(width) for at, (cell, width) in
                               enumerate(zip(row, widths, strict=True))), flush=True)  # fmt: skip


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def concluded(name: str, figures: Any, *, good: bool, words: str) -> int:
    """Say and keep what came of it; the exit code."""
    print(f"  {'good' if good else 'NOT GOOD'}: {words}", flush=True)
    _RESULTS.mkdir(exist_ok=True)
    kept = {"figures": figures, "good": good, "words": words}
    (_RESULTS / f"scale-{name}.json").write_text(json.dumps(kept, indent=2, default=str) + "\n")
    return 0 if good else 1


def pause(seconds: float) -> None:
    """Let the others work; nothing else runs in this thread."""
    time.sleep(seconds)  # noqa: TID251 - there is no event loop here
