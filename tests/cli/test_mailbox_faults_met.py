"""The faults of the development mailbox as clients meet them: real conversations that go wrong as they were told to."""

import asyncio
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiosmtplib
import pytest

from cli.mailbox.faults import Deed, Fault, Faults, Step
from cli.mailbox.letters import Letters
from cli.mailbox.smtp import SmtpServer, serve_smtp


@pytest.fixture
def letters(tmp_path: Path) -> Letters:
    """An empty mailbox."""
    return Letters(tmp_path / "mail")


@pytest.fixture
def faults() -> Faults:
    """None yet."""
    return Faults()


@pytest.fixture
async def server(letters: Letters, faults: Faults) -> AsyncIterator[SmtpServer]:
    """Its SMTP server on a free port."""
    async with await serve_smtp(letters, "127.0.0.1", 0, faults) as server:
        yield server


def a_mail() -> EmailMessage:
    """A small mail."""
    message = EmailMessage()
    message["From"] = "bob@b.example"
    message["To"] = "jane@a.example"
    message["Subject"] = "Hello"
    message.set_content("Hi\n")
    return message


async def send(server: SmtpServer, **other: Any) -> str:
    """What becomes of a mail with a log-in: the codes that refused it, "lost", or "kept"."""
    try:
        await aiosmtplib.send(
            a_mail(), hostname="127.0.0.1", port=server.port, username="bob", password="secret", **other
        )
    except aiosmtplib.SMTPRecipientsRefused as refused:
        return " ".join(str(one.code) for one in refused.recipients)
    except aiosmtplib.SMTPResponseException as refused:
        return str(refused.code)
    except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPConnectError):
        return "lost"
    return "kept"


@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize(
    ("deed", "said", "kept"),
    [(Deed.ANSWER, "554", 0), (Deed.DROP, "lost", 0), (Deed.DROP_AFTER, "lost", 0), (Deed.DELAY, "kept", 1)],
)
async def test_every_command_can_fail(
    server: SmtpServer, faults: Faults, letters: Letters, step: Step, deed: Deed, said: str, kept: int
) -> None:
    """At each command: the answer is the one that was set, or the connection is lost; without the fault all is well."""
    faults.add(Fault(at=step, do=deed, code=554, text="5.3.0 As told", seconds=0.01))
    if step is Step.DOT and deed is Deed.DROP_AFTER:
        said, kept = "kept", 1

    assert (await send(server), len(letters)) == (said, kept)
    assert faults.standing[0].struck >= 1
    faults.replace([])
    assert (await send(server), len(letters)) == ("kept", kept + 1)


async def test_an_answer_is_lost_and_the_letter_is_kept(server: SmtpServer, faults: Faults, letters: Letters) -> None:
    """What a worker must take for uncertain: the server has the letter, and the client never hears of it."""
    faults.add(Fault(at=Step.DOT, do=Deed.LOSE_ANSWER))

    assert (await send(server), len(letters)) == ("lost", 1)


async def test_a_login_is_refused_as_a_wrong_password_is(server: SmtpServer, faults: Faults) -> None:
    """535 at AUTH has the words that were set, and the session is not logged in."""
    faults.add(Fault(at=Step.AUTH, do=Deed.ANSWER, code=535, text="5.7.8 Credentials invalid"))
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=server.port) as client:
        await client.ehlo()
        with pytest.raises(aiosmtplib.SMTPAuthenticationError) as refused:
            await client.auth_plain("bob", "secret")

    assert (refused.value.code, refused.value.message) == (535, "5.7.8 Credentials invalid")


@pytest.mark.parametrize(("pattern", "said"), [("a.example", "450"), ("bob@b.example", "450"), ("c.example", "kept")])
@pytest.mark.parametrize("step", [Step.RCPT, Step.DATA, Step.DOT])
async def test_only_those_who_are_meant_are_met(
    server: SmtpServer, faults: Faults, step: Step, pattern: str, said: str
) -> None:
    """A fault for an address meets its sender and its recipients and nobody else."""
    faults.add(Fault(at=step, do=Deed.ANSWER, code=450, address=pattern))

    assert await send(server) == said


async def test_of_several_recipients_one_is_refused(server: SmtpServer, faults: Faults, letters: Letters) -> None:
    """A fault at RCPT for one recipient leaves the others theirs."""
    faults.add(Fault(at=Step.RCPT, do=Deed.ANSWER, code=550, address="jane@a.example"))
    errors, _ = await aiosmtplib.send(
        a_mail(), hostname="127.0.0.1", port=server.port, recipients=["jane@a.example", "joe@a.example"]
    )

    assert [error.code for error in errors.values()] == [550]
    assert letters.list().letters[0].recipients == ("joe@a.example",)


async def test_a_rate_is_held(server: SmtpServer, faults: Faults, letters: Letters) -> None:
    """Above so many a minute clients are told to slow down, and 421 closes the connection."""
    faults.add(Fault(at=Step.MAIL, do=Deed.ANSWER, code=421, text="4.7.0 Too many messages", above_per_minute=3))
    said = [await send(server) for _ in range(5)]

    assert said == ["kept", "kept", "kept", "421", "421"]
    assert len(letters) == 3


async def test_421_is_the_last_word(server: SmtpServer, faults: Faults) -> None:
    """After 421 the server closes the connection, and what was sent meanwhile is not carried out."""
    faults.add(Fault(at=Step.EHLO, do=Deed.ANSWER, code=421))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await reader.readline()
    writer.write(b"EHLO x\r\nNOOP\r\n")
    answer = await reader.read()
    writer.close()

    assert answer == b"421 The mailbox was told to answer this\r\n"


async def test_a_delay_keeps_nobody_else_waiting(server: SmtpServer, faults: Faults, letters: Letters) -> None:
    """While one client is kept waiting the next is served, and closing the server ends the wait."""
    faults.add(Fault(at=Step.MAIL, do=Deed.DELAY, seconds=60.0, address="slow@b.example"))
    waiting = asyncio.create_task(send(server, sender="slow@b.example"))
    while not faults.standing[0].struck:
        await asyncio.sleep(0.01)

    assert await send(server) == "kept"
    server.close()
    await server.wait_closed()
    assert await waiting == "lost"


async def test_addresses_still_ask_for_failures(server: SmtpServer, faults: Faults) -> None:
    """Faults that are set and addresses that ask for one go together."""
    faults.add(Fault(at=Step.RCPT, do=Deed.ANSWER, code=550, address="jane@a.example"))

    assert await send(server, recipients=["reply-451@a.example"]) == "451"
