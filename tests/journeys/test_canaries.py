"""Secrets and people's words marked so that they can be looked for, everywhere that they may have got to (SEC-6, SEC-14)."""

import asyncio
import base64
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aio_pika
import aiohttp
import msgspec
import pytest
import sqlalchemy as sa

from mailroom.integration import ReportedState
from mailroom.message import Status
from tests.gateway.cloud.caller import Caller, caller_of
from tests.journeys.office import VAULT, Office
from tests.processes import ROOT, environment
from tests.smtp_server import Say, ScriptedSmtp, scripted_smtp

#: The password of the SMTP account.
SECRET = "canary-password-91f7"
#: What a customer writes.
PERSON = {
    "firstName": "Canaryfirst", "lastName": "Canarylast", "fromAddress": "canary-local@customer.test",
    "subject": "canary-subject", "text": "canary-text\r\n\u2028canary-line\x1b[31m", "userData": "order=canary-data",
}  # fmt: skip
#: Every mark there is, in whatever clothes.
MARK = re.compile(r"canary", re.IGNORECASE)


def clothed(secret: str) -> list[str]:
    """The secret as it may be written."""
    plain = secret.encode()
    login = f"\0forms\0{secret}".encode()
    return [
        secret, base64.b64encode(plain).decode().rstrip("="), base64.b64encode(login).decode().rstrip("="), plain.hex(),
        quote(secret, safe=""), secret[::-1],
    ]  # fmt: skip


@asynccontextmanager
async def loud(office: Office) -> AsyncIterator[Path]:
    """A gateway and a worker of the office in a process of their own; where what they log is written."""
    written = office.folder / "stderr"
    told = {
        "folder": str(office.folder), "database": office.database_url, "queue": office.queue_url,
        "email": {"api_keys": ["canary-form-key"]},
    }  # fmt: skip
    with written.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.journeys.loud_office", cwd=ROOT, env=environment({}), stderr=stderr,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(told).encode() + b"\n")
        address = await asyncio.wait_for(process.stdout.readline(), 30)
        assert address, written.read_text()
        office.addresses.append(address.decode().strip())
        yield written
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 30)
    finally:
        office.addresses.clear()
        if process.returncode is None:
            process.kill()
            await process.wait()


async def configured(caller: Caller, port: int) -> list[str]:
    """An integration made over the platform API with the marked password, ACTIVE; all that was answered about it."""
    kept = await caller.call(
        "POST", "/integrations/credentials",
        {"name": "account", "type": {"id": "basicAuth"}, "credentialFields": {"userName": "forms", "password": SECRET}},
    )  # fmt: skip
    assert kept.status == 200, kept
    made = await caller.call("POST", "/integrations", {"integrationType": {"id": "custom-smtp-server"}, "name": "main"})
    place = f"/integrations/{made.body['id']}"
    configuration = {
        "version": 1, "credentials": {"basicAuth": {"id": kept.body["id"]}},
        "properties": {"smtpHost": "127.0.0.1", "smtpPort": port, "smtpSecurity": "none",
                       "fromAddress": "forms@company.test", "defaultMailbox": "support@company.test"},
    }  # fmt: skip
    put = await caller.call("PUT", f"{place}/config/current", configuration)
    assert put.status == 200, put
    enabled = await caller.call("PATCH", place, {"intendedState": "ENABLED"})
    paths = (
        "/integrations/credentials",
        f"/integrations/credentials/{kept.body['id']}",
        place,
        f"{place}/config/current",
    )
    told = [kept, made, put, enabled, *[await caller.call("GET", path) for path in paths]]
    return [answer.text for answer in told]


