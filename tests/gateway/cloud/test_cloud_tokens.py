"""POST /oauth/token, and what a token is good for."""

import asyncio
import base64
import json
from collections.abc import MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from mailroom.roles import Role
from mailroom.store import clients, schema
from tests.gateway.cloud.caller import Caller
from tests.journeys.office import Office

GRANT = {"grant_type": "client_credentials"}


async def test_the_secret_may_be_in_the_header_or_in_the_form(caller: Caller) -> None:
    """A client gets a bearer token for 24 hours, which nothing on the way may keep."""
    client = caller.clients[Role.ADMIN]
    in_header = await caller.log_in(str(client.id), client.secret)
    in_form = await caller.raw(
        "POST", "/oauth/token", data={**GRANT, "client_id": str(client.id), "client_secret": client.secret}
    )

    for told in (in_header, in_form):
        assert told.status == 200
        assert (told.body["token_type"], told.body["expires_in"]) == ("bearer", 86400)
        assert told.headers["Cache-Control"] == "no-store"
    assert in_header.body["access_token"] != in_form.body["access_token"]


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        (GRANT, 401, "invalid_client"),
        ({**GRANT, "client_id": "nobody", "client_secret": "x"}, 401, "invalid_client"),
        ({**GRANT, "client_id": "e0d1a2c4-0000-4000-8000-000000000000", "client_secret": "x"}, 401, "invalid_client"),
        ({**GRANT, "client_id": "nobody"}, 401, "invalid_client"),
    ],
)
async def test_what_cannot_be_is_told_as_the_protocol_has_it(
    caller: Caller, form: dict[str, str], status: int, error: str
) -> None:
    """Errors are those of RFC 6749 section 5.2, each with a sentence."""
    told = await caller.raw("POST", "/oauth/token", data=form or {"scope": "x"})

    assert (told.status, told.body["error"]) == (status, error)
    assert told.body["error_description"]


