"""The picture says what the figures say, to whoever can see it and to whoever cannot."""

from xml.etree import ElementTree as ET

from benchmarks.plot import svg

SVG = "{http://www.w3.org/2000/svg}"


def test_bars_are_as_long_as_their_figures_within_their_panel() -> None:
    """The longest fills the room of its panel, half as much is half as long; what was not measured has no bar."""
    found = {"mailroom": {"form": {"intake": 2000.0, "drain": 10.0}}, "flask": {"form": {"intake": 1000.0}}}

    picture = ET.fromstring(svg(found, {"mailroom": "Mailroom", "flask": "Flask & Celery"}, {"form": "A form"}))  # noqa: S314

    lengths = [int(bar.attrib["width"]) for bar in picture.iter(f"{SVG}rect")]
    assert lengths[0] == 2 * lengths[1]
    assert lengths[2] == lengths[0]
    assert len(lengths) == 3
    assert [bar.attrib["class"] for bar in picture.iter(f"{SVG}rect")] == ["ours", "other", "ours"]


def test_names_and_numbers_stand_there_as_text() -> None:
    """Names may have any character; the title tells all of it once more."""
    found = {"flask": {"form": {"intake": 1234.0, "drain": 5.25}}}

    picture = ET.fromstring(svg(found, {"flask": "Flask & <Celery>"}, {"form": "A form"}))  # noqa: S314

    words = [text.text for text in picture.iter(f"{SVG}text")]
    assert words.count("Flask & <Celery>") == 3
    assert {"1,234", "5.2", "-"} <= set(words)
    title = picture.find(f"{SVG}title")
    assert title is not None
    assert "A form, intake, per second: Flask & <Celery> 1,234" in str(title.text)
