"""Journeys of stopping under load, and of everybody coming back at once."""

import asyncio
import signal
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.message import Lane, Status
from mailroom.store import integrations, messages, schema
from tests.journeys.office import Office, a_row, worker_process
from tests.smtp_server import Say, scripted_smtp

LOAD = 60
CONNECTIONS = 4
DEFERRED = 400


async def test_ops_2_a_worker_told_to_stop_under_load_loses_and_repeats_nothing(office: Office) -> None:
    """It ends by itself with 0, also when it is told twice; what it had not begun another sends, each message once."""
    async with scripted_smtp() as smtp, office.gateway():
        smtp.script("dot", Say("250 2.0.0 taken", seconds=0.1))
        await office.add_integration(smtp.port, max_connections=CONNECTIONS)
        async with worker_process(office) as process:
            await office.active()
            ids = [await office.accepted() for _ in range(LOAD)]
            async with asyncio.timeout(30):
                while len(smtp.completed) < LOAD // 6:
                    await asyncio.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(process.wait(), 30)
        by_the_first = len(smtp.completed)
        async with office.worker():
            standings = [await office.becomes(one, Status.SENT) for one in ids]
        copies = [office.copies(smtp.completed, one) for one in ids]

    assert code == 0
    assert by_the_first < LOAD
    assert copies == [1] * LOAD
    assert not any(one.possible_duplicate for one in standings)


async def test_ovl_6_what_was_put_off_does_not_come_back_as_a_stampede(office: Office) -> None:
    """When hundreds fall due in one moment and their server is back, it never sees more connections than allowed."""
    async with scripted_smtp() as smtp, office.worker():
        await office.add_integration(smtp.port, max_connections=CONNECTIONS)
        await office.active()
        rows = [a_row((await office.integration()).id) for _ in range(DEFERRED)]

        def put_off(tx: Connection) -> None:
            ago = datetime.now(UTC) - timedelta(seconds=1)
            tx.execute(sa.update(schema.live).values(status=Status.DEFERRED, wake_at=ago, queued_at=None))

        for start in range(0, DEFERRED, 200):
            await office.store.statement(messages.accept, rows[start : start + 200])
        await office.store.statement(integrations.mark_lane, rows[0].integration_id, Lane.FORM)
        await office.store.transaction(put_off)
        async with asyncio.timeout(60):
            while len(smtp.completed) < DEFERRED:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)

    assert len(smtp.completed) == DEFERRED
    assert smtp.most_at_once <= CONNECTIONS
