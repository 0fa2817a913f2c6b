"""What happened is counted where it happens, and can be read as figures."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mailroom.message import Kind, Status, new_message_id
from mailroom.operating.operations import perform
from mailroom.operating.operator import Operator
from mailroom.queue.memory import MemoryQueue
from mailroom.settings import EmailOptions
from mailroom.store import tallies
from mailroom.store.tallies import By, Total
from mailroom.tally import What
from tests.builders import a_message, migrated
from tests.journeys.office import FORM, Office, an_office
from tests.smtp_server import scripted_smtp


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    """An office of one process: SQLite and the queue in memory."""
    url = f"sqlite:///{tmp_path}/mailroom.db"
    await migrated(url)
    async with an_office(tmp_path, url, "memory:") as office:
        yield office


async def figures(office: Office) -> Any:
    """What an operator is told."""
    operator = Operator(store=office.store, queue=MemoryQueue(), who="cli tester")
    return await perform(operator, "figures.show", {})


async def totals(office: Office, by: By) -> list[Total]:
    """What was counted until now."""
    now, day = datetime.now(UTC), timedelta(days=1)
    return await office.store.read(tallies.totals, now - day, now + day, what=list(What), by=by)


async def test_what_happened_is_told(office: Office) -> None:
    """Accepted, sent, refused for good, told to come again, failed: each is counted once, and how long it took."""
    services = {
        "support": EmailOptions(rate_limit=None),
        "sure": EmailOptions(acknowledge="delivered", wait_seconds=10, rate_limit=None),
        "other": EmailOptions(integration="missing", mailbox="a@company.test", rate_limit=None),
    }
    async with scripted_smtp() as smtp, office.everything(smtp.port, services=services):
        await office.becomes(await office.accepted(), Status.SENT)
        await office.post("support", {**FORM, "subject": ""})
        await office.post("support", b"", {"Content-Type": "text/plain"})
        await office.post("other", FORM)
        smtp.script("RCPT", "550 5.1.1 no such user")
        await office.post("sure", FORM)
    told = await figures(office)

    assert told["hour"]["kinds"] == told["day"]["kinds"] == {
        "form": {"accepted": 2, "refused": 2, "again": 1, "sent": 1, "failed": 1}
    }  # fmt: skip
    assert 0 < told["hour"]["seconds"]["half"] <= 10
    assert told["waiting"] == []
    by_service = {(one.of, one.what): one.number for one in await totals(office, By.SERVICE)}
    assert by_service == {
        ("support", "accepted"): 1, ("support", "refused"): 2, ("other", "again"): 1, ("sure", "accepted"): 1,
        ("", "sent"): 1, ("", "failed"): 1,
    }  # fmt: skip


async def test_what_the_sweep_ends_is_counted(office: Office) -> None:
    """What expired while nobody worked is counted by whoever ends it, for its integration."""
    async with scripted_smtp() as smtp:
        await office.add_integration(smtp.port)
        through = (await office.integration()).id
        ago = datetime.now(UTC) - timedelta(days=9)
        old = [
            replace(a_message(through, accepted_at=ago, kind=kind), id=new_message_id())
            for kind in (Kind.FORM, Kind.FORM, Kind.CAMPAIGN)
        ]
        await office.queued(old[:2])
        await office.queued(old[2:])
        waited = await figures(office)
        async with office.worker() as worker:
            await worker.sweep.lost()

    ended = {(one.what, one.of): one.number for one in await totals(office, By.INTEGRATION)}
    assert ended == {("expired", through): 3}
    assert {(one["kind"], one["queued"]) for one in waited["waiting"]} == {("form", 2), ("campaign", 1)}
    assert all(one["oldest"].startswith(ago.date().isoformat()) for one in waited["waiting"])
