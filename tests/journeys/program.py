"""A program that uses the vendor's own Python client, unmodified."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from mailroom.roles import Role
from mailroom.store import clients
from mailroom.store.clients import NewClient
from tests.journeys.office import Office

Result = TypeVar("Result")


@dataclass(slots=True)
class Program:
    """It blocks, so each of its steps is in a thread."""

    sdk: Any
    client: NewClient

    async def does(self, step: Callable[[Any], Result]) -> Result:
        """What a step of it gives, which is given the IntegrationsApi of a client with a token."""
        return await asyncio.to_thread(lambda: step(self.sdk.IntegrationsApi(self.logged_in())))

    async def routes(self, step: Callable[[Any], Result]) -> Result:
        """The same with the RoutingApi."""
        return await asyncio.to_thread(lambda: step(self.sdk.RoutingApi(self.logged_in())))

    async def converses(self, step: Callable[[Any], Result]) -> Result:
        """The same with the ConversationsApi."""
        return await asyncio.to_thread(lambda: step(self.sdk.ConversationsApi(self.logged_in())))

    def logged_in(self) -> Any:
        """Its client, with a token."""
        return self.sdk.api_client.ApiClient().get_client_credentials_token(str(self.client.id), self.client.secret)

    async def becomes(self, integration_id: str, state: str) -> Any:
        """The integration, once it is in this state."""
        async with asyncio.timeout(20):
            while True:
                found = await self.does(lambda api: api.get_integration(integration_id))
                if found.reported_state.code == state:
                    return found
                await asyncio.sleep(0.1)


async def program(office: Office, sdk: Any, role: Role = Role.ADMIN) -> Program:
    """A program of this role, pointed at the office's gateway."""
    client = await office.store.transaction(clients.create, f"sdk {role}", role, who="test", now=datetime.now(UTC))
    sdk.configuration.host = f"http://{office.addresses[0]}"
    return Program(sdk, client)
