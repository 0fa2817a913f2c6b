"""Conversations over the platform API: what a form opened, what a call opens, letters, drafts and files."""

import asyncio
import base64
import hashlib
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.gate import Enforcement
from mailroom.integration import Cause, IntendedState, ReportedState
from mailroom.roles import Role
from mailroom.store import audit, schema
from mailroom.store.content import decode_content
from tests.builders import every_standing
from tests.gateway.cloud.caller import Caller, Told, caller_of
from tests.journeys.office import MAILBOX, Office

EMAILS = "/conversations/emails"
JANE = {"email": "jane@customer.test", "name": "Jane Doe"}
REPLY = {"to": [JANE], "from": {"email": MAILBOX}, "textBody": "It is on its way."}
ACTIVE: dict[str, Any] = {"reported_state": ReportedState.ACTIVE}


@pytest.fixture
async def caller(office: Office) -> AsyncIterator[Caller]:
    """A gateway with an ACTIVE integration and a client of every role; no worker runs, so what is accepted stays."""
    await office.add_integration(1)
    await office.reconfigure(**ACTIVE, heard=False)
    async with office.gateway():
        yield await caller_of(office)


async def a_form(caller: Caller, **fields: Any) -> str:
    """A form submission; its conversation's place."""
    return f"{EMAILS}/{await caller.office.accepted(**fields)}"


async def count(caller: Caller, table: sa.Table) -> int:
    """How many rows a table has."""

    def counted(tx: Connection) -> int:
        return tx.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()

    return await caller.office.store.read(counted)


async def contents(caller: Caller, kind: str) -> list[Any]:
    """What the messages of a kind say, oldest first."""

    def read(tx: Connection) -> list[Any]:
        rows = tx.execute(
            sa.select(schema.contents.c.body)
            .join(schema.messages, schema.messages.c.id == schema.contents.c.message_id)
            .where(schema.messages.c.kind == kind)
            .order_by(schema.messages.c.accepted_at)
        )
        return [decode_content(row.body) for row in rows]

    return await caller.office.store.read(read)


def at(told: Told, purpose: str) -> dict[str, Any]:
    """The participant with this purpose."""
    [found] = [one for one in told.body["participants"] if one["purpose"] == purpose]
    assert isinstance(found, dict)
    return found


# --- conversations ----------------------------------------------------------------------------------------------------


async def test_a_form_can_be_read_as_a_conversation(caller: Caller) -> None:
    """The customer, what they attached, and their words are there under the interactionId, for an agent to answer."""
    place = await a_form(caller, userData="order=17")
    told = await caller.call("GET", place, role=Role.AGENT)
    listed = await caller.call("GET", f"{place}/messages", role=Role.AGENT)
    [preview] = listed.body["entities"]
    letter = await caller.call("GET", f"{place}/messages/{preview['id']}", role=Role.AGENT)

    assert told.status == 200
    assert (told.body["id"], told.body["name"]) == (place.rpartition("/")[2], "A question")
    customer = at(told, "customer")
    assert (customer["address"], customer["name"], customer["state"]) == ("jane@customer.test", "Jane Doe", "connected")
    assert (customer["attributes"], customer["messagesSent"]) == ({"order": "17"}, 1)
    assert at(told, "agent")["messagesSent"] == 0
    assert preview["textBodyPreview"] == "Where is my parcel?"
    assert "textBody" not in preview
    assert letter.body["textBody"] == "Where is my parcel?"
    assert (letter.body["from"], letter.body["to"]) == (JANE, [{"email": MAILBOX}])


async def test_conversations_are_listed(caller: Caller) -> None:
    """What goes on is listed, newest first, by pages."""
    first = await a_form(caller)
    second = await a_form(caller)
    await asyncio.sleep(0.01)
    opened = await caller.call("POST", EMAILS, {"provider": "Elsewhere", "fromAddress": "joe@customer.test"})
    await caller.call("PATCH", first, {"state": "disconnected"})
    told = await caller.call("GET", f"{EMAILS}?pageSize=1&pageNumber=2")

    assert told.body["total"] == 2
    assert [one["id"] for one in told.body["entities"]] == [second.rpartition("/")[2]]
    assert (await caller.call("GET", EMAILS)).body["entities"][0]["id"] == opened.body["id"]


@pytest.mark.parametrize("wanted", ["nonsense", "e0d1a2c4-0000-4000-8000-000000000000"])
async def test_what_does_not_exist_is_told(caller: Caller, wanted: str) -> None:
    """An id of no conversation is 404 in the vendor's words, everywhere."""
    for method, path in (("GET", ""), ("GET", "/messages"), ("POST", "/messages"), ("GET", "/messages/draft")):
        told = await caller.call(method, f"{EMAILS}/{wanted}{path}", REPLY if method == "POST" else None)
        assert (told.status, told.body["code"]) == (404, "conversation.error.conversation.not.found")


