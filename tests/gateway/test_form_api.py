"""The Email API Version 2 as its clients see it: over HTTP, on SQLite, with a real worker and a real SMTP server."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData

from mailroom.integration import ReportedState
from mailroom.message import Status
from mailroom.rates import Rate
from mailroom.settings import EmailOptions, LimitSettings
from tests.builders import migrated
from tests.journeys.office import FORM, MAILBOX, Office, an_office
from tests.smtp_server import scripted_smtp


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    """An office of one process: SQLite and the queue in memory."""
    url = f"sqlite:///{tmp_path}/mailroom.db"
    await migrated(url)
    async with an_office(tmp_path, url, "memory:") as office:
        yield office


def form(**changes: Any) -> FormData:
    """A multipart form with these files (name, content) under `files`, and fields like FORM's."""
    files = changes.pop("files", [("hello.txt", b"hello")])
    data = FormData(default_to_multipart=True, quote_fields=False)  # names as browsers send them
    for name, value in {**FORM, **changes}.items():
        data.add_field(name, value)
    for name, content in files:
        data.add_field("files", io.BytesIO(content), filename=name)
    return data


async def test_the_sample_request_arrives_byte_for_byte(office: Office) -> None:
    """A multipart request with userData and three files is one mail with exactly these files, and all userData."""
    files = [
        ("plan.pdf", b"%PDF-1.4\n" + bytes(range(256)) * 5000),
        ("Straße 7.txt", "Grüße aus der Straße\n".encode()),
        ("pixel.png", b"\x89PNG\r\n\x1a\n" + b"\x00" * 64),
    ]

    def data() -> FormData:
        data = form(files=files)
        data.add_field("userData", "order=17=a")
        data.add_field("userData[channel]", "web")
        return data

    async with scripted_smtp() as smtp, office.everything(smtp.port):
        status, body = await office.insisted("support", data)
        await office.becomes(office.id_of(body), Status.SENT)
        mail = office.parsed(smtp.completed[0].content)

    assert (status, body["statusCode"]) == (200, 0)
    assert [(part.get_filename(), part.get_payload(decode=True)) for part in mail.iter_attachments()] == files
    assert mail["Reply-To"] == "Jane Doe <jane@customer.test>"
    assert mail["From"] == "Jane Doe via Company <forms@company.test>"
    assert mail["To"] == MAILBOX
    assert mail.get_all("X-Mailroom-User-Data") == ["order=17=a", "channel=web"]
    text = mail.get_body()
    assert text is not None
    assert "order: 17=a" in text.get_content()
    assert text.get_content().startswith(FORM["text"])


async def test_all_errors_at_once(office: Office) -> None:
    """Everything that is wrong is told in one answer, with numeric codes, and limits as numbers."""
    async with scripted_smtp() as smtp, office.everything(smtp.port):
        files = [(f"{number}.exe", b"MZ") for number in range(11)]
        status, body = await office.post("support", form(firstName="", fromAddress="nobody", files=files))

    assert status == 400
    assert body["statusCode"] == 1
    assert "interactionId" not in body
    assert {error["code"] for error in body["errors"]} == {102, 381, 201, 203}
    assert next(error for error in body["errors"] if error["code"] == 201)["advice"] == 10


@pytest.mark.parametrize(
    ("service", "path", "status", "code"),
    [("nobody", "/genesys/2/email/nobody", 404, 306), ("", "/genesys/2/nothing", 404, 404)],
)
async def test_unknown_places_are_json_too(office: Office, service: str, path: str, status: int, code: int) -> None:
    """A service that does not exist is 404 with code 306, any other path 404; both are JSON."""
    async with scripted_smtp() as smtp, office.everything(smtp.port, any_service=False):
        url = f"http://{office.addresses[0]}{path}"
        async with office.session.post(url, data=FORM) as answer:
            body = await answer.json()

    assert answer.status == status
    assert body["errors"][0]["code"] == code


