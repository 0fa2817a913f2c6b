"""What an operator does with messages: find, look into, re-drive."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from mailroom.kinds import KINDS
from mailroom.message import DEAD_LETTERS, Kind, Status
from mailroom.operating.operator import Operator
from mailroom.queue.ticket import Address
from mailroom.store import integrations, messages, redrives
from mailroom.store.messages import NotADeadLetter, Standing
from mailroom.tickets import TicketWriter


class UnknownMessage(Exception):
    """No message has this id."""


class UnknownStatus(Exception):
    """Messages have no such status."""


async def list_messages(
    operator: Operator, status: str | None, integration: str | None, limit: int
) -> list[dict[str, Any]]:
    """The newest messages first."""
    if status is not None and status not in set(Status):
        raise UnknownStatus(f"there is no status {status!r}; there are: {', '.join(Status)}")
    integration_id = (
        (await operator.store.read(integrations.named, integration)).id if integration is not None else None
    )
    found = await operator.store.read(
        messages.standings,
        status=Status(status) if status is not None else None,
        integration_id=integration_id,
        limit=limit,
    )
    names = await _names(operator)
    return [_message(standing, names) for standing in found]


async def show_message(operator: Operator, message_id: str) -> dict[str, Any]:
    """One message with every recorded attempt; never what it says."""
    standing = await known_message(operator, message_id)
    attempts = await operator.store.read(messages.attempts_of, standing.id)
    return _message(standing, await _names(operator)) | {"attempts": attempts}


async def redrive_message(operator: Operator, message_id: str, why: str | None = None) -> dict[str, Any]:
    """Give a dead letter fresh attempts and the time its kind is entitled to."""
    standing = await known_message(operator, message_id)
    try:
        revived = await operator.store.transaction(
            redrives.redrive_one, standing.id, who=operator.who, now=datetime.now(UTC), why=why
        )
    except NotADeadLetter as error:
        raise NotADeadLetter(f"{standing.id} cannot be re-driven: {_why_not(standing)}") from error
    await _ticket(operator, revived.kind, revived.integration_id, revived.id)
    return await show_message(operator, message_id)


async def _ticket(operator: Operator, kind: Kind, integration_id: UUID, message_id: UUID) -> None:
    tickets = TicketWriter(operator.queue, operator.store)
    await tickets.write_alone(Address(KINDS[kind].lane, integration_id), message_id)
    await tickets.aclose()


def _message(standing: Standing, names: Mapping[UUID | None, str]) -> dict[str, Any]:
    return {
        "id": standing.id,
        "kind": standing.kind,
        "service": standing.service,
        "integration": names.get(standing.integration_id),
        "status": standing.status,
        "recipient": standing.recipient,
        "sender": standing.sender,
        "subject": standing.subject,
        "size": standing.size,
        "accepted_at": standing.accepted_at,
        "due": standing.due,
        "ended_at": standing.ended_at,
        "reason": standing.reason,
        "reply": standing.reply,
        "tries": standing.attempts,
        "possible_duplicate": standing.possible_duplicate,
        "tls": standing.tls,
        "took_ms": standing.took,
        "answered": standing.answered,
    }


def _why_not(standing: Standing) -> str:
    if standing.status in DEAD_LETTERS:
        return f"it is {standing.status}, and its client was told so; send it again as a new message"
    return f"it is {standing.status}, and only {', '.join(sorted(DEAD_LETTERS))} messages are dead letters"


async def _names(operator: Operator) -> dict[UUID | None, str]:
    return {row.id: row.name for row in await operator.store.read(integrations.all_rows)}


async def known_message(operator: Operator, message_id: str) -> Standing:
    """Where the message of this id stands. Raises UnknownMessage."""
    try:
        standing = await operator.store.read(messages.standing, UUID(message_id))
    except ValueError:
        standing = None
    if standing is None:
        raise UnknownMessage(f"there is no message {message_id!r}; `mailroom messages list` shows the newest")
    return standing
