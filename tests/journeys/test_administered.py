"""Journeys of integrations that people create, change, test and switch off while mail goes on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from mailroom.integration import Cause, IntendedState, ReportedState
from mailroom.message import Content, Lane, Status
from mailroom.operating.operations import perform
from mailroom.operating.operator import Operator
from mailroom.queue.opening import open_queue
from mailroom.queue.ticket import Address, Ticket
from mailroom.settings import SmtpSettings
from mailroom.store import connection_tests, integrations, messages
from mailroom.store.connection_tests import ConnectionTest, Letter
from mailroom.store.content import encode_content
from tests.journeys.office import MAILBOX, VAULT, Office, a_row
from tests.services import free_port
from tests.smtp_server import Say, scripted_smtp

LETTER = Letter(
    sender="desk@company.test", sender_name="Desk", recipient="jane@customer.test", subject="Hello", text="A test",
    html="<p>A test</p>",
)  # fmt: skip


async def ended(office: Office, letter: Letter | None = None, name: str = "main") -> ConnectionTest:
    """A live test of an integration, once it has ended."""
    test_id: UUID = await office.store.transaction(
        integrations.request_test, name, who="test", now=datetime.now(UTC), letter=letter
    )
    async with asyncio.timeout(20):
        while (test := await office.store.read(connection_tests.test, test_id)).ended_at is None:
            await asyncio.sleep(0.05)
    return test


@contextlib.asynccontextmanager
async def somebody(office: Office) -> AsyncIterator[Operator]:
    """Somebody at the command line of this office."""
    queue = open_queue(office.queue_url)
    yield Operator(store=office.store, queue=queue, who="cli jane", vault=VAULT, patience=20)
    await queue.aclose()


async def test_a_letter_of_a_live_test_arrives(office: Office) -> None:
    """A live test of an ACTIVE integration sends its letter as any mail is sent, and tells its Message-ID."""
    async with scripted_smtp() as smtp, office.everything(smtp.port):
        test = await ended(office, LETTER)

    [received] = smtp.inbox
    mail = office.parsed(received.content)
    assert test.passed
    assert mail["Message-ID"] == test.message_id
    assert (mail["From"], mail["To"], mail["Subject"]) == ("Desk <desk@company.test>", "jane@customer.test", "Hello")
    assert received.rcpt_to == ("jane@customer.test",)


async def test_a_refused_letter_fails_its_test_and_nothing_else(office: Office) -> None:
    """What the server says to the letter is told; the integration stays ACTIVE."""
    async with scripted_smtp() as smtp, office.everything(smtp.port):
        smtp.script("RCPT", "550 5.1.1 nobody of that name")
        test = await ended(office, LETTER)
        state = (await office.integration()).reported_state

    assert (test.passed, test.message_id, state) == (False, None, ReportedState.ACTIVE)
    assert "nobody of that name" in (test.transcript or "")


async def test_only_an_active_integration_sends_a_letter(office: Office) -> None:
    """A live test of any other integration logs in, says why no letter went, and sends none."""
    async with scripted_smtp() as smtp, office.everything(smtp.port):
        await office.store.transaction(integrations.disable, "main", who="test", why=None, now=datetime.now(UTC))
        await office.state(ReportedState.INACTIVE)
        await asyncio.sleep(0.7)
        test = await ended(office, LETTER)

    assert (test.passed, test.message_id) == (True, None)
    assert "the integration is disabled" in (test.transcript or "")
    assert smtp.completed == []


async def test_sec_5_nobody_can_probe_the_inside(office: Office) -> None:
    """A server of the inside is not connected to, and what is told of it is the same whether something listens there."""
    async with scripted_smtp() as smtp, office.worker(smtp=SmtpSettings()):
        await office.add_integration(smtp.port, name="listening")
        await office.add_integration(free_port(), name="silent")
        await office.state(ReportedState.ERROR, "listening")
        await office.state(ReportedState.ERROR, "silent")
        told = [(await office.transcript(name)).splitlines()[1:] for name in ("listening", "silent")]
        causes = {(await office.integration(name)).cause for name in ("listening", "silent")}

    assert smtp.connections == 0
    assert told[0] == told[1]
    assert "private_relays" in told[0][0]
    assert causes == {Cause.CANNOT_CONNECT}


async def test_another_server_is_used_without_switching_off_and_on(office: Office) -> None:
    """A changed integration is tested and goes on by itself, with the new server."""
    async with scripted_smtp() as old, scripted_smtp() as new, office.everything(old.port):
        await office.becomes(await office.accepted(), Status.SENT)
        row = await office.store.read(integrations.named, "main")
        configuration = integrations.configuration_of(row, port=new.port)
        await office.store.transaction(
            integrations.configure, row.id, configuration, version=row.version, who="test", now=datetime.now(UTC)
        )
        await office.active()
        await office.becomes(await office.accepted(), Status.SENT)

    assert (len(old.inbox), len(new.inbox)) == (1, 1)


async def test_what_is_being_sent_is_finished_when_it_is_switched_off(office: Office) -> None:
    """Disabled in the middle of a message the integration is DEACTIVATING until that is sent, then INACTIVE."""
    async with scripted_smtp() as smtp, office.everything(smtp.port):
        smtp.script("dot", Say("250 2.0.0 taken", seconds=2))
        message_id = await office.accepted()
        await smtp.reached("dot")
        await office.store.transaction(integrations.disable, "main", who="test", why=None, now=datetime.now(UTC))
        meanwhile = (await office.integration()).reported_state
        await office.becomes(message_id, Status.SENT)
        await office.state(ReportedState.INACTIVE)

    assert meanwhile is ReportedState.DEACTIVATING


async def test_mail_of_a_deleted_integration_stays_visible(office: Office) -> None:
    """What an integration had not sent when it was deleted waits and names it, also when a new one takes the name."""
    async with scripted_smtp() as old, scripted_smtp() as new, office.everything(old.port):
        old.script("MAIL", "451 4.3.0 later")
        message_id = await office.accepted()
        await office.becomes(message_id, Status.DEFERRED)
        deleted = await office.integration()
        await office.store.transaction(
            integrations.intend, deleted.id, IntendedState.DELETED, who="test", now=datetime.now(UTC)
        )
        await office.until(message_id, lambda found: found.status in (Status.QUEUED, Status.HELD))
        await office.add_integration(new.port)
        await office.active()
        await office.becomes(await office.accepted(), Status.SENT)
        standing = await office.standing(message_id)

    assert standing.integration_id == deleted.id
    assert standing.status in (Status.QUEUED, Status.HELD)
    assert len(new.inbox) == 1
    assert old.completed == []


@pytest.mark.parametrize("password", ["right", "wrong"])
async def test_an_integration_is_created_at_the_command_line(office: Office, password: str) -> None:
    """`integrations create` ends with the answer of the live test; `set` with a new password is tested at once."""
    given = {"host": "127.0.0.1", "security": "none", "username": "forms", "from": "Forms <a@company.test>"}
    async with (
        scripted_smtp(username="forms", password="right") as smtp, office.worker(), somebody(office) as jane,
    ):  # fmt: skip
        created = await perform(
            jane, "integrations.create",
            {"name": "main", "given": given | {"port": smtp.port}, "password": password, "enabled": True},
        )  # fmt: skip
        assert (created["passed"], created["reported_state"]) == (
            (True, "ACTIVE") if password == "right" else (False, "ERROR")
        )
        change = {"name": "main", "given": {"per_day": 5}, "password": "right", "anonymous": False, "why": "new"}
        changed = await perform(jane, "integrations.set", change)
        shown = await perform(jane, "integrations.show", {"name": "main"})
        deleted = await perform(jane, "integrations.delete", {"name": "main", "why": None})
        left = await perform(jane, "integrations.list", {})

    assert (changed["passed"], shown["reported_state"], shown["per_day"]) == (
        True if password == "wrong" else None, "ACTIVE", 5,
    )  # fmt: skip
    assert "right" not in str(shown)
    assert deleted["deleted"]
    assert left == []


async def test_without_a_sender_of_its_own_mail_leaves_as_its_author(office: Office) -> None:
    """An integration that has no sender address sends under the mail's own; the server is never named an empty one."""
    async with scripted_smtp() as smtp, office.worker():
        await office.add_integration(smtp.port)
        await office.active()
        await office.reconfigure(from_address="")
        integration = await office.integration()
        content = Content(to=MAILBOX, subject="A reply", text="Tomorrow.", from_address="jane@company.test")
        row = replace(a_row(integration.id), body=encode_content(content))
        await office.store.statement(messages.accept, [row])
        queue = open_queue(office.queue_url)
        await queue.publish(Address(Lane.FORM, integration.id), Ticket((row.id,), datetime.now(UTC)))
        await queue.aclose()
        await office.store.statement(integrations.mark_lane, integration.id, Lane.FORM)
        await office.becomes(row.id, Status.SENT)

    assert [received.mail_from for received in smtp.inbox] == ["jane@company.test"]
