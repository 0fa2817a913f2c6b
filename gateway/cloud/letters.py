"""/api/v2/conversations/emails/{id}/messages: the letters of a conversation, and an agent's reply.

The platform calls a letter a message; for us a message is what goes to one recipient.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid4

from gateway.cloud import history, shapes
from gateway.cloud.answers import uri
from gateway.cloud.calls import Answer, Call, as_uuid
from gateway.cloud.conversations import found_conversation, links_of
from gateway.cloud.errors import Code, Refusal, not_found
from gateway.cloud.history import Earlier
from gateway.cloud.members import Members
from gateway.cloud.sending import (
    MOST_FILES,
    MOST_RECIPIENTS,
    Outgoing,
    conversation_ended,
    forget_files,
    recipients_of,
    send,
    sent_once,
)
from gateway.cloud.shapes import PLACE
from gateway.filenames import numbered
from gateway.html import as_text
from mailroom.attachments import AttachmentMissing
from mailroom.message import Attachment, Correspondent, Kind
from mailroom.store import drafts as draft_queries
from mailroom.store import letters as queries
from mailroom.store.conversations import Conversation
from mailroom.store.drafts import DraftFile, Sketch
from mailroom.store.letters import Letter, LetterFile
from mailroom.store.port import StoreUnavailable
from mailroom.threads import reply_subject

#: Characters; the vendor's limits for a body, a subject, and a display name.
LONGEST_BODY = 3 * 1024 * 1024
LONGEST_SUBJECT = 400
LONGEST_NAME = 256

#: Bytes of a body with two texts, escaped.
MOST_BYTES = 16 * 1024 * 1024


async def list_all(call: Call) -> Answer:
    """The letters of a conversation without their bodies, oldest first; agentless ones when they are asked for."""
    found = await found_conversation(call)
    stitched = call.query.get("includeAgentlessStitchedMessages", "").lower() == "true"
    letters = await call.platform.store.read(queries.of_conversation, found.id)
    wanted = [one for one in letters if stitched or one.kind is not Kind.AGENTLESS]
    copies = await call.platform.store.read(queries.copies_of, [one.id for one in wanted])
    place = uri(*PLACE, str(found.id), "messages")
    return Answer(
        {
            "entities": [shapes.letter_preview(one, copies[one.id], links_of(call)) for one in wanted],
            "pageSize": len(wanted),
            "pageNumber": 1,
            "total": len(wanted),
            "pageCount": 1,
            "selfUri": place,
            "firstUri": place,
            "lastUri": place,
        }
    )


async def get(call: Call) -> Answer:
    """One letter with its bodies, and what became of each copy."""
    found = await found_conversation(call)
    letter = await call.platform.store.read(queries.get, call.id("messageId", "message"))
    if letter is None or letter.conversation_id != found.id:
        raise not_found("message", call.path["messageId"])
    copies = await call.platform.store.read(queries.copies_of, [letter.id])
    # Making long HTML harmless takes a while.
    return Answer(await asyncio.to_thread(shapes.letter, letter, copies[letter.id], links_of(call)))


async def post(call: Call) -> Answer:
    """Send an agent's letter: committed when this is answered, past the gate, once however often it comes."""
    found = await found_conversation(call)
    letter = await sent_once(call, lambda: _sent(call, found))
    return Answer(await asyncio.to_thread(shapes.letter_reply, letter, links_of(call)))


async def _sent(call: Call, conversation: Conversation) -> Letter:
    if conversation.ended_at is not None:
        raise conversation_ended(conversation.id)
    body = Members(call.body)
    # Cleaning a long text takes a while.
    sketch, wanted = await asyncio.to_thread(read_sketch, body), _wanted_files(body)
    body.checked()
    earlier = await call.platform.store.read(queries.of_conversation, conversation.id)
    sender = _checked(sketch, conversation)
    files, takes, copied = await _files(call, conversation, wanted, earlier)
    try:
        outgoing = await asyncio.to_thread(_outgoing, sketch, sender, conversation, earlier, files)
        letter = await send(call, outgoing, conversation, earlier=earlier, takes=takes, whole=wanted is None)
    except (Refusal, StoreUnavailable):
        await forget_files(call, copied)
        raise
    kept = {one.file.key for one in letter.written.files}
    await forget_files(call, [key for key in copied if key not in kept])
    return letter


# --- what it says -----------------------------------------------------------------------------------------------------


def read_sketch(body: Members) -> Sketch:
    """The members of an EmailMessage; what is wrong with them is remembered in `body`."""
    return Sketch(
        sender=person(body, "from"),
        to=people(body, "to"),
        cc=people(body, "cc"),
        bcc=people(body, "bcc"),
        reply_to=person(body, "replyTo"),
        subject=body.line("subject", LONGEST_SUBJECT) or "",
        text=body.text("textBody", LONGEST_BODY) or "",
        html=body.text("htmlBody", LONGEST_BODY) or None,
        history_included=body.flag("historyIncluded") or False,
    )


def person(body: Members, name: str, longest_name: int = LONGEST_NAME) -> Correspondent | None:
    """An EmailAddress; None when it is not there, or says nothing."""
    return _person(body.within(name), longest_name)


def people(body: Members, name: str, longest_name: int = LONGEST_NAME) -> tuple[Correspondent, ...]:
    """A list of EmailAddress."""
    found = []
    for one in body.each(name):
        one.need(["email"])
        found.append(_person(one, longest_name))
    return tuple(one for one in found if one is not None)


