"""What every store promises about conversations: forms are some, letters are accepted once, drafts end when sent."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.kinds import KINDS
from mailroom.message import Attachment, Correspondent, Kind, Status, new_message_id
from mailroom.store import conversations, drafts, leftovers, letters, messages, requests, schema
from mailroom.store.audit import Entry, history
from mailroom.store.content import encode_content
from mailroom.store.conversations import Conversation, Direction, UnknownConversation
from mailroom.store.drafts import Draft, DraftFile, FileGone, Sketch, State, TooManyFiles, Type
from mailroom.store.letters import ConversationEnded, Letter, LetterFile, Sending, Written
from mailroom.store.messages import NewMessage
from mailroom.store.port import Store
from mailroom.store.requests import KeyTaken, Repeatable
from tests.builders import NOW, a_content, a_message, a_settlement, accepted, claimed

JANE, US = Correspondent("jane@customer.test", "Jane Doe"), Correspondent("support@company.test")
FORM = a_content(reply_to=JANE.address, reply_to_name=JANE.name, attributes=(("order", "17"),))


async def a_form(store: Store, integration_id: UUID, **changes: Any) -> UUID:
    """A form submission; its id."""
    return (await accepted(store, integration_id, body=encode_content(FORM), **changes)).id


def a_letter(conversation_id: UUID, **changes: Any) -> Letter:
    """What an agent wrote."""
    usual: dict[str, Any] = {"sender": US, "to": (JANE,), "subject": "Re: A question", "text": "It is on its way."}
    return Letter(
        id=new_message_id(), conversation_id=conversation_id, kind=Kind.ACD, at=NOW, author="client crm",
        written=Written(**(usual | changes)),
    )  # fmt: skip


def a_sending(integration_id: UUID, letter: Letter, **changes: Any) -> Sending:
    """The letter with a message for each recipient."""
    return Sending(letter=letter, group=[a_copy(integration_id, one.address) for one in letter.written.to], **changes)


def a_copy(integration_id: UUID, recipient: str) -> NewMessage:
    """A message that carries a letter."""
    return a_message(
        integration_id, kind=Kind.ACD, service=None, recipient=recipient, expires_at=NOW + KINDS[Kind.ACD].expires_after
    )


def a_request(key: str | None = None, body: str = "a body") -> Repeatable:
    """A request of its own."""
    return Repeatable(key or str(uuid4()), body, timedelta(seconds=60))


def opened(**changes: Any) -> Conversation:
    """A conversation that somebody opens."""
    usual: dict[str, Any] = {
        "id": new_message_id(), "from_form": False, "direction": Direction.INBOUND, "provider": "Elsewhere",
        "opened_at": NOW, "subject": "A question", "customer": JANE, "ours": US,
    }  # fmt: skip
    return Conversation(**(usual | changes))


async def count(store: Store, table: sa.Table) -> int:
    """How many rows a table has."""

    def counted(tx: Connection) -> int:
        return tx.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()

    return await store.read(counted)


# --- conversations ----------------------------------------------------------------------------------------------------


async def test_a_form_is_a_conversation(store: Store, integration_id: UUID) -> None:
    """A submission is one under its own id, with what the customer said and attached, and no row is written for it."""
    form = await a_form(store, integration_id)
    found = await store.read(conversations.get, form)
    [letter] = await store.read(letters.of_conversation, form)

    assert found is not None
    assert (found.customer, found.ours, found.subject) == (JANE, US, "A question")
    assert (found.attributes, found.integration_id, found.from_form) == ((("order", "17"),), integration_id, True)
    assert (letter.id, letter.kind, letter.written.sender, letter.written.to) == (form, Kind.FORM, JANE, (US,))
    assert letter.written.message_id == f"<{form}@company.test>"
    assert await count(store, schema.conversations) == 0


async def test_touching_a_form_makes_one_row(store: Store, integration_id: UUID) -> None:
    """However many touch it at once, a conversation gets one row, which says the same as before."""
    form = await a_form(store, integration_id)
    before = await store.read(conversations.get, form)
    await asyncio.gather(*(store.transaction(conversations.touch, form) for _ in range(5)))

    assert await count(store, schema.conversations) == 1
    assert await store.read(conversations.get, form) == before


async def test_what_is_no_conversation_is_unknown(store: Store, integration_id: UUID) -> None:
    """Neither an id of nothing, nor a tombstone, nor a message of another kind is a conversation."""
    buried, agentless = uuid4(), await accepted(store, integration_id, kind=Kind.AGENTLESS)
    await store.transaction(messages.bury, [(buried, Kind.FORM)], NOW)

    for one in (uuid4(), buried, agentless.id):
        assert await store.read(conversations.get, one) is None
        with pytest.raises(UnknownConversation):
            await store.transaction(conversations.touch, one)


async def test_an_ended_conversation_stays_ended(store: Store, integration_id: UUID) -> None:
    """Ending is told once, with the first moment, and nobody writes in it afterwards."""
    form = await a_form(store, integration_id)
    await store.transaction(conversations.end, form, who="client crm", now=NOW)
    again = await store.transaction(conversations.end, form, who="client crm", now=NOW + timedelta(hours=1))

    assert again.ended_at == NOW
    with pytest.raises(ConversationEnded):
        await store.transaction(letters.accept, a_sending(integration_id, a_letter(form)), a_request(), now=NOW)
    assert await count(store, schema.letters) == 0


async def test_those_that_go_on_are_listed_newest_first(store: Store, integration_id: UUID) -> None:
    """Touched and untouched forms and opened conversations are one list without the ended ones, cut into pages."""
    forms = [await a_form(store, integration_id) for _ in range(3)]
    by_call = opened()
    await store.transaction(conversations.open_one, by_call)
    await store.transaction(conversations.touch, forms[1])
    await store.transaction(conversations.end, forms[2], who="client crm", now=NOW)
    await accepted(store, integration_id, kind=Kind.AGENTLESS)
    expected = [by_call.id, forms[1], forms[0]]

    found, total = await store.read(letters.going_on, limit=10)
    assert ([one.conversation.id for one in found], total) == (expected, 3)
    second, _ = await store.read(letters.going_on, limit=2, offset=2)
    assert [one.conversation.id for one in second] == expected[2:]


async def test_a_conversation_is_opened_once(store: Store) -> None:
    """A repeated request opens nothing more: it hears of the first one, with its letter and draft."""
    request, first = a_request(), opened()
    letter = Letter(
        id=new_message_id(), conversation_id=first.id, kind=None, at=NOW, author="client crm",
        written=Written(sender=JANE, to=(US,), subject="A question", text="Where is it?"),
    )  # fmt: skip
    ids = [
        await store.transaction(letters.open_conversation, one, letter, None, request, now=NOW)
        for one in (first, first, opened())
    ]

    assert ids == [first.id] * 3
    assert await store.read(letters.of_conversation, first.id) == [letter]
    assert await store.read(conversations.get, first.id) == first


# --- letters ----------------------------------------------------------------------------------------------------------


async def test_a_letter_is_a_message_for_each_recipient(store: Store, integration_id: UUID) -> None:
    """Accepting a letter queues one message for each recipient, and each copy tells what became of it."""
    form = await a_form(store, integration_id)
    letter = a_letter(form, to=(JANE, Correspondent("joe@customer.test")))
    sending = a_sending(integration_id, letter)
    await store.transaction(letters.accept, sending, a_request(), now=NOW)
    taken = await claimed(store, sending.group[1])
    await store.statement(messages.settle, [a_settlement(taken, Status.FAILED, reason="rejected.recipient")])

    [first, second] = (await store.read(letters.copies_of, [letter.id]))[letter.id]
    assert (first.recipient, first.status, first.reason) == (JANE.address, Status.QUEUED, None)
    assert (second.recipient, second.status, second.reason) == (
        "joe@customer.test",
        Status.FAILED,
        "rejected.recipient",
    )
    assert await store.read(letters.get, letter.id) == letter
    assert [one.id for one in await store.read(letters.of_conversation, form)] == [form, letter.id]


async def test_eleven_requests_at_once_make_one_letter(store: Store, integration_id: UUID) -> None:
    """However many copies of a request come at the same moment, one letter with its messages is accepted."""
    form = await a_form(store, integration_id)
    request = a_request()
    sendings = [a_sending(integration_id, a_letter(form)) for _ in range(11)]
    told = await asyncio.gather(*(store.transaction(letters.accept, one, request, now=NOW) for one in sendings))

    assert len({one.letter_id for one in told}) == 1
    assert [one.done_now for one in told].count(True) == 1
    assert await count(store, schema.letters) == 1
    assert await count(store, schema.live) == 2  # the form, and the one copy


async def test_a_commit_in_doubt_is_settled_by_running_it_again(store: Store, integration_id: UUID) -> None:
    """The same sending run twice is committed once, and both times told the same letter."""
    form = await a_form(store, integration_id)
    sending, request = a_sending(integration_id, a_letter(form)), a_request()
    told = [await store.transaction(letters.accept, sending, request, now=NOW) for _ in range(2)]

    assert [(one.letter_id, one.done_now) for one in told] == [(sending.letter.id, True), (sending.letter.id, False)]
    assert await count(store, schema.copies) == 1


async def test_a_request_is_forgotten_after_its_time(store: Store, integration_id: UUID) -> None:
    """The same request is another one when it comes later than it is remembered; each repetition renews that time."""
    form = await a_form(store, integration_id)
    request = a_request()
    told = []
    for seconds in (0, 50, 100, 161):
        sending = a_sending(integration_id, a_letter(form))
        now = NOW + timedelta(seconds=seconds)
        told.append((await store.transaction(letters.accept, sending, request, now=now)).done_now)

    assert told == [True, False, False, True]
    late = NOW + timedelta(days=1)
    assert await store.read(requests.answered, request, late) is None
    await store.transaction(letters.accept, a_sending(integration_id, a_letter(form)), a_request(), now=late)
    assert await count(store, schema.requests) == 1


async def test_a_key_stands_for_one_request(store: Store, integration_id: UUID) -> None:
    """Another request under a key that is taken is refused, and nothing of it is done."""
    form = await a_form(store, integration_id)
    await store.transaction(letters.accept, a_sending(integration_id, a_letter(form)), a_request("key"), now=NOW)
    other = a_request("key", "another body")

    with pytest.raises(KeyTaken):
        await store.transaction(letters.accept, a_sending(integration_id, a_letter(form)), other, now=NOW)
    with pytest.raises(KeyTaken):
        await store.read(requests.answered, other, NOW)
    assert await count(store, schema.letters) == 1


async def test_what_is_overlooked_is_on_record(store: Store, integration_id: UUID) -> None:
    """An audit row that belongs to a letter is written with it, or not at all."""
    form = await a_form(store, integration_id)
    noted = Entry(subject="integration", subject_id=integration_id, action="overlooked", who="client crm", at=NOW)
    request = a_request()
    for _ in range(2):
        sending = a_sending(integration_id, a_letter(form), noted=noted)
        await store.transaction(letters.accept, sending, request, now=NOW)

    told = await store.read(history, "integration", integration_id)
    assert [row.action for row in told].count("overlooked") == 1


# --- drafts -----------------------------------------------------------------------------------------------------------


def a_draft(conversation_id: UUID, **sketch: Any) -> Draft:
    """A draft with some words."""
    return Draft(
        conversation_id=conversation_id, state=State.EDITED, type=Type.REPLY, changed_at=NOW,
        sketch=Sketch(**({"to": (JANE,), "text": "It is"} | sketch)),
    )  # fmt: skip


def a_file(conversation_id: UUID, **changes: Any) -> DraftFile:
    """A file that a draft waits for."""
    usual: dict[str, Any] = {
        "id": uuid4(), "conversation_id": conversation_id, "name": "a.pdf", "media_type": "application/pdf", "size": 9,
        "inline": False, "announced_at": NOW,
    }  # fmt: skip
    return DraftFile(**(usual | changes))


async def test_a_draft_is_kept_as_it_was_put_last(store: Store, integration_id: UUID) -> None:
    """There is one draft, and it says what was put last."""
    form = await a_form(store, integration_id)
    assert await store.read(drafts.get, form) is None
    for text in ("It", "It is on"):
        await store.transaction(drafts.put, a_draft(form, text=text))

    assert await store.read(drafts.get, form) == a_draft(form, text="It is on")
    with pytest.raises(UnknownConversation):
        await store.transaction(drafts.put, a_draft(uuid4()))


async def test_a_file_is_the_drafts_once_it_came(store: Store, integration_id: UUID) -> None:
    """An announced file is nobody's until its bytes are there, which happens once."""
    form = await a_form(store, integration_id)
    file = a_file(form, size=-1)
    await store.transaction(drafts.announce, file)
    assert await store.read(drafts.files, form) == []
    assert [await store.transaction(drafts.arrived, file.id, key, 12) for key in ("k1", "k2")] == [True, False]

    assert await store.read(drafts.files, form) == [replace(file, key="k1", size=12)]
    assert await store.transaction(drafts.remove, form, file.id) == replace(file, key="k1", size=12)
    assert await store.transaction(drafts.remove, form, file.id) is None


