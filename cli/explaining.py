"""`mailroom explain`: every decision about a message, or about what would be submitted, and why."""

from typing import Annotated, Any

from cyclopts import Parameter

from cli import printing
from cli.commands import asked
from cli.operating import Json


def explain(
    message_id: Annotated[str | None, Parameter(help="A message's id; without one a submission is explained.")] = None,
    /,
    *,
    service: Annotated[str | None, Parameter(help="The form service that it would be posted to.")] = None,
    kind: Annotated[str, Parameter(help="form, acd or agentless.")] = "form",
    sender: Annotated[str | None, Parameter(name="--from", help="The sender of an acd or agentless letter.")] = None,
    mailbox: Annotated[
        str | None, Parameter(help="The mailbox that the form names, or whom the letter is for.")
    ] = None,
    size: Annotated[int, Parameter(help="Bytes of text and files together.")] = 0,
    json: Json = False,
) -> int:
    """Explain what happens to a message, or would happen to one, and why."""
    if message_id is not None:
        found = asked("explain.message", message_id=message_id)
    else:
        found = asked("explain.submission", service=service, kind=kind, from_address=sender, mailbox=mailbox, size=size)
    if json:
        printing.as_json(found)
    else:
        printing.lines(_line(one) for one in found["decisions"])
    return 0


def _line(decision: dict[str, Any]) -> str:
    return f"{decision['topic'].ljust(11)}  {decision['verdict'].ljust(6)}  {decision['why']}"
