"""`mailroom forms …`: which form services there are, where their options come from, and a form to paste."""

from typing import Annotated, Any

from cyclopts import Parameter

from cli import printing
from cli.commands import asked
from cli.operating import Json

Service = Annotated[str, Parameter(help="The service's name, as `mailroom forms list` shows it.")]


def list_forms(*, json: Json = False) -> int:
    """List the form services."""
    found = asked("forms.list")
    if json:
        printing.as_json(found)
    else:
        printing.table(
            ("SERVICE", "MAILBOX", "INTEGRATION", "STATE", "WHEN INACTIVE", "ANSWERS WHEN", "KEYS"),
            [
                (one["service"], one["mailbox"], one["integration"], one["reported_state"], one["when_inactive"],
                 one["acknowledge"], one["api_keys"])
                for one in found
            ],
        )  # fmt: skip
    return 0


def show_form(name: Service, /, *, json: Json = False) -> int:
    """Show one service's options and where each comes from."""
    found = asked("forms.show", name=name)
    if json:
        printing.as_json(found)
        return 0
    printing.lines([f"{found['path']}   (integration: {found['reported_state'] or 'does not exist'})", ""])
    printing.table(
        ("OPTION", "VALUE", "ORIGIN", "FILE"),
        [(one["option"], _value(one["value"]), one["origin"], one["file"]) for one in found["options"]],
    )
    return 0


def form_to_paste(
    name: Service,
    /,
    *,
    endpoint: Annotated[
        str, Parameter(help="Where browsers reach the service: https://mail.company.com/genesys/2/email/support")
    ],
    script: Annotated[
        bool, Parameter(negative="", show_default=False, help="The script that shows the answer, instead of the form.")
    ] = False,
) -> int:
    """Print a form to paste into a page."""
    found = asked("forms.html", name=name, endpoint=endpoint)
    printing.lines(found["script" if script else "html"].splitlines())
    return 0


def _value(value: Any) -> str | None:
    if isinstance(value, list):
        return ",".join(value) or None
    return None if value is None else str(value)
