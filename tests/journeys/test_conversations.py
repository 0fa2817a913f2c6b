"""An agent answers the mail that forms brought in: over the vendor's own client, past the gate, once, in one thread."""

import asyncio
import contextlib
import itertools
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.gate import Enforcement
from mailroom.integration import Cause, IntendedState, ReportedState
from mailroom.kinds import KINDS
from mailroom.message import Kind, Status
from mailroom.queue.ticket import Address
from mailroom.roles import Role
from mailroom.store import messages, schema
from mailroom.store.messages import Standing
from tests.builders import every_standing
from tests.fault_proxy import FaultProxy, Mode
from tests.gateway.cloud.caller import Caller, Told, caller_of
from tests.journeys.office import MAILBOX, Office, proxied
from tests.journeys.program import Program, program
from tests.services import Postgres
from tests.smtp_server import ScriptedSmtp, scripted_smtp

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8


async def arrived(smtp: ScriptedSmtp, office: Office, number: int) -> list[EmailMessage]:
    """The mails at the server, in the order they came, once there are so many; read by an independent reader."""
    async with asyncio.timeout(30):
        while len(smtp.inbox) < number:
            await asyncio.sleep(0.05)
    return [office.parsed(one.content) for one in smtp.inbox]


def uploaded(url: str, headers: dict[str, str], data: bytes) -> int:
    """PUT the bytes of a file where its announcement said; the status."""
    request = urllib.request.Request(url, data=data, headers=headers, method="PUT")  # noqa: S310 - our own, on loopback
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - as above
        return int(answer.status)


async def agent_of(office: Office, sdk: Any) -> Program:
    """A program of an agent; the domains of ours point to the integration."""
    integration = await office.integration()
    admin = await program(office, sdk)
    for post in ("post_routing_email_domains", "post_routing_email_outbound_domains"):
        body = {"id": "company.test", "name": "company.test", "subDomain": False,
                "customSMTPServer": {"id": str(integration.id)}}  # fmt: skip
        await admin.routes(lambda api: getattr(api, post)(body=body))  # noqa: B023 - it is done before the next turn
    return await program(office, sdk, Role.AGENT)


async def test_an_agent_answers_a_form(office: Office, sdk: Any) -> None:
    """Form, mail to the mailbox, the agent's reply with a file by the vendor's client, the customer's mailbox: one thread."""
    async with scripted_smtp() as smtp, office.everything(smtp.port):
        agent = await agent_of(office, sdk)
        form = str(await office.accepted(userData="order=17"))
        [to_us] = await arrived(smtp, office, 1)

        conversation = await agent.converses(lambda api: api.get_conversations_email(form))
        customer = next(one for one in conversation.participants if one.purpose == "customer")
        announced = await agent.converses(
            lambda api: api.post_conversations_email_messages_draft_attachments_uploads(
                form, body={"name": "map.png", "contentLengthBytes": len(PNG), "inlineImage": True}
            )
        )
        assert await asyncio.to_thread(uploaded, announced.url, announced.headers, PNG) == 200
        draft = await agent.converses(lambda api: api.get_conversations_email_messages_draft(form))
        draft.text_body = "It is on its way."
        draft.html_body = f'<p>It is <b>on its way</b>.</p><img src="cid:{announced.attachment_id}">'
        draft.history_included = True
        sent = await agent.converses(lambda api: api.post_conversations_email_messages(form, body=draft))
        [_, to_customer] = await arrived(smtp, office, 2)
        again = {"to": [{"email": customer.address}], "from": {"email": MAILBOX}, "textBody": "It was delivered."}
        await agent.converses(lambda api: api.post_conversations_email_messages(form, body=again))
        [_, _, second] = await arrived(smtp, office, 3)

        listed = await agent.converses(lambda api: api.get_conversations_email_messages(form))
        read = await agent.converses(
            lambda api: [api.get_conversations_email_message(form, one.id) for one in listed.entities]
        )

    assert (customer.address, customer.attributes) == ("jane@customer.test", {"order": "17"})
    assert smtp.inbox[1].rcpt_to == ("jane@customer.test",)
    assert (to_customer["From"].addresses[0].addr_spec, to_customer["Subject"]) == (MAILBOX, "Re: A question")
    ids = [mail["Message-ID"] for mail in (to_us, to_customer, second)]
    assert to_customer["In-Reply-To"] == ids[0]
    assert (second["In-Reply-To"], second["References"].split()) == (ids[1], ids[:2])
    body = to_customer.get_body(("plain",))
    assert body is not None
    assert body.get_content().startswith("It is on its way.")
    assert "> Where is my parcel?" in body.get_content()
    [image] = [part for part in to_customer.walk() if part.get_content_type() == "image/png"]
    assert (image["Content-ID"], image.get_content()) == (f"<{announced.attachment_id}>", PNG)
    assert [one.attachments[0].name for one in read if one.attachments] == ["map.png"]
    assert [one.text_body.splitlines()[0] for one in read] == [
        "Where is my parcel?", "It is on its way.", "It was delivered."
    ]  # fmt: skip
    assert sent.text_body.startswith("It is on its way.")


