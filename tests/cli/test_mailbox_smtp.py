"""The development mailbox over SMTP: real clients, real sockets, and letters on the disk when 250 is said."""

import asyncio
import smtplib
import socket
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest

from cli.mailbox.letters import Letters
from cli.mailbox.smtp import SmtpServer, asked_at_dot, asked_at_rcpt, serve_smtp


@pytest.fixture
def letters(tmp_path: Path) -> Letters:
    """An empty mailbox."""
    return Letters(tmp_path / "mail")


@pytest.fixture
async def server(letters: Letters) -> AsyncIterator[SmtpServer]:
    """Its SMTP server on a free port."""
    async with await serve_smtp(letters, "127.0.0.1", 0) as server:
        yield server


def a_mail(subject: str = "Hello") -> EmailMessage:
    """A small mail."""
    message = EmailMessage()
    message["From"] = "Ann <ann@example.org>"
    message["To"] = "bob@example.org"
    message["Subject"] = subject
    message.set_content("Hi Bob\n.\n..two dots\n")
    return message


async def talk(server: SmtpServer, conversation: bytes) -> bytes:
    """Everything the server says to these bytes until it or we hang up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(conversation)
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_mail_is_kept_with_its_envelope(server: SmtpServer, letters: Letters) -> None:
    """What aiosmtplib sends is kept as it was sent, with sender and recipients of the envelope."""
    code, reply = await aiosmtplib.send(
        a_mail(),
        hostname="127.0.0.1",
        port=server.port,
        sender="bounce@example.org",
        recipients=["x@a.example", "y@b.example"],
    )
    [letter] = letters.list().letters
    source = await letters.source(letter.id)

    assert (letter.sender, letter.recipients) == ("bounce@example.org", ("x@a.example", "y@b.example"))
    assert (letter.subject, letter.author) == ("Hello", "Ann <ann@example.org>")
    assert source is not None
    assert source.endswith(b"\r\n\r\nHi Bob\r\n.\r\n..two dots\r\n")
    assert code == {}
    assert letter.id in reply


async def test_the_letter_is_on_the_disk_when_250_is_said(server: SmtpServer, tmp_path: Path) -> None:
    """A mailbox opened anew on the folder right after the answer has the letter."""
    await aiosmtplib.send(a_mail(), hostname="127.0.0.1", port=server.port)

    assert Letters(tmp_path / "mail").list().total == 1


async def test_any_user_may_log_in_without_tls(server: SmtpServer, letters: Letters) -> None:
    """A configured account works unchanged: every user name and password is accepted."""

    def send() -> None:
        with smtplib.SMTP("127.0.0.1", server.port, timeout=10) as client:
            client.login("someone", "any password")
            client.send_message(a_mail())

    await asyncio.to_thread(send)

    assert letters.list().total == 1


@pytest.mark.parametrize("mechanism", ["plain", "login"])
async def test_both_plain_mechanisms_are_accepted(server: SmtpServer, mechanism: str) -> None:
    """AUTH PLAIN and AUTH LOGIN succeed with any credentials."""
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=server.port) as client:
        await client.ehlo()
        login = client.auth_plain if mechanism == "plain" else client.auth_login

        assert (await login("ü@example.org", "pässword")).code == 235


async def test_what_ehlo_announces(server: SmtpServer) -> None:
    """Clients learn the size limit and that UTF-8 and 8-bit bodies are welcome."""
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=server.port) as client:
        await client.ehlo()

        assert client.esmtp_extensions["size"] == str(40 * 1024 * 1024)
        assert {"8bitmime", "smtputf8", "auth"} <= client.esmtp_extensions.keys()


async def test_international_addresses_are_kept(server: SmtpServer, letters: Letters) -> None:
    """With SMTPUTF8, an address outside ASCII arrives as it is."""
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=server.port) as client:
        await client.sendmail(
            "zoë@example.org", ["jörg@bücher.example"], b"Subject: x\r\n\r\ny\r\n", mail_options=["SMTPUTF8"]
        )

    assert letters.list().letters[0].recipients == ("jörg@bücher.example",)


async def test_many_clients_at_once(server: SmtpServer, letters: Letters) -> None:
    """Fifty connections at once all get their letter in."""
    await asyncio.gather(
        *(aiosmtplib.send(a_mail(str(number)), hostname="127.0.0.1", port=server.port) for number in range(50))
    )

    assert {one.subject for one in letters.list().letters} == {str(number) for number in range(50)}


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0\xff\xfe\r\n" * 10,
        b"\r\n" * 10,
        b"EHLO x\r\nMAIL FROM:<\xff\xfe@x>\r\nRCPT TO:<>>>\r\nVRFY \xff\r\nHELP \xff\r\n",
        b"EHLO x\r\nMAIL FROM:" + b"a" * 100_000 + b"\r\n",
        b"EHLO x\r\nAUTH PLAIN !!!\r\nAUTH LOGIN\r\n*\r\nAUTH PLAIN AAAA\r\nAUTH\r\n",
        b"MAIL FROM:<a@b> SIZE=99999999999999999999\r\nDATA\r\nSTARTTLS\r\nXYZZY\r\n",
        b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nhalf a letter",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_garbage_does_not_stop_it(server: SmtpServer, letters: Letters, garbage: bytes) -> None:
    """After any nonsense, on its own connection and with its end cut off, the next letter is taken."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(garbage)
    writer.write_eof()
    await reader.read()
    writer.close()
    await aiosmtplib.send(a_mail(), hostname="127.0.0.1", port=server.port)

    assert letters.list().total == 1


