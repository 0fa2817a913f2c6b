"""Journeys of the state: it stops everybody within a second, turns to ERROR for the right reasons only, and tells them."""

import asyncio
import contextlib
from collections import Counter
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, func, select

from mailroom.integration import Cause, ReportedState
from mailroom.message import Status
from mailroom.store import integrations, schema
from mailroom.store.integrations import Blamed
from tests.journeys.office import VAULT, Office, a_row
from tests.services import Sink
from tests.smtp_server import Say, scripted_smtp


async def ended(office: Office, status: Status, number: int, seconds: float) -> None:
    """Return once so many messages have ended like this."""

    def count(tx: Connection) -> int:
        return tx.execute(
            select(func.count()).select_from(schema.messages).where(schema.messages.c.status == status)
        ).scalar_one()

    async with asyncio.timeout(seconds):
        while await office.store.read(count) < number:
            await asyncio.sleep(0.2)


async def set_error(office: Office) -> None:
    """Have the integration flip to ERROR, as a worker does that was refused."""
    integration = await office.integration()
    blamed = Blamed(
        integration_id=integration.id, generation=integration.generation, cause=Cause.AUTHENTICATION_REFUSED,
        threshold=1, transcript="535 5.7.8 refused", who="a worker", began_at=datetime.now(UTC), apart=timedelta(0),
    )  # fmt: skip
    assert await office.store.transaction(integrations.count_failure, blamed, now=datetime.now(UTC))


async def test_dlv_8_a_flip_stops_four_workers(office: Office) -> None:
    """With 1,000 queued and 4 workers nothing new starts a second after ERROR; after the reset all arrive, each once."""
    async with scripted_smtp() as smtp:
        smtp.script("dot", Say("250 taken", seconds=0.05))
        await office.add_integration(smtp.port, max_connections=12)
        async with office.worker():
            await office.active()
        integration = await office.integration()
        rows = [a_row(integration.id, subject=f"number {number}") for number in range(1000)]
        await office.queued(rows)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(4):
                await stack.enter_async_context(office.worker())
            async with asyncio.timeout(60):
                while len(smtp.inbox) < 150:
                    await asyncio.sleep(0.02)
            await set_error(office)
            await asyncio.sleep(1)
            begun = smtp.verbs.count("MAIL")
            await asyncio.sleep(3)
            assert smtp.verbs.count("MAIL") == begun < 1000

            await office.reset()
            await ended(office, Status.SENT, 1000, seconds=100)

        assert (await office.integration()).reported_state is ReportedState.ACTIVE
        copies = Counter(str(office.parsed(received.content)["Subject"]) for received in smtp.completed)
        assert copies == {row.subject: 1 for row in rows}


async def test_a_refused_password_is_told_within_seconds(office: Office) -> None:
    """535 to AUTH sets ERROR within 5 s of the refusal, and the server's words are there to be read."""
    async with scripted_smtp(username="forms", password="right") as smtp:
        await office.add_integration(smtp.port, username="forms", sealed_password=VAULT.seal("right"))
        async with office.gateway(), office.worker():
            await office.active()
            smtp.hang_up()
            smtp.script("AUTH", "535 5.7.8 Username and Password not accepted. Learn more at the provider")
            await office.accepted()
            await office.state(ReportedState.ERROR, seconds=5)

        assert (await office.integration()).cause is Cause.AUTHENTICATION_REFUSED
        assert "Username and Password not accepted" in await office.transcript()
        told = await office.store.read(integrations.history, (await office.integration()).id)
        [entry] = [entry for entry in told if entry.after == ReportedState.ERROR]
        assert entry.before == ReportedState.ACTIVE
        assert entry.cause == Cause.AUTHENTICATION_REFUSED
        assert "535" in entry.transcript
        assert "right" not in entry.transcript


async def test_ten_thousand_refused_recipients_set_nothing(office: Office, smtp_sink: Sink) -> None:
    """However many recipients a server refuses, its integration stays as it is: ACTIVE, with nothing counted."""
    smtp_sink.start()
    await office.add_integration(smtp_sink.port)
    async with office.worker():
        await office.active()
        smtp_sink.start_counting("-f", "RCPT")
        integration = await office.integration()
        before = (integration.reported_state, integration.since, integration.generation)
        await office.queued([a_row(integration.id) for _ in range(10_000)])
        await ended(office, Status.FAILED, 10_000, seconds=240)
        after = await office.integration()

    assert (after.reported_state, after.since, after.generation) == before
    assert (after.failures, after.pace) == (0, None)


async def test_one_bad_recipient_among_many_good_ones_changes_nothing(office: Office) -> None:
    """One refused recipient in a thousand good mails is one dead letter, and nothing else."""
    async with scripted_smtp() as smtp, office.worker():
        smtp.script("RCPT", "550 5.1.1 no such user", address="nobody@company.test")
        await office.add_integration(smtp.port)
        await office.active()
        integration = await office.integration()
        rows = [a_row(integration.id) for _ in range(999)]
        bad = a_row(integration.id, to="nobody@company.test")
        await office.queued([*rows[:500], bad, *rows[500:]])
        await ended(office, Status.SENT, 999, seconds=120)
        await office.becomes(bad.id, Status.FAILED)

    assert len(smtp.inbox) == 999
    assert (await office.integration()).reported_state is ReportedState.ACTIVE
