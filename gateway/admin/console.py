"""What the pages work with, and one visit of a page by somebody who is signed in."""

import asyncio
import hashlib
import hmac
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from aiohttp import hdrs, web

from gateway.admin.layout import Layout
from gateway.admin.posted import posted
from gateway.admin.pulse import Pulse
from gateway.admission import Proxies
from mailroom.attachments import AttachmentStore
from mailroom.operating.operations import REFUSALS
from mailroom.operating.operator import Operator
from mailroom.queue.port import Queue
from mailroom.roles import Permission, may
from mailroom.settings import Settings
from mailroom.store.port import BadRow, CommitUnknown, Store, StoreUnavailable
from mailroom.store.sign_ins import Person
from mailroom.vault import Vault
from mailroom.watch import IntegrationWatch

#: Characters of anything that a person types into a form.
LONGEST_FIELD = 10_000

#: Of one process at once.
MOST_SEARCHES = 2
MOST_DOWNLOADS = 4


@dataclass(slots=True)
class Streams:
    """How many pages each person watches, and whether that must end because the process does."""

    open: Counter[UUID] = field(default_factory=Counter)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """What the pages work with."""

    settings: Settings
    store: Store
    queue: Queue
    vault: Vault
    watch: IntegrationWatch
    attachments: AttachmentStore
    proxies: Proxies
    layout: Layout
    pulse: Pulse
    streams: Streams = field(default_factory=Streams)
    #: Who searches or counts waits for a turn, however many do: the same connections take mail in.
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_SEARCHES))
    #: What is downloaded is in memory until it is sent.
    downloads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_DOWNLOADS))

    def address_of(self, request: web.Request) -> str:
        """The address of whoever sent this."""
        return self.proxies.client(request.remote or "unknown", request.headers.getall("X-Forwarded-For", ()))

    def is_encrypted(self, request: web.Request) -> bool:
        """Whether it came over TLS, as far as our own proxies say so."""
        told = request.headers.get("X-Forwarded-Proto", "") if self.proxies.is_ours(request.remote or "") else ""
        return (told or request.scheme) == "https"


#: What the database has against it; its words, and where it is, are for the log and not for a page.
_OF_THE_DATABASE = (StoreUnavailable, CommitUnknown, BadRow)

#: Refusals that a page tells beside what was typed.
TOLD = tuple(refusal for refusal in REFUSALS if refusal not in _OF_THE_DATABASE)


class NotFound(Exception):
    """There is no such thing; the text says it to a person."""


class NotPossible(Exception):
    """What was asked for cannot be done; the text says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A request for a page by somebody who may have it."""

    console: Console
    request: web.Request
    person: Person
    #: What a form of this person's browser must bring along.
    csrf: str
    now: datetime

    @property
    def who(self) -> str:
        """How the audit names the person."""
        return f"user {self.person.name}"

    @property
    def operator(self) -> Operator:
        """The person, as one who can look and do."""
        console = self.console
        return Operator(
            store=console.store, queue=console.queue, who=self.who, settings=console.settings,
            attachments=console.attachments, vault=console.vault,
        )  # fmt: skip

    def may(self, permission: Permission) -> bool:
        """Whether the person's role has a permission."""
        return may(self.person.role, permission)

    def path_id(self, name: str = "id") -> UUID:
        """The UUID in the path. Raises NotFound."""
        try:
            return UUID(self.request.match_info[name])
        except ValueError:
            raise NotFound("There is nothing of this address.") from None

    async def form(self) -> Mapping[str, str]:
        """What was typed, stripped."""
        return {name: _typed(value) for name, value in (await posted(self.request)).items()}

    def page(self, template: str, *, status: int = 200, **values: Any) -> web.Response:
        """A whole page."""
        return web.Response(
            text=self.text(template, **values), status=status, content_type="text/html", charset="utf-8"
        )

    def text(self, template: str, **values: Any) -> str:
        """A template, filled in for this person."""
        return self.console.layout.render(
            template, visit=self, person=self.person, csrf=self.csrf, now=self.now, path=self.request.path, **values
        )

    def see_other(self, path: str, **query: str) -> web.Response:
        """To another page, after something was done."""
        where = f"{path}?{urlencode(query)}" if query else path
        return web.Response(status=303, headers={hdrs.LOCATION: where})


def csrf_of(token: str) -> str:
    """What the forms of a sign-in carry: it follows from its token, which only its own browser knows."""
    return hmac.digest(token.encode("utf-8", "surrogatepass"), b"mailroom.csrf.1", hashlib.sha256).hex()


def _typed(value: str) -> str:
    return value[:LONGEST_FIELD].replace("\r\n", "\n").replace("\0", "").strip()
