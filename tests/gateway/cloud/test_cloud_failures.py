"""Whatever goes wrong below /api/v2 and /oauth is told in the platform's own shape, with an id that the logs know too."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any, Concatenate
from uuid import UUID

import pytest
from sqlalchemy import Connection

from gateway.cloud.access import Access
from mailroom.clock import steady
from mailroom.roles import Role
from mailroom.serving import serving
from mailroom.settings import LimitSettings, Settings
from mailroom.store import clients
from mailroom.store.port import BadRow, CommitUnknown, Store, StoreUnavailable
from tests.gateway.cloud.caller import Caller, app_of, caller_of, platform_of
from tests.journeys.office import Office

TYPE = {"integrationType": {"id": "custom-smtp-server"}}

CORRELATION = "ININ-Correlation-Id"


class Ailing:
    """A store that does what it is told, until it is given something to fail with."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.fails: BaseException | None = None

    async def statement(self, work: Callable[Concatenate[Connection, ...], Any], *args: Any, **kwargs: Any) -> Any:
        """Run work, or fail."""
        return await self.transaction(work, *args, **kwargs)

    async def transaction(self, work: Callable[Concatenate[Connection, ...], Any], *args: Any, **kwargs: Any) -> Any:
        """Run work, or fail."""
        if self.fails is not None:
            raise self.fails
        return await self._store.transaction(work, *args, **kwargs)

    async def read(self, work: Callable[Concatenate[Connection, ...], Any], *args: Any, **kwargs: Any) -> Any:
        """Run work, or fail."""
        if self.fails is not None:
            raise self.fails
        return await self._store.read(work, *args, **kwargs)

    async def aclose(self) -> None:
        """Nothing of its own."""


@pytest.fixture
async def ailing(office: Office) -> AsyncIterator[tuple[Caller, Ailing]]:
    """A caller with a token, and the store that can fail."""
    store = Ailing(office.store)
    async with serving(app_of(platform_of(store)), "127.0.0.1:0") as address:
        office.addresses.append(address)
        caller = await caller_of(office)
        await caller.call("GET", "/integrations")
        yield caller, store


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (StoreUnavailable("gone"), 503, "service.unavailable"),
        (CommitUnknown("who knows"), 504, "outcome.unknown"),
        (BadRow("no such text"), 400, "bad.request"),
        (ZeroDivisionError("SELECT secret"), 500, "internal.server.error"),
    ],
)
async def test_sec_15_failures_inside_are_told_without_their_words(
    ailing: tuple[Caller, Ailing],
    logged: list[MutableMapping[str, Any]],
    failure: BaseException,
    status: int,
    code: str,
) -> None:
    """Each has its status and code, and an id that the log knows; who may surely repeat it is told when."""
    caller, store = ailing
    store.fails = failure
    told = await caller.call("POST", "/integrations", TYPE)

    assert (told.status, told.body["code"], told.body["status"]) == (status, code, status)
    assert str(failure) not in told.text
    assert ("Retry-After" in told.headers) is (status == 503)
    assert told.body["contextId"] in {event.get("correlation_id") for event in logged}


async def test_a_known_token_outlives_a_short_failure(ailing: tuple[Caller, Ailing]) -> None:
    """What needs no database is answered for as long as the token is remembered; and then 503, not 401."""
    caller, store = ailing
    store.fails = StoreUnavailable("gone")
    remembered = await caller.call("GET", "/integrations/types")
    async with asyncio.timeout(10):
        while (told := await caller.call("GET", "/integrations/types")).status == 200:
            await asyncio.sleep(0.1)

    assert remembered.status == 200
    assert told.status == 503


@pytest.mark.parametrize("path", ["/api/v2/integrations", "/oauth/token"])
async def test_too_much_at_once_is_told_at_once(office: Office, path: str) -> None:
    """When the bytes in hand are used up, callers are answered 503 with Retry-After, before their body is read."""
    platform = platform_of(office.store, Settings(limits=LimitSettings(bytes_in_flight=10)))
    async with serving(app_of(platform), "127.0.0.1:0") as address:
        office.addresses.append(address)
        caller = await caller_of(office)
        admin = caller.clients[Role.ADMIN].id
        token = await office.store.transaction(clients.issue, admin, now=datetime.now(UTC))
        told = await caller.raw("POST", path, data=b"x" * 20, headers={"Authorization": f"Bearer {token}"})

    assert (told.status, told.body["code"]) == (503, "service.unavailable")
    assert 3 <= int(told.headers["Retry-After"]) <= 10


