"""The intake when its database does not answer in time: what is owed is paid, however much it is."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.intake import FAILED_IN_A_ROW, KNOWN_SECONDS, MOST_OWED, Intake, NotAccepted
from mailroom.attachments import AttachmentStore
from mailroom.message import Status
from mailroom.queue.memory import MemoryQueue
from mailroom.store import messages
from mailroom.store.messages import NewMessage
from mailroom.store.opening import open_store
from mailroom.store.port import Store, StoreUnavailable
from mailroom.tally import Tally
from mailroom.tickets import TicketWriter
from tests.builders import a_message, accepted, claimed, created, migrated, this_moment
from tests.services import Postgres


@pytest.fixture
async def store(postgres: Postgres) -> AsyncIterator[Store]:
    """A PostgreSQL with our tables."""
    store = open_store(postgres.new_database(migrated))
    yield store
    await store.aclose()


@pytest.fixture
def attachments(tmp_path: Path) -> AttachmentStore:
    """Where files are kept."""
    return AttachmentStore(tmp_path)


@pytest.fixture
async def tickets(store: Store) -> AsyncIterator[TicketWriter]:
    """Where tickets are written."""
    tickets = TicketWriter(MemoryQueue(), store, this_moment)
    yield tickets
    await tickets.aclose()


@pytest.fixture
def intake(store: Store, tickets: TicketWriter, attachments: AttachmentStore) -> Intake:
    """An intake on them."""
    return Intake(store, tickets, attachments, Tally(store))


def owe(intake: Intake, *owed: NewMessage) -> None:
    """These were answered 1, and nobody knows yet whether they were committed."""
    intake._owed.update({message.id: message for message in owed})


async def test_any_number_of_tombstones_is_paid(intake: Intake, store: Store) -> None:
    """More than any statement has room for: all are written, and nothing is owed any more."""
    integration_id = await created(store)
    committed = await accepted(store, integration_id)
    owe(intake, *[a_message(integration_id) for _ in range(33_000)], committed)
    await intake.pay_once()

    assert intake.owed == 0
    assert intake.contradicted == 0
    assert await store.read(messages.standing, committed.id) is None


async def test_the_files_of_what_is_taken_back_go_too(
    intake: Intake, store: Store, attachments: AttachmentStore
) -> None:
    """Neither the row nor the files of a message stay that its client was told to send again."""
    async with attachments.upload() as upload:
        await upload.write(b"a large file")
        await upload.finish()
    integration_id = await created(store)
    never = a_message(integration_id, files=(upload.key,))
    owe(intake, never)
    await intake.pay_once()

    assert not [file for file in attachments.folder.rglob("*") if file.is_file()]


async def test_the_files_of_others_do_not_go_with_what_is_taken_back(
    intake: Intake, store: Store, attachments: AttachmentStore
) -> None:
    """A bundle has files of other messages, too."""
    key = await attachments.keep([b"mine", b"theirs"])
    owe(intake, await accepted(store, await created(store), bundles=(key,)))
    await intake.pay_once()

    assert intake.owed == 0
    assert await attachments.read(key, 4, 6) == b"theirs"


async def test_what_a_worker_has_already_is_counted(intake: Intake, store: Store, attachments: AttachmentStore) -> None:
    """A message that cannot be taken back any more is delivered with its files, and that is counted."""
    async with attachments.upload() as upload:
        await upload.write(b"a large file")
        await upload.finish()
    message = await accepted(store, await created(store), files=(upload.key,))
    await claimed(store, message)
    owe(intake, message)
    await intake.pay_once()

    assert intake.contradicted == 1
    assert await store.read(messages.statuses, [message.id]) == {message.id: Status.SENDING}
    assert await attachments.read(upload.key) == b"a large file"


async def test_who_pays_twice_at_once_counts_once(intake: Intake, store: Store) -> None:
    """A process that stops pays while its loop still does: a message that was delivered all the same is counted once."""
    message = await accepted(store, await created(store))
    await claimed(store, message)
    owe(intake, message)
    await asyncio.gather(intake.pay_once(), intake.pay_once())

    assert intake.contradicted == 1


async def test_ovl_3_what_is_owed_is_bounded(intake: Intake, store: Store) -> None:
    """Who owes as many answers in doubt as may be takes in nothing more, at once and for certain, until some are paid."""
    integration_id = await created(store)
    owe(intake, *[a_message(integration_id) for _ in range(MOST_OWED)])
    with pytest.raises(NotAccepted) as refused:
        await intake.accept(a_message(integration_id))
    await intake.pay_once()
    await intake.accept(a_message(integration_id))
    await intake._tickets.aclose()

    assert refused.value.certain
    assert intake.accepted == 1


class Refusing:
    """A store that reads and does not commit."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.asked = 0

    async def statement(self, *_: Any, **__: Any) -> Any:
        """Fail."""
        self.asked += 1
        raise StoreUnavailable("cannot execute INSERT in a read-only transaction")

    transaction = statement


async def test_dlv_2_who_stops_pays_first(intake: Intake, store: Store) -> None:
    """A debt is known to nobody else: who is told to stop while the database is away waits for it a while, and pays."""
    committed = await accepted(store, await created(store))
    owe(intake, committed)
    refusing: Any = Refusing(store)
    intake._store = refusing
    stopping = asyncio.create_task(intake.aclose())
    while refusing.asked < 2:
        await asyncio.sleep(0.05)
    intake._store = store
    await stopping

    assert intake.owed == 0
    assert await store.read(messages.standing, committed.id) is None


async def test_ops_4_commits_that_fail_one_after_the_other_are_told(
    tickets: TicketWriter, store: Store, attachments: AttachmentStore
) -> None:
    """Three in a row, and the intake is idle; after five seconds without a try nobody knows; one that works ends it."""
    now, message = [0.0], a_message(await created(store))
    refusing: Any = Refusing(store)
    intake = Intake(refusing, tickets, attachments, Tally(store), lambda: now[0])
    said = []
    for _ in range(FAILED_IN_A_ROW):
        said.append(intake.idle())
        with pytest.raises(NotAccepted):
            await intake.accept(message)
    told = intake.idle()
    now[0] += KNOWN_SECONDS
    later = intake.idle()
    intake._store = store
    await intake.accept(message)
    await intake._tickets.aclose()
    now[0] -= KNOWN_SECONDS

    assert said == [None] * FAILED_IN_A_ROW
    assert (told, later, intake.idle()) == ("the database refuses to commit", None, None)
    assert refusing.asked == FAILED_IN_A_ROW