@pytest.mark.parametrize(
    "sent",
    [
        {"data": "grant_type=client_credentials&grant_type=x"},
        {"data": b"grant_type=\xff"},
        {"data": "&".join(f"a{number}=1" for number in range(100))},
    ],
)
async def test_a_form_that_cannot_be_read_is_refused(caller: Caller, sent: dict[str, Any]) -> None:
    """Repeated, unreadable and countless parameters are invalid requests."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    told = await caller.raw("POST", "/oauth/token", headers=headers, **sent)

    assert (told.status, told.body["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
async def test_only_a_form_is_taken(caller: Caller, content_type: str) -> None:
    """A token is asked for with a form, whatever else says the same."""
    told = await caller.raw(
        "POST", "/oauth/token", data=json.dumps(GRANT), headers={"Content-Type": content_type}
    )  # fmt: skip

    assert (told.status, told.body["error"]) == (400, "invalid_request")


async def test_two_ways_of_saying_who_one_is_are_one_too_many(caller: Caller) -> None:
    """A secret in the header and another in the form contradict each other."""
    client = caller.clients[Role.ADMIN]
    basic = aiohttp.encode_basic_auth(str(client.id), client.secret)
    told = await caller.raw(
        "POST", "/oauth/token", data={**GRANT, "client_secret": "x"}, headers={"Authorization": basic}
    )

    assert (told.status, told.body["error"]) == (400, "invalid_request")


async def test_the_secret_of_another_opens_nothing(caller: Caller) -> None:
    """A client gets in with its own secret only."""
    told = await caller.log_in(str(caller.clients[Role.ADMIN].id), caller.clients[Role.VIEWER].secret)

    assert (told.status, told.body["error"]) == (401, "invalid_client")
    assert told.headers["WWW-Authenticate"].startswith("Basic")


async def test_sec_12_who_fails_too_often_waits(caller: Caller) -> None:
    """After ten failures from one address its requests are answered 429 with the documented body, the right ones too."""
    client = caller.clients[Role.ADMIN]
    failed = [(await caller.log_in(str(client.id), "wrong")).status for _ in range(10)]
    told = await caller.log_in(str(client.id), client.secret)

    assert failed == [401] * 10
    assert told.status == 429
    assert int(told.headers["Retry-After"]) > 0
    assert (told.body["code"], told.body["status"]) == ("too.many.requests.retry.after", 429)
    assert told.body["contextId"] == told.headers["ININ-Correlation-Id"]


async def test_who_never_fails_is_never_kept_waiting(caller: Caller) -> None:
    """Log-ins that succeed are not counted."""
    client = caller.clients[Role.ADMIN]

    assert {(await caller.log_in(str(client.id), client.secret)).status for _ in range(12)} == {200}


async def test_sec_12_an_expired_token_is_refused(caller: Caller) -> None:
    """A token is worth nothing after its 24 hours, however recently it was used."""
    token = await caller.token()
    assert (await caller.call("GET", "/integrations")).status == 200
    soon = datetime.now(UTC) + timedelta(seconds=1)
    await caller.office.store.transaction(lambda tx: tx.execute(sa.update(schema.tokens).values(expires_at=soon)))
    async with asyncio.timeout(10):
        while (told := await caller.call("GET", "/integrations")).status == 200:
            await asyncio.sleep(0.1)

    assert (told.status, told.body["code"]) == (401, "bad.credentials")
    assert token == await caller.token()


async def test_sec_12_the_token_of_a_disabled_client_is_refused_within_five_seconds(caller: Caller) -> None:
    """A client that is disabled while it calls is shut out everywhere in 5 s, and gets no other token."""
    client = caller.clients[Role.ADMIN]
    assert (await caller.call("GET", "/integrations")).status == 200
    await caller.office.store.transaction(clients.end, "admin", who="test", now=datetime.now(UTC))
    async with asyncio.timeout(5):
        while (told := await caller.call("GET", "/integrations")).status == 200:
            await asyncio.sleep(0.05)
    again = await caller.log_in(str(client.id), client.secret)

    assert (told.status, told.body["code"]) == (401, "bad.credentials")
    assert (again.status, again.body["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("token", ["x", "x" * 5000, "a b", "é"])
async def test_sec_12_what_is_no_token_is_refused(caller: Caller, token: str) -> None:
    """Whatever is no token of ours is bad credentials."""
    told = await caller.raw("GET", "/api/v2/integrations", headers={"Authorization": f"Bearer {token}"})

    assert (told.status, told.body["code"]) == (401, "bad.credentials")


async def test_a_token_is_good_at_every_gateway(office: Office, caller: Caller) -> None:
    """What one gateway gave, another takes."""
    token = await caller.token()
    async with office.gateway():
        headers = {"Authorization": f"Bearer {token}"}
        told = [await caller.raw("GET", "/api/v2/integrations", gateway=number, headers=headers) for number in (0, 1)]

    assert [one.status for one in told] == [200, 200]


async def test_sec_12_tokens_and_secrets_are_nowhere(
    caller: Caller, logged: list[MutableMapping[str, Any]]
) -> None:  # fmt: skip
    """Neither the database nor a line of the log holds a token or a client's secret."""
    token, secret = await caller.token(), caller.clients[Role.ADMIN].secret
    await caller.call("GET", "/integrations")
    await caller.log_in(str(caller.clients[Role.ADMIN].id), f"{secret}x")
    tables = await caller.office.store.read(
        lambda tx: [tx.execute(sa.select(table)).all() for table in (schema.clients, schema.tokens, schema.audit)]
    )

    for kept in (repr(tables), repr(logged)):
        assert token not in kept
        assert secret not in kept
    assert "client logged in" in {event["event"] for event in logged}


@pytest.mark.parametrize("name", ["access_token", "token", "apikey", "Authorization"])
async def test_sec_12_a_token_counts_in_its_header_only(caller: Caller, name: str) -> None:
    """In a URL, a cookie, a header of another name or a body a token would end in logs and histories: there it is none."""
    token = await caller.token()
    told = [
        await caller.raw("GET", f"/api/v2/integrations?{name}={token}"),
        await caller.raw("GET", "/api/v2/integrations", headers={"Cookie": f"{name}={token}"}),
        await caller.raw("GET", "/api/v2/integrations", headers={"apikey": token}),
        await caller.raw("POST", "/api/v2/integrations", data={name: token}),
        await caller.raw("GET", "/api/v2/integrations", headers={"Authorization": token}),
    ]

    assert [answer.status for answer in told] == [401] * len(told)


async def test_sec_12_secrets_and_tokens_cannot_be_guessed(caller: Caller) -> None:
    """Each is 256 bits of the system's randomness, and no two are alike."""
    secrets = [client.secret for client in caller.clients.values()]
    tokens = [await caller.token(role) for role in caller.clients]

    assert {len(base64.urlsafe_b64decode(f"{one}=")) for one in secrets + tokens} == {32}
    assert len({*secrets, *tokens}) == len(secrets + tokens)
