"""Limits of an integration hold for all workers together, a throttling server is left in peace, a release starts slowly."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from mailroom.gate import Enforcement
from mailroom.integration import Cause, ReportedState
from mailroom.message import Content, Kind, Lane, Status
from mailroom.queue.ticket import Address
from mailroom.store import allowances, messages
from mailroom.store.content import encode_content
from tests.fault_proxy import FaultProxy, Mode
from tests.journeys.office import MAILBOX, Office, a_row
from tests.smtp_server import Say, ScriptedSmtp, Stall, scripted_smtp
from worker.app import Worker
from worker.seats import READY_PER_SEAT


@contextlib.asynccontextmanager
async def two_workers(
    office: Office, smtp: ScriptedSmtp, connections: int = 8, **limits: Any
) -> AsyncIterator[tuple[Worker, Worker]]:
    """A gateway, an integration `main` with these limits, and two workers that each have connections of it."""
    await office.add_integration(smtp.port, max_connections=connections)
    async with office.gateway(), office.worker() as one, office.worker() as two:
        await office.active()
        # Its lane is known from the first message on.
        await office.becomes(await office.accepted(), Status.SENT)
        integration = await office.integration()
        async with asyncio.timeout(30):
            while not all(worker.consumer.shares.of(integration.id).seats for worker in (one, two)):
                await asyncio.sleep(0.05)
        await office.reconfigure(notes="limited", **limits)
        yield one, two


async def submit(office: Office, number: int) -> list[UUID]:
    """So many forms."""
    return [await office.accepted() for _ in range(number)]


async def count(office: Office, ids: list[UUID], status: Status) -> int:
    """How many of these stand so."""
    found = await office.store.read(messages.statuses, ids)
    return sum(one is status for one in found.values())


async def test_workers_together_open_no_more_connections_than_allowed(office: Office) -> None:
    """Two workers share four connections: the server never sees a fifth, and both have part in the work."""
    async with scripted_smtp() as smtp, two_workers(office, smtp, connections=4) as (one, two):
        smtp.script("dot", Say("250 2.0.0 taken", seconds=0.05))
        for message_id in await submit(office, 80):
            await office.becomes(message_id, Status.SENT)

        assert smtp.most_at_once <= 4
        assert len(smtp.inbox) == 81
        assert min(one.consumer.settles.items, two.consumer.settles.items) > 0


async def test_workers_together_keep_to_the_rate(office: Office) -> None:
    """Sixty messages at ten a second take their time, whoever sends them, with far fewer questions than messages."""
    async with scripted_smtp() as smtp, two_workers(office, smtp, per_second=10) as workers:
        begun_at = asyncio.get_running_loop().time()
        for message_id in await submit(office, 60):
            await office.becomes(message_id, Status.SENT)
        took = asyncio.get_running_loop().time() - begun_at

        assert took >= 5
        assert len(smtp.inbox) == 61
        assert all(worker.consumer.allowance.asked for worker in workers)


async def test_workers_together_send_no_more_than_a_day_allows(office: Office) -> None:
    """When a day's number is used up the rest waits, and nobody is blamed for it."""
    async with scripted_smtp() as smtp, two_workers(office, smtp, per_day=5):
        ids = await submit(office, 8)
        async with asyncio.timeout(30):
            while await count(office, ids, Status.SENT) < 5:
                await asyncio.sleep(0.05)
        await asyncio.sleep(2)
        integration = await office.integration()

        assert await count(office, ids, Status.SENT) == 5
        assert await count(office, ids, Status.QUEUED) == 3
        assert integration.reported_state is ReportedState.ACTIVE
        assert await office.store.read(allowances.used_today, integration.id, now=datetime.now(UTC)) == 5


async def test_a_day_used_up_hides_no_refusal(office: Office) -> None:
    """Agents' mail that finds its integration in ERROR fails at once, whether or not the day has anything left."""
    async with (
        scripted_smtp() as smtp,
        office.everything(smtp.port, enforcement=Enforcement(acd_from=datetime(2000, 1, 1, tzinfo=UTC))),
    ):
        await office.reconfigure(per_day=1)
        first = await office.accepted()
        await office.becomes(first, Status.SENT)
        await office.reconfigure(reported_state=ReportedState.ERROR, cause=Cause.TIMED_OUT)
        for kind in (Kind.ACD, Kind.AGENTLESS):
            letter = replace(a_row((await office.integration()).id), kind=kind)
            await office.queued([letter])
            await office.becomes(letter.id, Status.FAILED)

    assert len(smtp.inbox) == 1