async def annoyed(office: Office, caller: Caller) -> list[str]:
    """What is answered to all kinds of nonsense with marks in it."""
    url, marked = f"http://{office.addresses[0]}", {**PERSON, "mailbox": "canary-local@elsewhere.test"}
    key = {"apikey": "canary-form-key"}
    broken = {**key, "Content-Type": "multipart/form-data; boundary=canary"}
    who = {"client_id": "canary", "client_secret": "canary"}
    basic = {"Authorization": aiohttp.encode_basic_auth("canary", "canary")}
    form, token = "/genesys/2/email/support", "/oauth/token"
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", form, {"data": marked, "headers": key}),
        ("POST", form, {"data": marked, "headers": {"apikey": "canary-wrong-key"}}),
        ("POST", form, {"data": b"--canary", "headers": broken}),
        ("POST", form, {"data": b"canary", "headers": {**key, "Content-Type": "canary/canary"}}),
        ("GET", "/api/v2/integrations?token=canary", {"headers": {"Authorization": "Bearer canary-token"}}),
        ("POST", token, {"data": {"grant_type": "client_credentials", **who}}),
        ("POST", token, {"data": {"grant_type": "canary"}, "headers": basic}),
    ]
    told = []
    for method, path, more in requests:
        async with office.session.request(method, f"{url}{path}", **more) as answer:
            told.append(await answer.text())
    bad: dict[str, Any] = {"type": {"id": "basicAuth"}, "credentialFields": {"userName": 7, "password": SECRET}}
    told.append((await caller.call("POST", "/integrations/credentials", bad)).text)
    host, _, port = office.addresses[0].rpartition(":")
    for line in (
        b"GET /canary\x00 HTTP/1.1\r\n\r\n",
        b"canary canary canary\r\n\r\n",
        b"GET / HTTP/1.1\r\ncanary\x1b[31m\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(line)
        await asyncio.wait_for(reader.read(), 20)
        writer.close()
    return told


async def rows_of(office: Office) -> str:
    """Everything in every table of the database, as text."""

    def read(tx: sa.Connection) -> str:
        tables = tx.execute(sa.text("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"))
        # As JSON, in which bytes are hexadecimal: of those the text is looked at as well.
        return "\n".join(
            row
            for (table,) in tables.all()
            for (row,) in tx.execute(sa.text(f'SELECT row_to_json(t)::text FROM "{table}" AS t'))  # noqa: S608 - a name that the database told
        )

    text = await office.store.read(read)
    return text + "".join(bytes.fromhex(one).decode("latin-1") for one in re.findall(r"\\\\x((?:[0-9a-f]{2})+)", text))


async def ticket_of(office: Office, queue: str) -> tuple[bytes, str]:
    """The body and the properties of what waits in a queue."""
    connection = await aio_pika.connect(office.queue_url)
    async with connection:
        channel = await connection.channel()
        # A queue that is being declared by another is known before it can be read from.
        while not (waiting := await channel.declare_queue(queue, passive=True)).declaration_result.message_count:
            await asyncio.sleep(0.05)
        found = await waiting.get()
        return found.body, repr(found.properties)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedSmtp]:
    """An SMTP server that wants the password, and repeats all it hears when it refuses."""
    async with scripted_smtp(username="forms", password=SECRET) as server:
        server.script(
            "RCPT", Say(f"550 5.1.1 <{PERSON['fromAddress']}>: canary-local@customer.test is unknown here"), times=1
        )
        yield server


async def test_sec_6_the_password_of_an_account_is_nowhere(office: Office, server: ScriptedSmtp) -> None:
    """After it was given, tested, used, quoted by a server and refused it is in no row, queue, file, log line or answer.

    The same journey holds SEC-14: every line that was logged, at every level, is one JSON object, without any word of a
    customer, any key, token or secret.
    """
    async with loud(office) as written:
        caller = await caller_of(office)
        told = await configured(caller, server.port)
        await office.active()
        refused, sent = [await submitted(office) for _ in range(2)]
        await office.becomes(refused, Status.FAILED)
        await office.becomes(sent, Status.SENT)
        told += await annoyed(office, caller)
        server.script("AUTH", Say(f"535 5.7.8 wrong: {SECRET} {base64.b64encode(SECRET.encode()).decode()}"))
        server.hang_up()
        await office.reset()
        await asyncio.sleep(1.5)
        told += [(await caller.call("GET", f"/integrations/{(await office.integration()).id}")).text]
        secrets = [*caller.tokens.values(), *(client.secret for client in caller.clients.values())]
        transcript = await office.transcript()
    rows = await rows_of(office)
    logs = written.read_bytes().decode()

    assert "535" in transcript
    everywhere = {"rows": rows, "logs": logs, "answers": "".join(told), "files": files_of(office)}
    assert [(where, one) for where, text in everywhere.items() for one in clothed(SECRET) if one in text] == []
    assert [where for where, text in everywhere.items() if where != "answers" for one in secrets if one in text] == []
    assert_logged_well(logs)


async def submitted(office: Office) -> Any:
    """The id of a form of marks that was accepted."""
    status, body = await office.insisted("support", lambda: PERSON, {"apikey": "canary-form-key"})
    assert status == 200, body
    return office.id_of(body)


def files_of(office: Office) -> str:
    """What is in the folder of the office, but for what was logged."""
    files = [path for path in office.folder.rglob("*") if path.is_file() and path.name != "stderr"]
    return "".join(path.read_bytes().decode("latin-1") for path in files)


def assert_logged_well(logs: str) -> None:
    """Each line is one JSON object that a terminal can show; no mark is in any of them."""
    lines = logs.split("\n")[:-1]
    events = [json.loads(line) for line in lines]

    assert all(isinstance(event, dict) and line.isprintable() for event, line in zip(events, lines, strict=True))
    assert {"attempt ended", "mailbox refused", "log-in refused", "connection tested"} <= {
        one["event"] for one in events
    }
    assert "debug" in {event["level"] for event in events}
    assert [line for line in lines if MARK.search(line)] == []


async def test_sec_6_tickets_hold_no_word_of_anybody(office: Office) -> None:
    """What travels over the broker is a list of ids: no secret, no address and no word."""
    await office.add_integration(1, username="forms", sealed_password=VAULT.seal(SECRET))
    async with office.gateway():
        await office.reconfigure(reported_state=ReportedState.ACTIVE)
        message_id = await office.accepted(**PERSON)
        async with asyncio.timeout(10):
            ticket, properties = await ticket_of(office, f"mailroom.form.{(await office.integration()).id}")

    _version, written_at, ids = msgspec.msgpack.decode(ticket)
    assert (type(written_at), ids) == (float, message_id.bytes)
    assert not MARK.search(properties)
    assert "@" not in properties
