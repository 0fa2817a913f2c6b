"""What a body may be: read strictly, so that every reader and every database finds the same in it."""

import gzip
from typing import Any

import pytest
from multidict import CIMultiDict

from gateway.cloud.bodies import MOST_BYTES, Unreadable, from_json
from mailroom.roles import Role
from tests.gateway.cloud.caller import Caller


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"{}", {}),
        (b"null", None),
        (b' {"a": [1, -2.5, true, "\xc3\xa4\\ud83d\\ude00"]} ', {"a": [1, -2.5, True, "ä😀"]}),
        (b"[" * 20 + b"]" * 20, [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]),
        (b"9223372036854775807", 2**63 - 1),
    ],
)
def test_what_is_json_is_read(body: bytes, value: Any) -> None:
    """JSON is what RFC 8259 says, in UTF-8."""
    assert from_json(body) == value


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{", "column"),
        (b'{"a": 1,}', "column"),
        (b"{} {}", "column"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": {"b": 1, "b": 1}}', "twice"),
        (b"NaN", "NaN"),
        (b"[-Infinity]", "Infinity"),
        (b"1e999", "too large"),
        (b"9223372036854775808", "64 bits"),
        (b"1" * 5000, "64 bits"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\ud800": 1}', "surrogate"),
        (b'"a\\u0000"', "NUL"),
        (b'"\xff"', "UTF-8"),
        ('"a"'.encode("utf-16"), "UTF-8"),
        (b"[" * 21 + b"]" * 21, "nested"),
        (b"[" * 100_000 + b"]" * 100_000, "nested"),
        (b'{"a":' * 100_000, "nested"),
    ],
)
def test_what_readers_would_differ_about_is_refused(body: bytes, why: str) -> None:
    """What is no JSON, ambiguous, bottomless or cannot be kept is refused with the reason."""
    with pytest.raises(Unreadable, match=why):
        from_json(body)


@pytest.mark.parametrize(
    "body", [b"{", b'{"name": "\\ud800"}', b'{"a":1,"a":2}', b"[" * 100_000, b"\xff", b'{"n": NaN}']
)
async def test_an_unreadable_body_is_a_bad_request(caller: Caller, body: bytes) -> None:
    """Over HTTP that is 400 with code bad.request, never 500."""
    headers = {"Authorization": f"Bearer {await caller.token()}", "Content-Type": "application/json"}
    told = await caller.raw("POST", "/api/v2/integrations", data=body, headers=headers)

    assert (told.status, told.body["code"]) == (400, "bad.request")


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Content-Type": "text/plain"}, 415, "unsupported.media.type"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported.media.type"),
        ({"Content-Type": "application/json; charset=utf-16"}, 415, "unsupported.media.type"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415, "unsupported.media.type"),
        ({"Content-Type": "application/json"}, 400, "invalid.value"),
    ],
)
async def test_a_body_is_json_and_says_so(caller: Caller, headers: dict[str, str], status: int, code: str) -> None:
    """Only application/json in UTF-8, not compressed, is read."""
    token = {"Authorization": f"Bearer {await caller.token()}"}
    told = await caller.raw("POST", "/api/v2/integrations", data=b"{}", headers=token | headers)

    assert (told.status, told.body["code"]) == (status, code)


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("/api/v2/integrations", "application/json"), ("/oauth/token", "application/x-www-form-urlencoded")],
)
async def test_a_second_content_encoding_hides_nothing(caller: Caller, path: str, content_type: str) -> None:
    """A body that is compressed by any of the headers is refused."""
    headers = [
        ("Authorization", f"Bearer {await caller.token()}"), ("Content-Encoding", "identity"),
        ("Content-Encoding", "gzip"), ("Content-Type", content_type),
    ]  # fmt: skip
    told = await caller.raw("POST", path, data=gzip.compress(b"{}"), headers=CIMultiDict(headers))

    assert (told.status, "compressed" in told.body["message"]) == (415, True)


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_that_is_too_large_is_not_read(caller: Caller, chunked: bool) -> None:  # noqa: FBT001 - parametrized
    """More than 256 KiB are refused, whether the request says so beforehand or not."""

    async def pieces() -> Any:
        for _ in range(MOST_BYTES // 1024 + 1):
            yield b" " * 1024

    headers = {"Authorization": f"Bearer {await caller.token()}", "Content-Type": "application/json"}
    body = pieces() if chunked else b" " * (MOST_BYTES + 1)
    told = await caller.raw("POST", "/api/v2/integrations", data=body, headers=headers)

    assert (told.status, told.body["code"]) == (413, "request.too.large")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/integrations", 200),
        ("DELETE", "/routing/email/domains/company.test", 404),
        ("POST", "/integrations", 400),
        ("PATCH", "/integrations/e0d1a2c4-0000-4000-8000-000000000000", 400),
    ],
)
async def test_null_is_no_body(caller: Caller, method: str, path: str, status: int) -> None:
    """The vendor's client sends `null` where it has no body: that is none, also where one is needed."""
    headers = {"Authorization": f"Bearer {await caller.token(Role.ADMIN)}", "Content-Type": "application/json"}
    with_null = await caller.raw(method, f"/api/v2{path}", data=b"null", headers=headers)
    without = await caller.raw(method, f"/api/v2{path}", headers=headers)

    assert (with_null.status, without.status) == (status, status)


@pytest.mark.parametrize("body", [[], "text", 5, True])
async def test_a_body_of_another_shape_is_told(caller: Caller, body: Any) -> None:
    """Where an object is expected, anything else is an invalid value."""
    told = await caller.call("POST", "/integrations", body)

    assert (told.status, told.body["code"], told.body["details"][0]["fieldName"]) == (400, "invalid.value", "body")