async def test_a_program_opens_and_notifies(office: Office, sdk: Any) -> None:
    """The vendor's client opens a conversation, answers in it, sends agentless into it, and sees what became of that."""
    async with scripted_smtp() as smtp, office.everything(smtp.port):
        smtp.script("RCPT", "550 5.1.1 no such user", address="nobody@customer.test")
        agent = await agent_of(office, sdk)
        request = sdk.CreateEmailRequest()
        request.provider, request.direction = "Elsewhere", "INBOUND"
        request.from_address, request.from_name, request.to_address = "joe@customer.test", "Joe", MAILBOX
        request.subject, request.text_body = "Broken", "It is broken"
        opened = await agent.converses(lambda api: api.post_conversations_emails(body=request))
        reply = sdk.EmailMessage()
        reply.to, reply.text_body = [{"email": "joe@customer.test", "name": "Joe"}], "We are sorry."
        await agent.converses(lambda api: api.post_conversations_email_messages(opened.id, body=reply))
        notice = sdk.AgentlessEmailSendRequestDto()
        notice.sender_type, notice.conversation_id = "Outbound", opened.id
        notice.from_address, notice.to_addresses = {"email": "news@company.test"}, [{"email": "nobody@customer.test"}]
        notice.subject, notice.text_body = "A new one", "is on its way"
        told = await agent.converses(lambda api: api.post_conversations_emails_agentless(body=notice))
        caller = await caller_of(office)
        outcome = await ended(caller, told.id)
        [apology] = await arrived(smtp, office, 1)
        conversation = await agent.converses(lambda api: api.get_conversations_email(opened.id))
        whole = await agent.converses(
            lambda api: api.get_conversations_email_messages(opened.id, include_agentless_stitched_messages=True)
        )
        await agent.converses(lambda api: api.patch_conversations_email(opened.id, body={"state": "disconnected"}))
        with pytest.raises(sdk.rest.ApiException) as refused:
            await agent.converses(lambda api: api.post_conversations_email_messages(opened.id, body={"textBody": "x"}))

    assert (apology["To"].addresses[0].display_name, apology["Subject"]) == ("Joe", "Re: Broken")
    assert [one.text_body_preview for one in whole.entities] == ["It is broken", "We are sorry.", "is on its way"]
    assert (told.conversation_id, outcome["status"]) == (opened.id, "failed")
    failed = next(one for one in conversation.participants if one.purpose == "outbound")
    assert failed.error_info.code == "email.error.rejected.recipient"
    assert refused.value.status == 403


async def ended(caller: Caller, send_id: str) -> dict[str, Any]:
    """The outcome of an agentless send, once it has one."""
    async with asyncio.timeout(20):
        while True:
            told = await caller.call("GET", f"/conversations/emails/agentless/{send_id}")
            if told.body["status"] not in ("queued", "sending"):
                assert isinstance(told.body, dict)
                return told.body
            await asyncio.sleep(0.1)


async def test_what_is_repeated_is_sent_once(office: Office, sdk: Any) -> None:
    """A connection that drops after each POST: the eleven copies that the vendor's client sends make one mail."""
    async with scripted_smtp() as smtp, office.everything(smtp.port), office.gateway():
        agent = await agent_of(office, sdk)
        form = str(await office.accepted())
        logged_in = await asyncio.to_thread(agent.logged_in)
        async with FaultProxy(int(office.addresses[0].rpartition(":")[2])) as proxy:
            traps = [proxy.lose_answer(b"HTTP/1.1 ") for _ in range(11)]
            sdk.configuration.host = logged_in.host = f"http://127.0.0.1:{proxy.port}"
            reply = {"to": [{"email": "jane@customer.test"}], "textBody": "Once."}
            with pytest.raises(Exception, match="Max retries exceeded"):
                await asyncio.to_thread(
                    lambda: sdk.ConversationsApi(logged_in).post_conversations_email_messages(form, body=reply)
                )
            assert all(trap.sprung.is_set() for trap in traps)
        await arrived(smtp, office, 2)
        caller = await caller_of(office)
        told = await caller.call("GET", f"/conversations/emails/{form}/messages")
        await asyncio.sleep(1)

    assert [one["textBodyPreview"] for one in told.body["entities"]][1:] == ["Once."]
    assert sorted(one.rcpt_to[0] for one in smtp.inbox) == ["jane@customer.test", MAILBOX]


