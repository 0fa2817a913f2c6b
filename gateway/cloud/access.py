"""Who calls: the bearer token of a request, without a read of the database for each."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.cloud.errors import Code, Refusal
from mailroom.roles import Permission, may
from mailroom.store import clients
from mailroom.store.clients import Bearer, Known
from mailroom.store.port import Store

#: For so many seconds a token is believed without looking again; a disabled client is shut out within 5 s, everywhere.
REMEMBERED_SECONDS = 3.0

#: Tokens that are remembered at once.
MOST_REMEMBERED = 10_000

#: Ours have 43 characters; what is much longer is not even hashed.
_LONGEST_TOKEN = 256

_ASK = {"WWW-Authenticate": 'Bearer realm="mailroom"'}


@dataclass(frozen=True, slots=True)
class _Remembered:
    bearer: Bearer
    until: float


class Access:
    """Knows callers by their tokens."""

    def __init__(
        self, store: Store, clock: Callable[[], float] = time.monotonic, *, remembers: int = MOST_REMEMBERED
    ) -> None:
        self._store = store
        self._clock = clock
        self._most = remembers
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()

    @property
    def remembered(self) -> int:
        """How many tokens are remembered."""
        return len(self._remembered)

    async def caller(self, authorization: str) -> Known:
        """Whose token is in this header. Raises Refusal, StoreUnavailable."""
        token = _token(authorization)
        key, asked, now = clients.hash_of(token), self._clock(), datetime.now(UTC)
        kept = self._remembered.get(key)
        if kept is not None and asked < kept.until and now < kept.bearer.expires_at:
            return kept.bearer.client
        self._remembered.pop(key, None)
        bearer = await self._store.read(clients.bearer, key, now=now)
        if bearer is None:
            raise Refusal(
                401, Code.BAD_CREDENTIALS,
                "The token is not known, has expired, or its client was disabled; get another at /oauth/token.",
                headers={"WWW-Authenticate": 'Bearer realm="mailroom", error="invalid_token"'},
            )  # fmt: skip
        # Counted from before the look, so that the answer is never older than that.
        self._remembered[key] = _Remembered(bearer, asked + REMEMBERED_SECONDS)
        if len(self._remembered) > self._most:
            self._remembered.popitem(last=False)
        return bearer.client


def require(client: Known, permission: Permission) -> None:
    """Raise Refusal unless the client's role has the permission."""
    if not may(client.role, permission):
        raise Refusal(
            403, Code.MISSING_PERMISSIONS,
            f"This needs the permission {permission}, which the role {client.role} does not have.",
            params={"permissions": str(permission), "role": str(client.role)},
        )  # fmt: skip


def _token(authorization: str) -> str:
    scheme, _, token = authorization.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Refusal(
            401, Code.AUTHENTICATION_REQUIRED,
            "No token came with the request; get one at /oauth/token and send it as Authorization: Bearer <token>.",
            headers=_ASK,
        )  # fmt: skip
    if len(token) > _LONGEST_TOKEN:
        raise Refusal(401, Code.BAD_CREDENTIALS, "This is no token of ours.", headers=_ASK)
    return token
