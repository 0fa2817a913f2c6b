"""/api/v2/routing/email: which integration mail from a domain leaves through, and whether that works.

`domains` are those that customers write to (agents' replies), `outbound/domains` those of campaigns and notifications.
"""

import asyncio
import time
from enum import StrEnum
from typing import Any
from uuid import UUID

from gateway.cloud.answers import date, listing, reference, uri, without_nulls
from gateway.cloud.calls import NOTHING, Answer, Call, as_uuid
from gateway.cloud.errors import Code, Entity, Problem, Refusal, invalid, not_found
from gateway.cloud.integrations import MESSAGE_CODES, not_configured
from gateway.cloud.members import Members
from mailroom.addresses import check_address
from mailroom.integration import IN_PLAIN_WORDS
from mailroom.store import connection_tests, platform
from mailroom.store import domains as queries
from mailroom.store import integrations as integration_queries
from mailroom.store.connection_tests import ConnectionTest, Letter
from mailroom.store.domains import Direction, DomainTaken, UnknownDomain
from mailroom.store.integrations import NotConfigured, UnknownIntegration

#: Seconds between two looks at a test that a worker runs.
LOOK_SECONDS = 0.2

#: Characters; the vendor's limits for notifications.
LONGEST_SUBJECT = 400
LONGEST_TEXT = 100_000
LONGEST_DISPLAY_NAME = 64

_PLACES = {
    Direction.INBOUND: ("routing", "email", "domains"),
    Direction.OUTBOUND: ("routing", "email", "outbound", "domains"),
}
_NOUNS = {Direction.INBOUND: "domain", Direction.OUTBOUND: "outbound domain"}


class SenderType(StrEnum):
    """What kind of sender an outbound domain is, in the vendor's words; kept and given back."""

    UNKNOWN = "Unknown"
    NATIVE = "EmailDomain"
    MOCK = "MockEmailDomain"
    SMTP = "EmailSmtpDomain"


# --- what they look like ----------------------------------------------------------------------------------------------


def _pointed(row: Any) -> dict[str, Any] | None:
    if row.integration_id is None:
        return None
    return reference(("integrations",), str(row.integration_id), row.integration_name)


def _inbound(row: Any) -> dict[str, Any]:
    """An InboundDomain. We receive nothing, so what its MX says is not looked at."""
    return without_nulls(
        {
            "id": row.name,
            "name": row.name,
            "mxRecordStatus": "NOT_AVAILABLE",
            "subDomain": bool(row.sub_domain),
            "customSMTPServer": _pointed(row),
            "selfUri": uri(*_PLACES[Direction.INBOUND], row.name),
        }
    )


def _outbound(row: Any) -> dict[str, Any]:
    """An OutboundDomain, and the integration it points to, which the vendor's does not tell."""
    return without_nulls(
        {
            "id": row.name,
            "name": row.name,
            "senderType": row.sender_type,
            "customSMTPServer": _pointed(row),
            "selfUri": uri(*_PLACES[Direction.OUTBOUND], row.name),
        }
    )


# --- inbound ----------------------------------------------------------------------------------------------------------


async def list_inbound(call: Call) -> Answer:
    """The domains that customers write to, by pages."""
    return await _list(call, Direction.INBOUND)


async def create_inbound(call: Call) -> Answer:
    """Add a domain."""
    body = Members(call.body)
    name, sub_domain = _new_name(body), body.flag("subDomain")
    pointed = _wanted_integration(body)
    body.checked()
    row = await _created(
        call, Direction.INBOUND, name, sub_domain=bool(sub_domain), integration_id=pointed.get("integration_id")
    )
    return Answer(_inbound(row))


async def get_inbound(call: Call) -> Answer:
    """One domain."""
    return Answer(_inbound(await _found(call, Direction.INBOUND)))


async def change_inbound(call: Call) -> Answer:
    """Let agents' replies from a domain leave through an integration; an empty id: through none."""
    body = Members(call.body)
    changes = _wanted_integration(body)
    body.checked()
    return Answer(_inbound(await _changed(call, Direction.INBOUND, changes)))


async def delete_inbound(call: Call) -> Answer:
    """Forget a domain."""
    return await _delete(call, Direction.INBOUND)


async def test_inbound(call: Call) -> Answer:
    """Have a worker log in at the domain's integration, and send a letter from the domain when one is given."""
    return await _test(call, Direction.INBOUND)


# --- outbound ---------------------------------------------------------------------------------------------------------


async def list_outbound(call: Call) -> Answer:
    """The domains of campaigns and notifications, by pages."""
    return await _list(call, Direction.OUTBOUND)


