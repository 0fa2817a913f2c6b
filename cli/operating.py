"""`mailroom integrations …` and `mailroom messages …`: the operator's hands."""

from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from cli import printing
from cli.commands import Complained, asked
from cli.printing import moment

Json = Annotated[bool, Parameter(name="--json", negative="", show_default=False, help="Print JSON, for programs.")]
Name = Annotated[str, Parameter(help="The integration's name, as `mailroom integrations list` shows it.")]
Id = Annotated[str, Parameter(help="The message's id: the interactionId its client got, without the angle brackets.")]
Why = Annotated[str | None, Parameter(help="The reason, for the history that others will read.")]


def list_integrations(*, json: Json = False) -> int:
    """List the integrations with their states."""
    try:
        found = asked("integrations.list")
    except Complained as told:
        return told.code
    if json:
        printing.as_json(found)
    else:
        printing.table(
            ("NAME", "INTENDED", "REPORTED", "SINCE", "SERVER", "CAUSE"),
            [
                (one["name"], one["intended_state"], one["reported_state"], moment(one["since"]),
                 f"{one['host']}:{one['port']} ({one['security']})", one["cause"])
                for one in found
            ],
        )  # fmt: skip
    return 0


def show_integration(name: Name, /, *, json: Json = False) -> int:
    """Show one integration: its configuration and state, the last transcript, who changed it."""
    try:
        found = asked("integrations.show", name=name)
    except Complained as told:
        return told.code
    if json:
        printing.as_json(found)
        return 0
    transcript, history = found.pop("transcript"), found.pop("history")
    printing.fields(found | {"since": moment(found["since"])})
    printing.section("Last conversation that decided its state", transcript)
    printing.section("History, newest first", [_entry(entry) for entry in history])
    return 0


def try_integration(name: Name, /, *, json: Json = False) -> int:
    """Let a worker log in at the integration's server now, and print the conversation."""
    return _tested("integrations.test", json=json, name=name)


def reset_integration(name: Name, /, *, why: Why = None, json: Json = False) -> int:
    """Bring an integration back to ACTIVE by way of a live test; the only way out of ERROR and DISABLED."""
    return _tested("integrations.reset", json=json, name=name, why=why)


def disable_integration(name: Name, /, *, why: Why = None, json: Json = False) -> int:
    """Send nothing through an integration any more until it is reset; accepted forms wait."""
    try:
        found = asked("integrations.disable", name=name, why=why)
    except Complained as told:
        return told.code
    if json:
        printing.as_json(found)
    else:
        printing.lines([f"{name} is {found['intended_state']} and {found['reported_state']}."])
    return 0


def list_messages(
    *,
    status: Annotated[
        str | None,
        Parameter(help="Only these: queued, sending, sent, deferred, held, uncertain, failed or expired."),
    ] = None,
    integration: Annotated[str | None, Parameter(help="Only those of this integration.")] = None,
    limit: Annotated[int, Parameter(help="At most so many.", validator=Number(gte=1, lte=10_000))] = 50,
    json: Json = False,
) -> int:
    """List messages, newest first. Dead letters are those that are failed, expired or uncertain."""
    try:
        found = asked("messages.list", status=status, integration=integration, limit=limit)
    except Complained as told:
        return told.code
    if json:
        printing.as_json(found)
    else:
        printing.table(
            ("ID", "STATUS", "ACCEPTED", "INTEGRATION", "RECIPIENT", "REASON", "SUBJECT"),
            [
                (one["id"], one["status"], moment(one["accepted_at"]), one["integration"], one["recipient"],
                 one["reason"], one["subject"])
                for one in found
            ],
        )  # fmt: skip
    return 0


def show_message(message_id: Id, /, *, json: Json = False) -> int:
    """Show where one message stands and every recorded attempt, with what the server said."""
    try:
        found = asked("messages.show", message_id=message_id)
    except Complained as told:
        return told.code
    _print_message(found, json=json)
    return 0


def redrive_message(message_id: Id, /, *, json: Json = False) -> int:
    """Give a dead letter fresh attempts: correct first what made it fail."""
    try:
        found = asked("messages.redrive", message_id=message_id)
    except Complained as told:
        return told.code
    _print_message(found, json=json)
    return 0


def _tested(operation: str, *, json: bool, **args: Any) -> int:
    try:
        result = asked(operation, **args)
    except Complained as told:
        return told.code
    if json:
        printing.as_json(result)
    else:
        verdict = "passed" if result["passed"] else f"failed: {result['cause_in_words'] or 'see below'}"
        printing.lines([f"The live test of {result['name']} {verdict}."])
        printing.section("Conversation", result["transcript"])
        printing.lines(["", f"{result['name']} is {result['intended_state']} and {result['reported_state']}."])
    return 0 if result["passed"] else 1


def _print_message(found: dict[str, Any], *, json: bool) -> None:
    if json:
        printing.as_json(found)
        return
    attempts = found.pop("attempts")
    moments = {name: moment(found[name]) for name in ("accepted_at", "due", "ended_at")}
    printing.fields(found | moments)
    printing.section("Attempts", [_attempt(attempt) for attempt in attempts])


def _attempt(attempt: dict[str, Any]) -> str:
    said = " ".join(str(attempt[part]) for part in ("command", "code", "reply") if attempt[part] is not None)
    blame = f", blaming the {attempt['blame']}" if attempt["blame"] else ""
    return f"{attempt['number']}  {moment(attempt['started_at'])}  {attempt['outcome']}{blame}  {said}".rstrip()


def _entry(entry: dict[str, Any]) -> str:
    change = f"{entry['from'] or '-'} -> {entry['to'] or '-'}"
    why = f" ({entry['why']})" if entry["why"] else ""
    return f"{moment(entry['at'])}  {entry['who']}  {entry['action']}  {change}{why}"