async def test_while_inactive_a_form_is_refused_or_held(office: Office) -> None:
    """Before its integration is ACTIVE a form is answered 1, or, where its service says so, accepted and held until then."""
    services = {"patient": EmailOptions(when_inactive="hold", rate_limit=None)}
    async with scripted_smtp() as smtp:
        await office.add_integration(smtp.port)
        async with office.gateway(services=services):
            refused = await office.submit()
            held = await office.accepted(service="patient")
            standing = await office.standing(held)
            async with office.worker():
                await office.becomes(held, Status.SENT)

    assert refused == {"statusCode": 1}
    assert standing.status is Status.HELD
    assert standing.attempts == 0


async def test_an_answer_when_delivered(office: Office) -> None:
    """A service that acknowledges delivery tells the outcome: sent is 0, a final failure is 1 without interactionId."""
    services = {"sure": EmailOptions(acknowledge="delivered", wait_seconds=10, rate_limit=None)}
    async with scripted_smtp() as smtp, office.everything(smtp.port, services=services):
        sent = await office.submit("sure")
        smtp.script("RCPT", "550 5.1.1 no such user")
        status, failed = await office.post("sure", FORM)

    assert sent["statusCode"] == 0
    assert sent["status"] == "sent"
    assert status == 400
    assert failed["statusCode"] == 1
    assert failed["reason"] == "rejected.recipient"
    assert failed["errors"][0]["code"] == 383
    assert "interactionId" not in failed


async def test_a_failure_after_acceptance_can_be_asked_for(office: Office) -> None:
    """Asking for a failed submission tells statusCode 1, its status and a class of reason, never the server's words."""
    async with scripted_smtp() as smtp:
        smtp.script("RCPT", "550 5.1.1 <secret@company.test> no such user")
        async with office.everything(smtp.port):
            message_id = await office.accepted()
            await office.becomes(message_id, Status.FAILED)
            told = await office.ask(f"/genesys/2/email/support/{message_id}")
            elsewhere = await office.ask(f"/genesys/2/email/billing/{message_id}")
            nothing = await office.ask("/genesys/2/email/support/no-such-thing")

    assert told == (200, {"statusCode": 1, "status": "failed", "reason": "rejected.recipient"})
    assert elsewhere[0] == nothing[0] == 404


async def test_a_mail_too_big_for_the_server_is_refused_at_once(office: Office) -> None:
    """When the server's SIZE is smaller than the mail would be, the answer is 400 with 202 and the limit that fits."""
    async with scripted_smtp(size_limit=1_000_000) as smtp, office.everything(smtp.port):
        status, body = await office.post("support", form(files=[("big.txt", b"a" * 900_000)]))
        limit = body["errors"][0]["advice"]
        fitting, accepted = await office.insisted("support", lambda: form(files=[("big.txt", b"a" * limit)]))
        await office.becomes(office.id_of(accepted), Status.SENT)

    assert status == 400
    assert body["errors"][0]["code"] == 202
    assert fitting == 200
    assert 600_000 < limit < 740_000


async def test_sec_12_a_key_where_one_is_asked_for(office: Office) -> None:
    """A service with API keys takes submissions and questions only with one of them in the header."""
    services = {"locked": EmailOptions(api_keys=("right", "also right"), rate_limit=None)}
    async with scripted_smtp() as smtp, office.everything(smtp.port, services=services):
        without, body = await office.post("locked", FORM)
        wrong, _ = await office.post("locked", FORM, {"apikey": "wrong"})
        right, _ = await office.post("locked", FORM, {"apikey": "also right"})

    assert (without, wrong, right) == (401, 401, 200)
    assert body["statusCode"] == 1