async def test_a_server_that_throttles_is_asked_less_and_less(office: Office) -> None:
    """A server that answers 421 to everything sees fewer and fewer tries of all workers, and never causes an ERROR."""
    async with scripted_smtp() as smtp, two_workers(office, smtp):
        smtp.script("MAIL", "421 4.7.0 too many messages, slow down")
        await submit(office, 60)
        async with asyncio.timeout(30):
            while (await office.integration()).pace is None:
                await asyncio.sleep(0.05)
        first = (await office.integration()).pace
        # What was on its way when the pace was set.
        await asyncio.sleep(2)
        before = smtp.verbs.count("MAIL")
        await asyncio.sleep(6)
        tries = smtp.verbs.count("MAIL") - before
        async with asyncio.timeout(60):
            while ((await office.integration()).pace or 0) >= (first or 0):
                await asyncio.sleep(0.1)
        integration = await office.integration()

        # Left to the retries alone, sixty messages would be tried every two seconds.
        assert tries <= 60
        assert integration.reported_state is ReportedState.ACTIVE
        assert integration.failures == 0


async def test_after_a_reset_the_first_message_goes_alone(office: Office) -> None:
    """However much waits and however many workers there are, one message proves the release; then the rest follows."""
    async with scripted_smtp() as smtp, two_workers(office, smtp):
        integration = await office.integration()
        rows = [replace(a_row(integration.id, f"row {i}"), status=Status.HELD) for i in range(25)]
        smtp.script("dot", Say("250 2.0.0 taken", seconds=3), times=1)
        smtp.verbs.clear()
        smtp._reached.clear()
        await office.reset()
        await office.state(ReportedState.ACTIVE)
        await office.store.statement(messages.accept, rows)
        await smtp.reached("dot")
        await asyncio.sleep(1.5)
        alone, unproven = smtp.verbs.count("MAIL"), (await office.integration()).proven_at
        for row in rows:
            await office.becomes(row.id, Status.SENT, seconds=60)

        assert (alone, unproven) == (1, None)
        assert (await office.integration()).proven_at is not None
        assert len(smtp.inbox) == 26


async def test_agents_have_a_connection_to_themselves_among_all_workers(office: Office) -> None:
    """Where two workers have one connection each, stuck forms take one of them, and agents' mail goes by the other."""
    async with scripted_smtp() as smtp, two_workers(office, smtp, connections=2) as workers:
        integration = await office.integration()
        async with asyncio.timeout(30):
            while sum(worker.consumer.shares.of(integration.id).for_agents for worker in workers) != 1:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        smtp.script("RCPT", Stall(), address=MAILBOX)
        smtp._reached.clear()
        forms = await submit(office, READY_PER_SEAT + 2)
        await smtp.reached("RCPT")
        await asyncio.sleep(1)
        content = encode_content(Content(to="jane@customer.test", subject="Your parcel", text="It is on its way."))
        replies = [
            replace(a_row(integration.id), kind=Kind.ACD, recipient="jane@customer.test", body=content)
            for _ in range(8)
        ]
        await office.store.statement(messages.accept, replies)
        for reply in replies:
            await workers[0].tickets.write_alone(Address(Lane.AGENT, integration.id), reply.id)
        for reply in replies:
            await office.becomes(reply.id, Status.SENT)
        stuck = await count(office, forms, Status.SENDING)
        smtp._scripts.clear()
        smtp.hang_up()
        for form in forms:
            await office.becomes(form, Status.SENT)

        assert stuck == 1 + READY_PER_SEAT
        assert smtp.most_at_once <= 2


async def test_a_worker_without_its_broker_keeps_no_connection_from_others(office: Office) -> None:
    """The only connection of an integration goes to a worker that tickets can reach."""
    port = urlsplit(office.queue_url).port
    assert port is not None
    async with scripted_smtp() as smtp, FaultProxy(port) as proxy, office.gateway():
        await office.add_integration(smtp.port, max_connections=1)
        far = replace(office, queue_url=office.queue_url.replace(f":{port}", f":{proxy.port}"), addresses=[])
        async with far.worker() as holder:
            await office.active()
            await office.becomes(await office.accepted(), Status.SENT)
            assert holder.consumer.shares.of((await office.integration()).id).seats == 1
            await proxy.set_mode(Mode.REFUSE)
            proxy.cut()
            async with office.worker():
                await office.becomes(await office.accepted(), Status.SENT, seconds=25)
            await proxy.set_mode(Mode.OK)


async def test_who_got_ready_before_a_limit_goes_back_in_line(office: Office) -> None:
    """Forms that were claimed while nothing limited them have no part in what a limit that came since allows."""
    async with scripted_smtp() as smtp, office.gateway():
        await office.add_integration(smtp.port, max_connections=1)
        async with office.worker():
            await office.active()
            smtp.script("RCPT", Stall(), address=MAILBOX)
            forms = await submit(office, 4)
            for form in forms:
                await office.becomes(form, Status.SENDING)
            await smtp.reached("RCPT")
            await office.reconfigure(per_second=0.01)
            smtp.forget("RCPT")
            smtp.hang_up()
            waiting = [(await office.becomes(form, Status.QUEUED, Status.DEFERRED)).status for form in forms]

        assert sorted(waiting) == [Status.DEFERRED, Status.QUEUED, Status.QUEUED, Status.QUEUED]
        assert smtp.inbox == []
