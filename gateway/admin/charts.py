"""Charts as shapes: what a page draws as SVG, computed here so that it needs no script and can be read as a table too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import floor, inf, log10

#: The size of a chart in its own units; the page stretches it.
WIDTH, HEIGHT = 1000.0, 100.0

#: Of a bar's place so much is the bar.
_BAR_SHARE = 0.78


@dataclass(frozen=True, slots=True)
class Hit:
    """A place of the chart where there is something, and tells what: its left edge, its width, the words."""

    x: float
    width: float
    words: str


@dataclass(frozen=True, slots=True)
class Bars:
    """Stacked bars: one path for each name, what the top stands for, and places to point at."""

    paths: Mapping[str, str]
    top: float
    hits: tuple[Hit, ...]
    totals: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines over the same time: one path for each name; None stands where nothing was measured."""

    paths: Mapping[str, str]
    top: float
    hits: tuple[Hit, ...]


def bars(moments: Sequence[datetime], series: Mapping[str, Sequence[int]]) -> Bars:
    """One bar for each moment, with a part for each of the series, the first at the bottom."""
    sums = [sum(values[i] for values in series.values()) for i in range(len(moments))]
    top = round_up(max(sums, default=0))
    place = WIDTH / max(len(moments), 1)
    base = [0.0] * len(moments)
    paths = {}
    for name, values in series.items():
        parts = []
        for i, value in enumerate(values):
            if not value:
                continue
            height = HEIGHT * value / top
            left = i * place + place * (1 - _BAR_SHARE) / 2
            parts.append(f"M{left:.1f} {HEIGHT - base[i]:.1f}v{-height:.1f}h{place * _BAR_SHARE:.1f}v{height:.1f}z")
            base[i] += height
        paths[name] = "".join(parts)
    words = [
        ", ".join(f"{values[i]} {name}" for name, values in series.items() if values[i]) for i in range(len(moments))
    ]
    return Bars(paths, top, _hits(moments, words), {name: sum(values) for name, values in series.items()})


def lines(moments: Sequence[datetime], series: Mapping[str, Sequence[float | None]], unit: str) -> Lines:
    """A line for each of the series, interrupted where there is no value; what is beyond any number is at the top."""
    top = round_up(max((v for values in series.values() for v in values if v is not None and v != inf), default=0))
    place = WIDTH / max(len(moments), 1)
    paths = {name: _line(values, top, place) for name, values in series.items()}
    words = [
        ", ".join(
            f"{name} {_value(value, unit)}" for name, values in series.items() if (value := values[i]) is not None
        )
        for i in range(len(moments))
    ]
    return Lines(paths, top, _hits(moments, words))


def _line(values: Sequence[float | None], top: float, place: float) -> str:
    parts, pen_is_down = [], False
    for i, value in enumerate(values):
        if value is None:
            pen_is_down = False
            continue
        y = HEIGHT - HEIGHT * min(value, top) / top
        if pen_is_down:
            parts.append(f"L{(i + 0.5) * place:.1f} {y:.1f}")
        else:
            # A short stroke, so that a value between two gaps is seen.
            parts.append(f"M{(i + 0.3) * place:.1f} {y:.1f}L{(i + 0.7) * place:.1f} {y:.1f}")
        pen_is_down = True
    return "".join(parts)


def _hits(moments: Sequence[datetime], words: Sequence[str]) -> tuple[Hit, ...]:
    place = WIDTH / max(len(moments), 1)
    return tuple(
        Hit(i * place, place, f"{moment.strftime('%a %H:%M')}: {words[i]}")
        for i, moment in enumerate(moments)
        if words[i]
    )


def _value(value: float, unit: str) -> str:
    return "more than an hour" if value == inf else f"{value:g} {unit}"


def round_up(value: float) -> float:
    """The next number that looks well at an axis: 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** floor(log10(value))
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power * (1 + 1e-9))
