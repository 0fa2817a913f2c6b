"""Valid things to start from: a test says only what matters to it."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, select

from mailroom.kinds import KINDS
from mailroom.message import Content, Kind, Status, new_message_id
from mailroom.store import integrations, messages, schema
from mailroom.store.content import encode_content
from mailroom.store.integrations import NewIntegration
from mailroom.store.messages import Attempt, Claimed, NewMessage, Settlement, Standing
from mailroom.store.migrating import migrate
from mailroom.store.opening import open_store
from mailroom.store.port import Store

NOW = datetime(2026, 1, 6, 12, tzinfo=UTC)


def this_moment() -> datetime:
    """The time of day, for tests that no other matters to."""
    return datetime.now(UTC)


async def migrated(url: str) -> None:
    """Give a fresh database its tables."""
    store = open_store(url)
    try:
        await store.transaction(migrate)
    finally:
        await store.aclose()


def a_content(**changes: Any) -> Content:
    """What a form says."""
    return Content(**{"to": "support@company.test", "subject": "A question", "text": "Where is my parcel?"} | changes)


def a_message(integration_id: UUID, **changes: Any) -> NewMessage:
    """A form message ready to be accepted."""
    kind = changes.get("kind", Kind.FORM)
    accepted_at = changes.get("accepted_at", NOW)
    usual: dict[str, Any] = {
        "id": new_message_id(), "kind": kind, "integration_id": integration_id, "service": "support",
        "recipient": "support@company.test", "sender": "jane@customer.test", "subject": "A question",
        "accepted_at": accepted_at, "expires_at": accepted_at + KINDS[kind].expires_after,
        "body": encode_content(a_content()),
    }  # fmt: skip
    return NewMessage(**(usual | changes))


def an_integration(**changes: Any) -> NewIntegration:
    """An integration that is not there yet."""
    usual: dict[str, Any] = {
        "name": "main", "host": "smtp.company.test", "port": 587, "security": "starttls",
        "from_address": "forms@company.test", "max_connections": 8,
    }  # fmt: skip
    return NewIntegration(**(usual | changes))


def an_attempt(**changes: Any) -> Attempt:
    """A first try that the server put off."""
    usual: dict[str, Any] = {"number": 1, "started_at": NOW, "ended_at": NOW, "outcome": "deferred", "blame": "recipient",
             "command": "RCPT", "code": 450, "reply": "RCPT: 450 try later"}  # fmt: skip
    return Attempt(**(usual | changes))


def a_settlement(claimed: Claimed, status: Status = Status.SENT, **changes: Any) -> Settlement:
    """What became of a claimed message after one try."""
    usual: dict[str, Any] = {"id": claimed.id, "claim": claimed.claim, "status": status, "at": NOW,
             "attempts": claimed.attempts + 1, "blamed": claimed.blamed}  # fmt: skip
    return Settlement(**(usual | changes))


async def created(store: Store, **changes: Any) -> UUID:
    """Create an integration; its id."""
    new = an_integration(**changes)
    assert await store.transaction(integrations.create_absent, new, who="test", now=NOW)
    [row] = [row for row in await store.read(integrations.all_rows) if row.name == new.name]
    return UUID(str(row.id))


def every_standing(tx: Connection) -> list[Standing]:
    """Where all messages stand, the newest first."""
    return messages.standings_of(tx, list(tx.execute(select(schema.messages.c.id)).scalars()))


async def accepted(store: Store, integration_id: UUID, **changes: Any) -> NewMessage:
    """Accept a message."""
    message = a_message(integration_id, **changes)
    await store.statement(messages.accept, [message])
    return message


async def claimed(store: Store, message: NewMessage, session: UUID | None = None) -> Claimed:
    """Claim a message that is queued, by default for a session of its own."""
    taken = await store.statement(messages.claim, [message.id], session or uuid4(), suspect=message.id)
    return taken[message.id]
