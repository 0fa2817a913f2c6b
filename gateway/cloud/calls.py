"""A call of the platform API: what its endpoint gets, and what that gives back."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from aiohttp import web
from multidict import MultiMapping

from gateway.admission import ClientRates, Entrance, Full, Proxies
from gateway.cloud.access import Access
from gateway.cloud.answers import Page
from gateway.cloud.bodies import MOST_BYTES
from gateway.cloud.errors import Problem, busy, invalid, not_found
from gateway.links import Links
from gateway.scanner import Scanner
from mailroom.attachments import AttachmentStore
from mailroom.queue.port import Queue
from mailroom.roles import Permission
from mailroom.settings import Settings
from mailroom.store.clients import Known
from mailroom.store.port import Store
from mailroom.tally import Tally
from mailroom.tickets import TicketWriter
from mailroom.vault import Vault
from mailroom.watch import IntegrationWatch

#: Seconds that a connection test may wait for a worker and its answer.
PATIENCE_SECONDS = 60.0

PAGE_SIZE = 25
LARGEST_PAGE = 999
#: So that nobody can have the database count over more rows than there can be.
LAST_PAGE = 1_000_000


@dataclass(slots=True)
class Overlooked:
    """How many letters were accepted for an integration in ERROR, because its enforcement date is still to come."""

    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What the platform API works with."""

    settings: Settings
    store: Store
    queue: Queue
    vault: Vault
    access: Access
    admission: Entrance
    rates: ClientRates
    proxies: Proxies
    watch: IntegrationWatch
    attachments: AttachmentStore
    tickets: TicketWriter
    links: Links
    overlooked: Overlooked
    tally: Tally
    scanner: Scanner
    patience: float = PATIENCE_SECONDS

    def address_of(self, request: web.Request) -> str:
        """The address of the client that sent this."""
        return self.proxies.client(request.remote or "unknown", request.headers.getall("X-Forwarded-For", ()))

    @contextlib.contextmanager
    def admitted(self, size: int) -> Iterator[None]:
        """Have a request whose body has at most this size in hand while inside. Raises Refusal when that is too much."""
        with contextlib.ExitStack() as inside:
            try:
                inside.enter_context(self.admission.entered(size))
            except Full:
                raise busy("Too much is in hand at the moment; nothing was done.") from None
            yield

    def origin_of(self, request: web.Request) -> str:
        """Where the client that sent this finds us: `https://mail.company.com`. Our own proxies may say so."""
        told = request.headers.get("X-Forwarded-Proto", "") if self.proxies.is_ours(request.remote or "") else ""
        return f"{told if told in ('http', 'https') else request.scheme}://{request.host}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request whose caller may make it, read."""

    platform: Platform
    client: Known
    #: Method and path.
    endpoint: str
    path: Mapping[str, str]
    query: MultiMapping[str]
    #: What JSON has; None when there was no body.
    body: Any
    #: The header Idempotency-Key.
    key: str | None
    #: Scheme, host and port that the caller knows us by.
    origin: str
    now: datetime

    @property
    def who(self) -> str:
        """How the audit names the caller."""
        return f"client {self.client.name}"

    def id(self, name: str, noun: str) -> UUID:
        """The UUID in the path; text that is none names nothing that exists. Raises Refusal."""
        found = as_uuid(self.path[name])
        if found is None:
            raise not_found(noun, self.path[name])
        return found

    def page(self, largest: int = LARGEST_PAGE) -> Page:
        """Which part of a list is wanted: pageSize and pageNumber. Raises Refusal."""
        problems: list[Problem] = []
        page = Page(
            self._number("pageSize", PAGE_SIZE, largest, problems),
            self._number("pageNumber", 1, LAST_PAGE, problems),
        )
        if problems:
            raise invalid(problems)
        return page

    def _number(self, name: str, default: int, most: int, problems: list[Problem]) -> int:
        text = self.query.get(name, "")
        if not text:
            return default
        if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most:
            return int(text)
        problems.append(Problem(name, f"{text!r} is not possible; give a whole number from 1 to {most}"))
        return default


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call gives back; None is an empty body."""

    body: Any
    status: int = 200


NOTHING = Answer(None, 204)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path below /api/v2, who may call it, and what it does in a few words."""

    method: str
    path: str
    permission: Permission
    answer: Callable[[Call], Awaitable[Answer]]
    does: str
    #: Bytes that its body may have.
    most_bytes: int = MOST_BYTES


def as_uuid(text: str) -> UUID | None:
    """The UUID that a text is, or None."""
    try:
        return UUID(text)
    except ValueError:
        return None
