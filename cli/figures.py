"""`mailroom figures`: what happened in the last hour and day, and what waits."""

from typing import Any

from cli import printing
from cli.commands import asked
from cli.operating import Json
from cli.printing import moment

_WHAT = ("accepted", "refused", "again", "sent", "deferred", "held", "failed", "expired", "uncertain")
_WAITING = ("queued", "deferred", "held")


def show_figures(*, json: Json = False) -> int:
    """Show what happened in the last hour and day, and what waits."""
    found = asked("figures.show")
    if json:
        printing.as_json(found)
        return 0
    for span in ("hour", "day"):
        printing.lines([f"The last {span}:", ""])
        kinds = found[span]["kinds"]
        printing.table(
            ("KIND", *(what.upper() for what in _WHAT)),
            [(kind, *(numbers.get(what, 0) for what in _WHAT)) for kind, numbers in kinds.items()],
        )
        printing.lines(["", *_took(found[span]), ""])
    printing.lines(["Waiting:", ""])
    printing.table(
        ("INTEGRATION", "KIND", "OLDEST", *(status.upper() for status in _WAITING)),
        [
            (one["integration"], one["kind"], moment(one["oldest"]), *(one.get(status, 0) for status in _WAITING))
            for one in found["waiting"]
        ],
    )
    return 0


def _took(span: dict[str, Any]) -> list[str]:
    if not any(numbers.get("sent") for numbers in span["kinds"].values()):
        return ["Nothing was sent."]
    half, most = (_at_most(span["seconds"][share]) for share in ("half", "most"))
    return [f"From acceptance to the server's 250: half of them took {half}, 95 % took {most}."]


def _at_most(seconds: float | None) -> str:
    return "more than an hour" if seconds is None else f"at most {seconds:g} s"
