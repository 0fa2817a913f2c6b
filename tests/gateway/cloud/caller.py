"""How tests call the platform API: as a client of every role, over HTTP."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

from gateway.admission import Admission, ClientRates, Proxies
from gateway.cloud.access import Access
from gateway.cloud.calls import PATIENCE_SECONDS, Overlooked, Platform
from gateway.cloud.routes import add_routes, platform_answers
from gateway.links import Links
from gateway.scanner import Scanner
from mailroom.attachments import AttachmentStore
from mailroom.queue.memory import MemoryQueue
from mailroom.roles import Role
from mailroom.settings import Settings
from mailroom.store import clients
from mailroom.store.clients import NewClient
from mailroom.store.port import Store
from mailroom.tally import Tally
from mailroom.tickets import TicketWriter
from mailroom.watch import IntegrationWatch
from tests.builders import this_moment
from tests.journeys.office import VAULT, Office


@dataclass(frozen=True, slots=True)
class Told:
    """An answer."""

    status: int
    body: Any
    headers: Mapping[str, str]
    text: str


@dataclass(slots=True)
class Caller:
    """Calls the platform API of an office as clients do."""

    office: Office
    clients: dict[Role, NewClient]
    tokens: dict[Role, str] = field(default_factory=dict)

    async def token(self, role: Role = Role.ADMIN) -> str:
        """A token of the client that has this role."""
        if role not in self.tokens:
            client = self.clients[role]
            told = await self.log_in(str(client.id), client.secret)
            assert told.status == 200, told
            self.tokens[role] = told.body["access_token"]
        return self.tokens[role]

    async def log_in(self, client_id: str, secret: str) -> Told:
        """Ask for a token, as the vendor's client does."""
        basic = aiohttp.encode_basic_auth(client_id, secret)
        return await self.raw(
            "POST", "/oauth/token", data={"grant_type": "client_credentials"}, headers={"Authorization": basic}
        )

    async def call(self, method: str, path: str, body: Any = None, role: Role = Role.ADMIN) -> Told:
        """Call an endpoint below /api/v2 with the token of a role; no body is sent as `null`."""
        headers = {"Authorization": f"Bearer {await self.token(role)}", "Content-Type": "application/json"}
        return await self.raw(method, f"/api/v2{path}", data=io.BytesIO(json.dumps(body).encode()), headers=headers)

    async def raw(self, method: str, path: str, *, gateway: int = 0, **request: Any) -> Told:
        """Send anything to one of the gateways."""
        url = f"http://{self.office.addresses[gateway]}{path}"
        async with self.office.session.request(method, url, **request) as answer:
            text = await answer.text()
            body = await answer.json() if answer.content_type == "application/json" else None
            return Told(answer.status, body, answer.headers, text)

    async def integration(self, **properties: Any) -> str:
        """A new integration with these properties; its id."""
        created = await self.call("POST", "/integrations", {"integrationType": {"id": "custom-smtp-server"}})
        place = f"/integrations/{created.body['id']}"
        put = await self.call(
            "PUT", f"{place}/config/current", {"version": 1, "properties": {"smtpHost": "smtp.test", **properties}}
        )
        assert put.status == 200, put
        return str(created.body["id"])


def platform_of(store: Store, settings: Settings | None = None, *, patience: float = PATIENCE_SECONDS) -> Platform:
    """What the platform API works with, on this store and a queue in memory."""
    settings, queue = settings or Settings(), MemoryQueue()
    return Platform(
        settings=settings, store=store, queue=queue, vault=VAULT, access=Access(store),
        admission=Admission(settings.limits).platform, rates=ClientRates(), proxies=Proxies(()), patience=patience,
        watch=IntegrationWatch(store, VAULT), attachments=AttachmentStore(settings.data_dir / "attachments"),
        tickets=TicketWriter(queue, store, this_moment), links=Links(VAULT.derived("links")), overlooked=Overlooked(),
        tally=Tally(store), scanner=Scanner(settings.scanner),
    )  # fmt: skip


def app_of(platform: Platform) -> web.Application:
    """The platform API alone."""
    app = web.Application(middlewares=[platform_answers])
    add_routes(app, platform)
    return app


async def caller_of(office: Office) -> Caller:
    """A client of every role."""
    made = {
        role: await office.store.transaction(clients.create, str(role), role, who="test", now=datetime.now(UTC))
        for role in Role
    }
    return Caller(office, made)