async def test_copies_of_a_request_over_two_gateways_are_one_letter(office: Office) -> None:
    """Copies that come while the first one takes the draft's file are answered as it is, whichever gateway they reach."""
    await office.add_integration(1)
    await office.reconfigure(reported_state=ReportedState.ACTIVE, heard=False)
    async with office.gateway(), office.gateway():
        caller = await caller_of(office)
        headers = {"Authorization": f"Bearer {await caller.token()}"}
        for _ in range(20):
            place = f"/conversations/emails/{await office.accepted()}/messages"
            announced = await caller.call("POST", f"{place}/draft/attachments/uploads", {"name": "a.txt"})
            async with office.session.put(announced.body["url"], data=b"words") as answer:
                assert answer.status == 200
            reply = {"to": [{"email": "jane@customer.test"}], "textBody": "Once.",
                     "attachments": [{"attachmentId": announced.body["attachmentId"]}]}  # fmt: skip

            async def copy(number: int, place: str = place, reply: Any = reply) -> Told:
                await asyncio.sleep(number * 0.004)
                path = f"/api/v2{place}"
                return await caller.raw("POST", path, json=reply, headers=headers, gateway=number % 2)

            told = await asyncio.gather(*map(copy, range(8)))
            assert {(one.status, one.body.get("id")) for one in told} == {(200, told[0].body["id"])}


async def test_a_letter_whose_commit_is_in_doubt_keeps_its_files(office: Office, postgres: Postgres) -> None:
    """The database commits a letter and is away before it says so: nobody is told that nothing was done, nothing is lost."""
    await office.add_integration(1)
    await office.reconfigure(reported_state=ReportedState.ACTIVE, heard=False)
    async with proxied(office, postgres) as (far, proxy), far.gateway():
        caller = await caller_of(far)
        place = f"/conversations/emails/{await far.accepted()}/messages"
        announced = await caller.call("POST", f"{place}/draft/attachments/uploads", {"name": "a.txt"})
        async with far.session.put(announced.body["url"], data=b"words") as answer:
            assert answer.status == 200
        reply = {"to": [{"email": "jane@customer.test"}], "textBody": "One."}
        first = await caller.call("POST", place, reply)
        reply |= {"textBody": "Two.", "attachments": [{"attachmentId": first.body["attachments"][0]["attachmentId"]}]}
        trap = proxy.lose_answer(b"COMMIT\x00", then=Mode.REFUSE)
        asked = asyncio.create_task(caller.call("POST", place, reply))
        await trap.wait()
        proxy.cut()
        told = await asked
        await proxy.set_mode(Mode.OK)
        async with asyncio.timeout(20):
            while (again := await caller.call("POST", place, reply)).status == 503:
                await asyncio.sleep(0.3)
        [file] = again.body["attachments"]
        async with far.session.get(file["contentUri"]) as answer:
            kept = await answer.read()

    assert (told.status, told.body["code"]) == (504, "outcome.unknown")
    assert (again.status, kept) == (200, b"words")
    assert [one.kind for one in await office.store.read(every_standing)].count(Kind.ACD) == 2


async def redriven(office: Office, copy: Standing) -> None:
    """Send a dead letter again, as the operator's command does: queued, with a ticket."""
    now = datetime.now(UTC)
    assert copy.integration_id is not None
    await office.store.transaction(messages.redrive_all, [copy.id], at=now)
    await office.ticketed(Address(KINDS[copy.kind].lane, copy.integration_id), [copy.id])


# --- the gate, over HTTP ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Account:
    """An integration in a state, with a counting SMTP server of its own and a domain that leaves through it."""

    states: tuple[IntendedState, ReportedState]
    domain: str
    smtp: ScriptedSmtp


STATES = tuple(itertools.product(IntendedState, ReportedState))
SENDING = (IntendedState.ENABLED, ReportedState.ACTIVE)
IN_ERROR = (IntendedState.ENABLED, ReportedState.ERROR)

#: Whether an agent's letter passes ERROR under this enforcement; nothing else ever passes but ENABLED and ACTIVE.
ENFORCEMENTS = {
    "off": (Enforcement(acd_from=None), True),
    "on": (Enforcement(acd_from=datetime(2000, 1, 1, tzinfo=UTC)), False),
    "since yesterday": (Enforcement(acd_from=datetime.now(UTC) - timedelta(days=1)), False),
    "from tomorrow": (Enforcement(acd_from=datetime.now(UTC) + timedelta(days=1)), True),
}


@contextlib.asynccontextmanager
async def accounts(office: Office) -> AsyncIterator[list[Account]]:
    """One for every pair of states."""
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for intended, reported in STATES:
            smtp = await stack.enter_async_context(scripted_smtp())
            domain = f"{intended}-{reported}.test".lower()
            await office.add_integration(smtp.port, name=domain)
            cause = Cause.AUTHENTICATION_REFUSED if reported is ReportedState.ERROR else None
            await office.store.transaction(_put_into, domain, intended, reported, cause)
            made.append(Account((intended, reported), domain, smtp))
        yield made