def _person(members: Members, longest_name: int) -> Correspondent | None:
    address = members.address("email")
    called = members.line("name", longest_name)
    return None if address is None else Correspondent(address, called or None)


def _checked(sketch: Sketch, conversation: Conversation) -> Correspondent:
    """Who it is from. Raises Refusal when it cannot be sent as it is."""
    sender = sketch.sender or conversation.ours
    if sender is None:
        told = "The letter says not who it is from, and the conversation has no address of ours; give `from`."
        raise Refusal(400, Code.REPLY_NO_SENDER, told)
    if not sketch.to:
        raise Refusal(400, Code.REPLY_NO_TO, "The letter has no recipient; give at least one in `to`.")
    if not sketch.text.strip() and not sketch.html:
        raise Refusal(400, Code.REPLY_NO_BODY, "The letter says nothing; give `textBody` or `htmlBody`.")
    return sender


def check_number(outgoing: Outgoing) -> None:
    """Raises Refusal when it goes to more people than one letter may."""
    number = len(recipients_of(outgoing))
    if number > MOST_RECIPIENTS:
        raise Refusal(
            400, Code.TOO_MANY_RECIPIENTS,
            f"The letter goes to {number} addresses; to, cc and bcc together may have {MOST_RECIPIENTS}.",
            params={"limit": str(MOST_RECIPIENTS)},
        )  # fmt: skip


def _outgoing(
    sketch: Sketch, sender: Correspondent, conversation: Conversation, earlier: Sequence[Letter],
    files: tuple[LetterFile, ...],
) -> Outgoing:  # fmt: skip
    text = sketch.text or as_text(sketch.html or "")
    html = sketch.html
    if sketch.history_included and earlier:
        quoted = [Earlier(one.at, one.written.sender, one.written.text) for one in earlier]
        text = history.quoted_text(text, quoted)
        html = history.quoted_html(html, quoted) if html is not None else None
    outgoing = Outgoing(
        kind=Kind.ACD, sender=sender, to=sketch.to, cc=sketch.cc, bcc=sketch.bcc, reply_to=sketch.reply_to,
        subject=sketch.subject or (reply_subject(earlier[-1].written.subject) if earlier else conversation.subject),
        text=text, html=html,
        files=files, history_included=sketch.history_included,
    )  # fmt: skip
    check_number(outgoing)
    return outgoing


# --- its files --------------------------------------------------------------------------------------------------------


def _wanted_files(body: Members) -> list[UUID] | None:
    """The ids in `attachments`; None where the body does not speak of them: all of the draft go with the letter."""
    if body.all.get("attachments") is None:
        return None
    wanted = []
    for one in body.each("attachments"):
        one.need(["attachmentId"])
        text = one.line("attachmentId")
        file_id = as_uuid(text or "")
        if text is not None and one.all["attachmentId"] and file_id is None:
            one.wrong("attachmentId", f"{text!r} is no attachment of this conversation")
        if file_id is not None:
            wanted.append(file_id)
    return wanted


async def _files(
    call: Call, conversation: Conversation, wanted: list[UUID] | None, earlier: Sequence[Letter]
) -> tuple[tuple[LetterFile, ...], frozenset[UUID], list[str]]:
    """The files that go with a letter, which of them are the draft's, and the keys of those that were copied for it."""
    of_draft = {one.id: one for one in await call.platform.store.read(draft_queries.files, conversation.id)}
    of_letters = {one.id: one for letter in earlier for one in letter.written.files}
    ids = list(of_draft) if wanted is None else list(dict.fromkeys(wanted))
    if len(ids) > MOST_FILES:
        raise Refusal(
            400, Code.TOO_MANY_ATTACHMENTS, f"The letter has {len(ids)} attachments; it may have {MOST_FILES}.",
            params={"limit": str(MOST_FILES)},
        )  # fmt: skip
    if unknown := [str(one) for one in ids if one not in of_draft and one not in of_letters]:
        raise not_found("attachment of this conversation", ", ".join(unknown))
    copied: list[str] = []
    files = []
    try:
        for one in ids:
            if one in of_draft:
                files.append(of_the_draft(of_draft[one]))
            else:
                file = await copied_file(call, of_letters[one])
                copied.append(file.file.key or "")
                files.append(file)
    except BaseException:
        await forget_files(call, copied)
        raise
    names = numbered(one.file.name for one in files)
    renamed = (replace(one, file=replace(one.file, name=name)) for one, name in zip(files, names, strict=True))
    return tuple(renamed), frozenset(one for one in ids if one in of_draft), copied


def of_the_draft(file: DraftFile) -> LetterFile:
    """A file of a draft as a file of the letter."""
    return LetterFile(
        id=file.id,
        file=Attachment(
            name=file.name, media_type=file.media_type, size=file.size, key=file.key,
            content_id=str(file.id) if file.inline else None,
        ),
    )  # fmt: skip


async def copied_file(call: Call, file: LetterFile) -> LetterFile:
    """A file of an earlier letter once more, with an id and bytes of its own. Raises Refusal."""
    data = await bytes_of(call, file)
    async with call.platform.attachments.upload() as upload:
        await upload.write(data)
        await upload.finish()
    new_id = uuid4()
    again = replace(file.file, content=None, key=upload.key, at=None, content_id=str(new_id) if file.inline else None)
    return LetterFile(id=new_id, file=again)


async def bytes_of(call: Call, file: LetterFile) -> bytes | bytearray:
    """What a file holds. Raises Refusal when it is not there any more."""
    try:
        return await call.platform.attachments.content_of(file.file)
    except AttachmentMissing:
        raise not_found("attachment", str(file.id)) from None