async def create_outbound(call: Call) -> Answer:
    """Add a domain; it can be used at once, because nothing about it is looked up."""
    body = Members(call.body)
    name, kind = _new_name(body), body.choice("senderType", SenderType)
    pointed = _wanted_integration(body)
    body.checked()
    row = await _created(
        call, Direction.OUTBOUND, name, sender_type=str(kind or SenderType.UNKNOWN),
        integration_id=pointed.get("integration_id"),
    )  # fmt: skip
    return Answer({"domainName": row.name, "senderStatus": "Provisioned", "senderType": row.sender_type})


async def get_outbound(call: Call) -> Answer:
    """One domain."""
    return Answer(_outbound(await _found(call, Direction.OUTBOUND)))


async def change_outbound(call: Call) -> Answer:
    """Let campaigns and notifications from a domain leave through an integration; an empty id: through none."""
    body = Members(call.body)
    changes = _wanted_integration(body)
    kind = body.choice("senderType", SenderType)
    if kind is not None:
        changes["sender_type"] = str(kind)
    elif changes.get("integration_id") is not None:
        changes["sender_type"] = str(SenderType.SMTP)
    body.checked()
    return Answer(_outbound(await _changed(call, Direction.OUTBOUND, changes)))


async def delete_outbound(call: Call) -> Answer:
    """Forget a domain."""
    return await _delete(call, Direction.OUTBOUND)


async def test_outbound(call: Call) -> Answer:
    """Have a worker log in at the domain's integration, and send a letter from the domain when one is given."""
    return await _test(call, Direction.OUTBOUND)


# --- for both ---------------------------------------------------------------------------------------------------------


async def _list(call: Call, direction: Direction) -> Answer:
    page = call.page()
    rows, total = await call.platform.store.read(queries.listed, direction, limit=page.size, offset=page.offset)
    show = _inbound if direction is Direction.INBOUND else _outbound
    return Answer(listing(map(show, rows), total, page, uri(*_PLACES[direction])))


async def _created(call: Call, direction: Direction, name: str, **values: Any) -> Any:
    try:
        return await call.platform.store.transaction(
            queries.create, direction, name, who=call.who, now=call.now, **values
        )
    except DomainTaken as error:
        raise Refusal(409, Code.DUPLICATE_DOMAIN, str(error), entity=Entity(name, _NOUNS[direction])) from None
    except UnknownIntegration as error:
        raise _no_such_integration(error) from None


async def _found(call: Call, direction: Direction) -> Any:
    wanted = call.path["domainId"]
    row = await call.platform.store.read(queries.get, direction, _as_kept(wanted) or "")
    if row is None:
        raise not_found(_NOUNS[direction], wanted)
    return row


async def _changed(call: Call, direction: Direction, changes: dict[str, Any]) -> Any:
    wanted = call.path["domainId"]
    try:
        return await call.platform.store.transaction(
            platform.change_domain, direction, _as_kept(wanted) or "", changes, who=call.who, now=call.now
        )
    except UnknownDomain:
        raise not_found(_NOUNS[direction], wanted) from None
    except UnknownIntegration as error:
        raise _no_such_integration(error) from None


async def _delete(call: Call, direction: Direction) -> Answer:
    wanted = call.path["domainId"]
    try:
        await call.platform.store.transaction(
            queries.delete, direction, _as_kept(wanted) or "", who=call.who, now=call.now
        )
    except UnknownDomain:
        raise not_found(_NOUNS[direction], wanted) from None
    return NOTHING


def _as_kept(name: str) -> str | None:
    """A domain in lower case, as A-labels; None when it is none."""
    address = check_address(f"a@{name}")
    return None if address is None else address.rpartition("@")[2]


def _new_name(body: Members) -> str:
    wanted = body.line("id") or body.line("name")
    if not wanted:
        body.wrong("id", "is missing; it is the name of the domain")
        return ""
    name = _as_kept(wanted)
    if name is None:
        body.wrong("id", f"{wanted!r} is no domain")
    return name or ""


def _wanted_integration(body: Members) -> dict[str, Any]:
    """`integration_id` when the body says something about it; clients send an empty id for none."""
    if not body.has("customSMTPServer"):
        return {}
    pointed = body.within("customSMTPServer")
    wanted = pointed.line("id")
    found = as_uuid(wanted) if wanted else None
    if wanted and found is None:
        pointed.wrong("id", f"there is no integration {wanted!r}")
    return {"integration_id": found}


