"""/api/v2/conversations/emails/{id}/messages/draft: the letter that is being written, and its files."""

import asyncio
import base64
import binascii
from datetime import datetime
from mimetypes import MimeTypes
from uuid import UUID, uuid4

from gateway.cloud import history, shapes
from gateway.cloud.answers import PREFIX
from gateway.cloud.calls import NOTHING, Answer, Call
from gateway.cloud.conversations import LINK_HOLDS, found_conversation, room_in
from gateway.cloud.errors import Code, Refusal, not_found
from gateway.cloud.history import Earlier
from gateway.cloud.letters import copied_file, read_sketch
from gateway.cloud.members import Members
from gateway.cloud.sending import conversation_ended, forget_files
from gateway.filenames import clean_name, extension_of
from mailroom.message import Correspondent
from mailroom.store import drafts as queries
from mailroom.store import letters
from mailroom.store.conversations import Conversation
from mailroom.store.drafts import MOST_FILES, Draft, DraftFile, Sketch, State, TooManyFiles, Type
from mailroom.store.letters import Letter, LetterFile
from mailroom.store.port import StoreUnavailable
from mailroom.threads import forward_subject, reply_subject

_MD5_BYTES = 16

#: The same on every machine: only what Python itself knows.
_TYPES = MimeTypes(filenames=())


async def get(call: Call) -> Answer:
    """The draft; where nobody has begun one, what a reply would begin with."""
    found = await found_conversation(call)
    draft = await call.platform.store.read(queries.get, found.id)
    return await _answer(call, found, draft or await _begun(call, found, Type.REPLY))


async def put(call: Call) -> Answer:
    """Keep what the agent has written so far, in the place of what was there."""
    found = await _going_on(call)
    body = Members(call.body)
    # Cleaning a long text takes a while.
    sketch = await asyncio.to_thread(read_sketch, body)
    kind = body.choice("draftType", Type)
    body.checked()
    before = await call.platform.store.read(queries.get, found.id)
    draft = Draft(
        conversation_id=found.id, state=State.EDITED, type=kind or (before.type if before else Type.REPLY),
        changed_at=call.now, sketch=sketch,
    )  # fmt: skip
    await call.platform.store.transaction(queries.put, draft)
    return await _answer(call, found, draft)


async def patch(call: Call) -> Answer:
    """Begin anew (`discard=true`), or fill it in as a reply, a reply to all or a forward (`autoFill=true`)."""
    found = await _going_on(call)
    body = Members(call.body)
    kind = body.choice("draftType", Type) or Type.REPLY
    body.checked()
    if _asked(call, "discard"):
        await forget_files(call, await call.platform.store.transaction(queries.discard, found.id))
    draft = await call.platform.store.read(queries.get, found.id)
    if draft is None or _asked(call, "autoFill"):
        draft = await _begun(call, found, kind)
        await call.platform.store.transaction(queries.put, draft)
    return await _answer(call, found, draft)


async def _going_on(call: Call) -> Conversation:
    found = await found_conversation(call)
    if found.ended_at is not None:
        raise conversation_ended(found.id)
    return found


def _asked(call: Call, name: str) -> bool:
    return call.query.get(name, "").lower() == "true"


async def _answer(call: Call, conversation: Conversation, draft: Draft) -> Answer:
    files = await call.platform.store.read(queries.files, conversation.id)
    return Answer(shapes.draft(draft, files, await room_in(call, conversation)))


# --- what it begins with ----------------------------------------------------------------------------------------------


async def _begun(call: Call, conversation: Conversation, kind: Type) -> Draft:
    earlier = await call.platform.store.read(letters.of_conversation, conversation.id)
    return Draft(
        conversation_id=conversation.id, state=State.CREATED, type=kind, changed_at=call.now,
        # A forward quotes them all.
        sketch=await asyncio.to_thread(first_sketch, kind, conversation, earlier),
    )  # fmt: skip


def first_sketch(kind: Type, conversation: Conversation, earlier: list[Letter]) -> Sketch:
    """What a draft of this type says before anybody wrote in it."""
    came = next((one for one in reversed(earlier) if one.author is None or one.kind is None), None)
    subject = came.written.subject if came else conversation.subject
    if kind is Type.FORWARD:
        quoted = [Earlier(one.at, one.written.sender, one.written.text) for one in earlier]
        return Sketch(sender=conversation.ours, subject=forward_subject(subject), text=history.quoted_text("", quoted))
    answered = _whom_to_answer(conversation, came)
    return Sketch(
        sender=conversation.ours, to=(answered,) if answered else (), subject=reply_subject(subject),
        cc=_the_others(conversation, came, answered) if kind is Type.REPLY_ALL else (),
    )  # fmt: skip


def _whom_to_answer(conversation: Conversation, came: Letter | None) -> Correspondent | None:
    if came is None:
        return conversation.customer
    return came.written.reply_to or came.written.sender