async def test_a_conversation_from_elsewhere(caller: Caller) -> None:
    """An external provider's mail opens an INBOUND conversation with its words as the first letter."""
    opened = await caller.call(
        "POST", EMAILS,
        {"provider": "Elsewhere", "direction": "INBOUND", "fromAddress": "joe@customer.test", "fromName": "Joe",
         "toAddress": MAILBOX, "subject": "Help", "textBody": "It is broken", "attributes": {"order": "18"}},
        role=Role.AGENT,
    )  # fmt: skip
    listed = await caller.call("GET", f"{EMAILS}/{opened.body['id']}/messages")

    assert opened.status == 200
    assert (at(opened, "customer")["provider"], at(opened, "customer")["direction"]) == ("Elsewhere", "inbound")
    assert at(opened, "customer")["attributes"] == {"order": "18"}
    assert [one["textBodyPreview"] for one in listed.body["entities"]] == ["It is broken"]


async def test_writing_first(caller: Caller) -> None:
    """An OUTBOUND conversation begins with a draft to the customer, from the address given."""
    opened = await caller.call(
        "POST", EMAILS,
        {"provider": "PureCloud Email", "direction": "OUTBOUND", "queueId": str(uuid4()), "toAddress": "joe@customer.test",
         "fromAddress": MAILBOX, "subject": "News", "textBody": "Dear Joe"},
    )  # fmt: skip
    draft = await caller.call("GET", f"{EMAILS}/{opened.body['id']}/messages/draft")

    assert (opened.status, at(opened, "agent")["address"]) == (200, MAILBOX)
    assert (draft.body["to"], draft.body["from"]) == ([{"email": "joe@customer.test"}], {"email": MAILBOX})
    assert (draft.body["subject"], draft.body["textBody"], draft.body["state"]) == ("News", "Dear Joe", "Created")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "postino.error.notnull.createconversationrequest.provider"),
        ({"provider": "x", "queueId": str(uuid4()), "flowId": str(uuid4())}, "too.many.create.email.parameters"),
        ({"provider": "x", "flowId": "nonsense"}, "bad.flow.id"),
        ({"provider": "x", "queueId": "nonsense"}, "email.error.invalid.queue"),
        ({"provider": "x", "direction": "OUTBOUND", "fromAddress": MAILBOX}, "email.outbound.queue.required"),
        ({"provider": "x", "direction": "OUTBOUND", "queueId": str(uuid4())}, "email.outbound.queue.address.required"),
        ({"provider": "x", "direction": "SIDEWAYS"}, "invalid.value"),
        ({"provider": "x", "fromAddress": "nobody"}, "invalid.value"),
        ({"provider": "x", "attributes": {"a": 1}}, "invalid.value"),
    ],
)
async def test_what_cannot_be_opened(caller: Caller, body: dict[str, Any], code: str) -> None:
    """Each mistake in opening has the vendor's code, and opens nothing."""
    told = await caller.call("POST", EMAILS, body)

    assert (told.status, told.body["code"]) == (400, code)
    assert await count(caller, schema.conversations) == 0


async def test_a_disconnected_conversation_takes_nothing_more(caller: Caller) -> None:
    """After disconnecting, which can be repeated, neither letters nor drafts are taken."""
    place = await a_form(caller)
    for _ in range(2):
        ended = await caller.call("PATCH", place, {"state": "disconnected"}, role=Role.AGENT)
        assert (ended.status, at(ended, "agent")["state"]) == (200, "disconnected")
    for method, path, body in (("POST", "/messages", REPLY), ("PUT", "/messages/draft", REPLY)):
        told = await caller.call(method, f"{place}{path}", body)
        assert (told.status, told.body["code"]) == (403, "postino.error.forbidden")
    assert (await caller.call("PATCH", place, {"state": "parked"})).status == 400
    assert (await caller.call("GET", f"{place}/messages")).status == 200


async def test_how_large_a_reply_may_be(caller: Caller) -> None:
    """The limit is what the server of the reply's integration announced, else the usual 10 MiB."""
    place = await a_form(caller)
    usual = await caller.call("GET", f"{place}/settings")
    await caller.office.reconfigure(ehlo_size=5_000_000)

    assert usual.body == {"sendingSizeLimit": 10 * 1024 * 1024}
    assert (await caller.call("GET", f"{place}/settings")).body == {"sendingSizeLimit": 5_000_000}


# --- an agent's letter ------------------------------------------------------------------------------------------------


