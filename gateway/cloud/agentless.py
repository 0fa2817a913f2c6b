"""/api/v2/conversations/emails/agentless: mail that no agent writes, and what became of it.

Cc, Bcc and reading the outcome are ours; the vendor has neither.
"""

import asyncio
from enum import StrEnum
from typing import Any

from gateway.cloud import shapes
from gateway.cloud.answers import date, uri, without_nulls
from gateway.cloud.calls import Answer, Call
from gateway.cloud.conversations import conversation_of
from gateway.cloud.errors import not_found
from gateway.cloud.letters import LONGEST_BODY, LONGEST_SUBJECT, check_number, people, person
from gateway.cloud.members import Members
from gateway.cloud.sending import Outgoing, conversation_ended, send, sent_once
from gateway.cloud.shapes import PLACE
from mailroom.message import Correspondent, Kind, Status, new_message_id
from mailroom.store import letters
from mailroom.store.conversations import FORM_PROVIDER, Conversation, Direction
from mailroom.store.letters import Copy, Letter

#: Characters; the vendor's limit.
LONGEST_NAME = 64

#: What all copies together have come to: the worst of them first.
_WORST_FIRST = (
    Status.FAILED,
    Status.EXPIRED,
    Status.UNCERTAIN,
    Status.HELD,
    Status.DEFERRED,
    Status.SENDING,
    Status.QUEUED,
)


class SenderType(StrEnum):
    """What kind of send it is; there is one."""

    OUTBOUND = "Outbound"


async def post(call: Call) -> Answer:
    """Send one: committed when this is answered, past the gate, once however often it comes."""
    letter = await sent_once(call, lambda: _sent(call))
    return Answer(_shape(letter))


async def get(call: Call) -> Answer:
    """What became of one: of each recipient's copy, and of all together."""
    wanted = call.id("sendId", "agentless send")
    letter = await call.platform.store.read(letters.get, wanted)
    if letter is None or letter.kind is not Kind.AGENTLESS:
        raise not_found("agentless send", str(wanted))
    copies = (await call.platform.store.read(letters.copies_of, [letter.id]))[letter.id]
    return Answer(_shape(letter) | {"status": str(worst(copies)), "deliveries": shapes.deliveries(copies)})


def worst(copies: list[Copy]) -> Status:
    """What to tell of them together: the one that needs somebody most, and SENT only when all are."""
    there = {one.status for one in copies}
    return next((status for status in _WORST_FIRST if status in there), Status.SENT)


async def _sent(call: Call) -> Letter:
    # Cleaning a long text takes a while.
    outgoing, wanted = await asyncio.to_thread(_outgoing, Members(call.body))
    stitched = await _stitched_to(call, wanted) if wanted else None
    earlier = [] if stitched is None else await call.platform.store.read(letters.of_conversation, stitched.id)
    conversation = stitched or _conversation_for(call, outgoing)
    return await send(call, outgoing, conversation, opens=stitched is None, earlier=earlier)


def _outgoing(body: Members) -> tuple[Outgoing, str | None]:
    """What an AgentlessEmailSendRequestDto asks for, and the conversation it belongs to. Raises Refusal."""
    body.need(["senderType", "fromAddress", "toAddresses"])
    body.choice("senderType", SenderType)
    body.within("fromAddress").need(["email"] if body.has("fromAddress") else [])
    sender = person(body, "fromAddress", LONGEST_NAME)
    to = people(body, "toAddresses", LONGEST_NAME)
    cc = people(body, "ccAddresses", LONGEST_NAME)
    bcc = people(body, "bccAddresses", LONGEST_NAME)
    if body.has("toAddresses") and len(to) > 1:
        body.wrong("toAddresses", "has more than one recipient; give the others in ccAddresses or bccAddresses")
    if not to and body.all.get("toAddresses") == []:
        body.wrong("toAddresses", "needs one recipient")
    reply_to = person(body, "replyToAddress", LONGEST_NAME)
    subject = body.line("subject", LONGEST_SUBJECT) or ""
    text = body.text("textBody", LONGEST_BODY) or ""
    html = body.text("htmlBody", LONGEST_BODY) or None
    if not text.strip() and not html:
        body.wrong("textBody", "is missing, and so is htmlBody; give one of them or both")
    wanted = body.line("conversationId")
    body.checked()
    outgoing = Outgoing(
        kind=Kind.AGENTLESS, sender=sender or Correspondent(""), to=to, cc=cc, bcc=bcc, reply_to=reply_to,
        subject=subject, text=text, html=html,
    )  # fmt: skip
    check_number(outgoing)
    return outgoing, wanted


async def _stitched_to(call: Call, wanted: str) -> Conversation:
    found = await conversation_of(call, wanted)
    if found.ended_at is not None:
        raise conversation_ended(found.id)
    return found


def _conversation_for(call: Call, outgoing: Outgoing) -> Conversation:
    return Conversation(
        id=new_message_id(call.now), from_form=False, direction=Direction.OUTBOUND, provider=FORM_PROVIDER,
        opened_at=call.now, opened_by=call.who, subject=outgoing.subject, customer=outgoing.to[0],
        ours=outgoing.sender,
    )  # fmt: skip


def _shape(letter: Letter) -> dict[str, Any]:
    """An AgentlessEmailSendResponseDto."""
    written = letter.written
    return without_nulls(
        {
            "id": str(letter.id),
            "conversationId": str(letter.conversation_id),
            "senderType": str(SenderType.OUTBOUND),
            "fromAddress": shapes.person(written.sender),
            "toAddresses": shapes.people(written.to),
            "ccAddresses": shapes.people(written.cc) or None,
            "bccAddresses": shapes.people(written.bcc) or None,
            "replyToAddress": shapes.person(written.reply_to) if written.reply_to else None,
            "subject": written.subject,
            "dateCreated": date(letter.at),
            "selfUri": uri(*PLACE, "agentless", str(letter.id)),
        }
    )
