"""Journeys of a form submission: HTTP in, mail out, over PostgreSQL, RabbitMQ and a real SMTP server."""

import asyncio
import os
from email import message_from_bytes, message_from_string

import aiohttp

from mailroom.integration import Cause, ReportedState
from mailroom.message import Status
from tests.journeys.office import FORM, MAILBOX, VAULT, Office
from tests.services import Sink
from tests.smtp_server import HangUp, Say, scripted_smtp


def id_of(message: str) -> str:
    """The Message-ID of a delivered mail."""
    return str(message_from_string(message)["Message-ID"])


def subject_of(content: bytes) -> str:
    """The subject of a delivered mail."""
    return str(message_from_bytes(content)["Subject"])


async def test_a_form_arrives(office: Office, smtp_sink: Sink) -> None:
    """An accepted form is delivered to the mailbox of its integration, and its client can see that it was sent."""
    smtp_sink.start()
    await office.add_integration(smtp_sink.port)
    async with office.gateway(), office.worker():
        await office.active()
        message_id = await office.accepted(userData="order=17")
        standing = await office.becomes(message_id, Status.SENT)
        async with office.session.get(f"http://{office.addresses[0]}/genesys/2/email/support/{message_id}") as answer:
            told = await answer.json()

    assert smtp_sink.recipients() == [MAILBOX]
    assert standing.attempts == 1
    assert told == {"statusCode": 0, "interactionId": str(message_id), "status": "sent"}


async def test_files_of_many_arrive_each_with_its_letter(office: Office) -> None:
    """What is kept in one file for several messages leaves with the letter that it came with, and nothing beside."""
    given = [os.urandom(40_000 + number) for number in range(24)]

    async def submitted(number: int) -> None:
        def form() -> aiohttp.FormData:
            form = aiohttp.FormData({**FORM, "subject": str(number)})
            form.add_field("files", b"PK\x03\x04" + given[number], filename="a.zip")
            form.add_field("files", b"small", filename="b.txt")
            return form

        assert (await office.insisted("support", form))[1]["statusCode"] == 0

    async with scripted_smtp() as smtp, office.everything(smtp.port):
        await asyncio.gather(*map(submitted, range(len(given))))
        async with asyncio.timeout(30):
            while len(smtp.completed) < len(given):
                await asyncio.sleep(0.05)
        files = [path for path in office.attachments.folder.rglob("*") if path.stat().st_size > min(map(len, given))]

    arrived = {}
    for letter in (message_from_bytes(one.content) for one in smtp.completed):
        arrived[int(str(letter["Subject"]))] = [part.get_payload(decode=True) for part in letter.walk()][2:]
    assert arrived == {number: [b"PK\x03\x04" + one, b"small"] for number, one in enumerate(given)}
    assert 0 < len(files) < len(given)


async def test_dlv_6_five_thousand_each_once(office: Office, smtp_sink: Sink) -> None:
    """Two gateways and three workers take 5,000 submissions, and each arrives once."""
    smtp_sink.start()
    await office.add_integration(smtp_sink.port)
    submissions, clients = 5000, 50

    async def client() -> list[str]:
        return [str(await office.accepted()) for _ in range(submissions // clients)]

    async with office.gateway(), office.gateway(), office.worker(), office.worker(), office.worker():
        await office.active()
        ids = [one for some in await asyncio.gather(*(client() for _ in range(clients))) for one in some]
        async with asyncio.timeout(90):
            while smtp_sink.count() < submissions:
                await asyncio.sleep(0.2)
        await asyncio.sleep(1)

    delivered = [id_of(delivery.message) for delivery in smtp_sink.deliveries()]
    assert len(set(ids)) == submissions
    assert sorted(delivered) == sorted(f"<{one}@company.test>" for one in ids)


async def test_dlv_11_a_busy_server_gets_it_later(office: Office) -> None:
    """A server that is busy now has the message after a retry, and the first attempt is on record."""
    async with scripted_smtp() as smtp:
        smtp.script("RCPT", "451 4.3.0 busy, try later", times=1)
        await office.add_integration(smtp.port)
        async with office.gateway(), office.worker():
            await office.active()
            message_id = await office.accepted()
            standing = await office.becomes(message_id, Status.SENT)

        assert len(smtp.completed) == 1
        assert standing.attempts == 2
        assert [attempt.outcome for attempt in await office.attempts(message_id)] == ["deferred", "sent"]


async def test_a_refused_recipient_is_a_dead_letter(office: Office) -> None:
    """A 550 to the recipient is final at once, says why, and leaves the integration alone."""
    async with scripted_smtp() as smtp:
        smtp.script("RCPT", "550 5.1.1 no such user", address=MAILBOX)
        await office.add_integration(smtp.port)
        async with office.gateway(), office.worker():
            await office.active()
            standing = await office.becomes(await office.accepted(), Status.FAILED)

        assert standing.reason == "rejected.recipient"
        assert "550" in (standing.reply or "")
        assert (await office.integration()).reported_state is ReportedState.ACTIVE


async def test_dlv_5_a_lost_answer_to_the_dot_is_tried_once_more_and_marked(office: Office) -> None:
    """When the answer to the final dot is lost, a form is sent once more, and marked as a possible duplicate."""
    async with scripted_smtp() as smtp:
        smtp.script("dot", HangUp(), times=1)
        await office.add_integration(smtp.port)
        async with office.gateway(), office.worker():
            await office.active()
            standing = await office.becomes(await office.accepted(), Status.SENT)

        assert standing.possible_duplicate
        assert standing.attempts == 2


async def test_refused_credentials_stop_everything_until_a_reset(office: Office) -> None:
    """One AUTH refused sets ERROR; new forms are answered 1, accepted ones are held, and leave oldest first after a reset."""
    async with scripted_smtp(username="forms", password="right") as smtp:
        await office.add_integration(
            smtp.port, username="forms", sealed_password=VAULT.seal("right"), max_connections=1
        )
        async with office.gateway() as gateway:
            async with office.worker():
                await office.active()
            smtp.password = "another"
            # Time for all others to be claimed, so that each of them comes to the gate.
            smtp.script("AUTH", Say("535 5.7.8 refused", seconds=1), times=1)
            waiting = [await office.accepted(subject=f"number {number}") for number in range(5)]
            logins = smtp.verbs.count("AUTH")
            async with office.worker() as worker:
                await office.state(ReportedState.ERROR)
                await asyncio.sleep(1)
                refused = await office.submit()
                connections = smtp.connections
                await asyncio.sleep(2)
                assert smtp.connections == connections
                assert smtp.verbs.count("AUTH") == logins + 1
                attempts = [(await office.standing(one)).attempts for one in waiting]
                statuses = [(await office.standing(one)).status for one in waiting]
                integration = await office.integration()

                assert refused == {"statusCode": 1}
                assert integration.cause is Cause.AUTHENTICATION_REFUSED
                assert sorted(attempts) == [0, 0, 0, 0, 1]
                held = [number for number in range(5) if not attempts[number]]
                assert {statuses[number] for number in held} == {Status.HELD}
                assert not smtp.completed

                smtp.password = "right"
                await office.reset()
                await office.active()
                for one in waiting:
                    await office.becomes(one, Status.SENT)
                assert (await office.submit())["statusCode"] == 0
                assert worker.unready() is None
                assert gateway.unready() is None
        subjects = [subject_of(received.content) for received in smtp.completed][:5]
        assert sorted(subjects) == [f"number {number}" for number in range(5)]
        # The one that was refused itself comes again in its own time.
        assert [subject for subject in subjects if subject != f"number {attempts.index(1)}"] == [
            f"number {number}" for number in held
        ]