async def test_a_reply_is_one_message_for_each_recipient(caller: Caller) -> None:
    """To, cc and bcc each get a copy; the copies say the same to everybody, and nobody sees who got a blind one."""
    place = await a_form(caller)
    body = REPLY | {"cc": [{"email": "cc@customer.test"}], "bcc": [{"email": "bcc@customer.test"}, JANE]}
    sent = await caller.call("POST", f"{place}/messages", body, role=Role.AGENT)
    copies = await contents(caller, "acd")

    assert sent.status == 200
    assert {copy.to for copy in copies} == {"jane@customer.test", "cc@customer.test", "bcc@customer.test"}
    assert {copy.letter_id for copy in copies} == {UUID(sent.body["id"])}
    assert {copy.cc[0].address for copy in copies} == {"cc@customer.test"}
    assert {copy.to_all[0].name for copy in copies} == {"Jane Doe"}
    assert {copy.from_address for copy in copies} == {MAILBOX}
    form_id = place.rpartition("/")[2]
    assert all(dict(copy.headers)["In-Reply-To"] == f"<{form_id}@company.test>" for copy in copies)
    assert {copy.subject for copy in copies} == {"Re: A question"}


async def test_a_second_reply_goes_on_in_the_thread(caller: Caller) -> None:
    """Each letter answers the one before and names all before it."""
    place = await a_form(caller)
    first = await caller.call("POST", f"{place}/messages", REPLY)
    await caller.call("POST", f"{place}/messages", REPLY | {"textBody": "And more"})
    headers = dict((await contents(caller, "acd"))[-1].headers)

    ids = [f"<{one}@company.test>" for one in (place.rpartition("/")[2], first.body["id"])]
    assert headers["In-Reply-To"] == ids[1]
    assert headers["References"].split() == ids


async def test_history_is_quoted_when_it_is_asked_for(caller: Caller) -> None:
    """With historyIncluded the customer's words stand below the reply, in text and in HTML."""
    place = await a_form(caller)
    body = REPLY | {"htmlBody": "<p>It is on its way.</p>", "historyIncluded": True}
    await caller.call("POST", f"{place}/messages", body)
    [copy] = await contents(caller, "acd")

    assert copy.text.startswith("It is on its way.\n")
    assert copy.text.endswith("> Where is my parcel?\n") or copy.text.endswith("> Where is my parcel?")
    assert copy.html.startswith("<p>It is on its way.</p>")
    assert "Where is my parcel?" in copy.html


async def test_html_alone_is_told_in_text_too(caller: Caller) -> None:
    """A letter in HTML only has its words as text beside it; the HTML goes out as the agent wrote it."""
    place = await a_form(caller)
    html = "<p onclick='x()'>It is <b>on its way</b>.</p>"
    sent = await caller.call("POST", f"{place}/messages", {"to": [JANE], "from": {"email": MAILBOX}, "htmlBody": html})
    [copy] = await contents(caller, "acd")

    assert (copy.html, copy.text.strip()) == (html, "It is on its way.")
    assert "onclick" not in sent.body["htmlBody"]


@pytest.mark.parametrize(
    ("body", "code", "status"),
    [
        ({"textBody": "x", "from": {"email": MAILBOX}}, "postino.error.reply.no.to", 400),
        ({"to": [JANE], "from": {"email": MAILBOX}, "textBody": "  "}, "postino.error.reply.no.body", 400),
        (REPLY | {"to": [{"email": f"a{n}@customer.test"} for n in range(51)]}, "email.error.too.many.recipients", 400),
        (REPLY | {"from": {"email": "me@elsewhere.test"}}, "email.error.domain.not.verified", 400),
        (REPLY | {"textBody": "x" * 2_900_000, "htmlBody": "x" * 3_100_000},
         "postino.error.attachments.upload.size", 400),
        (REPLY | {"to": [{"email": f"a{n}@customer.test"} for n in range(50)], "textBody": "x" * 1_400_000},
         "postino.error.attachments.upload.size", 400),
        (REPLY | {"attachments": [{"attachmentId": str(uuid4())}]}, "not.found", 404),
        (REPLY | {"attachments": [{"attachmentId": "nonsense"}]}, "invalid.value", 400),
        (REPLY | {"attachments": [{"attachmentId": " "}]}, "invalid.value", 400),
        (REPLY | {"cc": [{"email": " "}]}, "invalid.value", 400),
        (REPLY | {"to": [{"email": "nobody"}]}, "invalid.value", 400),
        (REPLY | {"subject": "x" * 401}, "invalid.value", 400),
        (None, "postino.error.reply.no.to", 400),
        ([], "invalid.value", 400),
    ],
)  # fmt: skip
async def test_what_cannot_be_sent(caller: Caller, body: Any, code: str, status: int) -> None:
    """Each mistake in a letter has its code, and sends nothing."""
    place = await a_form(caller)
    await caller.office.reconfigure(ehlo_size=8_000_000)
    told = await caller.call("POST", f"{place}/messages", body)

    assert (told.status, told.body["code"]) == (status, code), told.body
    assert await count(caller, schema.letters) == 0


