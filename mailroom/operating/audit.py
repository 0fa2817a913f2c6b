"""What an operator can ask for about the audit: who changed what, when, and why."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from mailroom.operating.operator import Operator
from mailroom.store import audit, clients, integrations, users
from mailroom.store.audit import Place, Wanted

#: Rows of one page at most.
MOST = 1000

_SPAN = re.compile(r"(\d{1,6})\s*([mhd])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


class BadMoment(Exception):
    """This is no moment, and no time ago."""


class BadCursor(Exception):
    """No page ended here."""


async def list_audit(  # noqa: PLR0913 - each is a way to narrow the list
    operator: Operator,
    *,
    since: str | None = None,
    until: str | None = None,
    who: str | None = None,
    subject: str | None = None,
    action: str | None = None,
    integration: str | None = None,
    before: str | None = None,
    limit: int = 50,
) -> dict[str, Any]:
    """A page of the audit, newest first, and what to ask for the next one with; `next` is null at the end.

    `since` and `until` are moments ("2026-01-06", "2026-01-06T12:00Z") or times ago ("90m", "24h", "7d").
    """
    now, size = datetime.now(UTC), max(1, min(limit, MOST))
    wanted = Wanted(
        since=None if since is None else moment_of(since, now),
        until=None if until is None else moment_of(until, now),
        who=who,
        subject=subject,
        subject_id=None if integration is None else (await operator.store.read(integrations.named, integration)).id,
        action=action,
    )
    place = None if before is None else _place(before)
    # One more than is shown tells whether there is a next page.
    rows = await operator.store.read(audit.listed, wanted, before=place, limit=size + 1)
    names = await _names(operator)
    shown = rows[:size]
    return {
        "entries": [_entry(row, names) for row in shown],
        "next": f"{shown[-1].at.isoformat()}/{shown[-1].id}" if len(rows) > size else None,
    }


def moment_of(text: str, now: datetime) -> datetime:
    """The moment that a person means; without a zone it is UTC. Raises BadMoment."""
    try:
        if ago := _SPAN.fullmatch(text.strip()):
            return now - int(ago[1]) * _UNITS[ago[2]]
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise BadMoment(
            f'{text!r} is no moment; write one like "2026-01-06" or "2026-01-06T12:00Z", or "24h"'
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _place(text: str) -> Place:
    at, _, row_id = text.partition("/")
    try:
        return Place(moment_of(at, datetime.now(UTC)), UUID(row_id))
    except (ValueError, BadMoment):
        raise BadCursor(f"{text!r} is no place in the audit; give `next` of the page before") from None


def _entry(row: Any, names: dict[UUID, str]) -> dict[str, Any]:
    return {
        "at": row.at, "who": row.who, "subject": row.subject, "subject_id": row.subject_id,
        "name": names.get(row.subject_id), "action": row.action, "from": row.before, "to": row.after, "why": row.why,
        "cause": row.cause, "transcript": row.transcript.splitlines() if row.transcript else [],
    }  # fmt: skip


async def _names(operator: Operator) -> dict[UUID, str]:
    """How what has an id and a name is called now; what was deleted is called as it last was."""
    found: dict[UUID, str] = {}
    for query in (integrations.all_rows, clients.listed, users.listed):
        found |= {row.id: row.name for row in await operator.store.read(query)}
    return found
