"""POST /oauth/token: a client's id and secret for a bearer token (RFC 6749 section 4.4)."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl

import msgspec
from aiohttp import hdrs, web

from gateway.cloud.bodies import expected_size, read_bytes
from gateway.cloud.calls import Platform, as_uuid
from gateway.cloud.errors import Code, Refusal
from mailroom.logs import get_logger
from mailroom.rates import Rate
from mailroom.store import clients

log = get_logger(__name__)

PATH = "/oauth/token"

GRANT = "client_credentials"

#: An address that fails oftener waits; nobody can guess 256 bits, but each guess costs us a look at the database.
FAILURES = Rate(count=10, seconds=60)
_COUNTED_AS = "oauth failures"

_MOST_BYTES = 16 * 1024
_FORM = "application/x-www-form-urlencoded"

#: RFC 6749 section 5.1: a token must not be kept by what is on the way.
_NEVER_KEPT = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class _Refused(Exception):
    """An error of RFC 6749 section 5.2."""

    def __init__(self, status: int, error: str, description: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.description = description
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class _Claim:
    """Who somebody says to be."""

    client_id: str
    secret: str
    by_basic: bool


async def give_token(platform: Platform, request: web.Request) -> web.Response:
    """A token for a client that knows its secret; errors as RFC 6749 has them. Raises Refusal."""
    address = platform.address_of(request)
    if platform.rates.is_used_up(FAILURES, _COUNTED_AS, address):
        raise Refusal(
            429, Code.TOO_MANY_REQUESTS, "Too many failed log-ins from this address; try again in a minute.",
            retry_after=int(FAILURES.seconds),
        )  # fmt: skip
    try:
        with platform.admitted(expected_size(request, _MOST_BYTES)):
            fields = await _fields(platform, request)
            token = await _token_for(platform, _claim(request, fields))
    except _Refused as refused:
        if refused.error == "invalid_client":
            platform.rates.allows(FAILURES, _COUNTED_AS, address)
            log.warning("log-in refused", address=address)
        told = {"error": refused.error, "error_description": refused.description}
        return _answer(refused.status, told, refused.headers)
    return _answer(
        200, {"access_token": token, "token_type": "bearer", "expires_in": int(clients.TOKEN_LIFE.total_seconds())}, {}
    )


async def _fields(platform: Platform, request: web.Request) -> dict[str, str]:
    if request.content_type != _FORM:
        raise _Refused(400, "invalid_request", f"Send a form: Content-Type: {_FORM}.")
    body = await read_bytes(request, platform.settings.limits, _MOST_BYTES)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=50, errors="strict")
    except ValueError:
        raise _Refused(400, "invalid_request", "The form cannot be read.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _Refused(400, "invalid_request", "A parameter is there twice.")
    grant = fields.get("grant_type")
    if not grant:
        raise _Refused(400, "invalid_request", "grant_type is missing; it is client_credentials.")
    if grant != GRANT:
        raise _Refused(400, "unsupported_grant_type", f"Only grant_type={GRANT} is supported.")
    return fields


def _claim(request: web.Request, fields: dict[str, str]) -> _Claim:
    header = request.headers.get(hdrs.AUTHORIZATION)
    if header is None:
        if "client_id" not in fields or "client_secret" not in fields:
            raise _unknown(by_basic=True)
        return _Claim(fields["client_id"], fields["client_secret"], by_basic=False)
    if "client_secret" in fields:
        raise _Refused(400, "invalid_request", "Send the secret in the header or in the form, not in both.")
    scheme, _, value = header.strip().partition(" ")
    try:
        name, colon, secret = base64.b64decode(value.strip(), validate=True).decode("ascii").partition(":")
    except (binascii.Error, ValueError):
        raise _unknown(by_basic=True) from None
    if scheme.lower() != "basic" or not colon or fields.get("client_id", name) != name:
        raise _unknown(by_basic=True)
    return _Claim(name, secret, by_basic=True)


async def _token_for(platform: Platform, claim: _Claim) -> str:
    client = await platform.store.read(clients.authenticated, as_uuid(claim.client_id), claim.secret)
    if client is None:
        raise _unknown(by_basic=claim.by_basic)
    token = await platform.store.transaction(clients.issue, client.id, now=datetime.now(UTC))
    log.info("client logged in", client=client.name, role=client.role)
    return token


def _unknown(*, by_basic: bool) -> _Refused:
    """The same for an unknown client and a wrong secret. RFC 6749 asks for the challenge where a header was tried."""
    headers = {"WWW-Authenticate": 'Basic realm="mailroom"'} if by_basic else {}
    return _Refused(401, "invalid_client", "The client is not known, was disabled, or its secret is another.", headers)


def _answer(status: int, body: Mapping[str, object], headers: Mapping[str, str]) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode(body), content_type="application/json", charset="utf-8",
        headers={**_NEVER_KEPT, **headers},
    )  # fmt: skip
