"""`mailroom integrations …`, `mailroom messages …`, `mailroom keys …`: the operator's hands."""

import getpass
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from cli import printing
from cli.commands import Complained, asked
from cli.printing import duration, moment

Json = Annotated[bool, Parameter(name="--json", negative="", show_default=False, help="Print JSON, for programs.")]
Name = Annotated[str, Parameter(help="The integration's name, as `mailroom integrations list` shows it.")]
Id = Annotated[str, Parameter(help="The message's id: the interactionId its client got, without the angle brackets.")]
Host = Annotated[str | None, Parameter(help="The SMTP server's name or address.")]
Port = Annotated[int | None, Parameter(help="Its port: 587 for starttls, 465 for tls.")]
Security = Annotated[str | None, Parameter(help='starttls, tls or none; never "if available".')]
Username = Annotated[str | None, Parameter(help="Whom to log in as; its password is asked for, or read from a file.")]
PasswordFile = Annotated[
    Path | None, Parameter(help="A file with the password; a password on the command line could be read by others.")
]
Sender = Annotated[
    str | None, Parameter(name="--from", help='The sender: "forms@company.com" or "Company <forms@company.com>".')
]
Mailbox = Annotated[str | None, Parameter(help="Where form mail goes when nothing else says so.")]
MaxConnections = Annotated[int | None, Parameter(help="Connections at once, all workers together.")]
PerSecond = Annotated[float | None, Parameter(help="Messages a second, all workers together.")]
PerDay = Annotated[int | None, Parameter(help="Messages a day (UTC), all workers together.")]
#: A list asks for so many pages at most, of so many messages.
MOST_PAGES = 40
MOST_ON_A_PAGE = 1000

Why = Annotated[str | None, Parameter(help="The reason, for the history that others will read.")]


def list_integrations(*, json: Json = False) -> int:
    """List the integrations with their states."""
    found = asked("integrations.list")
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
    found = asked("integrations.show", name=name)
    if json:
        printing.as_json(found)
        return 0
    transcript, history, released = (found.pop(part) for part in ("transcript", "history", "a_reset_releases"))
    printing.fields(found | {"since": moment(found["since"])})
    printing.section("Waiting", _released(released))
    printing.section("Last conversation that decided its state", transcript)
    printing.section("History, newest first", [_entry(entry) for entry in history])
    return 0


def create_integration(  # noqa: PLR0913 - the options of a command are its arguments
    name: Annotated[str, Parameter(help="Its name: letters, digits, dots, dashes and underscores.")],
    /,
    *,
    host: Annotated[str, Parameter(help="The SMTP server's name or address.")],
    sender: Annotated[
        str, Parameter(name="--from", help='The sender: "forms@company.com" or "Company <forms@company.com>".')
    ],
    port: Port = None,
    security: Security = None,
    username: Username = None,
    password_file: PasswordFile = None,
    mailbox: Mailbox = None,
    max_connections: MaxConnections = None,
    per_second: PerSecond = None,
    per_day: PerDay = None,
    disabled: Annotated[
        bool, Parameter(negative="", show_default=False, help="Do not test and enable it yet; `reset` does.")
    ] = False,
    json: Json = False,
) -> int:
    """Create an integration; a live test makes it ACTIVE."""
    given = _given(
        host=host, port=port, security=security, username=username, sender=sender, mailbox=mailbox,
        max_connections=max_connections, per_second=per_second, per_day=per_day,
    )  # fmt: skip
    password = _password(password_file, ask=username is not None)
    return _tested("integrations.create", json=json, name=name, given=given, password=password, enabled=not disabled)


def change_integration(  # noqa: PLR0913 - as above
    name: Name,
    /,
    *,
    host: Host = None,
    sender: Sender = None,
    port: Port = None,
    security: Security = None,
    username: Username = None,
    password_file: PasswordFile = None,
    ask_password: Annotated[
        bool, Parameter(negative="", show_default=False, help="Ask for a new password for the same user name.")
    ] = False,
    anonymous: Annotated[bool, Parameter(negative="", show_default=False, help="Do not log in any more.")] = False,
    mailbox: Mailbox = None,
    max_connections: MaxConnections = None,
    per_second: PerSecond = None,
    per_day: PerDay = None,
    why: Why = None,
    json: Json = False,
) -> int:
    """Change an integration; where it is to be reached in another way, a live test decides anew."""
    given = _given(
        host=host, port=port, security=security, username=username, sender=sender, mailbox=mailbox,
        max_connections=max_connections, per_second=per_second, per_day=per_day,
    )  # fmt: skip
    password = _password(password_file, ask=ask_password or username is not None)
    if not given and password is None and not anonymous:
        printing.complain("nothing to change was given; `mailroom integrations set --help` shows what can be")
        return 1
    return _tested(
        "integrations.set", json=json, name=name, given=given, password=password, anonymous=anonymous, why=why
    )