async def test_sending_ends_the_draft(store: Store, integration_id: UUID) -> None:
    """The draft goes with the letter; the files that were not sent are told, so that they can be deleted."""
    form = await a_form(store, integration_id)
    sent, left, waited_for = a_file(form), a_file(form), a_file(form)
    await store.transaction(drafts.put, a_draft(form))
    for file in (sent, left, waited_for):
        await store.transaction(drafts.announce, file)
    for file, key in ((sent, "k1"), (left, "k2")):
        await store.transaction(drafts.arrived, file.id, key, 9)
    attached = LetterFile(id=sent.id, file=Attachment(name="a.pdf", media_type="application/pdf", size=9, key="k1"))
    sending = a_sending(integration_id, a_letter(form, files=(attached,)), takes=frozenset({sent.id}))
    told = await store.transaction(letters.accept, sending, a_request(), now=NOW)

    assert told.unused == ("k2",)
    assert await store.read(drafts.get, form) is None
    assert await store.read(drafts.files, form) == []
    assert not await store.transaction(drafts.arrived, waited_for.id, "k3", 9)


async def test_a_file_that_came_meanwhile_is_not_lost(store: Store, integration_id: UUID) -> None:
    """A letter that was to take the whole draft is refused when a file has come since the draft was read."""
    form = await a_form(store, integration_id)
    file = a_file(form)
    await store.transaction(drafts.announce, file)
    await store.transaction(drafts.arrived, file.id, "k1", 9)

    sending = a_sending(integration_id, a_letter(form), takes=frozenset(), whole=True)
    with pytest.raises(FileGone):
        await store.transaction(letters.accept, sending, a_request(), now=NOW)
    assert await store.read(drafts.files, form) == [replace(file, key="k1")]


