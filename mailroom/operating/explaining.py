"""What an operator can ask for when something surprises: why a message, or a submission, fares as it does."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from mailroom.explain import Accepted, Known, Recipient, Service, explain
from mailroom.integration import Integration, IntendedState
from mailroom.message import Kind
from mailroom.operating.messages import known_message
from mailroom.operating.operator import Operator
from mailroom.settings import EmailOptions
from mailroom.store import allowances, domains, explaining, integrations, sweeping
from mailroom.store.domains import DECIDED_BY
from mailroom.watch import integration_of


class Unexplainable(Exception):
    """Too little was told to explain it."""


@dataclass(frozen=True, slots=True)
class _Load:
    """What waits for an integration, and what it has used of the day."""

    ahead: int = 0
    used_today: int = 0


async def explain_message(operator: Operator, message_id: str) -> dict[str, Any]:
    """Every decision about a message as it stands now."""
    standing, now = await known_message(operator, message_id), await operator.now()
    fate = await operator.store.read(explaining.fate, standing.id)
    # Deleted ones too: a message keeps its integration.
    found = None if standing.integration_id is None else await _by_id(operator, standing.integration_id)
    load = await _load(operator, found, now)
    known = Known(
        kind=standing.kind, now=now, enforcement=operator.settings.enforcement, retry=operator.settings.retry,
        recipient=Recipient(address=standing.recipient, chosen_by="it was accepted so"),
        leaves_through=f"the integration {found.name!r}" if found is not None else "its integration", integration=found,
        ahead=load.ahead, used_today=load.used_today, size=standing.size,
        accepted=Accepted(
            status=standing.status, expires_at=fate.expires_at, due=standing.due, attempts=standing.attempts,
            possible_duplicate=standing.possible_duplicate, answered=fate.answered,
        ),
    )  # fmt: skip
    return {"message_id": standing.id, "kind": standing.kind, "decisions": explain(known)}


async def explain_submission(
    operator: Operator,
    *,
    service: str | None = None,
    kind: str = Kind.FORM,
    from_address: str | None = None,
    mailbox: str | None = None,
    size: int = 0,
) -> dict[str, Any]:
    """Every decision about a form, or about an agent's or agentless letter, were it submitted now.

    `mailbox` is what the form names itself, or whom the letter is for.
    """
    if kind == Kind.FORM:
        known = await _form(operator, service or "default", mailbox, size)
    else:
        known = await _letter(operator, kind, from_address, mailbox, size)
    return {"message_id": None, "kind": known.kind, "decisions": explain(known)}


async def _form(operator: Operator, name: str, mailbox: str | None, size: int) -> Known:
    settings, now = operator.settings, await operator.now()
    options = settings.options_of(name)
    effective = options or settings.email
    origin = settings.origin_of(name, "integration")
    found = await _by_name(operator, effective.integration)
    load = await _load(operator, found, now)
    return Known(
        kind=Kind.FORM, now=now, enforcement=settings.enforcement, retry=settings.retry,
        service=Service(name=name, options=options, origin=origin),
        recipient=recipient_of(effective, settings.origin_of(name, "mailbox").where, found, mailbox),
        leaves_through=f"the integration {effective.integration!r} ({origin.where})", integration=found,
        ahead=load.ahead, used_today=load.used_today, size=size,
    )  # fmt: skip


async def _letter(operator: Operator, kind: str, from_address: str | None, to: str | None, size: int) -> Known:
    if kind not in set(DECIDED_BY):
        raise Unexplainable(f"nothing of the kind {kind!r} can be submitted; there are: form, {', '.join(DECIDED_BY)}")
    if from_address is None:
        raise Unexplainable(f"where {kind} mail leaves through is decided by its sender; give the sender's address")
    direction, now = DECIDED_BY[Kind(kind)], await operator.now()
    through = await operator.store.read(domains.integration_for, direction, from_address)
    found = None if through is None else await _by_id(operator, through)
    load = await _load(operator, found, now)
    domain = f"the {direction} domain {from_address.rpartition('@')[2]}"
    return Known(
        kind=Kind(kind), now=now, enforcement=operator.settings.enforcement, retry=operator.settings.retry,
        recipient=Recipient(address=to or "whom the letter names", chosen_by="the letter says so"),
        leaves_through=f"an integration of {domain}" if found is None else f"the integration {found.name!r} of {domain}",
        integration=found, ahead=load.ahead, used_today=load.used_today, size=size,
    )  # fmt: skip


def recipient_of(options: EmailOptions, origin: str, integration: Integration | None, given: str | None) -> Recipient:
    """Where a form goes: what it names itself where that is allowed, else the service's mailbox, else the integration's."""
    own = options.mailbox or (integration.default_mailbox if integration is not None else None)
    if given is None:
        if own is None:
            return Recipient(address=None, chosen_by="neither the service nor its integration has a mailbox (code 383)")
        said_by = f"mailbox is {own} ({origin})" if options.mailbox else "it is the mailbox of its integration"
        return Recipient(address=own, chosen_by=said_by)
    if own is not None and given.lower() == own.lower():
        return Recipient(address=own, chosen_by="the form names the service's own mailbox")
    for pattern in options.allowed_mailboxes:
        local_part, _, domain = pattern.rpartition("@")
        if given.lower() == pattern.lower() or (local_part == "*" and given.lower().endswith(f"@{domain.lower()}")):
            return Recipient(address=given, chosen_by=f"the form names it, and allowed_mailboxes has {pattern}")
    return Recipient(
        address=None, chosen_by=f"the form names {given}, and allowed_mailboxes does not let it (code 383)"
    )


# --- steps ------------------------------------------------------------------------------------------------------------


async def _by_id(operator: Operator, integration_id: UUID) -> Integration | None:
    rows = await operator.store.read(integrations.all_rows)
    return next((integration_of(row, None) for row in rows if row.id == integration_id), None)


async def _by_name(operator: Operator, name: str) -> Integration | None:
    rows = await operator.store.read(integrations.all_rows)
    there = (row for row in rows if row.name == name and row.intended_state != IntendedState.DELETED)
    return next((integration_of(row, None) for row in there), None)


async def _load(operator: Operator, integration: Integration | None, now: datetime) -> _Load:
    if integration is None:
        return _Load()
    waiting = await operator.store.read(sweeping.impact, integration.id, now=now)
    return _Load(waiting.queued, await operator.store.read(allowances.used_today, integration.id, now=now))
