"""Who is blamed decides: failures of the account, host or connection set ERROR past their threshold, others never do."""

import asyncio
from typing import Any

import pytest

from mailroom.integration import Cause, ReportedState
from mailroom.message import Status
from mailroom.settings import ThresholdSettings
from tests.journeys.office import Office
from tests.smtp_server import scripted_smtp


@pytest.mark.parametrize(
    ("changes", "cause"),
    [({"host": "no-such-host.invalid"}, Cause.HOST_INVALID), ({"port": 1}, Cause.CANNOT_CONNECT)],
)
async def test_an_unreachable_server_sets_error_past_its_threshold(
    office: Office, changes: dict[str, Any], cause: Cause
) -> None:
    """Mail that finds no server is deferred; after so many failures in a row the integration is in ERROR, with its cause."""
    impatient = ThresholdSettings(apart=0.1)
    async with scripted_smtp() as smtp, office.everything(smtp.port, thresholds=impatient):
        await office.becomes(await office.accepted(), Status.SENT)
        await office.reconfigure(**changes)
        first = await office.accepted()
        await office.becomes(first, Status.DEFERRED)
        after_one = (await office.integration()).reported_state
        for _ in range(5):
            if (await office.submit())["statusCode"] == 1:
                break
            await asyncio.sleep(0.3)
        await office.state(ReportedState.ERROR)
        integration = await office.integration()
        await office.until(first, lambda found: found.status in (Status.HELD, Status.QUEUED))

        assert after_one is ReportedState.ACTIVE
        assert integration.cause is cause
        assert (await office.transcript()) != ""


@pytest.mark.parametrize(
    ("command", "reply", "status"),
    [
        ("RCPT", "550 5.1.1 no such user", Status.FAILED),
        ("RCPT", "452 4.2.2 mailbox full", Status.DEFERRED),
        ("MAIL", "421 4.7.0 too many messages, slow down", Status.DEFERRED),
        ("dot", "554 5.6.0 message refused", Status.FAILED),
        ("dot", "451 4.3.0 try later", Status.DEFERRED),
    ],
)
async def test_what_is_not_the_accounts_fault_never_changes_its_state(
    office: Office, command: str, reply: str, status: Status
) -> None:
    """Refused recipients and messages, throttling and passing trouble leave the integration ACTIVE, however many."""
    async with scripted_smtp() as smtp, office.everything(smtp.port):
        smtp.script(command, reply)
        ids = [await office.accepted() for _ in range(12)]
        for one in ids:
            await office.until(one, lambda found: found.attempts > 0 and found.status in (status, Status.QUEUED))

        assert (await office.integration()).reported_state is ReportedState.ACTIVE
        assert (await office.integration()).failures == 0


async def test_a_success_breaks_the_row_of_failures(office: Office) -> None:
    """Failures count only in a row: one good send, and the count begins anew."""
    async with scripted_smtp() as smtp, office.everything(smtp.port):
        smtp.script("connect", "554 no", times=2)
        first, second = await office.accepted(), await office.accepted()
        await office.becomes(first, Status.SENT)
        await office.becomes(second, Status.SENT)
        async with asyncio.timeout(10):
            while (await office.integration()).failures:
                await office.becomes(await office.accepted(), Status.SENT)

        assert (await office.integration()).reported_state is ReportedState.ACTIVE


async def test_a_server_that_restarts_is_no_error(office: Office) -> None:
    """All seats are refused at once, several times within a second or two: one failure, and nobody has to reset anything."""
    async with scripted_smtp() as smtp, office.everything(smtp.port):
        smtp.script("connect", "554 restarting", times=24)
        ids = [await office.accepted() for _ in range(12)]
        for one in ids:
            await office.becomes(one, Status.SENT, seconds=60)

        assert (await office.integration()).reported_state is ReportedState.ACTIVE
        assert smtp.connections > 24
