"""Queries about conversations: who writes with whom, since when, and whether it goes on.

Every form submission is one from the beginning, under the id of its message, and costs nothing for it: it gets a row of
its own when it is first touched.
"""

import json
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.message import Correspondent, Kind, Status
from mailroom.store.absent import insert_absent
from mailroom.store.content import decode_content
from mailroom.store.schema import contents, conversations, messages

#: How many conversations are counted at most; a list says no more.
MOST_COUNTED = 10_000

#: Who a conversation that a form opened came through.
FORM_PROVIDER = "Mailroom"


class Direction(StrEnum):
    """Who wrote first."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class UnknownConversation(Exception):
    """There is no such conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A customer and us, writing to each other. What is not known is None."""

    id: UUID
    from_form: bool
    direction: Direction
    provider: str
    opened_at: datetime
    subject: str
    customer: Correspondent | None
    ours: Correspondent | None
    opened_by: str | None = None
    queue_id: UUID | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    #: What its form came in for.
    integration_id: UUID | None = None
    tenant: str | None = None
    ended_at: datetime | None = None


def get(tx: Connection, conversation_id: UUID) -> Conversation | None:
    """A conversation; None when there is none of this id."""
    row = tx.execute(sa.select(conversations).where(conversations.c.id == conversation_id)).one_or_none()
    return _of_form(tx, conversation_id) if row is None else _of_row(row)


def touch(tx: Connection, conversation_id: UUID) -> Conversation:
    """A conversation that nobody else changes before this transaction ends. Raises UnknownConversation."""
    mine = sa.select(conversations).where(conversations.c.id == conversation_id).with_for_update()
    row = tx.execute(mine).one_or_none()
    if row is None:
        form = _of_form(tx, conversation_id)
        if form is None:
            raise UnknownConversation(str(conversation_id))
        insert_absent(tx, conversations, [_values(form)])
        row = tx.execute(mine).one()
    return _of_row(row)


def open_one(tx: Connection, conversation: Conversation) -> None:
    """Enter a conversation that somebody begins by a call."""
    tx.execute(sa.insert(conversations).values(_values(conversation)))


def end(tx: Connection, conversation_id: UUID, *, who: str, now: datetime) -> Conversation:
    """End it: nobody writes in it any more. Ending it twice changes nothing. Raises UnknownConversation."""
    found = touch(tx, conversation_id)
    if found.ended_at is not None:
        return found
    tx.execute(sa.update(conversations).where(conversations.c.id == conversation_id).values(ended_at=now, ended_by=who))
    return replace(found, ended_at=now)


def going_on(tx: Connection, *, limit: int, offset: int = 0) -> tuple[list[Conversation], int]:
    """A page of those that have not ended, the newest first, and how many there are (counted up to MOST_COUNTED)."""
    untouched = sa.select(messages.c.id).where(
        messages.c.kind == Kind.FORM,
        sa.or_(messages.c.status.is_(None), messages.c.status != Status.REFUSED),
        ~sa.exists().where(conversations.c.id == messages.c.id),
    )
    touched = sa.select(conversations.c.id).where(conversations.c.ended_at.is_(None))
    # Each part is cut by itself, so that neither is read further than a page needs.
    reach = min(offset + limit, MOST_COUNTED)
    parts = [part.order_by(sa.desc("id")).limit(reach).subquery() for part in (untouched, touched)]
    both = sa.union_all(*(sa.select(part.c.id) for part in parts)).subquery()
    ids = tx.execute(sa.select(both.c.id).order_by(both.c.id.desc()).limit(limit).offset(offset)).scalars().all()
    counted = [sa.select(part.limit(MOST_COUNTED).subquery().c.id) for part in (untouched, touched)]
    total = tx.execute(sa.select(sa.func.count()).select_from(sa.union_all(*counted).subquery())).scalar_one()
    rows = tx.execute(sa.select(conversations).where(conversations.c.id.in_(ids)))
    by_id = {row.id: _of_row(row) for row in rows}
    # Forms one by one: each brings along all that it says, files too, and a page of them is too much at once.
    found = [by_id.get(one) or _of_form(tx, one) for one in ids]
    return [one for one in found if one is not None], min(int(total), MOST_COUNTED)


# --- rows -------------------------------------------------------------------------------------------------------------


def _of_form(tx: Connection, message_id: UUID) -> Conversation | None:
    row = tx.execute(
        sa.select(messages, contents.c.body)
        .join(contents, contents.c.message_id == messages.c.id)
        .where(messages.c.id == message_id, messages.c.kind == Kind.FORM)
    ).one_or_none()
    if row is None:
        return None
    content = decode_content(row.body)
    return Conversation(
        id=row.id,
        from_form=True,
        direction=Direction.INBOUND,
        provider=FORM_PROVIDER,
        opened_at=row.accepted_at,
        opened_by=None,
        subject=content.subject,
        customer=Correspondent(content.reply_to, content.reply_to_name) if content.reply_to else None,
        ours=Correspondent(content.to),
        attributes=content.attributes,
        integration_id=row.integration_id,
        tenant=row.tenant,
    )


def _of_row(row: Any) -> Conversation:
    return Conversation(
        id=row.id,
        from_form=bool(row.from_form),
        direction=Direction(row.direction),
        provider=row.provider,
        opened_at=row.opened_at,
        opened_by=row.opened_by,
        subject=row.subject,
        customer=Correspondent(row.customer_address, row.customer_name) if row.customer_address else None,
        ours=Correspondent(row.our_address, row.our_name) if row.our_address else None,
        queue_id=row.queue_id,
        attributes=tuple((name, value) for name, value in json.loads(row.attributes or "[]")),
        integration_id=row.integration_id,
        tenant=row.tenant,
        ended_at=row.ended_at,
    )


def _values(conversation: Conversation) -> dict[str, Any]:
    customer, ours = conversation.customer, conversation.ours
    return {
        "id": conversation.id,
        "from_form": conversation.from_form,
        "direction": conversation.direction,
        "provider": conversation.provider,
        "opened_at": conversation.opened_at,
        "opened_by": conversation.opened_by,
        "subject": conversation.subject,
        "customer_address": customer.address if customer else None,
        "customer_name": customer.name if customer else None,
        "our_address": ours.address if ours else None,
        "our_name": ours.name if ours else None,
        "queue_id": conversation.queue_id,
        "attributes": json.dumps(conversation.attributes) if conversation.attributes else None,
        "integration_id": conversation.integration_id,
        "tenant": conversation.tenant,
        "ended_at": conversation.ended_at,
    }
