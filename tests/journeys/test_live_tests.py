"""Journeys of live tests: their answer is not lost with a database, a worker or a patience."""

import asyncio

from mailroom.integration import ReportedState
from tests.fault_proxy import Mode
from tests.journeys.office import Office, proxied
from tests.services import Postgres
from tests.smtp_server import Say, Stall, scripted_smtp


async def test_a_result_outlives_an_absent_database(office: Office, postgres: Postgres) -> None:
    """A test that passed while the database was away is recorded when it is back; it does not become an ERROR."""
    async with scripted_smtp() as smtp, proxied(office, postgres) as (far, proxy), far.worker():
        smtp.script("EHLO", Say("250 hello", seconds=1), times=1)
        await office.add_integration(smtp.port)
        await smtp.reached("EHLO")
        await proxy.set_mode(Mode.REFUSE)
        proxy.cut()
        await asyncio.sleep(3)
        await proxy.set_mode(Mode.OK)
        await office.state(ReportedState.ACTIVE, seconds=30)

        assert smtp.connections == 1


async def test_a_stopping_worker_hands_its_test_on(office: Office) -> None:
    """A worker that stops in the middle of a test leaves it to the next one."""
    async with scripted_smtp() as smtp:
        smtp.script("EHLO", Stall(), times=1)
        async with office.worker():
            await office.add_integration(smtp.port)
            await smtp.reached("EHLO")
        assert (await office.integration()).reported_state is ReportedState.ACTIVATING
        async with office.worker():
            await office.state(ReportedState.ACTIVE)
