"""What strangers try with a form, from the live endpoint to the bytes that a real SMTP server got (SEC-1 to SEC-4)."""

import asyncio
import io
from collections.abc import AsyncIterator, MutableMapping
from dataclasses import replace
from email import message_from_bytes
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
from aiohttp import FormData
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mailroom.rates import Rate
from mailroom.settings import LimitSettings
from tests.journeys.office import FORM, MAILBOX, Office, an_office
from tests.services import Sink
from tests.smtp_server import ScriptedSmtp, scripted_smtp

#: What ends a header, a block of headers, a text or a message, in the eyes of one server or another.
ENDS = ("\r\n", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\x00", "\ud800")
#: What is a header line once it stands on a line of its own.
LINES = ("Bcc: eve@evil.test", "=?utf-8?q?x=0ABcc:eve@evil.test?=", "To: eve@evil.test", "\tfolded", ".", "--boundary")

#: A value out of pieces of all that, and of anything else.
HOSTILE = st.lists(
    st.one_of(st.sampled_from(ENDS + LINES), st.text(max_size=10), st.text(st.characters(exclude_categories=()), max_size=5)),
    max_size=6,
).map("".join)  # fmt: skip

#: Every field that a stranger fills in, and the name of a file.
HOSTILE_FORM = st.fixed_dictionaries(
    dict.fromkeys(("firstName", "lastName", "fromAddress", "subject", "text", "userData", "filename"), HOSTILE)
)

#: Header names of a form's letter, in order; what is further down describes the body.
OURS = ["From", "To", "Reply-To", "Subject", "Date", "Message-ID", "MIME-Version", "X-Mailroom-Service"]


@pytest.fixture
async def office(tmp_path: Path, sqlite_file: Path) -> AsyncIterator[Office]:
    """An office of one process: SQLite and the queue in memory."""
    async with an_office(tmp_path, f"sqlite:///{sqlite_file}", "memory:") as office:
        yield office


def as_form(fields: dict[str, str]) -> bytes:
    """A multipart form by hand, with what no library would send; where a field would be missing it is not."""
    whole = {name: f"x{value}" for name, value in fields.items()}
    if len(fields["subject"]) % 6:
        # A hostile address is refused at once; then nothing of the rest is tried.
        whole["fromAddress"] = FORM["fromAddress"]
    whole["userData"] = f"key={whole['userData']}"
    name = whole.pop("filename").translate({ord("\r"): None, ord("\n"): None, ord('"'): None})
    parts = [f'Content-Disposition: form-data; name="{field}"\r\n\r\n{value}' for field, value in whole.items()]
    parts.append(f'Content-Disposition: form-data; name="files"; filename="{name}.txt"\r\n\r\na file')
    lines = "".join(f"--the-boundary\r\n{part}\r\n" for part in parts)
    return f"{lines}--the-boundary--\r\n".encode("utf-8", "surrogatepass")


MULTIPART = {"Content-Type": "multipart/form-data; boundary=the-boundary"}


async def arrived(smtp: ScriptedSmtp, accepted: int) -> None:
    """Return once the server has as many mails as were accepted."""
    async with asyncio.timeout(30):
        while len(smtp.completed) < accepted:
            await asyncio.sleep(0.02)


def assert_one_plain_letter(content: bytes, recipients: tuple[str, ...]) -> None:
    """The letter has our headers and no others, goes to the mailbox alone, and has no bare line break."""
    block, _, _ = content.partition(b"\r\n\r\n")
    names = [line.partition(b":")[0].decode() for line in block.split(b"\r\n") if not line[:1].isspace()]
    parsed = message_from_bytes(content)

    assert recipients == (MAILBOX,)
    assert content.count(b"\r") == content.count(b"\n") == content.count(b"\r\n")
    assert names[: len(OURS)] == OURS
    assert set(names[len(OURS) :]) <= {"X-Mailroom-User-Data", "Content-Type", "Content-Transfer-Encoding"}
    assert parsed["To"] == MAILBOX
    assert "Bcc" not in parsed
    assert parsed.keys() == names
    assert not parsed.defects


def made_up() -> list[dict[str, str]]:
    """Forms as hypothesis thinks of them; before anything runs, because it watches over all randomness of its process."""
    forms: list[dict[str, str]] = []

    @settings(max_examples=150, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(HOSTILE_FORM)
    def collected(form: dict[str, str]) -> None:
        forms.append(form)

    collected()
    return forms


async def test_sec_1_no_form_can_write_a_header(office: Office) -> None:
    """Whatever stands in any field, the SMTP server gets one letter to the mailbox with our headers; nothing fails."""
    forms, seen = made_up(), []
    async with scripted_smtp() as smtp, office.everything(smtp.port):
        for start in range(0, len(forms), 20):
            group = [office.post("support", as_form(one), MULTIPART) for one in forms[start : start + 20]]
            seen += await asyncio.gather(*group)
        accepted = [body for status, body in seen if status == 200]
        await arrived(smtp, len(accepted))

    assert len(accepted) > len(seen) / 4
    assert {status for status, _ in seen} <= {200, 400}
    assert {body["statusCode"] for body in accepted} == {0}
    assert len(smtp.completed) == len(accepted)
    for mail in smtp.completed:
        assert_one_plain_letter(mail.content, mail.rcpt_to)


#: The end of a message as lenient servers see it, and what would be taken for the next one (SMTP smuggling).
DOTS = ("\r\n.\r\n", "\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n", "\r\n\x00.\r\n", "\r\r\n.\r\r\n", "\n\n.\n\n", "\r\n.\r")
NEXT = "MAIL FROM:<ceo@company.test>\r\nRCPT TO:<eve@evil.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nPay.\r\n.\r\n"


async def test_sec_1_no_form_can_smuggle_a_message(office: Office, smtp_sink: Sink) -> None:
    """Behind whatever another server takes for the end of a message there is text, and Postfix's sink sees one mail."""
    smtp_sink.start()
    async with office.everything(smtp_sink.port):
        for dot in DOTS:
            form = FormData(default_to_multipart=True, quote_fields=False)
            for name, value in FORM.items():
                form.add_field(name, f"{value}{dot}{NEXT}" if name in {"subject", "text", "lastName"} else value)
            form.add_field("files", io.BytesIO(f"text{dot}{NEXT}".replace("\x00", "").encode()), filename="a.txt")
            status, body = await office.post("support", form)
            assert (status, body["statusCode"]) == (200, 0)
        async with asyncio.timeout(20):
            while smtp_sink.count() < len(DOTS):
                await asyncio.sleep(0.05)
    smtp_sink.stop()

    assert smtp_sink.recipients() == [MAILBOX] * len(DOTS)
    assert {delivery.sender for delivery in smtp_sink.deliveries()} == {"forms@company.test"}
    assert smtp_sink.count() == len(DOTS)


async def test_sec_2_what_was_checked_is_what_the_server_is_told(office: Office) -> None:
    """Each mailbox that passes is byte for byte the one recipient of its mail, whatever characters are in it."""
    names = ["o'brien", "x/y=z", "a+b", "a.b", "#$&'*+/=^_`{|}~-?", "bounce+jane=customer.test", "0", "A" * 64]
    email = replace(office.settings.email, allowed_mailboxes=("*@company.test",))
    async with scripted_smtp() as smtp, office.everything(smtp.port, email=email):
        for name in names:
            status, _ = await office.post("support", {**FORM, "mailbox": f"{name}@Company.TEST"})
            assert status == 200, name
        await arrived(smtp, len(names))

    assert sorted(mail.rcpt_to for mail in smtp.completed) == sorted((f"{name}@company.test",) for name in names)


#: Where strangers would like to send: elsewhere, and what only looks like ours.
HOSTS = ("evil.test", "customer.test", "company.test.evil.test", "evilcompany.test", "sub.company.test", "company.tes")
#: What a careless comparison takes for an allowed mailbox.
CLOSE = (
    "sales@company.test,eve@evil.test", "eve@evil.test,sales@company.test", "sales@company.test;eve@evil.test",
    "sales@company.test eve@evil.test", "<sales@company.test> eve@evil.test", "eve@evil.test <sales@company.test>",
    '"sales@company.test" <eve@evil.test>', "sales@company.test@evil.test", "eve%evil.test@company.test",
    "evil.test!eve@company.test", "@company.test:eve@evil.test", '"eve@evil.test"@company.test',
    "sales@company.test\r\nBcc: eve@evil.test", "sales@company.test>\r\nRCPT TO:<eve@evil.test", '"*"@company.test',
    "@company.test", "sales@COMPANY.TEST.evil.test", "sales@company\uff0etest.evil.test", "sales@[127.0.0.1]",
    "sales(eve@evil.test)@company.test",
)  # fmt: skip


async def asked_for(office: Office, mailbox: str) -> tuple[int, int]:
    """The status, and the code of the first error (0 where there is none), of a form for this mailbox."""
    status, body = await office.post("support", {**FORM, "mailbox": mailbox})
    return status, body["errors"][0]["code"] if "errors" in body else body["statusCode"]


async def test_sec_3_mail_goes_only_to_allowed_mailboxes(
    office: Office, logged: list[MutableMapping[str, Any]]
) -> None:
    """Of a thousand mailboxes that strangers ask for none gets a mail; each refusal is 400 with 383, logged and counted."""
    random = Random(20261121)  # noqa: S311 - the same thousand at each run
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-_+"
    strangers = [f"{''.join(random.choices(letters, k=8))}@{random.choice(HOSTS)}" for _ in range(980)]
    strangers += CLOSE
    email = replace(office.settings.email, allowed_mailboxes=("*@company.test",))
    async with scripted_smtp() as smtp, office.gateway(email=email) as gateway, office.worker():
        await office.add_integration(smtp.port)
        await office.active()
        told = [await asked_for(office, one) for one in strangers]
        own = await asked_for(office, "sales@company.test")
        await arrived(smtp, 1)
        counted = gateway.figures()["mailroom_mailboxes_refused_total"]
    refused = [event for event in logged if event["event"] == "mailbox refused"]

    assert len(strangers) == 1000
    assert set(told) == {(400, 383)}
    assert own == (200, 0)
    assert [mail.rcpt_to for mail in smtp.completed] == [("sales@company.test",)]
    assert len(refused) == counted == len(strangers)
    assert not [event for event in refused if "@" in str(event)]


async def test_sec_4_a_flood_is_limited_whatever_it_says_of_itself(office: Office) -> None:
    """From one address no more come in than its rate, under whatever forwarded address and service; others come in."""
    email = replace(office.settings.email, rate_limit=Rate(count=20, seconds=3600))
    limits = LimitSettings(trusted_proxies=("10.0.0.0/8",))
    async with scripted_smtp() as smtp, office.gateway(email=email, limits=limits), office.worker():
        await office.add_integration(smtp.port)
        await office.active()
        told = []
        for number in range(200):
            spoofed = {"X-Forwarded-For": f"198.51.100.{number % 250}", "Forwarded": f"for=198.51.100.{number % 250}"}
            spoofed |= {"X-Real-IP": f"198.51.100.{number % 250}", "Client-IP": "10.0.0.1"}
            told.append(await office.post(f"service{number}", FORM, spoofed))
        connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
        async with aiohttp.ClientSession(connector=connector) as another:
            url = f"http://{office.addresses[0]}/genesys/2/email/support"
            async with another.post(url, data=FORM) as answer:
                other = await answer.json()
        await arrived(smtp, 21)
    let_in = [body for _, body in told if body["statusCode"] == 0]

    assert len(let_in) == 20
    assert [(status, body) for status, body in told if body["statusCode"]] == [(200, {"statusCode": 1})] * 180
    assert other["statusCode"] == 0


async def test_sec_4_a_proxy_of_ours_is_believed_about_its_own_client_only(office: Office) -> None:
    """Behind a proxy of ours each client has its rate; what a client itself wrote into the header changes nothing."""
    email = replace(office.settings.email, rate_limit=Rate(count=2, seconds=3600))
    limits = LimitSettings(trusted_proxies=("127.0.0.1",))
    async with office.gateway(email=email, limits=limits):
        told: dict[str, list[int]] = {}
        for number in range(5):
            for client in ("198.51.100.7", "198.51.100.8", "2001:db8:1:2::7"):
                forwarded = {"X-Forwarded-For": f"203.0.113.{number}, 127.0.0.1, {client}"}
                told.setdefault(client, []).append((await office.post("support", {}, forwarded))[0])

    # An empty form is refused with 400; one too many is told to come again.
    assert told == {client: [400, 400, 200, 200, 200] for client in told}


async def test_sec_4_a_mailbox_has_its_rate_whoever_sends(office: Office) -> None:
    """However many addresses a flood comes from, one mailbox gets no more than its rate; another gets its own."""
    email = replace(
        office.settings.email, mailbox_rate=Rate(count=5, seconds=3600), allowed_mailboxes=("*@company.test",)
    )
    limits = LimitSettings(trusted_proxies=("127.0.0.1",))
    async with scripted_smtp() as smtp, office.gateway(email=email, limits=limits), office.worker():
        await office.add_integration(smtp.port)
        await office.active()
        told = []
        for number in range(30):
            mailbox = "Sales@company.test" if number % 2 else "sales@company.test"
            _, body = await office.post(
                f"service{number}", {**FORM, "mailbox": mailbox}, {"X-Forwarded-For": f"198.51.100.{number}"}
            )
            told.append(body["statusCode"])
        other = await asked_for(office, "help@company.test")
        await arrived(smtp, 6)

    assert told == [0] * 5 + [1] * 25
    assert other == (200, 0)


@pytest.mark.parametrize("key", ["\udcff\udcfe", "ключ", "x" * 8000, ""], ids=["no UTF-8", "Cyrillic", "long", "empty"])
async def test_sec_12_no_key_is_a_fault_of_ours(
    office: Office, logged: list[MutableMapping[str, Any]], key: str
) -> None:
    """Whatever bytes stand where a service asks for its key, they are refused as none, and nothing fails."""
    email = replace(office.settings.email, api_keys=("the key",))
    async with office.gateway(email=email):
        host, _, port = office.addresses[0].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = "POST /genesys/2/email/support?apikey=the%20key HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
        writer.write(f"{head}apikey: {key}\r\n\r\n".encode("utf-8", "surrogateescape"))
        answer = await asyncio.wait_for(reader.readuntil(b"}"), 10)
        writer.close()

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert not [event for event in logged if event["log_level"] == "error"]
