"""Messages with large files: however many there are, few of them are in memory several times over at once."""

import asyncio
from dataclasses import replace
from pathlib import Path

from mailroom.attachments import AttachmentStore
from mailroom.message import Attachment
from mailroom.settings import RetrySettings, Settings
from mailroom.store.sqlite import SqliteStore
from mailroom.vault import Vault
from mailroom.watch import IntegrationWatch
from tests.builders import a_content, accepted, claimed, created
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


async def test_snd_10_large_messages_are_composed_few_at_a_time(store: SqliteStore, tmp_path: Path) -> None:
    """Of many messages with large files two are read and written at once; all of them come out whole."""
    attachments = CountingStore(tmp_path / "attachments")
    async with attachments.upload() as upload:
        await upload.write(CONTENT)
        await upload.finish()
    file = Attachment(name="a.pdf", media_type="application/pdf", size=len(CONTENT), key=upload.key)
    watch = IntegrationWatch(store, Vault(["a key for tests"]))
    desk = Desk(
        store=store, attachments=attachments, watch=watch, pool=Pool("worker.test", Timeouts()),
        policy=RetryPolicy(RetrySettings()), enforcement=Settings().enforcement, session=Session(store, list),
    )  # fmt: skip
    integration_id = await created(store)
    message = await claimed(store, await accepted(store, integration_id))
    await watch.refresh()
    integration = watch.get(integration_id)
    assert integration is not None
    content = replace(a_content(), attachments=(file,))
    wires = await asyncio.gather(*(wire_of(message, content, integration, desk) for _ in range(10)))

    assert attachments.most == LARGE_AT_ONCE
    assert {len(wire) > len(CONTENT) if isinstance(wire, bytes) else None for wire in wires} == {True}
