"""Charts as shapes: what is drawn for which numbers."""

from datetime import UTC, datetime, timedelta
from math import inf

import pytest

from gateway.admin.charts import HEIGHT, WIDTH, bars, lines, round_up

MOMENTS = [datetime(2026, 1, 6, 12, tzinfo=UTC) + timedelta(minutes=one) for one in range(4)]


@pytest.mark.parametrize(
    ("value", "top"),
    [(-1, 1), (0, 1), (0.03, 0.05), (1, 1), (1.01, 2), (2, 2), (3, 5), (5, 5), (7, 10), (10, 10), (11, 20), (999, 1000),
     (1001, 2000)],
)  # fmt: skip
def test_an_axis_ends_at_a_round_number(value: float, top: float) -> None:
    """At 1, 2 or 5 times a power of ten that nothing is above."""
    assert round_up(value) == pytest.approx(top)


def test_bars_stand_on_each_other() -> None:
    """One for each moment in which something happened; the parts are as high as their share of the top."""
    chart = bars(MOMENTS, {"form": [0, 4, 0, 1], "acd": [0, 6, 0, 0]})

    assert chart.top == 10
    assert chart.totals == {"form": 5, "acd": 6}
    assert chart.paths["form"].count("M") == 2
    assert "M277.5 100.0v-40.0h195.0v40.0z" in chart.paths["form"]
    assert chart.paths["acd"] == "M277.5 60.0v-60.0h195.0v60.0z"
    assert [(hit.x, hit.width, hit.words) for hit in chart.hits] == [
        (WIDTH / 4, WIDTH / 4, "Tue 12:01: 4 form, 6 acd"),
        (WIDTH * 3 / 4, WIDTH / 4, "Tue 12:03: 1 form"),
    ]


def test_a_line_has_gaps() -> None:
    """Where nothing was measured there is none; what is beyond all numbers is at the top, and said in words."""
    chart = lines(MOMENTS, {"half within": [0.5, None, 2.0, inf], "none": [None] * 4}, "s")

    assert chart.top == 2
    assert chart.paths["half within"].count("M") == 2
    assert chart.paths["half within"].endswith("L875.0 0.0")
    assert chart.paths["none"] == ""
    assert [hit.words for hit in chart.hits] == [
        "Tue 12:00: half within 0.5 s", "Tue 12:02: half within 2 s", "Tue 12:03: half within more than an hour",
    ]  # fmt: skip


@pytest.mark.parametrize("moments", [[], MOMENTS], ids=["no time", "nothing in it"])
def test_nothing_is_a_chart_too(moments: list[datetime]) -> None:
    """Without any number nothing is drawn, and nothing fails."""
    empty = [0] * len(moments)
    chart, line = bars(moments, {"form": empty}), lines(moments, {"half within": [None] * len(moments)}, "s")

    assert (chart.top, chart.paths, chart.hits) == (1, {"form": ""}, ())
    assert (line.top, line.paths, line.hits) == (1, {"half within": ""}, ())
    assert HEIGHT == 100
