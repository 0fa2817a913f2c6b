"""`mailroom audit list`: who changed what, when, and why."""

from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from cli import printing
from cli.commands import asked
from cli.operating import Json
from cli.printing import moment

Moment = "a moment (2026-01-06, 2026-01-06T12:00Z; UTC) or a time ago (90m, 24h, 7d)"


def list_audit(  # noqa: PLR0913 - the options of a command are its arguments
    *,
    since: Annotated[str | None, Parameter(help=f"Only what was after {Moment}.")] = None,
    until: Annotated[str | None, Parameter(help="Only what was before; written in the same way.")] = None,
    who: Annotated[str | None, Parameter(help="Only of those with this in their name.")] = None,
    subject: Annotated[
        str | None, Parameter(help="Only about integration, credential, client, user, keys, or a domain.")
    ] = None,
    action: Annotated[str | None, Parameter(help="Only this action: reset, error, configured, …")] = None,
    integration: Annotated[str | None, Parameter(help="Only about this integration.")] = None,
    before: Annotated[str | None, Parameter(help="Go on where the page before ended.")] = None,
    limit: Annotated[int, Parameter(help="At most so many.", validator=Number(gte=1, lte=1000))] = 50,
    json: Json = False,
) -> int:
    """List who changed what, newest first."""
    found = asked(
        "audit.list", since=since, until=until, who=who, subject=subject, action=action, integration=integration,
        before=before, limit=limit,
    )  # fmt: skip
    if json:
        printing.as_json(found)
        return 0
    printing.table(
        ("AT", "WHO", "SUBJECT", "ACTION", "FROM", "TO", "WHY"),
        [
            (moment(one["at"]), one["who"], _subject(one), one["action"], one["from"], one["to"],
             one["why"] or one["cause"])
            for one in found["entries"]
        ],
    )  # fmt: skip
    if found["next"]:
        printing.lines(["", f"There is more: --before {found['next']}"])
    return 0


def _subject(entry: dict[str, Any]) -> str:
    return " ".join(part for part in (entry["subject"], entry["name"]) if part)