async def test_sec_4_a_rate_per_client(office: Office) -> None:
    """A client address that comes too often is answered 1; X-Forwarded-For is believed only from configured proxies."""
    services = {"calm": EmailOptions(rate_limit=Rate(count=3, seconds=60))}
    limits = LimitSettings(trusted_proxies=("127.0.0.1/32",))
    async with scripted_smtp() as smtp:
        async with office.everything(smtp.port, services=services):
            direct = [(await office.post("calm", FORM, {"X-Forwarded-For": f"10.0.0.{n}"}))[1] for n in range(4)]
        async with office.everything(None, services=services, limits=limits):
            proxied = [(await office.post("calm", FORM, {"X-Forwarded-For": f"10.0.0.{n}"}))[1] for n in range(4)]

    assert [body["statusCode"] for body in direct] == [0, 0, 0, 1]
    assert [body["statusCode"] for body in proxied] == [0, 0, 0, 0]


async def test_a_full_gateway_answers_at_once(office: Office) -> None:
    """With no room for another request the answer is 1, before the body is read."""
    async with scripted_smtp() as smtp, office.everything(smtp.port, limits=LimitSettings(requests_in_flight=0)):
        body = await office.submit()

    assert body == {"statusCode": 1}


async def test_a_body_that_says_it_is_too_large_is_refused_for_good(office: Office) -> None:
    """A Content-Length beyond any limit is 400 with code 202 before the body is read: trying again cannot help."""
    async with scripted_smtp() as smtp, office.everything(smtp.port):
        host, _, port = office.addresses[0].partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /genesys/2/email/support HTTP/1.1\r\nHost: mailroom\r\nConnection: close\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 99999999999\r\n\r\n"
        )
        head = await reader.readuntil(b"\r\n\r\n")
        body = json.loads(await reader.readuntil(b"}]}"))
        writer.close()

    assert head.startswith(b"HTTP/1.1 400 ")
    assert body["errors"] == [{"code": 202, "advice": 10_485_760}]


ORIGIN = "https://www.company.test"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (ORIGIN, ORIGIN),
        ("https://evil.test", None),
        ("null", None),
        ("", None),
        ("*", None),
        ("http://www.company.test", None),
        ("https://www.company.test:8443", None),
        ("https://www.company.test.evil.test", None),
        ("https://evilwww.company.test", None),
        ("https://WWW.company.test", None),
        ("https://www.company.test/", None),
        ("https://www.company.test, https://evil.test", None),
    ],
)
async def test_sec_13_pages_of_configured_origins(office: Office, origin: str, allowed: str | None) -> None:
    """Answers and preflights allow configured origins and the widgets' headers, and nobody else; never credentials."""
    services = {"web": EmailOptions(allowed_origins=(ORIGIN,), rate_limit=None)}
    async with scripted_smtp() as smtp, office.everything(smtp.port, services=services):
        url = f"http://{office.addresses[0]}/genesys/2/email/web"
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST",
                 "Access-Control-Request-Headers": "apikey,ContactCenterId"}  # fmt: skip
        async with (
            office.session.options(url, headers=asked) as preflight,
            office.session.post(url, data=FORM, headers={"Origin": origin}) as answer,
        ):
            pass

    assert preflight.headers.get("Access-Control-Allow-Origin") == allowed
    assert answer.headers.get("Access-Control-Allow-Origin") == allowed
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert ("apikey" in preflight.headers.get("Access-Control-Allow-Headers", "")) == (allowed is not None)


async def test_sec_13_nobody_is_allowed_unasked(office: Office) -> None:
    """Where no origin is configured no answer of any door allows one; where all are, it says so without credentials."""
    services = {"open": EmailOptions(allowed_origins=("*",), rate_limit=None)}
    paths = (
        "/genesys/2/email/support",
        "/genesys/2/email/open",
        "/api/v2/integrations",
        "/oauth/token",
        "/healthz",
        "/x",
    )
    told: dict[str, set[str | None]] = {}
    async with office.gateway(services=services):
        for path in paths:
            for method in ("OPTIONS", "GET", "POST"):
                for origin in (ORIGIN, "null"):
                    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
                    url = f"http://{office.addresses[0]}{path}"
                    async with office.session.request(method, url, headers=asked) as answer:
                        told.setdefault(path, set()).add(answer.headers.get("Access-Control-Allow-Origin"))
                    assert "Access-Control-Allow-Credentials" not in answer.headers

    assert told.pop("/genesys/2/email/open") <= {"*", None}
    assert set().union(*told.values()) == {None}