def delete_integration(name: Name, /, *, why: Why = None, json: Json = False) -> int:
    """Delete an integration: it never sends again, and its name is free. Its messages keep their history."""
    found = asked("integrations.delete", name=name, why=why)
    if json:
        printing.as_json(found)
        return 0
    printing.lines([f"{name} is deleted."])
    if found["unfinished"]:
        left = printing.cell(found["unfinished"])
        printing.lines([f"It leaves messages that are not sent ({left}); they stay where they are until they expire."])
    printing.lines(["While mailroom.toml names it, the next start of a process creates it anew."])
    return 0


def try_integration(
    name: Name,
    /,
    *,
    to: Annotated[str | None, Parameter(help="Also send a letter to this address, when it is ACTIVE.")] = None,
    json: Json = False,
) -> int:
    """Let a worker log in at the integration's server now, and print the conversation."""
    return _tested("integrations.test", json=json, name=name, to=to)


def reset_integration(
    name: Name,
    /,
    *,
    why: Why = None,
    preview: Annotated[
        bool, Parameter(negative="", show_default=False, help="Only tell what it would send; change nothing.")
    ] = False,
    json: Json = False,
) -> int:
    """Bring an integration back to ACTIVE by way of a live test; the only way out of ERROR and DISABLED."""
    if preview:
        return _preview(name, json=json)
    return _tested("integrations.reset", json=json, name=name, why=why)


def _preview(name: str, *, json: bool) -> int:
    found = asked("integrations.preview", name=name)
    if json:
        printing.as_json(found)
    else:
        printing.lines([f"{name} is {found['intended_state']} and {found['reported_state']}.", *_released(found)])
    return 0


def _released(found: dict[str, Any]) -> list[str]:
    """What a reset would set going, in sentences."""
    waiting = found["held"] + found["queued"] + found["deferred"]
    if not waiting:
        return ["Nothing waits to be sent through it."]
    counted = f"{found['held']} held, {found['queued']} queued, {found['deferred']} deferred"
    told = [f"{waiting} wait ({counted}), the oldest since {moment(found['oldest'])}."]
    told.append(f"After a reset {waiting - found['past_expiry']} go out, in about {duration(found['drain_seconds'])}.")
    if found["past_expiry"]:
        told.append(f"{found['past_expiry']} are past their time and expire instead.")
    return told


def disable_integration(name: Name, /, *, why: Why = None, json: Json = False) -> int:
    """Send nothing through an integration any more until it is reset; accepted forms wait."""
    found = asked("integrations.disable", name=name, why=why)
    if json:
        printing.as_json(found)
    else:
        printing.lines([f"{name} is {found['intended_state']} and {found['reported_state']}."])
    return 0


def reseal_keys(*, json: Json = False) -> int:
    """Encrypt every stored password with the first key of MAILROOM_SECRET_KEY, so that the older ones can go."""
    done = asked("keys.reseal")
    if json:
        printing.as_json(done)
    else:
        printing.lines([f"{done['resealed']} stored passwords are encrypted with the first key now."])
        for one in done["unreadable"]:
            printing.lines([f"No key opens the password of credential {one}: enter it again."])
    return 1 if done["unreadable"] else 0


def list_messages(  # noqa: PLR0913 - the options of a command
    *,
    search: Annotated[
        str | None,
        Parameter(help='A message\'s id; or an address, "@domain" and words of the subject, which must all fit.'),
    ] = None,
    status: Annotated[
        str | None,
        Parameter(help="Only these: queued, sending, sent, deferred, held, uncertain, failed or expired."),
    ] = None,
    kind: Annotated[str | None, Parameter(help="Only these: form, acd, agentless or campaign.")] = None,
    service: Annotated[str | None, Parameter(help="Only forms of this service.")] = None,
    integration: Annotated[str | None, Parameter(help="Only those of this integration.")] = None,
    since: Annotated[
        str | None, Parameter(help="Only from then on: 2026-01-31, 2026-01-31T14:30 (UTC), or 24h for a day ago.")
    ] = None,
    until: Annotated[str | None, Parameter(help="Only before then.")] = None,
    before: Annotated[str | None, Parameter(help="Only what is older than the message of this id.")] = None,
    limit: Annotated[int, Parameter(help="At most so many.", validator=Number(gte=1, lte=10_000))] = 50,
    json: Json = False,
) -> int:
    """List messages, newest first. Dead letters are those that are failed, expired or uncertain."""
    narrowed = {"status": status, "kind": kind, "service": service, "integration": integration, "since": since,
                "until": until}  # fmt: skip
    found, further = _pages(search, narrowed, limit, before)
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
    if further:
        printing.complain(further)
    return 0


