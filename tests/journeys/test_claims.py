"""Journeys of claims: a message is one worker's at a time, whatever names it twice or loses an answer."""

import asyncio
from datetime import UTC, datetime

import pytest

from mailroom.message import Lane, Status
from mailroom.queue.opening import open_queue
from mailroom.queue.ticket import Address, Ticket
from mailroom.store import integrations, messages, sessions
from tests.journeys.office import Office, a_row, proxied
from tests.services import Postgres, Sink
from tests.smtp_server import Say, scripted_smtp
from worker import consumer


async def test_dlv_3_doubled_tickets(office: Office, smtp_sink: Sink) -> None:
    """A message that several tickets name at the same time is sent once."""
    smtp_sink.start()
    await office.add_integration(smtp_sink.port)
    integration = await office.integration()
    address = Address(Lane.FORM, integration.id)
    rows = [a_row(integration.id) for _ in range(100)]
    await office.store.statement(messages.accept, rows)
    queue = open_queue(office.queue_url)
    for row in rows:
        for _ in range(3):
            await queue.publish(address, Ticket((row.id,), datetime.now(UTC)))
    await office.store.statement(integrations.mark_lane, integration.id, Lane.FORM)
    async with office.worker():
        for row in rows:
            standing = await office.becomes(row.id, Status.SENT)
            assert not standing.possible_duplicate
        async with asyncio.timeout(30):
            while await queue.ready(address):
                await asyncio.sleep(0.1)
    await queue.aclose()

    assert smtp_sink.count() == 100


async def test_dlv_4_a_session_declared_dead_sends_no_dot(office: Office) -> None:
    """What was begun under a session that was declared dead ends before its dot; it arrives once, by a later attempt."""
    async with scripted_smtp() as smtp, office.gateway(), office.worker() as worker:
        await office.add_integration(smtp.port)
        await office.active()
        smtp.script("DATA", Say("354 go on", seconds=2), times=1)
        message_id = await office.accepted()
        await smtp.reached("DATA")
        old = worker.session.id
        beats = await office.store.read(sessions.beats)
        assert await office.store.transaction(sessions.declare_dead, old, beats[old], at=datetime.now(UTC))
        await worker.session.beat()
        standing = await office.becomes(message_id, Status.SENT, seconds=60)

        assert worker.session.id != old
        assert standing.attempts > 1
        assert office.copies(smtp.completed, message_id) == 1


async def test_a_claim_without_an_answer_is_handed_back(
    office: Office, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim whose answer was lost while its queue was given up does not keep the message for ever."""
    # Time enough to give the queue up before the claim is tried again, on a busy machine too.
    monkeypatch.setattr(consumer, "AGAIN_SECONDS", 5.0)
    async with scripted_smtp() as smtp, office.gateway():
        await office.add_integration(smtp.port)
        async with proxied(office, postgres) as (far, proxy), far.worker():
            await office.active()
            trap = proxy.lose_answer(b"known by its subject")
            message_id = await office.accepted(subject="known by its subject")
            await trap.wait()
            await office.store.transaction(integrations.disable, "main", who="test", why=None, now=datetime.now(UTC))
            await office.becomes(message_id, Status.QUEUED)
            await office.reset()
            await office.active()
            await office.becomes(message_id, Status.SENT, seconds=60)

        assert office.copies(smtp.completed, message_id) == 1
