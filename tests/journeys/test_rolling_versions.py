"""Journeys of an update: processes of this version and of a newer one work side by side."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.message import Status
from mailroom.store import schema
from tests.builders import migrated
from tests.journeys.office import Office, a_row, an_office
from tests.smtp_server import scripted_smtp


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    """An office of one process."""
    url = f"sqlite:///{tmp_path}/mailroom.db"
    await migrated(url)
    async with an_office(tmp_path, url, "memory:") as office:
        yield office


async def test_ops_3_what_a_newer_gateway_took_in_waits_for_a_newer_worker(office: Office) -> None:
    """A content that this worker cannot read yet is put off without costing an attempt, and sent by one that can."""
    async with scripted_smtp() as smtp:
        await office.add_integration(smtp.port)
        async with office.gateway(), office.worker():
            await office.active()
            row = a_row((await office.integration()).id)
            newer = replace(row, body=b"\x03" + row.body[1:])
            await office.queued([newer])
            put_off = await office.becomes(row.id, Status.DEFERRED)
            attempts = await office.attempts(row.id)

            def read_by_a_newer_one(tx: Connection) -> None:
                mine = schema.contents.c.message_id == row.id
                tx.execute(sa.update(schema.contents).where(mine).values(body=row.body))

            await office.store.transaction(read_by_a_newer_one)
            await office.becomes(row.id, Status.SENT)

    assert put_off.reason is None
    assert "version 03" in (attempts[0].reply or "")
    assert len(smtp.completed) == 1
