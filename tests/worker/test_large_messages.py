"""Messages with large files: however many there are, few of them are in memory several times over at once."""

import asyncio
import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from mailroom import uncached
from mailroom.attachments import AttachmentStore
from mailroom.message import Attachment
from mailroom.outcome import Blame, Deferred
from mailroom.settings import RetrySettings, Settings
from mailroom.store.sqlite import SqliteStore
from mailroom.vault import Vault
from mailroom.watch import IntegrationWatch
from tests.builders import a_content, accepted, claimed, created
from worker import deliver
from worker.deliver import LARGE_AT_ONCE, Desk, wire_of
from worker.opening import Timeouts
from worker.pool import Pool
from worker.retry import RetryPolicy
from worker.session import Session

CONTENT = b"%PDF-" + bytes(1_500_000)


class CountingStore(AttachmentStore):
    """An attachment store that tells how many files were being read at once."""

    reading = 0
    most = 0

    async def read(self, key: str, at: int = 0, size: int | None = None) -> bytearray:
        """Read it, slowly."""
        self.reading += 1
        self.most = max(self.most, self.reading)
        await asyncio.sleep(0.01)
        try:
            return await super().read(key, at, size)
        finally:
            self.reading -= 1


def a_desk(store: SqliteStore, attachments: AttachmentStore) -> Desk:
    """What a message is sent with."""
    return Desk(
        store=store, attachments=attachments, watch=IntegrationWatch(store, Vault(["a key for tests"])),
        pool=Pool("worker.test", Timeouts()), policy=RetryPolicy(RetrySettings()),
        enforcement=Settings().enforcement, session=Session(store, list),
    )  # fmt: skip


async def let_go(fifo: Path) -> None:
    """End the wait of the thread that opens it to read; on a busy machine it may not have come that far yet."""
    while True:
        try:
            os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            if error.errno != errno.ENXIO:  # nobody reads
                raise
            await asyncio.sleep(0.01)
        else:
            return


async def test_a_share_that_hangs_does_not_keep_a_seat(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message whose files do not come is put off without blame, and says why."""
    monkeypatch.setattr(deliver, "READ_SECONDS", 0.1)
    monkeypatch.setattr(uncached, "_DIRECT", 0)  # which no FIFO knows: it would be opened, and waited for, once more
    attachments = AttachmentStore(tmp_path)
    key = await attachments.keep([b"text"])
    path = tmp_path / key[:2] / key
    path.unlink()
    os.mkfifo(path)  # who opens it waits for somebody who writes
    desk, integration_id = a_desk(store, attachments), await created(store)
    message = await claimed(store, await accepted(store, integration_id))
    await desk.watch.refresh()
    integration = desk.watch.get(integration_id)
    assert integration is not None
    content = a_content(attachments=(Attachment(name="a", media_type="text/plain", size=4, key=key, at=0),))
    try:
        outcome = await wire_of(message, content, integration, desk)
    finally:
        await let_go(path)

    assert isinstance(outcome, Deferred)
    assert outcome.blame is Blame.US
    assert outcome.reply.text == "an attachment cannot be read: no answer within 0.1 s"


async def test_snd_10_large_messages_are_composed_few_at_a_time(store: SqliteStore, tmp_path: Path) -> None:
    """Of many messages with large files two are read and written at once; all of them come out whole."""
    attachments = CountingStore(tmp_path / "attachments")
    async with attachments.upload() as upload:
        await upload.write(CONTENT)
        await upload.finish()
    file = Attachment(name="a.pdf", media_type="application/pdf", size=len(CONTENT), key=upload.key)
    desk = a_desk(store, attachments)
    integration_id = await created(store)
    message = await claimed(store, await accepted(store, integration_id))
    await desk.watch.refresh()
    integration = desk.watch.get(integration_id)
    assert integration is not None
    content = replace(a_content(), attachments=(file,))
    wires = await asyncio.gather(*(wire_of(message, content, integration, desk) for _ in range(10)))

    assert attachments.most == LARGE_AT_ONCE
    assert {len(wire) > len(CONTENT) if isinstance(wire, bytes) else None for wire in wires} == {True}
