"""Journeys of dead letters: a group that failed for one cause goes out again, and one letter to somebody else."""

import asyncio
import io
from datetime import UTC, datetime
from uuid import UUID

import pytest

from mailroom.message import Status
from mailroom.operating.operations import perform
from mailroom.operating.operator import Operator
from tests.journeys.office import MAILBOX, Office
from tests.smtp_server import scripted_smtp


def operator_of(office: Office) -> Operator:
    """Somebody with the command at hand."""
    store, queue = office.store_and_queue()
    return Operator(store=store, queue=queue, who="cli jane", attachments=office.attachments, settings=office.settings)


async def test_a_cured_group_goes_out_at_its_rate(office: Office) -> None:
    """After the cause is cured all of a group are re-driven, by two workers together no faster than asked, each once."""
    number, per_second = 20, 5.0
    async with scripted_smtp() as smtp:
        smtp.script("RCPT", "550 5.1.1 no such user", address=MAILBOX, times=number)
        await office.add_integration(smtp.port)
        async with office.gateway(), office.worker(), office.worker():
            await office.active()
            ids = [await office.accepted(subject=f"number {one}") for one in range(number)]
            for one in ids:
                await office.becomes(one, Status.FAILED)
            operator = operator_of(office)
            [group] = await perform(operator, "dead_letters.list", {})
            began = datetime.now(UTC)
            asked = {"group": group["fingerprint"], "per_second": per_second}
            redrive = await perform(operator, "dead_letters.redrive", asked)
            ended = [await office.becomes(one, Status.SENT) for one in ids]
            async with asyncio.timeout(20):
                while (told := (await perform(operator, "dead_letters.redrives", {}))[0])["ended_at"] is None:
                    await asyncio.sleep(0.2)
            await office.let_go(operator.store, operator.queue)

        assert (group["number"], redrive["total"], told["done"]) == (number, number, number)
        assert len(smtp.completed) == number
        sent = sorted(one.ended_at for one in ended if one.ended_at is not None)
        # A round may make up for two seconds.
        assert (sent[-1] - began).total_seconds() >= number / per_second - 2


@pytest.mark.parametrize("said", [b"small", b"large " * 400_000], ids=["small", "large"])
async def test_a_letter_goes_to_somebody_else(office: Office, said: bytes) -> None:
    """What was refused for one recipient arrives at another, with its files."""
    async with scripted_smtp() as smtp:
        smtp.script("RCPT", "550 5.1.1 no such user", address=MAILBOX)
        await office.add_integration(smtp.port)
        async with office.gateway(), office.worker():
            await office.active()
            file = io.BytesIO(said)
            file.name = "parcel.txt"
            failed = await office.becomes(await office.accepted(file=file), Status.FAILED)
            operator = operator_of(office)
            asked = {"message_id": str(failed.id), "to": "sales@company.test"}
            copied = await perform(operator, "messages.copy", asked)
            copied_id = UUID(copied["id"])
            await office.becomes(copied_id, Status.SENT)
            await office.let_go(operator.store, operator.queue)

        [mail] = smtp.inbox
        assert office.copies([mail], copied_id) == 1
        parsed = office.parsed(mail.content)
        assert parsed["To"] == "sales@company.test"
        assert [part.get_payload(decode=True) for part in parsed.iter_attachments()] == [said]
        assert len(office.stored_files()) == (2 if len(said) > len(b"small") else 0)