async def test_a_body_that_never_ends_is_given_up(office: Office) -> None:
    """A body that stands still is answered 408, and its connection is used no more."""
    platform = platform_of(office.store, Settings(limits=LimitSettings(idle_read_seconds=0.2)))
    async with serving(app_of(platform), "127.0.0.1:0") as address:
        office.addresses.append(address)
        token = await (await caller_of(office)).token()
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST /api/v2/integrations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{".encode()
        )
        answer = await asyncio.wait_for(reader.readuntil(b'"errors":[]}'), 10)
        writer.close()

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"Connection: close" in answer
    assert b'"request.timeout"' in answer


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v2", 404, "not.found"),
        ("GET", "/api/v2/nothing", 404, "not.found"),
        ("GET", "/api/v2/integrations/", 404, "not.found"),
        ("POST", "/oauth/nothing", 404, "not.found"),
        ("GET", "/oauth/token", 405, "method.not.allowed"),
        ("PUT", "/api/v2/integrations", 405, "method.not.allowed"),
        ("HEAD", "/api/v2/integrations", 405, None),
    ],
)
async def test_paths_and_methods_that_are_not_there(
    caller: Caller, method: str, path: str, status: int, code: str | None
) -> None:
    """Unknown paths and methods have the platform's error body; 405 says what there is."""
    told = await caller.raw(method, path)

    assert told.status == status
    assert ("Allow" in told.headers) is (status == 405)
    if code is not None:
        assert told.body | {"message": ""} == {
            "message": "", "code": code, "status": status, "contextId": told.headers[CORRELATION], "details": [],
            "errors": [],
        }  # fmt: skip


async def test_the_forms_keep_their_own_shape(caller: Caller) -> None:
    """Beside the platform's paths nothing has changed: forms answer as forms do."""
    told = await caller.raw("GET", "/api/nothing")

    assert (told.status, told.body["statusCode"]) == (404, 1)
    assert CORRELATION not in told.headers


async def test_every_answer_has_an_id_of_its_own(caller: Caller) -> None:
    """Success, refusal and token alike; never one that the caller chose."""
    told = [
        await caller.call("GET", "/integrations"), await caller.call("GET", "/nothing"),
        await caller.raw("POST", "/oauth/token", data={}), await caller.raw("POST", "/oauth/token", json={}),
        await caller.raw("GET", "/api/v2/integrations", headers={CORRELATION: "mine"}),
    ]  # fmt: skip
    ids = [answer.headers[CORRELATION] for answer in told]

    assert len({UUID(one) for one in ids}) == len(told)
    assert all(answer.headers["Cache-Control"] == "no-store" for answer in told)
    assert all(answer.headers["X-Content-Type-Options"] == "nosniff" for answer in told)


async def test_no_answer_has_a_null(caller: Caller) -> None:
    """Clients fail on a null where they expect a word: no answer has one."""
    one = await caller.integration()
    await caller.call("POST", "/routing/email/domains", {"id": "company.test"})
    await caller.call("POST", "/routing/email/outbound/domains", {"id": "company.test"})
    paths = [
        "/integrations", f"/integrations/{one}", f"/integrations/{one}/config/current", "/integrations/types",
        "/integrations/credentials", "/routing/email/domains", "/routing/email/outbound/domains", "/nothing",
        "/integrations?pageSize=x",
    ]  # fmt: skip
    told = [await caller.call("GET", path) for path in paths]

    assert not [answer.text for answer in told if re.search(r"\bnull\b", answer.text)]


async def test_only_so_many_tokens_are_remembered(office: Office) -> None:
    """Memory is bounded: the token remembered first is looked up again once there are too many others."""
    access = Access(office.store, remembers=2)
    new = await office.store.transaction(clients.create, "many", Role.VIEWER, who="test", now=datetime.now(UTC))
    tokens = [await office.store.transaction(clients.issue, new.id, now=datetime.now(UTC)) for _ in range(3)]
    callers = {(await access.caller(f"Bearer {token}")).name for token in tokens}

    assert callers == {"many"}
    assert access.remembered == 2
    assert not [token for token in tokens if token in repr(vars(access))]


@pytest.mark.parametrize("off", [timedelta(days=-1), timedelta(days=1)])
async def test_ops_6_a_link_holds_by_the_clock_that_signed_it(office: Office, off: timedelta) -> None:
    """Where the machine has another time than the database, a link is good for as long as it was made to be."""
    platform = platform_of(office.store)
    platform.watch._time.hear(datetime.now(UTC) + off, steady())
    path = f"/api/v2/downloads/emails/{UUID(int=1)}/{UUID(int=2)}"
    statuses = []
    async with serving(app_of(platform), "127.0.0.1:0") as address:
        office.addresses.append(address)
        caller = await caller_of(office)
        for left in (timedelta(minutes=1), timedelta(minutes=-1)):
            link = platform.links.sign("download", path, platform.watch.now() + left)
            statuses.append((await caller.raw("GET", f"{path}?{link}")).status)

    assert statuses == [404, 403]