async def test_a_registered_domain_decides_the_integration(caller: Caller) -> None:
    """Any address of a domain that points to an integration may be the sender, and the letter leaves through that one."""
    await caller.office.add_integration(2, name="second")
    await caller.office.reconfigure("second", **ACTIVE)
    second = await caller.office.integration("second")
    for domain in ("other.test", "company.test"):
        await caller.call(
            "POST", "/routing/email/domains",
            {"id": domain, "subDomain": False, "customSMTPServer": {"id": str(second.id)}},
        )  # fmt: skip
    place = await a_form(caller)
    for sender in ("me@other.test", MAILBOX):
        told = await caller.call("POST", f"{place}/messages", REPLY | {"from": {"email": sender, "name": "Us"}})
        assert told.status == 200

    def through(tx: Connection) -> set[UUID]:
        return set(tx.execute(sa.select(schema.live.c.integration_id).where(schema.live.c.kind == "acd")).scalars())

    assert await caller.office.store.read(through) == {second.id}


async def test_a_failed_copy_is_seen_in_the_conversation(caller: Caller) -> None:
    """What was accepted and not delivered stands with the agent's participant and with the letter's deliveries."""
    place = await a_form(caller)
    sent = await caller.call("POST", f"{place}/messages", REPLY)

    def fail(tx: Connection) -> None:
        [one] = tx.execute(sa.select(schema.live.c.id).where(schema.live.c.kind == "acd")).scalars()
        tx.execute(sa.delete(schema.live).where(schema.live.c.id == one))
        values = {"status": "failed", "reason": "integration.error", "ended_at": datetime.now(UTC)}
        tx.execute(sa.update(schema.messages).where(schema.messages.c.id == one).values(values))

    await caller.office.store.transaction(fail)
    told = await caller.call("GET", place)
    letter = await caller.call("GET", f"{place}/messages/{sent.body['id']}")

    info = at(told, "agent")["errorInfo"]
    assert info["code"] == "email.error.integration.error"
    assert info["message"].startswith("To jane@customer.test: The mail account was not able to send")
    [delivery] = letter.body["deliveries"]
    assert (delivery["status"], delivery["errorInfo"]) == ("failed", info)


# --- twice ------------------------------------------------------------------------------------------------------------


async def test_the_same_request_is_one_letter(caller: Caller) -> None:
    """Eleven copies of a POST at once, without any key, are one letter, and all are answered alike."""
    place = await a_form(caller)
    told = await asyncio.gather(*(caller.call("POST", f"{place}/messages", REPLY) for _ in range(11)))

    assert {(one.status, one.text) for one in told} == {(200, told[0].text)}
    assert len(await contents(caller, "acd")) == 1
    opened = await asyncio.gather(*(caller.call("POST", EMAILS, {"provider": "x"}) for _ in range(11)))
    assert len({one.body["id"] for one in opened}) == 1


async def test_each_repetition_renews_the_time_it_is_known_for(caller: Caller) -> None:
    """A client that goes on repeating itself, however long, makes one letter: what counts is when it came last."""
    place = f"{await a_form(caller)}/messages"
    for _ in range(3):
        assert (await caller.call("POST", place, REPLY)).status == 200

        def forty_seconds_pass(tx: Connection) -> None:
            for row in tx.execute(sa.select(schema.requests)).all():
                earlier = row.expires_at - timedelta(seconds=40)
                tx.execute(sa.update(schema.requests).values(expires_at=earlier))

        await caller.office.store.transaction(forty_seconds_pass)

    assert len(await contents(caller, "acd")) == 1


async def test_another_request_is_another_letter(caller: Caller) -> None:
    """Another body, another conversation, or another client makes another letter."""
    first, second = await a_form(caller), await a_form(caller)
    await caller.call("POST", f"{first}/messages", REPLY)
    await caller.call("POST", f"{first}/messages", REPLY | {"subject": "Other"})
    await caller.call("POST", f"{second}/messages", REPLY)
    await caller.call("POST", f"{first}/messages", REPLY, role=Role.AGENT)

    assert len(await contents(caller, "acd")) == 4


async def with_key(caller: Caller, path: str, key: str, body: Any) -> Told:
    """POST with an Idempotency-Key."""
    headers = {"Authorization": f"Bearer {await caller.token()}", "Idempotency-Key": key}
    return await caller.raw("POST", f"/api/v2{path}", json=body, headers=headers)