async def test_a_file_goes_with_one_letter(store: Store, integration_id: UUID) -> None:
    """Of two letters with the same file of the draft one is accepted; the other one leaves nothing behind."""
    form = await a_form(store, integration_id)
    file = a_file(form)
    await store.transaction(drafts.announce, file)
    await store.transaction(drafts.arrived, file.id, "k1", 9)
    sendings = [a_sending(integration_id, a_letter(form), takes=frozenset({file.id})) for _ in range(2)]
    await store.transaction(letters.accept, sendings[0], a_request(), now=NOW)

    with pytest.raises(FileGone):
        await store.transaction(letters.accept, sendings[1], a_request(), now=NOW)
    assert await count(store, schema.letters) == 1


async def test_a_draft_has_room_for_so_many_files(store: Store, integration_id: UUID) -> None:
    """More files than a letter may have are refused; what never came makes room after an hour."""
    form = await a_form(store, integration_id)
    for _ in range(drafts.MOST_FILES):
        await store.transaction(drafts.announce, a_file(form))
    with pytest.raises(TooManyFiles):
        await store.transaction(drafts.announce, a_file(form))

    later = NOW + drafts.ANNOUNCED_FOR + timedelta(seconds=1)
    await store.transaction(drafts.announce, a_file(form, announced_at=later))


