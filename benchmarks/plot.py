"""`python -m benchmarks plot FIGURES SVG`: the medians of a comparison as bars, readable on light and on dark pages."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.figures import Round

#: A column for each of these, a row for each case; every panel has a scale of its own.
COLUMNS = (("intake", "intake, per second"), ("drain", "drain, per second"), ("end_to_end", "end to end, per second"))

#: Pixels.
_MARGIN, _PANEL, _NAMES, _NUMBERS = 16, 330, 118, 52
_BAR, _BETWEEN, _TITLE, _LINE = 13, 5, 24, 18

_STYLE = """
    text { font: 12px system-ui, sans-serif; fill: #1f2328; }
    .title { font-weight: 600; }
    .ours { fill: #0b69c7; }
    .other { fill: #9aa4b0; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .ours { fill: #58a6ff; }
      .other { fill: #5d6773; }
    }
"""

#: Whose bars stand out.
_OURS = ("mailroom", "embedded")


def svg(found: Round, titles: Mapping[str, str], cases: Mapping[str, str]) -> str:
    """The whole picture: cases below each other, columns beside each other, a bar for each stack."""
    lines, y = list[str](), _MARGIN
    for case, title in cases.items():
        stacks = [stack for stack in titles if case in found.get(stack, {})]
        lines.append(_text(_MARGIN, y + _LINE, title, "title"))
        y += _TITLE
        for number, (figure, heading) in enumerate(COLUMNS):
            values = {stack: found[stack][case].get(figure, 0.0) for stack in stacks}
            lines += _panel(_MARGIN + number * _PANEL, y, heading, values, titles)
        y += _LINE + len(stacks) * (_BAR + _BETWEEN) + _MARGIN
    width = 2 * _MARGIN + len(COLUMNS) * _PANEL
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}" role="img">',
            f"  <title>{escape(_said(found, titles, cases))}</title>",
            f"  <style>{_STYLE}  </style>",
            *(f"  {line}" for line in lines),
            "</svg>",
            "",
        ]
    )


def _panel(x: int, y: int, heading: str, values: Mapping[str, float], titles: Mapping[str, str]) -> Iterator[str]:
    yield _text(x + _NAMES, y + _LINE - 6, heading)
    longest = max([*values.values(), 1e-9])
    room = _PANEL - _NAMES - _NUMBERS - _MARGIN
    for stack, value in values.items():
        y += _BAR + _BETWEEN
        yield _text(x + _NAMES - 6, y + _BAR - 2, titles[stack], anchor="end")
        kind = "ours" if stack in _OURS else "other"
        length = max(1, round(room * value / longest)) if value else 0
        if length:
            yield f'<rect class="{kind}" x="{x + _NAMES}" y="{y}" width="{length}" height="{_BAR}" rx="2"/>'
        yield _text(x + _NAMES + length + 5, y + _BAR - 2, _shown(value))


def _text(x: int, y: int, words: str, kind: str = "", anchor: str = "") -> str:
    more = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x}" y="{y}"{more}>{escape(words)}</text>'


def _shown(value: float) -> str:
    """As many digits as mean something; what was not measured is said so."""
    if not value:
        return "-"
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}"


def _said(found: Round, titles: Mapping[str, str], cases: Mapping[str, str]) -> str:
    """The same in words, for who cannot see it."""
    told: Sequence[str] = [
        f"{cases[case]}, {heading}: "
        + ", ".join(
            f"{titles[stack]} {_shown(found[stack][case].get(figure, 0.0))}"
            for stack in titles
            if case in found.get(stack, {})
        )
        for case in cases
        for figure, heading in COLUMNS
    ]
    return "; ".join(told)


def main(arguments: list[str]) -> int:
    """Draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks plot", description="Draw what was measured.")
    parser.add_argument("figures", type=Path, help="what a comparison wrote")
    parser.add_argument("svg", type=Path, help="the picture to write")
    chosen = parser.parse_args(arguments)
    told = json.loads(chosen.figures.read_text())
    chosen.svg.write_text(svg(told["medians"], told["titles"], told["cases"]))
    return 0
