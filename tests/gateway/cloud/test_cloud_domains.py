"""Domains over the platform API: which integration their mail leaves through, and the test of that."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from mailroom.integration import Cause
from mailroom.serving import serving
from mailroom.store import connection_tests, domains
from mailroom.store.connection_tests import ConnectionTest, Posted
from mailroom.store.domains import Direction
from tests.gateway.cloud.caller import Caller, app_of, caller_of, platform_of
from tests.journeys.office import Office

INBOUND, OUTBOUND = "/routing/email/domains", "/routing/email/outbound/domains"

LETTER = {
    "from": {"email": "support@company.test", "name": "Support"},
    "to": [{"email": "jane@customer.test"}],
    "subject": "A try",
    "textBody": "Does it arrive?",
}

NOBODY = "e0d1a2c4-0000-4000-8000-000000000000"


def new(path: str, name: str = "company.test", **members: Any) -> dict[str, Any]:
    """What creates a domain at this path."""
    return {"id": name, "name": name, **members} if path == OUTBOUND else {"id": name, "subDomain": False, **members}


both = pytest.mark.parametrize("path", [INBOUND, OUTBOUND])


@both
async def test_a_domain_lives(caller: Caller, path: str) -> None:
    """It is added, read, pointed to an integration, listed and forgotten; its id is its name in lower case."""
    one = await caller.integration()
    added = await caller.call("POST", path, new(path, "Company.TEST"))
    pointed = await caller.call("PATCH", f"{path}/COMPANY.test", {"customSMTPServer": {"id": one}})
    read = await caller.call("GET", f"{path}/company.test")
    listed = await caller.call("GET", path)
    through = await caller.office.store.read(
        domains.integration_for, Direction.INBOUND if path == INBOUND else Direction.OUTBOUND, "a@company.test"
    )
    deleted = await caller.call("DELETE", f"{path}/company.test")
    gone = await caller.call("GET", f"{path}/company.test")

    assert [added.status, pointed.status, deleted.status, gone.status] == [200, 200, 204, 404]
    assert (read.body["id"], read.body["selfUri"]) == ("company.test", f"/api/v2{path}/company.test")
    assert read.body["customSMTPServer"]["id"] == one
    assert (listed.body["entities"], listed.body["total"]) == ([read.body], 1)
    assert through == UUID(one)


async def test_both_kinds_keep_apart(caller: Caller) -> None:
    """A domain that customers write to is none of campaigns until it is added there too."""
    await caller.call("POST", INBOUND, new(INBOUND))

    assert (await caller.call("GET", f"{OUTBOUND}/company.test")).status == 404
    assert (await caller.call("POST", OUTBOUND, new(OUTBOUND))).status == 200


async def test_what_is_new_can_be_pointed_at_once(caller: Caller) -> None:
    """The integration may be named when a domain is added."""
    one = await caller.integration()
    inbound = await caller.call("POST", INBOUND, new(INBOUND, customSMTPServer={"id": one}))
    outbound = await caller.call("POST", OUTBOUND, new(OUTBOUND, senderType="emailsmtpdomain"))

    assert inbound.body["customSMTPServer"]["id"] == one
    assert inbound.body["mxRecordStatus"] == "NOT_AVAILABLE"
    assert outbound.body == {
        "domainName": "company.test", "senderStatus": "Provisioned", "senderType": "EmailSmtpDomain",
    }  # fmt: skip


async def test_an_outbound_domain_says_what_it_is(caller: Caller) -> None:
    """Pointed to an integration it is EmailSmtpDomain, unless the client says otherwise."""
    one = await caller.integration()
    added = await caller.call("POST", OUTBOUND, new(OUTBOUND))
    pointed = await caller.call("PATCH", f"{OUTBOUND}/company.test", {"customSMTPServer": {"id": one}})
    told = await caller.call("PATCH", f"{OUTBOUND}/company.test", {"senderType": "MockEmailDomain"})

    assert [added.body["senderType"], pointed.body["senderType"], told.body["senderType"]] == [
        "Unknown", "EmailSmtpDomain", "MockEmailDomain",
    ]  # fmt: skip
    assert told.body["customSMTPServer"]["id"] == one


@both
@pytest.mark.parametrize("nothing", [{"id": ""}, {}, None])
async def test_an_empty_id_points_nowhere(caller: Caller, path: str, nothing: Any) -> None:
    """Clients send an empty id, or null, for no integration; a body that does not mention it changes nothing."""
    one = await caller.integration()
    await caller.call("POST", path, new(path, customSMTPServer={"id": one}))
    untouched = await caller.call("PATCH", f"{path}/company.test", {})
    emptied = await caller.call("PATCH", f"{path}/company.test", {"customSMTPServer": nothing})

    assert untouched.body["customSMTPServer"]["id"] == one
    assert "customSMTPServer" not in emptied.body


@both
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": "", "name": ""}, "id"),
        ({"id": "no domain"}, "id"),
        ({"id": "a@b.test"}, "id"),
        ({"id": "x" * 64 + ".test"}, "id"),
        ({"customSMTPServer": {"id": NOBODY}}, "customSMTPServer.id"),
        ({"customSMTPServer": {"id": "main"}}, "customSMTPServer.id"),
        ({"customSMTPServer": "main"}, "customSMTPServer"),
    ],
)
async def test_what_cannot_be_added_is_told(caller: Caller, path: str, changes: dict[str, Any], field: str) -> None:
    """A name that is no domain, or an integration that does not exist, is named, and nothing is added."""
    told = await caller.call("POST", path, new(path) | changes)

    assert (told.status, told.body["code"]) == (400, "invalid.value")
    assert [detail["fieldName"] for detail in told.body["details"]] == [field]
    assert (await caller.call("GET", path)).body["total"] == 0


@both
async def test_a_domain_is_there_once(caller: Caller, path: str) -> None:
    """A second one of the same name, however written, is a conflict."""
    await caller.call("POST", path, new(path, "bücher.test"))
    told = await caller.call("POST", path, new(path, "XN--BCHER-KVA.test"))

    assert (told.status, told.body["code"]) == (409, "duplicate.domain")


@both
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE", "POST"])
async def test_unknown_domains_are_not_found(caller: Caller, path: str, method: str) -> None:
    """Every call about a domain that is not there is 404."""
    rest = "/testconnection" if method == "POST" else ""
    told = await caller.call(method, f"{path}/nowhere.test{rest}", {} if method == "PATCH" else None)

    assert (told.status, told.body["code"], told.body["entityId"]) == (404, "not.found", "nowhere.test")


@both
async def test_lists_of_domains_come_in_pages(caller: Caller, path: str) -> None:
    """Domains are ordered by name."""
    for name in ("c.test", "a.test", "b.test"):
        await caller.call("POST", path, new(path, name))
    told = await caller.call("GET", f"{path}?pageSize=2&pageNumber=2")

    assert [entity["id"] for entity in told.body["entities"]] == ["c.test"]
    assert told.body["previousUri"] == f"/api/v2{path}?pageSize=2&pageNumber=1"


# --- the connection test ----------------------------------------------------------------------------------------------


@pytest.fixture
async def hasty(office: Office) -> AsyncIterator[Caller]:
    """The platform API of an office, with a patience of half a second; no worker runs."""
    app = app_of(platform_of(office.store, office.settings, patience=0.5))
    async with serving(app, "127.0.0.1:0") as address:
        office.addresses.append(address)
        yield await caller_of(office)


async def pointed(caller: Caller, path: str = INBOUND) -> UUID:
    """A domain with an integration; that one's id."""
    one = await caller.integration()
    await caller.call("POST", path, new(path, customSMTPServer={"id": one}))
    return UUID(one)


