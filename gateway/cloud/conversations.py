"""/api/v2/conversations/emails: who writes with whom. Every form submission is a conversation, under its interactionId."""

import asyncio
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Any
from uuid import UUID

from gateway.cloud import shapes
from gateway.cloud.answers import PREFIX, listing, uri
from gateway.cloud.calls import Answer, Call, as_uuid
from gateway.cloud.errors import Code, Problem, Refusal, invalid
from gateway.cloud.members import Members
from gateway.cloud.repeats import key_taken, repeatable
from gateway.cloud.sending import USUAL_ROOM, account_of, conversation_not_found, room_of, settled
from gateway.cloud.shapes import PLACE, Link
from gateway.html import as_text
from mailroom.message import Correspondent, Kind, new_message_id
from mailroom.store import conversations as queries
from mailroom.store import drafts, letters
from mailroom.store.conversations import FORM_PROVIDER, Conversation
from mailroom.store.drafts import Draft, Sketch
from mailroom.store.letters import Letter, Written
from mailroom.store.requests import KeyTaken

#: For so long a link to a file can be followed.
LINK_HOLDS = timedelta(minutes=10)

#: Conversations on one page; each is told with all who take part.
LARGEST_PAGE = 50

#: Characters of a text, a subject, a name; and how many attributes, of which size.
LONGEST_TEXT = 3 * 1024 * 1024
LONGEST_SUBJECT = 400
MOST_ATTRIBUTES = 100
LONGEST_ATTRIBUTE = 4000


class Direction(StrEnum):
    """Who writes first, in the vendor's words."""

    INBOUND = "INBOUND"
    OUTBOUND = "OUTBOUND"


async def list_all(call: Call) -> Answer:
    """The conversations that go on, the newest first, by pages."""
    page = call.page(LARGEST_PAGE)
    found, total = await call.platform.store.read(letters.going_on, limit=page.size, offset=page.offset)
    return Answer(listing(map(shapes.conversation, found), total, page, uri(*PLACE)))


async def get(call: Call) -> Answer:
    """One conversation with its participants; `errorInfo` says what was accepted and not delivered."""
    conversation_id = as_uuid(call.path["conversationId"])
    if conversation_id is None:
        raise conversation_not_found(call.path["conversationId"])
    return Answer(await _shown(call, conversation_id))


async def create(call: Call) -> Answer:
    """Open one, INBOUND for what a customer wrote in some other way, OUTBOUND to write first; repeated it is the same."""
    body = Members(call.body)
    conversation, letter, draft = await asyncio.to_thread(_wanted, call, body)
    try:
        work = partial(
            letters.open_conversation, conversation=conversation, letter=letter, draft=draft,
            request=repeatable(call), now=call.now,
        )  # fmt: skip
        opened = await settled(call, work)
    except KeyTaken:
        raise key_taken(call) from None
    return Answer(await _shown(call, opened))


async def patch(call: Call) -> Answer:
    """Disconnect it: nobody writes in it any more."""
    body = Members(call.body)
    state = body.line("state")
    body.checked()
    found = await found_conversation(call)
    if state is None:
        return Answer(await _shown(call, found.id))
    if state.lower() != "disconnected":
        raise invalid([Problem("state", f"{state!r} is not possible; a conversation can only become disconnected")])
    await call.platform.store.transaction(queries.end, found.id, who=call.who, now=call.now)
    return Answer(await _shown(call, found.id))


async def settings(call: Call) -> Answer:
    """How large a letter may be on its way to the server that its replies leave through."""
    found = await found_conversation(call)
    return Answer({"sendingSizeLimit": await room_in(call, found)})


async def found_conversation(call: Call) -> Conversation:
    """The conversation in the path. Raises Refusal."""
    return await conversation_of(call, call.path["conversationId"])


async def conversation_of(call: Call, wanted: str) -> Conversation:
    """The conversation of an id as somebody gave it. Raises Refusal."""
    conversation_id = as_uuid(wanted)
    found = None
    if conversation_id is not None:
        found = await call.platform.store.read(queries.get, conversation_id)
    if found is None:
        raise conversation_not_found(wanted)
    return found


async def room_in(call: Call, conversation: Conversation) -> int:
    """Bytes that a reply may have; the usual number where nobody knows yet what it would leave through."""
    if conversation.ours is None:
        return USUAL_ROOM
    try:
        return room_of(await account_of(call, Kind.ACD, conversation.ours, conversation))
    except Refusal:
        return USUAL_ROOM


def links_of(call: Call) -> Link:
    """Makes links to the files of letters, which anybody who has one can follow for a while."""
    expires_at = call.now + LINK_HOLDS

    def link(owner: UUID, file_id: UUID) -> str:
        path = f"{PREFIX}/downloads/emails/{owner}/{file_id}"
        return f"{call.origin}{path}?{call.platform.links.sign('download', path, expires_at)}"

    return link


