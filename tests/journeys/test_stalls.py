"""Nothing that comes in, goes out or is looked at keeps the others waiting: the loop comes round all the while."""

import asyncio
import io
import json
from datetime import UTC, datetime
from typing import Any

import aiohttp
import sqlalchemy as sa
from sqlalchemy import Connection

from gateway.cloud.letters import LONGEST_BODY
from mailroom.message import Kind, Status
from mailroom.store import schema
from tests import filling
from tests.builders import every_standing
from tests.gateway.admin.visitor import entrance_of
from tests.gateway.cloud.caller import Caller, caller_of
from tests.journeys.office import FORM, Office
from tests.services import Sink
from tests.stalls import never_stalls

#: Seconds that nobody may have to wait for the loop.
LONGEST = 0.1

FILE = b"%PDF-1.7\n" + bytes(range(256)) * (9_000_000 // 256)

_LINE = (
    "<p>Hello, this is a line of a <b>long</b> letter, with a <a href='https://shop.test/a?b=1&amp;c=2'>link</a>.</p>\n"
)


def a_form_with_a_file() -> aiohttp.FormData:
    """A form with a file of 9 MB."""
    form = aiohttp.FormData(FORM)
    form.add_field("files", io.BytesIO(FILE), filename="a.pdf", content_type="application/pdf")
    return form


async def test_files_of_9_mb_hold_up_nobody(office: Office, smtp_sink: Sink) -> None:
    """Three of them at once, from the upload to the last dot."""
    smtp_sink.start_counting()

    async def send(_: int) -> None:
        told = await asyncio.gather(*(office.insisted("support", a_form_with_a_file) for _ in range(3)))
        for _, body in told:
            await office.becomes(office.id_of(body), Status.SENT)

    async with office.everything(smtp_sink.port):
        await never_stalls(LONGEST, send)


async def test_the_longest_letters_hold_up_nobody(office: Office, smtp_sink: Sink) -> None:
    """Text and HTML as long as may be, to ten people: sent, read again and quoted."""
    smtp_sink.start_counting()
    lines = {
        "textBody": f"{'a line ' * 130}\n" * (LONGEST_BODY // 911),
        "htmlBody": _LINE * (LONGEST_BODY // len(_LINE)),
    }

    def letter(subject: str, to: int, **more: Any) -> bytes:
        people = [{"email": f"jane{number}@customer.test"} for number in range(to)]
        return json.dumps({"to": people, "subject": subject} | lines | more).encode()

    async with office.everything(smtp_sink.port):
        caller = await caller_of(office)
        place = f"/conversations/emails/{await office.accepted()}/messages"
        # What is looked up once in the life of a process.
        await asked(caller, "POST", place, b'{"to": [{"email": "jane@customer.test"}], "textBody": "Hello."}')
        letters = [letter(f"letter {number}", 10) for number in range(3)]
        replies = [letter(f"reply {number}", 1, historyIncluded=True) for number in range(3)]

        async def send(number: int) -> None:
            sent = await asked(caller, "POST", place, letters[number])
            letter_id = json.loads(sent[: sent.index(b",")] + b"}")["id"]
            for path in (place, f"{place}/{letter_id}", f"{place}/draft"):
                await asked(caller, "GET", path)
            await asked(caller, "POST", place, replies[number])
            for one in await office.store.read(every_standing):
                await office.becomes(one.id, Status.SENT)

        await never_stalls(LONGEST, send)


async def asked(caller: Caller, method: str, path: str, body: bytes = b"") -> bytes:
    """What the platform API answers, as it comes: reading and writing JSON would be steps of the test's own."""
    headers = {"Authorization": f"Bearer {await caller.token()}", "Content-Type": "application/json"}
    url, data = f"http://{caller.office.addresses[0]}/api/v2{path}", io.BytesIO(body)
    async with caller.office.session.request(method, url, data=data, headers=headers) as answer:
        assert answer.status == 200
        return await answer.read()


async def test_the_fullest_pages_hold_up_nobody(office: Office, smtp_sink: Sink) -> None:
    """Two hundred integrations and groups of dead letters, a day of tallies, thousands of messages, a 6 MB letter."""
    smtp_sink.start_counting()
    async with office.everything(smtp_sink.port), office.gateway() as gateway:
        integration = await office.integration()
        await filling.add_ended(
            office.database_url, integration.id, 0, 5000, since=datetime.now(UTC) - 5000 * filling.APART
        )
        await filling.add_tallies(office.database_url, integration.id)
        await office.store.transaction(_filled)
        caller = await caller_of(office)
        html = _LINE * (LONGEST_BODY // len(_LINE))
        letter = {"to": [{"email": "jane@customer.test"}], "textBody": "Hello.\n" * 400_000, "htmlBody": html}
        sent = await caller.call("POST", f"/conversations/emails/{await office.accepted()}/messages", letter)
        assert sent.status == 200
        [message] = [one for one in await office.store.read(every_standing) if one.kind is Kind.ACD]
        async with entrance_of(gateway, office.store) as entrance, entrance.person() as visitor:
            one, group = f"/messages/{message.id}", f"/dead-letters/{integration.id}/{filling.FAILED}"
            paths = ("/", "/?span=week", "/integrations", f"/integrations/{integration.id}", "/messages", one, f"{one}/html",
                     f"{one}/wire", "/dead-letters", group, f"{group}/affected.csv", "/forms", "/forms/support",
                     f"/explain?message={message.id}", "/audit", "/people")  # fmt: skip

            async def look(_: int) -> None:
                for path in paths:
                    assert (await visitor.get(path)).status == 200, path

            # Templates are read once, whoever comes first.
            await look(0)
            await never_stalls(LONGEST, look)


def _filled(tx: Connection) -> None:
    """Integrations, groups of dead letters and an audit, as many as a page shows and more."""
    number = {"number": 200}
    tx.execute(sa.text(_INTEGRATIONS), number)
    tx.execute(sa.text(_GROUPS), number)
    tx.execute(sa.text(_AUDIT), {"number": 2000})
    assert tx.execute(sa.select(sa.func.count()).select_from(schema.integrations)).scalar_one() > number["number"]


_INTEGRATIONS = """
    INSERT INTO integrations (id, name, host, port, security, from_address, max_connections, intended_state,
                              reported_state, transcript, since)
    SELECT lpad(n::text, 32, '0')::uuid, 'integration' || n, 'smtp.company.test', 587, 'starttls', 'forms@company.test', 8,
           'DISABLED', 'INACTIVE', repeat('250-one more line of an answer' || chr(10), 40), now()
    FROM generate_series(1, :number) AS n
"""
_GROUPS = """
    INSERT INTO dead_letters (message_id, integration_id, ended_at, reason, command, code, said, fingerprint)
    SELECT gen_random_uuid(), lpad(n::text, 32, '0')::uuid, now(), 'rejected.recipient', 'RCPT', 550,
           repeat('what it said ', 15) || n, md5(n::text)
    FROM generate_series(1, :number) AS n
"""
_AUDIT = """
    INSERT INTO audit (id, at, who, subject, subject_id, action, before, after, why)
    SELECT gen_random_uuid(), now() - n * interval '10 seconds', 'user' || n % 20, 'integration',
           lpad((1 + n % 200)::text, 32, '0')::uuid, 'configured', 'port=25', 'port=587', 'for a test'
    FROM generate_series(1, :number) AS n
"""