async def test_int_13_a_key_stands_for_one_request(caller: Caller) -> None:
    """Under one key the same body is one letter; another body is refused; the same body under two keys is two."""
    place = f"{await a_form(caller)}/messages"
    told = [await with_key(caller, place, key, REPLY) for key in ("one", "one", "two")]
    other = await with_key(caller, place, "one", REPLY | {"textBody": "Other"})

    assert [one.body["id"] == told[0].body["id"] for one in told] == [True, True, False]
    assert (other.status, other.body["code"]) == (409, "idempotency.key.used.differently")
    assert len(await contents(caller, "acd")) == 2
    for odd in ("k" * 256, "ü"):
        assert (await with_key(caller, place, odd, REPLY)).status == 400


async def test_a_repeated_request_is_answered_whatever_has_changed_since(caller: Caller) -> None:
    """What was accepted is not refused to who asks again, even when it would be refused now."""
    place = await a_form(caller)
    first = await caller.call("POST", f"{place}/messages", REPLY)
    await caller.office.reconfigure(reported_state=ReportedState.ERROR, cause=Cause.TIMED_OUT)
    again = await caller.call("POST", f"{place}/messages", REPLY)

    assert (again.status, again.body["id"]) == (200, first.body["id"])


# --- the gate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "code", "says"),
    [
        ({"reported_state": ReportedState.ERROR, "cause": Cause.AUTHENTICATION_REFUSED},
         "email.error.integration.error", "refused"),
        ({"reported_state": ReportedState.ACTIVATING}, "email.error.integration.not.active", "being tested"),
        ({"intended_state": IntendedState.DISABLED, "reported_state": ReportedState.INACTIVE},
         "email.error.integration.not.active", "disabled"),
    ],
)  # fmt: skip
async def test_a_refusal_tells_the_agent_why(office: Office, state: dict[str, Any], code: str, says: str) -> None:
    """A closed gate is a 400 with the integration as its entity, its state and cause, and what to do."""
    await office.add_integration(1)
    office.settings = replace(office.settings, enforcement=Enforcement(acd_from=datetime(2026, 1, 6, tzinfo=UTC)))
    await office.reconfigure(**ACTIVE, heard=False)
    async with office.gateway():
        caller = await caller_of(office)
        place = await a_form(caller)
        await office.reconfigure(**state)
        told = await caller.call("POST", f"{place}/messages", REPLY, role=Role.AGENT)
        integration = await office.integration()

    assert (told.status, told.body["code"], told.body["entityName"]) == (400, code, "main")
    assert told.body["entityId"] == str(integration.id)
    assert told.body["messageParams"]["state"] == integration.reported_state
    assert told.body["messageParams"].get("cause") == integration.cause
    assert says in told.body["message"]
    assert "administrator" in told.body["message"]
    assert "Retry-After" not in told.headers


async def test_before_its_date_error_is_overlooked_and_on_record(caller: Caller) -> None:
    """Until the date an agent's letter is taken in spite of ERROR, once on record, and an agentless one is not."""
    place = await a_form(caller)
    await caller.office.reconfigure(reported_state=ReportedState.ERROR, cause=Cause.TIMED_OUT)
    for _ in range(2):
        assert (await caller.call("POST", f"{place}/messages", REPLY)).status == 200
    integration = await caller.office.integration()
    told = await caller.office.store.read(audit.history, "integration", integration.id)

    [entry] = [row for row in told if row.action == "overlooked"]
    assert (entry.who, entry.cause) == ("client admin", Cause.TIMED_OUT)
    assert "in error" in entry.why


# --- drafts and files -------------------------------------------------------------------------------------------------