async def test_sec_9_no_answer_of_the_apis_is_a_page(office: Office) -> None:
    """Whatever is answered, by whichever path: it is JSON that is not sniffed, kept or framed."""
    paths = (
        "/genesys/2/email/support",
        "/genesys/2/email/x/y",
        "/api/v2/integrations",
        "/oauth/token",
        "/healthz",
        "/x",
    )
    async with office.gateway():
        for path in paths:
            for method in ("GET", "POST", "DELETE"):
                async with office.session.request(method, f"http://{office.addresses[0]}{path}") as answer:
                    assert answer.content_type == "application/json", path
                    assert answer.headers["X-Content-Type-Options"] == "nosniff", path
                    assert answer.headers["Cache-Control"] == "no-store", path
                    assert "default-src 'none'" in answer.headers["Content-Security-Policy"], path
                    assert "Server" not in answer.headers


async def test_sec_3_a_mailbox_only_where_allowed(office: Office) -> None:
    """A caller's mailbox counts only where it is allowed: otherwise anybody could send to anybody through us."""
    services = {"open": EmailOptions(allowed_mailboxes=("*@company.test",), rate_limit=None)}
    async with scripted_smtp() as smtp, office.everything(smtp.port, services=services):
        stranger, body = await office.post("open", {**FORM, "mailbox": "victim@elsewhere.test"})
        closed, _ = await office.post("support", {**FORM, "mailbox": "sales@company.test"})
        ours, accepted = await office.insisted("open", lambda: {**FORM, "mailbox": "sales@company.test"})
        await office.becomes(office.id_of(accepted), Status.SENT)
        recipients = [received.rcpt_to for received in smtp.completed]

    assert (stranger, closed, ours) == (400, 400, 200)
    assert body["errors"][0]["code"] == 383
    assert recipients == [("sales@company.test",)]


async def test_health(office: Office) -> None:
    """The gateway tells whether it lives and whether it can accept."""
    async with scripted_smtp() as smtp, office.everything(smtp.port):
        alive, ready = await office.ask("/healthz"), await office.ask("/readyz")

    assert alive[0] == ready[0] == 200


async def test_large_files_go_to_the_attachment_store_and_leave_it_when_refused(office: Office) -> None:
    """A file over 1 MiB is kept in the attachment store for its message, and removed when the form is refused."""
    big = b"%PDF-1.4\n" + b"x" * 3_000_000
    async with scripted_smtp() as smtp, office.everything(smtp.port):
        _, accepted = await office.insisted("support", lambda: form(files=[("big.pdf", big)]))
        await office.becomes(office.id_of(accepted), Status.SENT)
        kept = office.stored_files()
        await office.post("support", form(files=[("big.pdf", big)], subject=""))
        mail = office.parsed(smtp.completed[0].content)

    assert len(kept) == 1
    assert office.stored_files() == kept
    assert [part.get_payload(decode=True) for part in mail.iter_attachments()] == [big]


async def test_an_integration_in_error_is_visible(office: Office) -> None:
    """A server that cannot be reached at all sets ERROR at the first live test, with a cause and a transcript."""
    async with scripted_smtp() as smtp:
        port = smtp.port
    await office.add_integration(port)
    async with office.gateway(), office.worker():
        await office.state(ReportedState.ERROR)
        body = await office.submit()
        integration = await office.integration()

    assert body == {"statusCode": 1}
    assert integration.cause == "cannot_connect"
    assert json.dumps(body) == '{"statusCode": 1}'
