"""`mailroom dead-letters …`: what failed for one cause, looked at and dealt with together."""

import sys
from collections.abc import Iterator
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from cli import printing
from cli.commands import asked
from cli.printing import moment
from mailroom.operating.dead_letters import sheet_of, sheet_with_heading

Json = Annotated[bool, Parameter(name="--json", negative="", show_default=False, help="Print JSON, for programs.")]
Group = Annotated[str, Parameter(help="The group, as `mailroom dead-letters list` shows it; its first digits will do.")]
Integration = Annotated[str | None, Parameter(help="Only those of this integration.")]
Limit = Annotated[int, Parameter(help="At most so many.", validator=Number(gte=1, lte=10_000))]

#: Digits of a fingerprint in a list.
_SHOWN = 10

#: Members that are asked for at once.
_PAGE = 1000


def list_groups(*, integration: Integration = None, limit: Limit = 50, json: Json = False) -> int:
    """List the open dead letters by what they have in common."""
    found = asked("dead_letters.list", integration=integration, limit=limit)
    if json:
        printing.as_json(found)
        return 0
    printing.table(
        ("GROUP", "LETTERS", "LAST", "INTEGRATION", "REASON", "AT", "SAID"),
        [
            (one["fingerprint"][:_SHOWN], one["number"], moment(one["last_at"]), one["integration"], one["reason"],
             _at(one), one["said"])
            for one in found
        ],
    )  # fmt: skip
    return 0


def show_group(group: Group, /, *, integration: Integration = None, limit: Limit = 20, json: Json = False) -> int:
    """Show one group: its cause, the youngest of its messages, its re-drives and its history."""
    found = asked("dead_letters.show", group=group, integration=integration, limit=limit)
    if json:
        printing.as_json(found)
        return 0
    members, redrives, history = (found.pop(part) for part in ("members", "redrives", "history"))
    printing.fields(found | {"first_at": moment(found["first_at"]), "last_at": moment(found["last_at"])})
    shown = [f"{one['id']}  {moment(one['ended_at'])}  {one['recipient']}  {one['subject']}" for one in members]
    printing.section("Messages, youngest first", shown)
    printing.section("Re-drives, newest first", [_run(one) for one in redrives])
    printing.section("History, newest first", [_entry(one) for one in history])
    return 0


def redrive_group(
    group: Group,
    /,
    *,
    integration: Integration = None,
    per_second: Annotated[float, Parameter(help="Messages a second, at most 1000.")] = 50.0,
    why: Annotated[str | None, Parameter(help="The reason, for the history that others will read.")] = None,
    json: Json = False,
) -> int:
    """Have a whole group tried again, so many a second."""
    done = asked("dead_letters.redrive", group=group, integration=integration, per_second=per_second, why=why)
    return _told(done, json=json)


def list_redrives(*, limit: Limit = 20, json: Json = False) -> int:
    """List the re-drives of groups with how far they are, newest first."""
    found = asked("dead_letters.redrives", limit=limit)
    if json:
        printing.as_json(found)
    else:
        printing.lines(_run(one) for one in found)
    return 0


def stop_redrive(
    redrive_id: Annotated[str, Parameter(help="Its id, as `mailroom dead-letters redrives` shows it.")],
    /,
    *,
    json: Json = False,
) -> int:
    """Queue no more of a group; what was queued goes on."""
    done = asked("dead_letters.stop", redrive_id=redrive_id)
    return _told(done, json=json)


def dismiss_group(
    group: Group,
    /,
    *,
    why: Annotated[str, Parameter(help="The reason, for the history that others will read.")],
    integration: Integration = None,
    json: Json = False,
) -> int:
    """Put a whole group out of sight; its messages stay what they are."""
    done = asked("dead_letters.dismiss", group=group, integration=integration, why=why)
    if json:
        printing.as_json(done)
    else:
        printing.lines([f"{done['dismissed']} dead letters are dismissed."])
    return 0


def export_group(group: Group, /, *, integration: Integration = None, json: Json = False) -> int:
    """Print whom a group concerns as CSV, the oldest first."""
    members: list[dict[str, Any]] = []
    begun = False
    for page in _pages(group, integration):
        if json:
            members += page
        else:
            sys.stdout.write(sheet_of(page) if begun else sheet_with_heading(page))
            begun = True
    if json:
        printing.as_json(members)
    return 0


def _pages(group: str, integration: str | None) -> Iterator[list[dict[str, Any]]]:
    """What a group has, so many at a time; raises Complained."""
    after = None
    while True:
        page = asked("dead_letters.affected", group=group, integration=integration, after=after, limit=_PAGE)
        yield page
        if len(page) < _PAGE:
            return
        after = page[-1]["id"]


def _at(one: dict[str, Any]) -> str:
    return " ".join(str(part) for part in (one["command"], one["code"]) if part is not None)


def _told(redrive: dict[str, Any], *, json: bool) -> int:
    if json:
        printing.as_json(redrive)
    else:
        printing.lines([_run(redrive)])
    return 0


def _run(one: dict[str, Any]) -> str:
    if one["stopped_by"] is not None:
        state = f"stopped by {one['stopped_by']}"
    else:
        state = "under way" if one["ended_at"] is None else f"over since {moment(one['ended_at'])}"
    return (
        f"{one['id']}  {moment(one['requested_at'])}  {one['requested_by']}  {one['integration']}  "
        f"{one['fingerprint'][:_SHOWN]}  {one['done']} of {one['total']}, {one['per_second']:g} a second  {state}"
    )


def _entry(one: dict[str, Any]) -> str:
    after = f" -> {one['to']}" if one["to"] else ""
    why = f" ({one['why']})" if one["why"] else ""
    return f"{moment(one['at'])}  {one['who']}  {one['action']}  {one['from']}{after}{why}"