def _the_others(
    conversation: Conversation, came: Letter | None, answered: Correspondent | None
) -> tuple[Correspondent, ...]:
    if came is None:
        return ()
    seen = {who.address.lower() for who in (conversation.ours, answered) if who is not None}
    everybody = (*came.written.to, *came.written.cc)
    return tuple(one for one in everybody if one.address.lower() not in seen)


# --- its files --------------------------------------------------------------------------------------------------------


async def announce_upload(call: Call) -> Answer:
    """Make room for a file: the link that its bytes are PUT to, for a while."""
    found = await _going_on(call)
    body = Members(call.body)
    body.need(["name"])
    name = body.line("name", 1000) or ""
    room = await room_in(call, found)
    size = body.whole("contentLengthBytes", 0, room)
    md5 = _md5(body)
    inline = body.flag("inlineImage") or False
    file = _announced(found.id, name, size if size is not None else -1, md5, call.now, inline=inline)
    if inline and not file.media_type.startswith("image/"):
        body.wrong("inlineImage", f"{file.name!r} is no image by its name")
    body.checked()
    await _announce(call, file)
    path = f"{PREFIX}/uploads/emails/{file.id}"
    return Answer(
        {
            "attachmentId": str(file.id),
            "name": file.name,
            "url": f"{call.origin}{path}?{call.platform.links.sign('upload', path, call.now + LINK_HOLDS)}",
            "headers": {"Content-Type": file.media_type} | ({"Content-MD5": md5} if md5 else {}),
            "conversationId": str(found.id),
        }
    )


async def copy_attachments(call: Call) -> Answer:
    """Take files of an earlier letter of this conversation into the draft."""
    found = await _going_on(call)
    body = Members(call.body)
    body.need(["sourceMessage", "attachments"])
    source = body.within("sourceMessage").line("id") or ""
    wanted = [one.line("attachmentId") or "" for one in body.each("attachments")]
    body.checked()
    earlier = await call.platform.store.read(letters.of_conversation, found.id)
    letter = next((one for one in earlier if str(one.id) == source.lower()), None)
    if letter is None:
        raise not_found("message of this conversation", source)
    by_id = {str(one.id): one for one in letter.written.files}
    if unknown := [one for one in wanted if one.lower() not in by_id]:
        raise not_found("attachment of this message", ", ".join(unknown))
    for one in dict.fromkeys(wanted):
        await _copy(call, found, by_id[one.lower()])
    draft = await call.platform.store.read(queries.get, found.id)
    return await _answer(call, found, draft or await _begun(call, found, Type.REPLY))


async def delete_attachment(call: Call) -> Answer:
    """Take a file out of the draft."""
    found = await found_conversation(call)
    file_id = call.id("attachmentId", "attachment of the draft")
    removed = await call.platform.store.transaction(queries.remove, found.id, file_id)
    if removed is None:
        raise not_found("attachment of the draft", str(file_id))
    await forget_files(call, [removed.key] if removed.key else [])
    return NOTHING


async def _copy(call: Call, conversation: Conversation, file: LetterFile) -> None:
    copied = await copied_file(call, file)
    announced = DraftFile(
        id=copied.id, conversation_id=conversation.id, name=copied.file.name, media_type=copied.file.media_type,
        size=copied.file.size, inline=copied.inline, announced_at=call.now, key=copied.file.key,
    )  # fmt: skip
    try:
        await _announce(call, announced)
    except (Refusal, StoreUnavailable):
        await forget_files(call, [copied.file.key or ""])
        raise


async def _announce(call: Call, file: DraftFile) -> None:
    try:
        await call.platform.store.transaction(queries.announce, file)
    except TooManyFiles:
        raise Refusal(
            400, Code.TOO_MANY_ATTACHMENTS,
            f"The draft has {MOST_FILES} attachments already, as many as a letter may have; delete one first.",
            params={"limit": str(MOST_FILES)},
        ) from None  # fmt: skip


def _announced(
    conversation_id: UUID, name: str, size: int, md5: str | None, now: datetime, *, inline: bool
) -> DraftFile:
    cleaned = clean_name(name, 1, "bin")
    return DraftFile(
        id=uuid4(), conversation_id=conversation_id, name=cleaned, media_type=media_type_of(cleaned), size=size,
        md5=md5, inline=inline, announced_at=now,
    )  # fmt: skip


def media_type_of(name: str) -> str:
    """The media type that a file's name stands for; what a client says about it is not believed."""
    guessed, encoding = _TYPES.guess_type(f"a.{extension_of(name)}")
    return guessed if guessed and not encoding else "application/octet-stream"


def _md5(body: Members) -> str | None:
    said = body.line("contentMd5")
    if not said:
        return None
    if len(_decoded(said)) != _MD5_BYTES:
        body.wrong("contentMd5", "is no MD5 in base64")
    return said


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
