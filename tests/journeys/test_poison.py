"""A message that kills whoever works on it: it ends where a person sees it, and takes nobody along."""

import asyncio
from collections.abc import Sequence
from typing import Any

from mailroom.message import Status
from mailroom.store.messages import NewMessage
from tests.journeys.office import Office, a_row, worker_process
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
    died = 0
    while True:
        async with worker_process(office, "-c", MORTAL) as process:
            ended: asyncio.Task[Any] = asyncio.create_task(all_ended(office, rows))
            death: asyncio.Task[Any] = asyncio.create_task(process.wait())
            await asyncio.wait({ended, death}, return_when=asyncio.FIRST_COMPLETED)
            has_died = death.done()
            for task in (ended, death):
                task.cancel()
            await asyncio.wait({ended, death})
        if not has_died:
            ended.result()
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
