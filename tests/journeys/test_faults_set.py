"""What somebody sees who breaks the development mailbox on purpose, and repairs it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.mailbox.fault_pages import READY_MADE
from cli.mailbox.faults import Faults
from cli.mailbox.letters import Letters
from cli.mailbox.smtp import SmtpServer, serve_smtp
from mailroom.integration import Cause, ReportedState
from mailroom.message import Status
from mailroom.settings import ThresholdSettings
from tests.journeys.office import VAULT, Office


@pytest.fixture
def faults() -> Faults:
    """None yet."""
    return Faults()


@pytest.fixture
def letters(tmp_path: Path) -> Letters:
    """An empty mailbox."""
    return Letters(tmp_path / "mailbox")


@pytest.fixture
async def mailbox(letters: Letters, faults: Faults) -> AsyncIterator[SmtpServer]:
    """Its SMTP server."""
    async with await serve_smtp(letters, "127.0.0.1", 0, faults) as mailbox:
        yield mailbox


async def test_a_refused_log_in_stops_an_integration_until_its_reset(
    office: Office, mailbox: SmtpServer, faults: Faults, letters: Letters
) -> None:
    """The fault sets ERROR, forms are refused and nothing is sent; without it a reset works, and what waited arrives."""
    await office.add_integration(mailbox.port, username="forms", sealed_password=VAULT.seal("any"), max_connections=1)
    async with office.everything(None, thresholds=ThresholdSettings(apart=0.0)):
        faults.add(READY_MADE["Refuse the log-in"])
        waiting = await office.accepted()
        await office.state(ReportedState.ERROR)
        await asyncio.sleep(0.7)  # every gateway and worker has heard of it

        assert (await office.integration()).cause is Cause.AUTHENTICATION_REFUSED
        assert await office.submit() == {"statusCode": 1}
        assert len(letters) == 0

        faults.replace(())
        await office.reset()
        await office.active()
        await office.becomes(waiting, Status.SENT)

        assert len(letters) == 1


async def test_a_lost_answer_to_the_dot_is_uncertain(
    office: Office, mailbox: SmtpServer, faults: Faults, letters: Letters
) -> None:
    """The mailbox has the letter and the worker cannot know: a form goes out again, and can be told by its Message-ID."""
    async with office.everything(mailbox.port):
        faults.add(READY_MADE["Lose one answer to the dot"])
        accepted = await office.accepted()
        await office.becomes(accepted, Status.SENT)

    outcomes = [one.outcome for one in await office.attempts(accepted)]
    sources = [await letters.source(one.id) or b"" for one in letters.list().letters]
    assert (outcomes, len(sources)) == (["uncertain", "sent"], 2)
    assert len({office.parsed(one)["Message-ID"] for one in sources}) == 1
