"""The clock at both ends: submissions are recognised in their mails, however these arrive."""

import asyncio
import smtplib
from email.message import EmailMessage

import pytest

from benchmarks.cases import CASES
from benchmarks.latency import percentile, serving
from tests.services import free_port


@pytest.mark.parametrize("size", [1, 7, 100_000], ids=["a byte at a time", "in small pieces", "at once"])
async def test_a_mail_has_arrived_when_its_dot_was_answered(size: int) -> None:
    """Wherever the network cuts what a client says; two mails over one connection are two."""
    port = free_port()
    said = b"EHLO x\r\n" + b"".join(
        b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nSubject: A question bench%08dx\r\n\r\n..\r\n.\r\n"
        % number
        for number in (7, 8)
    )
    async with serving(port) as mails:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for at in range(0, len(said), size):
            writer.write(said[at : at + size])
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            first, second = await asyncio.gather(mails.arrival(7), mails.arrival(8))
            writer.write(b"QUIT\r\n")
            conversation = await reader.read()
        writer.close()

    assert first <= second
    assert conversation.count(b"250 2.0.0 ok") == 2
    assert conversation.endswith(b"221 bye\r\n")


async def test_other_peoples_clients_can_talk_to_it() -> None:
    """The standard library's does, and its mail arrives."""
    port, mail = free_port(), EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "a@b.test", "c@d.test", "Re: bench00000042x"
    mail.set_content("one\n.\ntwo\n")

    def send() -> None:
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.send_message(mail)

    async with serving(port) as mails, asyncio.timeout(10):
        await asyncio.to_thread(send)
        await mails.arrival(42)


@pytest.mark.parametrize("name", list(CASES))
def test_every_case_can_be_numbered(name: str) -> None:
    """The number is in the body once, and the body is as long as any other, as its header says."""
    case = CASES[name]

    assert case.numbered(42).count(b"bench00000042x") == 1
    assert len(case.numbered(42)) == len(case.body) == len(case.numbered(99_999_999))


@pytest.mark.parametrize(
    ("took", "part", "at_most"),
    [([3.0], 0.99, 3.0), ([2.0, 1.0, 3.0], 0.5, 2.0), ([float(one) for one in range(200)], 0.99, 198.0)],
    ids=["one alone", "the middle", "of two hundred"],
)
def test_percentiles_are_values_that_were_seen(took: list[float], part: float, at_most: float) -> None:
    """Of few values the largest stands for what one in a hundred takes."""
    assert percentile(took, part) == at_most