async def _shown(call: Call, conversation_id: UUID) -> dict[str, Any]:
    seen = await call.platform.store.read(letters.seen, conversation_id)
    if seen is None:
        raise conversation_not_found(str(conversation_id))
    return shapes.conversation(seen)


# --- opening ----------------------------------------------------------------------------------------------------------


def _wanted(call: Call, body: Members) -> tuple[Conversation, Letter | None, Draft | None]:
    """What a CreateEmailRequest asks for: a conversation, and the letter or the draft it begins with. Raises Refusal."""
    provider = body.line("provider")
    direction = body.choice("direction", Direction) or Direction.INBOUND
    sender = _correspondent(body, "fromAddress", "fromName" if direction is Direction.INBOUND else None)
    recipient = _correspondent(body, "toAddress", "toName")
    subject = body.line("subject", LONGEST_SUBJECT) or ""
    text = body.text("textBody", LONGEST_TEXT) or ""
    html = body.text("htmlBody", LONGEST_TEXT) or None
    attributes = _attributes(body)
    queue, flow = body.line("queueId"), body.line("flowId")
    body.checked()
    _check_request(provider, direction, sender, queue, flow)
    inbound = direction is Direction.INBOUND
    ours_name = None if inbound else body.line("fromName")
    conversation = Conversation(
        id=new_message_id(call.now), from_form=False, direction=queries.Direction(direction.lower()),
        provider=provider or FORM_PROVIDER, opened_at=call.now, opened_by=call.who, subject=subject,
        customer=sender if inbound else recipient,
        ours=recipient if inbound else _named(sender, ours_name),
        queue_id=as_uuid(queue) if queue else None, attributes=attributes,
    )  # fmt: skip
    if inbound:
        return conversation, _first_letter(call, conversation, text, html), None
    return conversation, None, _first_draft(call, conversation, text, html)


def _check_request(
    provider: str | None, direction: Direction, sender: Correspondent | None, queue: str | None, flow: str | None
) -> None:
    """Raises Refusal with the vendor's own codes."""
    if not provider:
        raise Refusal(400, Code.PROVIDER_REQUIRED, "Say in `provider` where the conversation comes from.")
    if queue and flow:
        raise Refusal(400, Code.TOO_MANY_PARAMETERS, "Give queueId or flowId, not both.")
    if flow and as_uuid(flow) is None:
        raise Refusal(400, Code.BAD_FLOW_ID, f"flowId: {flow!r} is no id; it is a UUID.")
    if queue and as_uuid(queue) is None:
        raise Refusal(400, Code.INVALID_QUEUE, f"queueId: {queue!r} is no id; it is a UUID.")
    if direction is Direction.OUTBOUND and not queue:
        raise Refusal(400, Code.QUEUE_REQUIRED, "An OUTBOUND conversation is on behalf of a queue; give queueId.")
    if direction is Direction.OUTBOUND and sender is None:
        told = "Queues have no address here; say in `fromAddress` which of ours the letters are from."
        raise Refusal(400, Code.QUEUE_ADDRESS_REQUIRED, told)


def _correspondent(body: Members, address: str, name: str | None) -> Correspondent | None:
    found = body.address(address)
    called = body.line(name) if name else None
    return None if found is None else Correspondent(found, called or None)


def _named(who: Correspondent | None, name: str | None) -> Correspondent | None:
    return None if who is None else Correspondent(who.address, name or None)


def _attributes(body: Members) -> tuple[tuple[str, str], ...]:
    members = body.within("attributes")
    if len(members.all) > MOST_ATTRIBUTES:
        members.wrong("", f"has more than {MOST_ATTRIBUTES} members")
        return ()
    pairs = ((name, members.text(name, LONGEST_ATTRIBUTE)) for name in members.all)
    return tuple((name, value) for name, value in pairs if value is not None)


def _first_letter(call: Call, conversation: Conversation, text: str, html: str | None) -> Letter | None:
    if conversation.customer is None or not (text or html):
        return None
    return Letter(
        id=new_message_id(call.now), conversation_id=conversation.id, kind=None, at=call.now, author=call.who,
        written=Written(
            sender=conversation.customer, to=(conversation.ours,) if conversation.ours else (),
            subject=conversation.subject, text=text or as_text(html or ""), html=html,
        ),
    )  # fmt: skip


def _first_draft(call: Call, conversation: Conversation, text: str, html: str | None) -> Draft:
    return Draft(
        conversation_id=conversation.id, state=drafts.State.CREATED, type=drafts.Type.REPLY, changed_at=call.now,
        sketch=Sketch(
            sender=conversation.ours, to=(conversation.customer,) if conversation.customer else (),
            subject=conversation.subject, text=text, html=html,
        ),
    )  # fmt: skip
