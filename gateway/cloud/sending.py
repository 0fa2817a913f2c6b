"""Sending a letter: the one way into the store for agents' replies and agentless sends, past the gate.

A letter is committed once with a message for each recipient. A commit in doubt is settled by running it again: the
request is known by then, or it is not.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar
from uuid import UUID

from gateway.cloud.answers import date
from gateway.cloud.calls import Call
from gateway.cloud.errors import Code, Entity, Refusal, busy, not_found
from gateway.cloud.repeats import key_taken, repeatable
from gateway.cloud.shapes import wire_size
from gateway.html import as_text
from mailroom.gate import Closed, gate
from mailroom.integration import Integration, ReportedState
from mailroom.kinds import KINDS
from mailroom.logs import get_logger
from mailroom.message import Content, Correspondent, Kind, new_message_id
from mailroom.queue.ticket import Address
from mailroom.store import domains, letters, requests
from mailroom.store.audit import Entry
from mailroom.store.content import encode_content
from mailroom.store.conversations import Conversation, UnknownConversation
from mailroom.store.domains import DECIDED_BY, Direction
from mailroom.store.drafts import FileGone
from mailroom.store.letters import Accepted, ConversationEnded, Letter, LetterFile, Sending, Written
from mailroom.store.messages import NewMessage
from mailroom.store.port import CommitUnknown, StoreUnavailable
from mailroom.store.requests import KeyTaken
from mailroom.tally import What
from mailroom.threads import message_id_of, thread_headers

log = get_logger(__name__)

Result = TypeVar("Result")

#: To, Cc and Bcc together; the vendor's limit.
MOST_RECIPIENTS = 50
#: The vendor's limit from July 2026.
MOST_FILES = 50

#: Bytes of a letter on the wire: where a server has not said how much it takes, and however much it says.
USUAL_ROOM = 10 * 1024 * 1024
MOST_ROOM = 40 * 1024 * 1024

#: Bytes of text and HTML that all copies of a letter may have together: each recipient's row has its own.
MOST_TOGETHER = 64 * 1024 * 1024

#: How often a commit in doubt is run again, and seconds before that.
TRIES = 4
AGAIN_SECONDS = 0.5

_REGISTERED_AT = {Direction.INBOUND: "/routing/email/domains", Direction.OUTBOUND: "/routing/email/outbound/domains"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """What somebody wants sent, checked. `html` is sent as it is; without `text` it is told in text too."""

    kind: Kind
    sender: Correspondent
    to: tuple[Correspondent, ...]
    subject: str
    text: str
    cc: tuple[Correspondent, ...] = ()
    bcc: tuple[Correspondent, ...] = ()
    reply_to: Correspondent | None = None
    html: str | None = None
    files: tuple[LetterFile, ...] = ()
    history_included: bool = False


async def sent_before(call: Call) -> Letter | None:
    """The letter that this very request made already, which is remembered anew. Raises Refusal."""
    request, store = repeatable(call), call.platform.store
    try:
        found = await store.read(requests.answered, request, call.now)
    except KeyTaken:
        raise key_taken(call) from None
    if found is None:
        return None
    with contextlib.suppress(StoreUnavailable, CommitUnknown):
        # What the answer is does not hang on it.
        await store.transaction(requests.renew, request, call.now)
    return await store.read(letters.get, found)


async def sent_once(call: Call, make: Callable[[], Awaitable[Letter]]) -> Letter:
    """The letter that this very request made already, else the one that `make` sends. Raises Refusal."""
    before = await sent_before(call)
    if before is not None:
        return before
    try:
        return await make()
    except Refusal:
        # Another copy of the request may have been accepted since: what it took, as the draft's files, is gone for ours.
        meanwhile = await sent_before(call)
        if meanwhile is None:
            raise
        return meanwhile


async def send(
    call: Call, outgoing: Outgoing, conversation: Conversation, *, opens: bool = False,
    earlier: Sequence[Letter] = (), takes: frozenset[UUID] | None = None, whole: bool = False,
) -> Letter:  # fmt: skip
    """The letter, committed: it will be sent, or what became of it can be read. Raises Refusal.

    `opens`: the conversation begins with it. `earlier` are its letters so far. `takes`, `whole`: as in `letters.Sending`.
    """
    integration = await account_of(call, outgoing.kind, outgoing.sender, conversation)
    _check_room(outgoing, integration)
    noted = _pass_gate(call, outgoing, integration)
    letter = await asyncio.to_thread(_letter, call, outgoing, conversation, earlier)
    copies = await asyncio.to_thread(_copies, call, letter, conversation, integration)
    sending = Sending(
        letter=letter, group=copies, takes=takes, whole=whole, noted=noted, opens=conversation if opens else None,
    )  # fmt: skip
    accepted = await _committed(call, sending)
    if not accepted.done_now:
        return await call.platform.store.read(letters.get, accepted.letter_id) or letter
    _ticket(call, sending)
    _count(call, sending)
    await forget_files(call, accepted.unused)
    if noted is not None:
        call.platform.overlooked.number += 1
    return letter


# --- where it leaves through ------------------------------------------------------------------------------------------


async def account_of(call: Call, kind: Kind, sender: Correspondent, conversation: Conversation | None) -> Integration:
    """The integration that mail of this sender leaves through. Raises Refusal."""
    direction = DECIDED_BY[kind]
    found = await call.platform.store.read(domains.integration_for, direction, sender.address)
    if found is None and kind is Kind.ACD and conversation is not None and _is_its_own(sender, conversation):
        found = conversation.integration_id
    if found is None:
        domain = sender.address.rpartition("@")[2]
        raise Refusal(
            400, Code.DOMAIN_NOT_VERIFIED,
            f"Mail from {domain} leaves through no integration. Add the domain with POST /api/v2"
            f"{_REGISTERED_AT[direction]}, or set its customSMTPServer.",
            params={"domain": domain}, entity=Entity(domain, "domain"),
        )  # fmt: skip
    integration = call.platform.watch.get(found)
    if integration is None or not call.platform.watch.is_fresh:
        raise busy("The state of the mail account is not known at the moment; nothing was sent.")
    return integration


def _is_its_own(sender: Correspondent, conversation: Conversation) -> bool:
    """Whether this is the address that the conversation's form was for: its replies leave as the form's mail did."""
    return conversation.ours is not None and sender.address.lower() == conversation.ours.address.lower()


def room_of(integration: Integration) -> int:
    """Bytes that a letter through this integration may have on the wire."""
    if integration.ehlo_size is None:
        return USUAL_ROOM
    # 0 is a server without a limit of its own (RFC 1870 section 3).
    return min(integration.ehlo_size or MOST_ROOM, MOST_ROOM)


def _check_room(outgoing: Outgoing, integration: Integration) -> None:
    words, number = len(outgoing.text) + len(outgoing.html or ""), len(recipients_of(outgoing))
    if words * number > MOST_TOGETHER:
        raise Refusal(
            400, Code.UPLOAD_SIZE,
            f"Text and HTML have {words} characters, too many for {number} recipients at once. Shorten them, or send it "
            "to fewer.",
            params={"size": str(words), "limit": str(MOST_TOGETHER // number)},
        )  # fmt: skip
    size = wire_size(outgoing.text, outgoing.html, [one.file.size for one in outgoing.files])
    room = room_of(integration)
    if size > room:
        raise Refusal(
            400, Code.UPLOAD_SIZE,
            f"The letter has {size} bytes on its way to the mail server, which takes {room}. Make it smaller.",
            params={"size": str(size), "limit": str(room)},
        )  # fmt: skip


def _pass_gate(call: Call, outgoing: Outgoing, integration: Integration) -> Entry | None:
    """What has to be on record about letting it pass; None when there is nothing. Raises Refusal."""
    verdict = gate(
        outgoing.kind, integration.intended_state, integration.reported_state, integration.cause, call.now,
        call.platform.settings.enforcement,
    )  # fmt: skip
    if isinstance(verdict, Closed):
        raise _refused(integration, verdict.reason)
    if verdict.warning is None:
        return None
    log.warning("letter accepted in spite of its integration's state", integration=integration.name,
                reason=verdict.warning, who=call.who)  # fmt: skip
    return Entry(
        subject="integration", subject_id=integration.id, action="overlooked", who=call.who, at=call.now,
        before=str(integration.reported_state), after=str(integration.reported_state), why=verdict.warning,
        cause=str(integration.cause) if integration.cause else None,
    )  # fmt: skip


def _refused(integration: Integration, reason: str) -> Refusal:
    in_error = integration.reported_state is ReportedState.ERROR
    params = {
        "integration": integration.name,
        "intendedState": str(integration.intended_state),
        "state": str(integration.reported_state),
        "since": date(integration.since),
    }
    if in_error and integration.cause is not None:
        params["cause"] = str(integration.cause)
    return Refusal(
        400, Code.INTEGRATION_IN_ERROR if in_error else Code.INTEGRATION_MAY_NOT_SEND,
        f"Nothing was sent, because the mail account {integration.name!r} cannot be used: {reason}. "
        "Ask an administrator to set it to active again, then send once more.",
        params=params, entity=Entity(str(integration.id), integration.name),
    )  # fmt: skip


# --- the letter and its copies ----------------------------------------------------------------------------------------


def _letter(call: Call, outgoing: Outgoing, conversation: Conversation, earlier: Sequence[Letter]) -> Letter:
    letter_id = new_message_id(call.now)
    text = outgoing.text or as_text(outgoing.html or "")
    return Letter(
        id=letter_id,
        conversation_id=conversation.id,
        kind=outgoing.kind,
        at=call.now,
        author=call.who,
        written=Written(
            sender=outgoing.sender, to=outgoing.to, cc=outgoing.cc, bcc=outgoing.bcc, reply_to=outgoing.reply_to,
            subject=outgoing.subject, text=text, html=outgoing.html, files=outgoing.files,
            history_included=outgoing.history_included, message_id=message_id_of(letter_id, outgoing.sender.address),
            answers=tuple(one.written.message_id for one in earlier if one.written.message_id is not None),
        ),
    )  # fmt: skip


def _copies(call: Call, letter: Letter, conversation: Conversation, integration: Integration) -> tuple[NewMessage, ...]:
    """A message for each recipient; their headers are the same."""
    assert letter.kind is not None, "what is sent has a kind"  # noqa: S101 - `_letter` gave it one
    written, kind = letter.written, letter.kind
    content = Content(
        to="", subject=written.subject, text=written.text, html=written.html, from_name=written.sender.name,
        from_address=written.sender.address, reply_to=written.reply_to.address if written.reply_to else None,
        reply_to_name=written.reply_to.name if written.reply_to else None, headers=_headers(kind, written),
        attachments=tuple(one.file for one in written.files), letter_id=letter.id, to_all=written.to, cc=written.cc,
    )  # fmt: skip
    size = len(written.text) + len(written.html or "") + sum(one.file.size for one in written.files)
    return tuple(
        NewMessage(
            id=new_message_id(call.now), kind=kind, integration_id=integration.id, tenant=conversation.tenant,
            recipient=recipient, sender=written.sender.address, subject=written.subject, size=size,
            accepted_at=call.now, expires_at=call.now + KINDS[kind].expires_after,
            body=encode_content(replace(content, to=recipient)),
        )
        for recipient in recipients_of(written)
    )  # fmt: skip


def _headers(kind: Kind, written: Written) -> tuple[tuple[str, str], ...]:
    # What no person wrote is not to be answered by a machine (RFC 3834 section 5).
    automatic = (("Auto-Submitted", "auto-generated"),) if kind is Kind.AGENTLESS else ()
    return (*thread_headers(written.answers), *automatic)


def recipients_of(written: Written | Outgoing) -> tuple[str, ...]:
    """Every address once, in the order given."""
    return tuple(dict.fromkeys(one.address for one in (*written.to, *written.cc, *written.bcc)))


# --- committing -------------------------------------------------------------------------------------------------------


async def _committed(call: Call, sending: Sending) -> Accepted:
    try:
        return await settled(call, partial(letters.accept, sending=sending, request=repeatable(call), now=call.now))
    except KeyTaken:
        raise key_taken(call) from None
    except UnknownConversation:
        raise conversation_not_found(str(sending.letter.conversation_id)) from None
    except ConversationEnded:
        raise conversation_ended(sending.letter.conversation_id) from None
    except FileGone:
        told = (
            "The attachments of the draft were changed, or sent with another letter, at this moment; nothing was sent."
        )
        raise Refusal(409, Code.ATTACHMENT_CHANGED, told) from None


async def settled(call: Call, work: Callable[..., Result]) -> Result:
    """What a transaction gives that may be run again: as long as its commit is in doubt, it is. Raises CommitUnknown."""
    doubt = None
    for tries_left in reversed(range(TRIES)):
        try:
            return await call.platform.store.transaction(work)
        except CommitUnknown as error:
            doubt = error
        except StoreUnavailable:
            # Nothing was done this time; that says nothing about the time before.
            if doubt is None:
                raise
        if tries_left:
            log.warning("request in doubt, asking again", endpoint=call.endpoint, error=str(doubt))
            await asyncio.sleep(AGAIN_SECONDS)
    assert doubt is not None, "the last try returned or raised, or left a doubt"  # noqa: S101 - as the loop shows
    raise doubt


def _ticket(call: Call, sending: Sending) -> None:
    for message in sending.group:
        call.platform.tickets.write(Address(KINDS[message.kind].lane, message.integration_id), message.id)


def _count(call: Call, sending: Sending) -> None:
    for message in sending.group:
        call.platform.tally.count(
            What.ACCEPTED, message.accepted_at, kind=message.kind, integration_id=message.integration_id
        )


async def forget_files(call: Call, keys: Sequence[str]) -> None:
    """Delete files that nobody needs any more; what cannot be deleted now is left behind."""
    for key in keys:
        try:
            await call.platform.attachments.delete(key)
        except OSError as error:
            log.error("file not deleted", key=key, error=str(error))


def conversation_not_found(wanted: str) -> Refusal:
    """There is no such conversation."""
    refusal = not_found("conversation", wanted)
    return Refusal(404, Code.CONVERSATION_NOT_FOUND, refusal.message, entity=refusal.entity)


def conversation_ended(conversation_id: UUID) -> Refusal:
    """Nobody writes in this conversation any more."""
    return Refusal(
        403, Code.FORBIDDEN, "The conversation is disconnected; open a new one to write to this customer.",
        entity=Entity(str(conversation_id), "conversation"),
    )  # fmt: skip
