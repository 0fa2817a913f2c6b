"""How pages look: the one door to their templates, and how numbers, moments and sizes are written."""

from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from gateway.admin.wording import because
from mailroom.downloads import readable_size
from mailroom.roles import Permission

_HERE = Path(__file__).parent

#: What stands at the top of every page, for whom may see it.
NAVIGATION = (
    ("/", "Overview", Permission.PAGES_VIEW),
    ("/integrations", "Integrations", Permission.PAGES_VIEW),
    ("/messages", "Messages", Permission.MESSAGES_VIEW),
    ("/dead-letters", "Dead letters", Permission.MESSAGES_VIEW),
    ("/forms", "Forms", Permission.PAGES_VIEW),
    ("/explain", "Explain", Permission.MESSAGES_VIEW),
    ("/audit", "Audit", Permission.AUDIT_VIEW),
    ("/people", "People", Permission.PEOPLE_MANAGE),
)

#: What stands where there is no value.
NOTHING = Markup("\N{EN DASH}")

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


class Layout:
    """Templates with everything they may use: `static` is the path below which their files are served."""

    def __init__(self, static: str, *, mailbox: bool = False) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "moment": moment, "ago": ago, "number": number, "span": span, "size": size, "within": within,
            "because": because,
        }  # fmt: skip
        self._templates.globals |= {"P": Permission, "navigation": NAVIGATION, "has_mailbox": mailbox, "static": static}

    def render(self, template: str, **values: Any) -> str:
        """A template, filled in; lone surrogates, which no page can hold, are replaced."""
        return self._templates.get_template(template).render(**values).encode("utf-8", "replace").decode()


def moment(at: datetime | None) -> Markup:
    """A moment in UTC, to the second: 2026-11-21 13:45:07."""
    if at is None:
        return NOTHING
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        utc.isoformat(timespec="milliseconds"), utc.strftime("%Y-%m-%d %H:%M:%S")
    )


def ago(at: datetime | None, now: datetime) -> Markup:
    """How long ago a moment was, with the moment itself as its title."""
    if at is None:
        return NOTHING
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        utc.isoformat(timespec="milliseconds"), utc.strftime("%Y-%m-%d %H:%M:%S"), roughly(now - at)
    )


def roughly(length: timedelta) -> str:
    """To the minute once it is one: a page that is watched shall not change every second for nothing."""
    seconds = length.total_seconds()
    if seconds < _MINUTE:
        return f"{max(0, int(seconds))} s"
    return span(float(seconds // _MINUTE * _MINUTE))


def span(length: timedelta | float) -> str:
    """A length of time as a person says it, in its two largest units: 42 s, 3 min 10 s, 5 h 2 min, 3 d 4 h."""
    seconds = length.total_seconds() if isinstance(length, timedelta) else length
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"  # noqa: PLR2004 - one digit has room for a tenth
    for larger, unit, smaller, below in ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "min")):
        if whole >= larger:
            return _in_two(whole, larger, unit, smaller, below)
    return _in_two(whole, _MINUTE, "min", 1, "s")


def _in_two(whole: int, larger: int, unit: str, smaller: int, below: str) -> str:
    rest = whole % larger // smaller
    return f"{whole // larger} {unit}" + (f" {rest} {below}" if rest else "")


def within(seconds: float | None) -> str:
    """How long something took at most, as a bucket tells it: 0.2 s, 5 min, more than 1 h."""
    if seconds is None:
        return NOTHING
    return "more than 1 h" if seconds == inf else f"{seconds:g} s" if seconds < _MINUTE else span(seconds)


def number(value: float | None) -> str:
    """A number with its thousands apart: 1 234 567."""
    if value is None:
        return NOTHING
    text = f"{value:,.1f}" if isinstance(value, float) and not value.is_integer() else f"{int(value):,}"
    return text.replace(",", "\N{NARROW NO-BREAK SPACE}")


def size(value: int | None) -> str:
    """Bytes as a person says them; nothing where nobody knows."""
    return NOTHING if value is None else readable_size(value)