def _no_such_integration(error: UnknownIntegration) -> Refusal:
    return invalid([Problem("customSMTPServer.id", str(error))])


# --- the connection test ----------------------------------------------------------------------------------------------


async def _test(call: Call, direction: Direction) -> Answer:
    row = await _found(call, direction)
    letter = None if call.body is None else _letter(Members(call.body), row.name)
    if row.integration_id is None:
        raise Refusal(
            400, Code.DOMAIN_WITHOUT_INTEGRATION,
            f"{row.name} points to no integration; set its customSMTPServer first.",
            entity=Entity(row.name, _NOUNS[direction]),
        )  # fmt: skip
    test = await _tested(call, row.integration_id, letter)
    _check_passed(test, letter, row)
    return Answer(_test_message(call, test, letter))


def _letter(body: Members, domain: str) -> Letter:
    """The letter that a TestMessage asks for; it must be from the domain. Raises Refusal."""
    body.need(["from", "to"])
    sender = body.within("from")
    recipients = body.each("to")
    if body.has("to") and len(recipients) != 1:
        body.wrong("to", "needs one recipient, and only one")
    address = sender.address("email")
    if body.has("from"):
        sender.need(["email"])
    if address is not None and address.rpartition("@")[2] != domain:
        sender.wrong("email", f"is not of the domain {domain}")
    for one in recipients[:1]:
        one.need(["email"])
    recipient = recipients[0].address("email") if recipients else None
    letter = Letter(
        sender=address or "",
        sender_name=sender.line("name", LONGEST_DISPLAY_NAME) or None,
        recipient=recipient or "",
        subject=body.line("subject", LONGEST_SUBJECT) or f"A test of the domain {domain}",
        text=body.text("textBody", LONGEST_TEXT) or "",
        html=body.text("htmlBody", LONGEST_TEXT) or None,
    )
    body.checked()
    return letter


async def _tested(call: Call, integration_id: UUID, letter: Letter | None) -> ConnectionTest:
    """The test once a worker has ended it. Raises Refusal when that takes too long."""
    store = call.platform.store
    try:
        test_id = await store.transaction(
            integration_queries.request_test_of, integration_id, who=call.who, now=call.now, letter=letter
        )
    except UnknownIntegration:
        raise not_found("integration", str(integration_id)) from None
    except NotConfigured as error:
        raise not_configured(error, integration_id) from None
    await call.platform.queue.nudge()
    deadline = time.monotonic() + call.platform.patience
    while True:
        test = await store.read(connection_tests.test, test_id)
        if test.ended_at is not None:
            return test
        if time.monotonic() >= deadline:
            break
        await asyncio.sleep(LOOK_SECONDS)
    waited = f"within {call.platform.patience:g} seconds"
    if test.taken_at is None:
        told = f"No worker is running: nobody took the test {waited}; start `mailroom worker`."
        raise Refusal(503, Code.SERVICE_UNAVAILABLE, told)
    raise Refusal(
        504, Code.REQUEST_TIMEOUT, f"A worker took the test, but the server has not answered it {waited}."
    )  # fmt: skip


def _check_passed(test: ConnectionTest, letter: Letter | None, row: Any) -> None:
    entity = Entity(str(row.integration_id), "integration")
    if test.cause is not None:
        raise Refusal(
            400, MESSAGE_CODES[test.cause], f"The test failed: {IN_PLAIN_WORDS[test.cause]}.",
            params={"cause": str(test.cause)}, entity=entity,
        )  # fmt: skip
    if not test.passed:
        # The server's words stay inside: whoever may test must not learn from them what else answers there.
        told = "The server let us in, but did not take the letter." if letter else "The test failed."
        raise Refusal(400, Code.CONNECTION_TEST_FAILED, told, entity=entity)
    if letter is not None and test.message_id is None:
        raise Refusal(
            400, Code.INTEGRATION_NOT_ACTIVE,
            "The server let us in, but the letter was not sent: the integration is not ACTIVE. Enable it first.",
            entity=entity,
        )  # fmt: skip


def _test_message(call: Call, test: ConnectionTest, letter: Letter | None) -> dict[str, Any]:
    """A TestMessage; its id is the Message-ID that the letter went out with."""
    told: dict[str, Any] = {"id": test.message_id, "time": date(test.ended_at or call.now)}
    if letter is not None:
        told |= {
            "to": [{"email": letter.recipient}],
            "from": without_nulls({"email": letter.sender, "name": letter.sender_name}),
            "subject": letter.subject,
            "textBody": letter.text,
            "htmlBody": letter.html,
        }
    return without_nulls(told)
