"""What every store promises about a dead letter that is sent again: one new message in its place, on record."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.message import Kind, Status
from mailroom.store import audit, copying, dead_letters, letters, messages, schema
from mailroom.store.audit import Entry
from mailroom.store.copying import Again, NotCopied
from mailroom.store.port import Store
from tests.builders import NOW, a_message, a_settlement, accepted, claimed, every_standing

LATER = NOW + timedelta(hours=1)


async def failed(store: Store, integration_id: UUID, **changes: Any) -> UUID:
    """A dead letter."""
    claim = await claimed(store, await accepted(store, integration_id, **changes))
    await store.statement(messages.settle, [a_settlement(claim, Status.FAILED, reason="rejected.recipient")])
    return claim.id


def again(original: UUID, integration_id: UUID, **changes: Any) -> Again:
    """What takes its place."""
    new = a_message(integration_id, recipient="john@customer.test", accepted_at=LATER, **changes)
    return Again(original=original, message=new, who="jane", why="mistyped")


async def test_a_new_message_takes_its_place(store: Store, integration_id: UUID) -> None:
    """It is queued like any other; the old one is dismissed, with what it was sent again as; both say so on record."""
    original = await failed(store, integration_id)
    wanted = again(original, integration_id)
    await store.transaction(copying.send_again, wanted)

    found = await store.read(messages.statuses, [original, wanted.message.id])
    assert found == {original: Status.FAILED, wanted.message.id: Status.QUEUED}
    assert await store.read(dead_letters.groups) == []

    def dismissed(tx: Connection) -> Any:
        return tx.execute(sa.select(schema.dead_letters)).one()

    row = await store.read(dismissed)
    assert (row.dismissed_by, row.dismissed_at) == ("jane", LATER)
    assert row.dismissed_why == f"sent again as {wanted.message.id} to john@customer.test"
    [old], [new] = [await store.read(audit.history, "message", one) for one in (original, wanted.message.id)]
    assert (old.action, old.after, old.who, old.why) == ("sent again", str(wanted.message.id), "jane", "mistyped")
    assert (new.action, new.before, new.who, new.why) == ("copied", str(original), "jane", "mistyped")


async def test_its_files_are_known(store: Store, integration_id: UUID) -> None:
    """Those of its own and those in bundles, which several messages may name."""
    keys = ["a" * 32, "b" * 32, "c" * 32]
    one = await accepted(store, integration_id, files=(keys[0],), bundles=(keys[1], keys[2]))
    two = await accepted(store, integration_id, bundles=(keys[1],))
    none = await accepted(store, integration_id)

    assert await store.read(copying.files_of, one.id) == set(keys)
    assert await store.read(copying.files_of, two.id) == {keys[1]}
    assert await store.read(copying.files_of, none.id) == set()


async def test_asked_twice_it_is_done_once(store: Store, integration_id: UUID) -> None:
    """After a commit in doubt the same can be asked for again."""
    original = await failed(store, integration_id)
    wanted = again(original, integration_id)
    for _ in range(2):
        await store.transaction(copying.send_again, wanted)

    assert len(await store.read(every_standing)) == 2
    assert len(await store.read(audit.history, "message", original)) == 1


@pytest.mark.parametrize("status", [None, Status.SENT, Status.HELD])
async def test_only_a_dead_letter_is_sent_again(store: Store, integration_id: UUID, status: Status | None) -> None:
    """What is under way, waits or was sent is not copied, and nothing is accepted."""
    message = await accepted(store, integration_id)
    if status is not None:
        await store.statement(messages.settle, [a_settlement(await claimed(store, message), status)])
    for original in (message.id, uuid4()):
        with pytest.raises(NotCopied):
            await store.transaction(copying.send_again, again(original, integration_id))

    assert len(await store.read(every_standing)) == 1


async def test_what_was_answered_or_dismissed_can_be_sent_again(store: Store, integration_id: UUID) -> None:
    """A client that was told of the failure gets a new message, and so does a letter that was put out of sight."""
    answered, dismissed = [await failed(store, integration_id) for _ in range(2)]
    await store.statement(messages.answered_one, answered)
    await store.transaction(dead_letters.dismiss_one, dismissed, who="jane", why="known", now=NOW)
    for original in (answered, dismissed):
        await store.transaction(copying.send_again, again(original, integration_id))

    assert [one.status for one in await store.read(every_standing)].count(Status.QUEUED) == 2


async def test_a_copy_of_a_letter_stays_one(store: Store, integration_id: UUID) -> None:
    """The conversation that the letter is of shows the new copy behind the others."""
    letter_id = uuid4()
    copies = [await failed(store, integration_id, kind=Kind.ACD) for _ in range(2)]

    def enter(tx: Connection) -> None:
        rows = [{"message_id": one, "letter_id": letter_id, "number": number} for number, one in enumerate(copies)]
        tx.execute(sa.insert(schema.copies), rows)

    await store.transaction(enter)
    wanted = again(copies[0], integration_id, kind=Kind.ACD)
    await store.transaction(copying.send_again, wanted)

    found = (await store.read(letters.copies_of, [letter_id]))[letter_id]
    assert [one.message_id for one in found] == [*copies, wanted.message.id]


async def test_files_and_what_was_overlooked_are_kept(store: Store, integration_id: UUID) -> None:
    """The files of a message are its own; that an integration's state was overlooked is on record."""
    original = await failed(store, integration_id, files=("a" * 32,))
    noted = Entry(subject="integration", subject_id=integration_id, action="overlooked", who="jane", at=LATER)
    wanted = again(original, integration_id, files=("b" * 32,))
    await store.transaction(
        copying.send_again, Again(original=original, message=wanted.message, who="jane", noted=noted)
    )

    assert await store.read(copying.files_of, original) == {"a" * 32}
    assert await store.read(copying.files_of, wanted.message.id) == {"b" * 32}
    assert (await store.read(audit.history, "integration", integration_id))[0].action == "overlooked"
