"""Reading forms: whatever a stranger sends as one, the answer is a page that says what is wrong with it."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest
from aiohttp import web

from gateway.admin.door import way_back
from gateway.admin.posted import posted
from mailroom.serving import serving
from tests.gateway.admin.visitor import PASSWORD, Entrance, Visitor

URLENCODED = "application/x-www-form-urlencoded"


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """A server that tells the fields of what is posted, and waits half a second for it."""

    async def tell(request: web.Request) -> web.Response:
        return web.json_response(dict(await posted(request, 0.5)))

    app = web.Application()
    app.router.add_post("/", tell)
    async with serving(app, "127.0.0.1:0", shutdown_seconds=1) as address:
        yield address


async def sent(address: str, head: str, body: bytes) -> str:
    """The answer to these bytes, as text."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n\r\n".encode() + body)
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        answer = await reader.readexactly(int(head.partition("Content-Length: ")[2].split("\r\n")[0]))
    writer.close()
    return head + answer.decode()


@pytest.mark.parametrize(
    ("body", "content_type", "told"),
    [
        (b"a=1&b=%C3%BC+x", URLENCODED, '{"b": "\\u00fc x", "a": "1"}'),
        (b"a=1&a=2", URLENCODED, '{"a": "1"}'),
        (b"a=&b", URLENCODED, '{"b": "", "a": ""}'),
        (b"", URLENCODED, "{}"),
        (b"a=1", f"{URLENCODED}; charset=utf-16", '{"a": "1"}'),
        (b"a=1", f"{URLENCODED}; charset=none-such", '{"a": "1"}'),
        (b"a=+2AA-", f"{URLENCODED}; charset=utf-7", '{"a": " 2AA-"}'),
        (b'{"a": 1}', "application/json", "{}"),
        (b"a=\xff", URLENCODED, " 400 "),
        (b"a=%ff", URLENCODED, " 400 "),
        (b"a=%ED%A0%80", URLENCODED, " 400 "),
        (b"&".join([b"a"] * 101), URLENCODED, " 400 "),
        (b"a" * (1024**2 + 1), URLENCODED, " 413 "),
    ],
    ids=["fields", "twice", "empty", "nothing", "utf-16", "none-such", "utf-7", "json", "raw", "byte", "surrogate", "many",
         "large"],
)  # fmt: skip
async def test_a_form_is_urlencoded_utf_8(address: str, body: bytes, content_type: str, told: str) -> None:
    """The first of each name counts; what is no UTF-8, has too many fields or is too large is the sender's mistake."""
    answer = await sent(address, f"Content-Type: {content_type}\r\nContent-Length: {len(body)}", body)

    assert told in answer


async def test_a_form_that_never_arrives_is_not_waited_for(address: str) -> None:
    """Who announces more than they send does not keep the connection."""
    assert " 408 " in await sent(address, f"Content-Type: {URLENCODED}\r\nContent-Length: 100", b"a=1")


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"name=\xff&password=x", URLENCODED, 400),
        (b"name=%FF&password=x", URLENCODED, 400),
        (b"name=jane&password=x", f"{URLENCODED}; charset=none-such", 403),
        (b"name=+2AA-&password=x", f"{URLENCODED}; charset=utf-7", 403),
        (b"name=%00&password=%00", URLENCODED, 403),
        (b"name=" + b"j" * 100_000, URLENCODED, 403),
        (b"&".join([b"a"] * 500), URLENCODED, 400),
    ],
    ids=["raw", "byte", "charset", "utf-7", "nul", "long", "many"],
)
async def test_no_sign_in_is_a_fault_of_ours(
    entrance: Entrance, logged: list[MutableMapping[str, Any]], body: bytes, content_type: str, status: int
) -> None:
    """Whatever a stranger sends there, no fault is answered and none is logged."""
    async with entrance.browser() as visitor:
        seen = await visitor.request("POST", "/sign-in", data=body, headers={"Content-Type": content_type})

    assert seen.status == status
    assert not [event for event in logged if event["log_level"] == "error"]


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ("/messages?text=a%20b", "/messages?text=a%20b"),
        ("/", "/"),
        ("", "/"),
        ("messages", "/"),
        ("//evil.test", "/"),
        ("///evil.test", "/"),
        ("/\\evil.test", "/"),
        ("/a\\b", "/"),
        ("https://evil.test/", "/"),
        ("javascript:alert(1)", "/"),
        ("/\t/evil.test", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
        ("/a\x7f", "/"),
        ("//[", "/"),
        ("/x://[", "/x://["),
        ("/%0d%0a", "/%0d%0a"),
    ],
)  # fmt: skip
def test_the_way_back_is_one_of_ours(given: str, where: str) -> None:
    """After signing in one goes to a path of ours, whatever the link said, and no link makes that fail."""
    assert way_back(given) == where


async def test_who_signs_in_by_a_broken_link_is_signed_in(entrance: Entrance) -> None:
    """A link that leads nowhere keeps nobody out."""
    await entrance.add_user("jane")
    async with entrance.browser() as visitor:
        seen = await visitor.sign_in("jane", PASSWORD, next="//[")

    assert (seen.status, seen.headers["Location"]) == (303, "/")


async def test_what_is_possible_at_an_address_is_told(admin: Visitor) -> None:
    """A method that an address does not have is refused to everybody, with those that it has (RFC 9110 15.5.6)."""
    for method in ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"):
        seen = await admin.request(method, "/people")
        assert (seen.status, seen.headers["Allow"]) == (405, "GET,POST")


@pytest.mark.parametrize("host", ["x:99999", "x:y", "[", "<script>"])
async def test_a_host_that_is_none_does_no_harm(admin: Visitor, host: str) -> None:
    """The page of a form, which tells the host it was asked by, is made for whatever that is."""
    seen = await admin.get("/forms/support", Host=host)

    assert seen.status == 200
    assert "<script>" not in seen.text