async def test_a_letter_above_the_limit_is_refused(server: SmtpServer, letters: Letters) -> None:
    """A size beyond what EHLO announces is refused at MAIL already."""
    answer = await talk(server, b"EHLO x\r\nMAIL FROM:<a@b.example> SIZE=41943041\r\nQUIT\r\n")

    assert b"\r\n552 " in answer
    assert letters.list().total == 0


async def test_too_many_recipients_are_told_to_come_again(server: SmtpServer) -> None:
    """The 101st recipient of a letter gets 452, as RFC 5321 section 4.5.3.1.10 has it."""
    rcpts = b"".join(b"RCPT TO:<%d@d.example>\r\n" % number for number in range(101))
    answer = await talk(server, b"EHLO x\r\nMAIL FROM:<a@b.example>\r\n" + rcpts + b"QUIT\r\n")

    assert answer.count(b"250 2.1.5 OK") == 100
    assert answer.count(b"452 4.5.3") == 1


async def test_a_full_disk_is_a_temporary_failure(server: SmtpServer, letters: Letters, tmp_path: Path) -> None:
    """When the letter cannot be written the client is not told 250."""
    (tmp_path / "mail").rmdir()
    with pytest.raises(aiosmtplib.SMTPDataError, match="cannot write"):
        await aiosmtplib.send(a_mail(), hostname="127.0.0.1", port=server.port)

    assert letters.list().total == 0


async def test_closing_ends_open_connections(letters: Letters) -> None:
    """A client that stays connected does not keep the server from ending."""
    server = await serve_smtp(letters, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await reader.readline()
    server.close()
    await server.wait_closed()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()


async def test_a_taken_port_is_said_at_once(letters: Letters) -> None:
    """Serving on a port that somebody has raises OSError."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await serve_smtp(letters, "127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize(
    ("address", "at_rcpt", "at_dot"),
    [
        ("bob@example.org", None, None),
        ("reply-451@example.org", "451 4.3.0 The address asked for this reply", None),
        ("Reply-550@example.org", "550 5.3.0 The address asked for this reply", None),
        ("reply-451-data@example.org", None, "451 4.3.0 The address asked for this reply"),
        ("hang-up@example.org", None, ""),
        ("reply-250@example.org", None, None),
        ("reply-4511@example.org", None, None),
        ("no-reply-451@example.org", None, None),
    ],
)
def test_an_address_may_ask_for_a_failure(address: str, at_rcpt: str | None, at_dot: str | None) -> None:
    """The local part says which reply, and whether at RCPT or after the final dot."""
    assert (asked_at_rcpt(address), asked_at_dot(address)) == (at_rcpt, at_dot)


@pytest.mark.parametrize(
    ("address", "code"), [("reply-450@a.example", 450), ("reply-550@a.example", 550), ("reply-552-data@a.example", 552)]
)
async def test_the_failure_asked_for_is_answered(server: SmtpServer, letters: Letters, address: str, code: int) -> None:
    """A mail to such an address fails with that code and is not kept."""
    with pytest.raises((aiosmtplib.SMTPRecipientsRefused, aiosmtplib.SMTPDataError)) as refused:
        await aiosmtplib.send(a_mail(), hostname="127.0.0.1", port=server.port, recipients=[address])

    assert str(code) in str(refused.value.args)
    assert letters.list().total == 0


async def test_a_lost_connection_can_be_asked_for(server: SmtpServer, letters: Letters) -> None:
    """After the final dot the connection ends without a reply."""
    with pytest.raises(aiosmtplib.SMTPServerDisconnected):
        await aiosmtplib.send(a_mail(), hostname="127.0.0.1", port=server.port, recipients=["hang-up@a.example"])

    assert letters.list().total == 0