async def test_a_discarded_draft_leaves_no_file(store: Store, integration_id: UUID) -> None:
    """Discarding forgets what was written and tells which files nobody needs any more."""
    form = await a_form(store, integration_id)
    file = a_file(form)
    await store.transaction(drafts.put, a_draft(form))
    await store.transaction(drafts.announce, file)
    await store.transaction(drafts.announce, a_file(form))
    await store.transaction(drafts.arrived, file.id, "k1", 9)

    assert await store.transaction(drafts.discard, form) == ["k1"]
    assert await store.read(drafts.get, form) is None


# --- files that belong to nothing -------------------------------------------------------------------------------------


async def test_sto_5_whatever_names_a_file_keeps_it(store: Store, integration_id: UUID) -> None:
    """A file of a message, of a letter and of a draft is named; one of none of them is not."""
    form = await a_form(store, integration_id, files=("of a message",))
    kept = Attachment(name="a.pdf", media_type="application/pdf", size=9, key="of a letter")
    await store.transaction(letters.enter, a_letter(form, files=(LetterFile(id=uuid4(), file=kept),)))
    announced = a_file(form)
    await store.transaction(drafts.announce, announced)
    await store.transaction(drafts.arrived, announced.id, "of a draft", 1)
    asked = ["of a message", "of a letter", "of a draft", "of nothing"]

    assert await store.read(leftovers.unnamed, asked) == {"of nothing"}
    assert await store.read(leftovers.unnamed, []) == set()