async def taken(caller: Caller, integration_id: UUID) -> ConnectionTest:
    """The next test of an integration, as a worker takes it."""
    async with asyncio.timeout(10):
        while True:
            test = await caller.office.store.transaction(
                connection_tests.take_test, integration_id, uuid4(), now=datetime.now(UTC)
            )
            if test is not None:
                return test
            await asyncio.sleep(0.02)


async def answered(caller: Caller, integration_id: UUID, cause: Cause | None, posted: Posted | None) -> ConnectionTest:
    """Take the next test and end it, as a worker does."""
    test = await taken(caller, integration_id)
    await caller.office.store.transaction(
        connection_tests.conclude_test, test, cause=cause, transcript="220 secret-banner", ehlo_size=None, who="w",
        now=datetime.now(UTC), posted=posted,
    )  # fmt: skip
    return test


async def asked(
    caller: Caller, cause: Cause | None, posted: Posted | None, body: Any = LETTER, path: str = INBOUND
) -> tuple[Any, ConnectionTest]:
    """What the caller is told of a test that ends like this, and what the worker was asked."""
    integration_id = await pointed(caller, path)
    told, test = await asyncio.gather(
        caller.call("POST", f"{path}/company.test/testconnection", body),
        answered(caller, integration_id, cause, posted),
    )
    return told, test