def _pages(
    text: str | None, narrowed: dict[str, str | None], limit: int, before: str | None
) -> tuple[list[dict[str, Any]], str | None]:
    """The messages of as many pages as it takes, and how to look further where that was not everywhere."""
    found: list[dict[str, Any]] = []
    for _ in range(MOST_PAGES):
        some = min(limit - len(found), MOST_ON_A_PAGE)
        page = asked("messages.search", text=text, narrowed=narrowed, limit=some, before=before)
        found += page["messages"]
        before = page["older"]
        if before is None or len(found) == limit:
            return found, None
    looked_back_to = page["looked_back_to"] or found[-1]["accepted_at"]
    return found, f"Looked back to {moment(looked_back_to)}; --before {before} looks further."


def show_message(message_id: Id, /, *, json: Json = False) -> int:
    """Show where one message stands and every recorded attempt, with what the server said."""
    found = asked("messages.show", message_id=message_id)
    _print_message(found, json=json)
    return 0


def redrive_message(message_id: Id, /, *, why: Why = None, json: Json = False) -> int:
    """Give a dead letter fresh attempts: correct first what made it fail."""
    return _done_with_message("messages.redrive", json=json, message_id=message_id, why=why)


def dismiss_message(
    message_id: Id,
    /,
    *,
    why: Annotated[str, Parameter(help="The reason, for the history that others will read.")],
    json: Json = False,
) -> int:
    """Put a dead letter out of sight; it stays what it is."""
    return _done_with_message("messages.dismiss", json=json, message_id=message_id, why=why)


def copy_message(
    message_id: Id,
    /,
    *,
    to: Annotated[str, Parameter(help="The address that it goes to instead.")],
    why: Why = None,
    json: Json = False,
) -> int:
    """Send a dead letter again to another recipient, as a new message; prints that one."""
    return _done_with_message("messages.copy", json=json, message_id=message_id, to=to, why=why)


def _done_with_message(operation: str, *, json: bool, **args: Any) -> int:
    found = asked(operation, **args)
    _print_message(found, json=json)
    return 0


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given, by the names that the settings file has for them."""
    return {("from" if name == "sender" else name): value for name, value in options.items() if value is not None}


def _password(file: Path | None, *, ask: bool) -> str | None:
    """The password from its file, or as the person types it; raises Complained."""
    if file is not None:
        try:
            password = file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            printing.complain(f"{file} cannot be read: {reason}; give the password in another file")
            raise Complained(1) from error
    elif not ask:
        return None
    elif sys.stdin.isatty():
        password = getpass.getpass("Password: ")
    else:
        printing.complain("a password is needed, and nobody is there to be asked; give --password-file")
        raise Complained(1)
    if not password:
        printing.complain("the password is empty; write one")
        raise Complained(1)
    return password


def _tested(operation: str, *, json: bool, **args: Any) -> int:
    result = asked(operation, **args)
    if json:
        printing.as_json(result)
    else:
        if result["passed"] is not None:
            verdict = "passed" if result["passed"] else f"failed: {result['cause_in_words'] or 'see below'}"
            printing.lines([f"The live test of {result['name']} {verdict}."])
        if result["message_id"]:
            printing.lines([f"The letter was taken as {result['message_id']}."])
        printing.section("Conversation", result["transcript"])
        printing.lines(["", f"{result['name']} is {result['intended_state']} and {result['reported_state']}."])
    return 1 if result["passed"] is False else 0


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
    # What the gate held was no attempt.
    number = "-" if attempt["outcome"] == "held" else attempt["number"]
    return f"{number}  {moment(attempt['started_at'])}  {attempt['outcome']}{blame}  {said}".rstrip()


def _entry(entry: dict[str, Any]) -> str:
    change = f"{entry['from'] or '-'} -> {entry['to'] or '-'}"
    why = f" ({entry['why']})" if entry["why"] else ""
    return f"{moment(entry['at'])}  {entry['who']}  {entry['action']}  {change}{why}"