def _put_into(tx: Connection, name: str, intended: IntendedState, reported: ReportedState, cause: Cause | None) -> None:
    """The state and both domains, behind everybody's back; no test awaits a worker."""
    one = tx.execute(sa.select(schema.integrations.c.id).where(schema.integrations.c.name == name)).scalar_one()
    tx.execute(sa.delete(schema.connection_tests).where(schema.connection_tests.c.integration_id == one))
    values = {"intended_state": intended, "reported_state": reported, "cause": cause}
    tx.execute(sa.update(schema.integrations).where(schema.integrations.c.id == one).values(values))
    for direction in ("inbound", "outbound"):
        row = {"direction": direction, "name": name, "integration_id": one, "created_at": datetime.now(UTC)}
        tx.execute(sa.insert(schema.domains).values(row))


@pytest.mark.parametrize("when", ENFORCEMENTS)
async def test_letters_pass_the_gate_only_as_promised(office: Office, when: str) -> None:
    """For agents and agentless, in every state, whatever the enforcement: refused letters reach no SMTP server."""
    enforcement, overlooks = ENFORCEMENTS[when]
    async with (
        accounts(office) as made,
        office.gateway(enforcement=enforcement) as gateway,
        office.worker(enforcement=enforcement),
    ):
        caller = await caller_of(office)
        opened = await caller.call("POST", "/conversations/emails", {"provider": "x"})
        place = f"/conversations/emails/{opened.body['id']}/messages"
        told = {}
        for account in made:
            letter = {"from": {"email": f"us@{account.domain}"}, "to": [{"email": "jane@customer.test"}],
                      "textBody": f"through {account.domain}"}  # fmt: skip
            notice = {"senderType": "Outbound", "fromAddress": letter["from"], "toAddresses": letter["to"],
                      "textBody": "a notice"}  # fmt: skip
            told[account.states, Kind.ACD] = await caller.call("POST", place, letter)
            told[account.states, Kind.AGENTLESS] = await caller.call("POST", "/conversations/emails/agentless", notice)
        expected = {
            (states, kind) for states, kind in told
            if states == SENDING or (overlooks and (states, kind) == (IN_ERROR, Kind.ACD))
        }  # fmt: skip
        async with asyncio.timeout(30):
            while sum(len(account.smtp.inbox) for account in made) < len(expected):
                await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        overlooked = gateway.figures()["mailroom_gate_overlooked_total"]

    assert {case for case, answer in told.items() if answer.status == 200} == expected
    refused = [answer for answer in told.values() if answer.status != 200]
    assert {answer.status for answer in refused} == {400}
    assert {answer.body["code"].rpartition(".integration.")[0] for answer in refused} == {"email.error"}
    assert all(answer.body["messageParams"]["state"] and answer.body["entityId"] for answer in refused)
    arrived_at = {account.states: len(account.smtp.inbox) for account in made if account.smtp.connections}
    assert arrived_at == {SENDING: 2} | ({IN_ERROR: 1} if overlooks else {})
    assert overlooked == (1 if overlooks else 0)


async def test_a_letter_caught_by_a_flip_fails_visibly(office: Office, sdk: Any) -> None:
    """Accepted, then the integration turns to ERROR: the conversation says so, and a re-drive after the reset delivers it."""
    enforced = Enforcement(acd_from=datetime(2000, 1, 1, tzinfo=UTC))
    async with scripted_smtp() as smtp:
        await office.add_integration(smtp.port)
        async with office.gateway(enforcement=enforced):
            async with office.worker(enforcement=enforced):
                await office.active()
            agent = await agent_of(office, sdk)
            form = str(await office.accepted())
            reply = {"to": [{"email": "jane@customer.test"}], "textBody": "It is on its way."}
            await agent.converses(lambda api: api.post_conversations_email_messages(form, body=reply))
            await office.reconfigure(reported_state=ReportedState.ERROR, cause=Cause.TIMED_OUT)
            [copy] = [one for one in await office.store.read(every_standing) if one.kind is Kind.ACD]
            async with office.worker(enforcement=enforced):
                await office.becomes(copy.id, Status.FAILED)
                caught = await agent.converses(lambda api: api.get_conversations_email(form))
                await office.reset()
                await office.active()
                await redriven(office, copy)
                await office.becomes(copy.id, Status.SENT)
            mended = await agent.converses(lambda api: api.get_conversations_email(form))

    def error_of(conversation: Any) -> Any:
        return next(one.error_info for one in conversation.participants if one.purpose == "agent")

    assert error_of(caught).code == "email.error.integration.error"
    assert "administrator" in error_of(caught).message
    assert error_of(mended) is None
    assert "jane@customer.test" in [one.rcpt_to[0] for one in smtp.inbox]
