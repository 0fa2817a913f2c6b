"""Sending a dead letter again to another recipient: the only way for one whose client was told that it failed."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from mailroom.addresses import check_address
from mailroom.attachments import AttachmentMissing
from mailroom.gate import Closed, Open, gate
from mailroom.integration import Cause, IntendedState, ReportedState
from mailroom.kinds import KINDS, WhenRefused
from mailroom.message import DEAD_LETTERS, Content, Correspondent, Kind, Status, new_message_id
from mailroom.operating import messages
from mailroom.operating.operator import Operator
from mailroom.queue.ticket import Address
from mailroom.store import copying, integrations
from mailroom.store import messages as queries
from mailroom.store.audit import Entry
from mailroom.store.content import UnreadableContent, decode_content, encode_content
from mailroom.store.copying import Again, NotCopied
from mailroom.store.messages import NewMessage, NotADeadLetter
from mailroom.store.port import BadRow, CommitUnknown, StoreUnavailable

#: Seconds before a commit in doubt is asked about.
AGAIN_SECONDS = 0.5


class BadAddress(Exception):
    """This is no address that mail can be sent to."""


class MayNotSend(Exception):
    """The integration may not send messages of this kind now."""


#: What a person can act on.
REFUSALS = (BadAddress, MayNotSend, NotCopied, AttachmentMissing, UnreadableContent)


async def copy_message(operator: Operator, message_id: str, to: str, why: str | None = None) -> dict[str, Any]:
    """Send a dead letter again to another recipient, as a new message; what stands of the new one."""
    standing, address = await messages.known_message(operator, message_id), check_address(to)
    if address is None:
        raise BadAddress(f"{to!r} is no e-mail address that mail can be sent to")
    if standing.status not in DEAD_LETTERS or standing.integration_id is None:
        raise NotADeadLetter(f"{standing.id} cannot be sent again: {messages.why_not(standing)}")
    content = decode_content(await operator.store.read(queries.body_of, standing.id))
    status, noted = await _past_the_gate(operator, standing.kind, standing.integration_id)
    content, keys = await _with_own_files(operator, standing.id, addressed(content, address))
    now = await operator.now()
    new = NewMessage(
        id=new_message_id(now), kind=standing.kind, integration_id=standing.integration_id, service=standing.service,
        tenant=standing.tenant, recipient=address, sender=standing.sender, subject=standing.subject or "",
        size=standing.size, accepted_at=now, expires_at=now + KINDS[standing.kind].expires_after, status=status,
        body=encode_content(content), files=keys,
    )  # fmt: skip
    await _committed(operator, Again(original=standing.id, message=new, who=operator.who, why=why, noted=noted))
    if status is Status.QUEUED:
        await messages.ticket(operator, Address(KINDS[new.kind].lane, new.integration_id), new.id, now)
    return await messages.show_message(operator, str(new.id))


def addressed(content: Content, address: str) -> Content:
    """The content for another recipient, who stands in its headers wherever the old one did."""

    def corrected(people: tuple[Correspondent, ...]) -> tuple[Correspondent, ...]:
        return tuple(replace(one, address=address) if one.address == content.to else one for one in people)

    return replace(content, to=address, to_all=corrected(content.to_all), cc=corrected(content.cc))


async def _past_the_gate(operator: Operator, kind: Kind, integration_id: UUID) -> tuple[Status, Entry | None]:
    """How it is accepted, as any other of its kind, and what has to be on record about that. Raises MayNotSend."""
    row, now = await operator.store.read(integrations.find, integration_id), await operator.now()
    if row is None:
        raise MayNotSend("nothing was sent: its integration was deleted")
    states = (IntendedState(row.intended_state), ReportedState(row.reported_state))
    cause = Cause(row.cause) if row.cause else None
    match gate(kind, *states, cause, now, operator.settings.enforcement):
        case Closed() if KINDS[kind].when_refused is WhenRefused.HOLD:
            return Status.HELD, None
        case Closed(reason):
            raise MayNotSend(f"nothing was sent, because {row.name} cannot be used: {reason}")
        case Open(None):
            return Status.QUEUED, None
        case Open(warning):
            state = row.reported_state
            entry = Entry(subject="integration", subject_id=row.id, action="overlooked", who=operator.who, at=now,
                          before=state, after=state, why=warning, cause=row.cause)  # fmt: skip
            return Status.QUEUED, entry


async def _with_own_files(operator: Operator, message_id: UUID, content: Content) -> tuple[Content, tuple[str, ...]]:
    """The content with copies of the files that are the message's own, and their keys. Raises AttachmentMissing."""
    own = await operator.store.read(copying.files_of, message_id)
    if not own:
        return content, ()
    if operator.attachments is None:
        raise AttachmentMissing("the attachment store is not known here")
    attachments, keys = [], []
    try:
        for file in content.attachments:
            if file.key not in own:
                attachments.append(file)
                continue
            keys.append(await operator.attachments.copy(file))
            attachments.append(replace(file, key=keys[-1], at=None))
    except BaseException:
        await _forget(operator, keys)
        raise
    return replace(content, attachments=tuple(attachments)), tuple(keys)


async def _committed(operator: Operator, again: Again) -> None:
    """Commit it, and ask once more where that is in doubt: it is done once however often it is asked for."""
    try:
        await operator.store.transaction(copying.send_again, again)
    except CommitUnknown:
        await asyncio.sleep(AGAIN_SECONDS)
        await operator.store.transaction(copying.send_again, again)
    except (NotCopied, BadRow, StoreUnavailable):
        await _forget(operator, again.message.files)
        raise


async def _forget(operator: Operator, keys: Sequence[str]) -> None:
    for key in keys:
        with contextlib.suppress(OSError):  # a file that nobody needs does no harm
            if operator.attachments is not None:
                await operator.attachments.delete(key)