async def uploaded(caller: Caller, place: str, name: str, data: bytes, **members: Any) -> str:
    """Announce a file and send its bytes; its id."""
    announced = await caller.call("POST", f"{place}/messages/draft/attachments/uploads", {"name": name} | members)
    assert announced.status == 200, announced
    body, headers = io.BytesIO(data), announced.body["headers"]
    async with caller.office.session.put(announced.body["url"], data=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
    return str(announced.body["attachmentId"])


async def test_a_draft_is_kept_and_filled_in(caller: Caller) -> None:
    """A draft begins as a reply to the customer, keeps what was put, and can become a forward or begin anew."""
    place = f"{await a_form(caller)}/messages/draft"
    begun = await caller.call("GET", place, role=Role.AGENT)
    put = await caller.call("PUT", place, {"to": [JANE], "textBody": "It", "htmlBody": "<p>It</p>"}, role=Role.AGENT)
    kept = await caller.call("GET", place)
    forward = await caller.call("PATCH", f"{place}?autoFill=true", {"draftType": "Forward"})
    anew = await caller.call("PATCH", f"{place}?discard=true")

    assert (begun.body["state"], begun.body["draftType"], begun.body["subject"]) == (
        "Created",
        "Reply",
        "Re: A question",
    )
    assert (begun.body["to"], begun.body["from"]) == ([JANE], {"email": MAILBOX})
    assert (put.body["state"], put.body["textBody"], put.body["htmlBody"]) == ("Edited", "It", "<p>It</p>")
    assert kept.body == put.body
    assert (forward.body["subject"], forward.body["to"]) == ("Fwd: A question", [])
    assert "> Where is my parcel?" in forward.body["textBody"]
    assert (anew.body["state"], anew.body["textBody"]) == ("Created", "")


async def test_an_uploaded_file_goes_with_the_letter(caller: Caller) -> None:
    """Files of the draft go with the next letter, can be read from it by a link, and the draft is empty again."""
    place = await a_form(caller)
    data = b"%PDF-1.7 " + b"x" * 2_000_000
    md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
    paper = await uploaded(caller, place, "../Bill.pdf", data, contentLengthBytes=len(data), contentMd5=md5)
    image = await uploaded(caller, place, "logo.png", b"\x89PNG", inlineImage=True)
    draft = await caller.call("GET", f"{place}/messages/draft")
    sent = await caller.call("POST", f"{place}/messages", REPLY | {"htmlBody": f'<img src="cid:{image}">'})
    [copy] = await contents(caller, "acd")

    assert [one["attachmentId"] for one in draft.body["attachments"]] == [paper, image]
    assert [(one.name, one.media_type, one.content_id) for one in copy.attachments] == [
        ("Bill.pdf", "application/pdf", None), ("logo.png", "image/png", image)
    ]  # fmt: skip
    [bill, logo] = sent.body["attachments"]
    assert (bill["contentLength"], logo["inlineImage"]) == (len(data), True)
    async with caller.office.session.get(bill["contentUri"]) as answer:
        assert await answer.read() == data
        assert answer.headers["Content-Disposition"].startswith("attachment")
    assert (await caller.call("GET", f"{place}/messages/draft")).body["attachments"] == []


async def test_files_of_a_form_can_be_fetched_and_copied(caller: Caller) -> None:
    """What the customer attached can be read by a link, and taken into the draft."""
    form = aiohttp.FormData()
    for name, value in {"firstName": "Jane", "lastName": "Doe", "fromAddress": "jane@customer.test",
                        "subject": "A question", "text": "See the file"}.items():  # fmt: skip
        form.add_field(name, value)
    form.add_field("files", b"some words", filename="note.txt", content_type="text/plain")
    _, accepted = await caller.office.post("support", form)
    place = f"{EMAILS}/{accepted['interactionId']}"
    letter = await caller.call("GET", f"{place}/messages/{accepted['interactionId']}")
    [file] = letter.body["attachments"]
    async with caller.office.session.get(file["contentUri"]) as answer:
        assert await answer.read() == b"some words"
    copied = await caller.call(
        "POST", f"{place}/messages/draft/attachments/copy",
        {"sourceMessage": {"id": accepted["interactionId"]}, "attachments": [{"attachmentId": file["attachmentId"]}]},
    )  # fmt: skip
    sent = await caller.call("POST", f"{place}/messages", REPLY)
    again = await caller.call(
        "POST", f"{place}/messages",
        REPLY | {"textBody": "Once more", "attachments": [{"attachmentId": sent.body["attachments"][0]["attachmentId"]}]},
    )  # fmt: skip

    assert [one["name"] for one in copied.body["attachments"]] == ["note.txt"]
    assert [one["name"] for one in sent.body["attachments"]] == ["note.txt"]
    assert [one["name"] for one in again.body["attachments"]] == ["note.txt"]
    keys = [one.key for copy in await contents(caller, "acd") for one in copy.attachments]
    assert len(set(keys)) == 2
    for key in keys:
        assert await caller.office.attachments.read(key) == b"some words"


async def test_a_letter_refused_for_one_file_keeps_none(caller: Caller) -> None:
    """When a file of an earlier letter is not there any more, the copies of those before it do not stay behind."""
    place = await a_form(caller)
    for name in ("a.txt", "b.txt"):
        await uploaded(caller, place, name, b"words")
    sent = await caller.call("POST", f"{place}/messages", REPLY)
    [copy] = await contents(caller, "acd")
    await caller.office.attachments.delete(copy.attachments[1].key)
    before = caller.office.stored_files()
    attachments = [{"attachmentId": one["attachmentId"]} for one in sent.body["attachments"]]
    told = await caller.call("POST", f"{place}/messages", REPLY | {"attachments": attachments})

    assert (told.status, told.body["code"]) == (404, "not.found")
    assert caller.office.stored_files() == before


async def test_a_file_can_be_taken_out_again(caller: Caller) -> None:
    """A deleted file is gone from the draft and from the disk."""
    place = await a_form(caller)
    file = await uploaded(caller, place, "a.txt", b"words")
    before = caller.office.stored_files()
    deleted = await caller.call("DELETE", f"{place}/messages/draft/attachments/{file}")

    assert (deleted.status, len(before) - len(caller.office.stored_files())) == (204, 1)
    assert (await caller.call("DELETE", f"{place}/messages/draft/attachments/{file}")).status == 404


@pytest.mark.parametrize(
    ("members", "data", "code", "status"),
    [
        ({"contentLengthBytes": 5}, b"words more", "request.too.large", 413),
        ({"contentLengthBytes": 9}, b"words", "postino.error.attachments.upload.size", 400),
        ({"contentMd5": base64.b64encode(b"0" * 16).decode()}, b"words", "email.error.attachment.changed", 400),
    ],
)
async def test_other_bytes_than_announced_are_not_kept(
    caller: Caller, members: dict[str, Any], data: bytes, code: str, status: int
) -> None:
    """Too many, too few or other bytes than were announced are refused, and nothing stays behind."""
    place = await a_form(caller)
    before = caller.office.stored_files()
    announced = await caller.call("POST", f"{place}/messages/draft/attachments/uploads", {"name": "a.txt"} | members)
    async with caller.office.session.put(announced.body["url"], data=data) as answer:
        told = await answer.json()

    assert (answer.status, told["code"]) == (status, code)
    assert caller.office.stored_files() == before
    assert (await caller.call("GET", f"{place}/messages/draft")).body["attachments"] == []


async def test_an_upload_repeated_is_one_file(caller: Caller) -> None:
    """A client that sends the bytes again hears that they are there."""
    place = await a_form(caller)
    announced = await caller.call("POST", f"{place}/messages/draft/attachments/uploads", {"name": "a.txt"})
    for _ in range(2):
        async with caller.office.session.put(announced.body["url"], data=b"words") as answer:
            assert answer.status == 200

    assert len((await caller.call("GET", f"{place}/messages/draft")).body["attachments"]) == 1


async def test_only_a_signed_link_leads_to_a_file(caller: Caller) -> None:
    """A link that was changed, is for something else, or has no signature leads nowhere."""
    place = await a_form(caller)
    announced = await caller.call("POST", f"{place}/messages/draft/attachments/uploads", {"name": "a.txt"})
    url = announced.body["url"]
    odd = [url.partition("?")[0], url + "x", url.replace("expires=", "expires=9"),
           url.replace(announced.body["attachmentId"], str(uuid4()))]  # fmt: skip
    for one in odd:
        async with caller.office.session.put(one, data=b"words") as answer:
            assert (answer.status, (await answer.json())["code"]) == (403, "link.not.valid"), one


@pytest.mark.parametrize(
    "members",
    [{}, {"name": "a.exe", "inlineImage": True}, {"name": "a.txt", "contentLengthBytes": -1},
     {"name": "a.txt", "contentMd5": "nonsense"}, {"name": "a.txt", "contentLengthBytes": 11_000_000}],
)  # fmt: skip
async def test_what_cannot_be_announced(caller: Caller, members: dict[str, Any]) -> None:
    """A file without a name, a picture that is none, an impossible size or sum is refused before it is sent."""
    place = await a_form(caller)
    told = await caller.call("POST", f"{place}/messages/draft/attachments/uploads", members)

    assert (told.status, told.body["code"]) == (400, "invalid.value")


# --- agentless --------------------------------------------------------------------------------------------------------


NOTICE = {
    "senderType": "Outbound", "fromAddress": {"email": "news@company.test", "name": "News"},
    "toAddresses": [JANE], "subject": "Your parcel", "textBody": "It is there.",
}  # fmt: skip
AGENTLESS = f"{EMAILS}/agentless"


@pytest.fixture
async def notifier(caller: Caller) -> Caller:
    """A caller whose outbound domain points to the integration."""
    integration = await caller.office.integration()
    await caller.call(
        "POST", "/routing/email/outbound/domains",
        {"id": "company.test", "name": "company.test", "customSMTPServer": {"id": str(integration.id)}},
    )  # fmt: skip
    return caller


async def test_an_agentless_send_can_be_followed(notifier: Caller) -> None:
    """It is accepted with an id and a conversation, carries what machines need to know, and its outcome can be read."""
    sent = await notifier.call("POST", AGENTLESS, NOTICE, role=Role.SENDER)
    told = await notifier.call("GET", f"{AGENTLESS}/{sent.body['id']}", role=Role.SENDER)
    [copy] = await contents(notifier, "agentless")
    conversation = await notifier.call("GET", f"{EMAILS}/{sent.body['conversationId']}")

    assert sent.status == 200
    assert sent.body["selfUri"] == f"/api/v2{AGENTLESS}/{sent.body['id']}"
    assert (sent.body["senderType"], sent.body["toAddresses"]) == ("Outbound", [JANE])
    assert (told.body["status"], told.body["deliveries"][0]["address"]) == ("queued", "jane@customer.test")
    assert (copy.from_name, dict(copy.headers)) == ("News", {"Auto-Submitted": "auto-generated"})
    assert at(conversation, "outbound")["messagesSent"] == 1


async def test_several_may_get_an_agentless_send(notifier: Caller) -> None:
    """Cc and bcc get their copies too; each is told by itself, and the worst of them for all."""
    body = NOTICE | {"ccAddresses": [{"email": "cc@customer.test"}], "bccAddresses": [{"email": "bcc@customer.test"}]}
    sent = await notifier.call("POST", AGENTLESS, body)

    def fail(tx: Connection) -> None:
        tx.execute(sa.delete(schema.live))
        tx.execute(sa.update(schema.messages).values(status="sent"))
        failed = schema.messages.c.recipient == "cc@customer.test"
        tx.execute(sa.update(schema.messages).where(failed).values(status="failed", reason="rejected.recipient"))

    await notifier.office.store.transaction(fail)
    told = await notifier.call("GET", f"{AGENTLESS}/{sent.body['id']}")

    assert told.body["status"] == "failed"
    assert [one["status"] for one in told.body["deliveries"]] == ["sent", "failed", "sent"]
    assert told.body["deliveries"][1]["errorInfo"]["code"] == "email.error.rejected.recipient"


async def test_an_agentless_send_joins_a_conversation(notifier: Caller) -> None:
    """Stitched to a conversation it goes on in its thread, and is listed there when that is asked for."""
    place = await a_form(notifier)
    form_id = place.rpartition("/")[2]
    sent = await notifier.call("POST", AGENTLESS, NOTICE | {"conversationId": form_id})
    plain = await notifier.call("GET", f"{place}/messages")
    whole = await notifier.call("GET", f"{place}/messages?includeAgentlessStitchedMessages=true")
    [copy] = await contents(notifier, "agentless")

    assert sent.body["conversationId"] == form_id
    assert len(plain.body["entities"]) == 1
    assert [one["id"] for one in whole.body["entities"]] == [form_id, sent.body["id"]]
    assert dict(copy.headers)["In-Reply-To"] == f"<{form_id}@company.test>"
    assert (await notifier.call("POST", AGENTLESS, NOTICE | {"conversationId": str(uuid4())})).status == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"senderType": None}, {"senderType": "Inbound"}, {"fromAddress": None}, {"fromAddress": {"name": "News"}},
        {"toAddresses": []}, {"toAddresses": None}, {"toAddresses": [JANE, {"email": "joe@customer.test"}]},
        {"textBody": None}, {"subject": "x" * 401}, {"fromAddress": {"email": "a@company.test", "name": "x" * 65}},
        {"toAddresses": [{"email": "nobody"}]}, {"toAddresses": [{"email": " "}]}, {"fromAddress": {"email": " "}},
        {"ccAddresses": [{"email": "\n"}]}, {"textBody": "x" * (3 * 1024 * 1024 + 1)},
    ],
)  # fmt: skip
async def test_what_cannot_be_sent_without_an_agent(notifier: Caller, changes: dict[str, Any]) -> None:
    """The vendor's rules and limits hold; what breaks one is told, and nothing is sent."""
    told = await notifier.call("POST", AGENTLESS, NOTICE | changes)

    assert (told.status, told.body["code"]) == (400, "invalid.value")
    assert await contents(notifier, "agentless") == []


async def test_an_agentless_send_needs_a_domain_and_an_open_gate(caller: Caller, office: Office) -> None:
    """Without its outbound domain, or with the integration in ERROR at any date, it is refused."""
    unknown = await caller.call("POST", AGENTLESS, NOTICE)
    integration = await office.integration()
    await caller.call(
        "POST", "/routing/email/outbound/domains",
        {"id": "company.test", "name": "company.test", "customSMTPServer": {"id": str(integration.id)}},
    )  # fmt: skip
    await office.reconfigure(reported_state=ReportedState.ERROR, cause=Cause.HOST_INVALID)
    closed = await caller.call("POST", AGENTLESS, NOTICE)

    assert (unknown.status, unknown.body["code"]) == (400, "email.error.domain.not.verified")
    assert (closed.status, closed.body["code"]) == (400, "email.error.integration.error")
    assert await count(caller, schema.messages) == 0
    assert await office.store.read(every_standing) == []
