"""What an operator does with messages: find, look into, re-drive, dismiss."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

from mailroom.kinds import KINDS
from mailroom.message import DEAD_LETTERS, Kind, Status
from mailroom.operating import searchbox
from mailroom.operating.audit import moment_of
from mailroom.operating.operator import Operator
from mailroom.queue.ticket import Address
from mailroom.store import dead_letters, integrations, messages, redrives
from mailroom.store.messages import NotADeadLetter, Standing
from mailroom.store.schema import EPOCH
from mailroom.store.searching import Query, search
from mailroom.tickets import TicketWriter


class UnknownMessage(Exception):
    """No message has this id."""


class UnknownStatus(Exception):
    """Messages have no such status."""


class UnknownKind(Exception):
    """Messages are of no such kind."""


class NoReason(Exception):
    """What is done here needs a reason."""


#: The clocks of gateways may be ahead of ours: the newest messages are never too new.
_AHEAD = timedelta(hours=1)

AnyEnum = TypeVar("AnyEnum", bound=StrEnum)


async def search_messages(
    operator: Operator,
    text: str | None,
    narrowed: Mapping[str, str | None],
    limit: int,
    before: str | None = None,
) -> dict[str, Any]:
    """A page of the newest messages that fit what was typed and all it is narrowed to.

    Narrowed by `status`, `kind`, `service`, `integration` (its name), and by `since` and `until`, which are told as for
    the audit. `older` is the next page's `before`. With `looked_back_to` the search came to its bound
    there, which keeps every request quick: `older` goes on.
    """
    asked = searchbox.read(text or "")
    integration, now = narrowed.get("integration"), await operator.now()
    found = await operator.store.read(
        search,
        Query(
            since=_moment(narrowed.get("since"), now) or EPOCH,
            # Nothing is of later, and of the last moments of all there is no next millisecond.
            until=min(_moment(narrowed.get("until"), now) or now + _AHEAD, now + _AHEAD),
            message_id=asked.message_id,
            address=asked.address,
            domain=asked.domain,
            words=asked.words,
            service=narrowed.get("service"),
            kind=_one_of(Kind, narrowed.get("kind"), UnknownKind),
            status=_one_of(Status, narrowed.get("status"), UnknownStatus),
            integration_id=None
            if integration is None
            else (await operator.store.read(integrations.named, integration)).id,
            before=searchbox.message_id(before),
            limit=limit,
        ),
    )
    names = await _names(operator)
    return {
        "messages": [_message(standing, names) for standing in found.standings],
        "older": found.older,
        "looked_back_to": found.looked_back_to,
    }


async def show_message(operator: Operator, message_id: str) -> dict[str, Any]:
    """One message with every recorded attempt; never what it says."""
    standing = await known_message(operator, message_id)
    attempts = await operator.store.read(messages.attempts_of, standing.id)
    return _message(standing, await _names(operator)) | {"attempts": attempts}


async def redrive_message(operator: Operator, message_id: str, why: str | None = None) -> dict[str, Any]:
    """Give a dead letter fresh attempts and the time its kind is entitled to."""
    standing, now = await known_message(operator, message_id), await operator.now()
    try:
        revived = await operator.store.transaction(
            redrives.redrive_one, standing.id, who=operator.who, now=now, why=why
        )
    except NotADeadLetter as error:
        raise NotADeadLetter(f"{standing.id} cannot be re-driven: {why_not(standing)}") from error
    await ticket(operator, Address(KINDS[revived.kind].lane, revived.integration_id), revived.id, now)
    return await show_message(operator, message_id)


async def ticket(operator: Operator, address: Address, message_id: UUID, now: datetime) -> None:
    """Put the message on its queue, by a ticket of its own; where that fails the sweep will."""
    tickets = TicketWriter(operator.queue, operator.store, lambda: now)
    await tickets.write_alone(address, message_id)
    await tickets.aclose()


async def dismiss_message(operator: Operator, message_id: str, why: str) -> dict[str, Any]:
    """Put one dead letter out of sight; it stays what it is."""
    standing = await known_message(operator, message_id)
    await operator.store.transaction(
        dead_letters.dismiss_one, standing.id, who=operator.who, why=said(why), now=await operator.now()
    )
    return await show_message(operator, message_id)


def said(why: str | None) -> str:
    """The reason, which this needs. Raises NoReason."""
    if why is None or not why.strip():
        raise NoReason("say why: those who look for these messages later will ask")
    return why.strip()


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


def _moment(text: str | None, now: datetime) -> datetime | None:
    return None if text is None else moment_of(text, now)


def _one_of(known: type[AnyEnum], value: str | None, unknown: type[Exception]) -> AnyEnum | None:
    if value is None:
        return None
    if value not in set(known):
        raise unknown(f"there is no {known.__name__.lower()} {value!r}; there are: {', '.join(known)}")
    return known(value)


def why_not(standing: Standing) -> str:
    """Why it is nothing to re-drive, in words."""
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
