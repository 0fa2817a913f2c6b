"""A message that kills whoever works on it: it ends where a person sees it, and takes nobody along."""

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from typing import Any

from mailroom.message import Status
from mailroom.store.messages import NewMessage
from tests.journeys.office import Office, a_row
from tests.services import free_port
from tests.smtp_server import scripted_smtp

#: A worker that dies of one subject, as it would of a defect in a library's C code, and counts the seconds of others
#: quicker than usual.
MORTAL = """
import os, runpy
import worker.deliver, worker.session, worker.sweep

compose = worker.deliver.compose_off_loop

async def deadly(message_id, content, *rest):
    if content.subject == "poison":
        os._exit(9)
    return await compose(message_id, content, *rest)

worker.deliver.compose_off_loop = deadly
worker.session.BEAT_SECONDS = 0.25
worker.sweep.DEAD_AFTER_SECONDS = 1.5
runpy.run_module("worker", run_name="__main__")
"""

#: How many innocents share the worker's eight connections with the poison.
INNOCENTS = 12


async def until_ended(office: Office, rows: Sequence[NewMessage]) -> int:
    """Start one worker after the other until nothing is unfinished; how many died."""
    config = office.folder / "worker.toml"
    config.write_text('[smtp]\nprivate_relays = ["127.0.0.0/8:*"]\n')
    environment = {
        "MAILROOM_CONFIG": str(config),
        "MAILROOM_DATABASE_URL": office.database_url,
        "MAILROOM_QUEUE_URL": office.queue_url,
        "MAILROOM_SECRET_KEY": "a key for tests",
        "MAILROOM_ATTACHMENTS_URL": f"file://{office.folder}/attachments",
    }
    died = 0
    while True:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", MORTAL, stderr=asyncio.subprocess.DEVNULL,
            env={**environment, "MAILROOM_HEALTH_LISTEN": f"127.0.0.1:{free_port()}"},
        )  # fmt: skip
        ended: asyncio.Task[Any] = asyncio.create_task(all_ended(office, rows))
        death: asyncio.Task[Any] = asyncio.create_task(process.wait())
        await asyncio.wait({ended, death}, return_when=asyncio.FIRST_COMPLETED)
        alive = not death.done()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        ended.cancel()
        await asyncio.wait({ended, death})
        if alive:
            return died
        died += 1


async def all_ended(office: Office, rows: Sequence[NewMessage]) -> None:
    """Return once each was sent or given up."""
    for one in rows:
        await office.becomes(one.id, Status.SENT, Status.FAILED, seconds=40)


async def test_dlv_9_a_poison_message_dies_alone(office: Office) -> None:
    """What three workers died of is a dead letter, `crashed`; everybody who was in hand beside it arrives, once."""
    async with scripted_smtp() as smtp:
        await office.add_integration(smtp.port)
        async with office.worker():
            await office.active()
        integration = await office.integration()
        innocents = [a_row(integration.id) for _ in range(INNOCENTS)]
        poison = a_row(integration.id, subject="poison")
        await office.queued([*innocents[:4], poison, *innocents[4:]])
        async with asyncio.timeout(60):
            died = await until_ended(office, [*innocents, poison])
        standings = [await office.standing(one.id) for one in innocents]
        guilty = await office.standing(poison.id)

    assert died == 3
    assert [standing.status for standing in standings] == [Status.SENT] * INNOCENTS
    assert [office.copies(smtp.completed, one.id) for one in innocents] == [1] * INNOCENTS
    assert (guilty.status, guilty.reason) == (Status.FAILED, "crashed")