@both
async def test_a_letter_is_known_by_its_message_id(caller: Caller, path: str) -> None:
    """The worker is asked for the letter as the client wrote it; the answer's id is what it went out with."""
    told, test = await asked(caller, None, Posted("<1@company.test>"), path=path)

    assert test.letter is not None
    assert (test.letter.sender, test.letter.sender_name, test.letter.recipient, test.letter.subject, test.letter.text) == (
        "support@company.test", "Support", "jane@customer.test", "A try", "Does it arrive?",
    )  # fmt: skip
    assert not test.decides
    assert told.body == LETTER | {"id": "<1@company.test>", "time": told.body["time"]}


async def test_without_a_letter_only_the_log_in_is_tried(caller: Caller) -> None:
    """No body is a test without a letter, whose answer has no id."""
    told, test = await asked(caller, None, None, body=None)

    assert test.letter is None
    assert (told.status, told.body.keys()) == (200, {"time"})


@pytest.mark.parametrize(
    ("cause", "posted", "code"),
    [
        (Cause.HOST_INVALID, None, "custom.smtp.server.host.invalid"),
        (Cause.TIMED_OUT, None, "custom.smtp.server.timed.out"),
        (Cause.AUTHENTICATION_REFUSED, None, "custom.smtp.server.authentication.refused"),
        (Cause.CANNOT_CONNECT, None, "custom.smtp.server.cannot.connect"),
        (None, Posted(None), "connection.test.failed"),
        (None, None, "integration.not.active"),
    ],
)
async def test_a_test_that_fails_says_how(
    caller: Caller, cause: Cause | None, posted: Posted | None, code: str
) -> None:  # fmt: skip
    """The four causes, a letter that was not taken and one that was not tried are told apart; never the server's words."""
    told, test = await asked(caller, cause, posted)

    assert (told.status, told.body["code"], told.body["entityId"]) == (400, code, str(test.integration_id))
    assert "secret-banner" not in told.text


async def test_without_a_worker_that_is_what_is_told(hasty: Caller) -> None:
    """When nobody takes the test, the answer is 503 and says that no worker is running."""
    await pointed(hasty)
    told = await hasty.call("POST", f"{INBOUND}/company.test/testconnection", LETTER)

    assert (told.status, told.body["code"]) == (503, "service.unavailable")
    assert "no worker is running" in told.body["message"].lower()
    assert "Retry-After" not in told.headers


async def test_a_silent_server_is_told_apart(hasty: Caller) -> None:
    """When a worker took the test and the server keeps it waiting, the answer is 504."""
    integration_id = await pointed(hasty)
    told, _ = await asyncio.gather(
        hasty.call("POST", f"{INBOUND}/company.test/testconnection"), taken(hasty, integration_id)
    )

    assert (told.status, told.body["code"]) == (504, "request.timeout")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"from": None}, "from"),
        ({"from": {}}, "from.email"),
        ({"from": {"email": "nobody"}}, "from.email"),
        ({"from": {"email": "ceo@other.test"}}, "from.email"),
        ({"from": {"email": "ceo@sub.company.test"}}, "from.email"),
        ({"to": None}, "to"),
        ({"to": []}, "to"),
        ({"to": [{"email": "a@b.test"}, {"email": "c@d.test"}]}, "to"),
        ({"to": [{"email": "a@b.test, c@d.test"}]}, "to[0].email"),
        ({"to": [{}]}, "to[0].email"),
        ({"to": "a@b.test"}, "to"),
        ({"subject": "x" * 401}, "subject"),
    ],
)
async def test_a_letter_that_cannot_be_is_not_tried(hasty: Caller, changes: dict[str, Any], field: str) -> None:
    """It is from the domain and to one address; anything else is refused before a worker hears of it."""
    await pointed(hasty)
    told = await hasty.call("POST", f"{INBOUND}/company.test/testconnection", LETTER | changes)

    assert (told.status, told.body["code"]) == (400, "invalid.value")
    assert field in [detail["fieldName"] for detail in told.body["details"]]


async def test_a_domain_that_points_nowhere_cannot_be_tested(hasty: Caller) -> None:
    """Without an integration, or with one that has no host yet, the reason is told at once."""
    await hasty.call("POST", INBOUND, new(INBOUND))
    nowhere = await hasty.call("POST", f"{INBOUND}/company.test/testconnection")
    made = await hasty.call("POST", "/integrations", {"integrationType": {"id": "custom-smtp-server"}})
    await hasty.call("PATCH", f"{INBOUND}/company.test", {"customSMTPServer": {"id": made.body["id"]}})
    hostless = await hasty.call("POST", f"{INBOUND}/company.test/testconnection")

    assert (nowhere.status, nowhere.body["code"]) == (400, "domain.without.integration")
    assert (hostless.status, hostless.body["code"]) == (400, "integration.not.configured")
