"""A whole deployment with its pages in a browser's reach: a gateway, workers, and an SMTP server that a test can break."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any
from uuid import UUID

from playwright.async_api import Page

from cli.console_shell import ConsoleShell
from cli.mailbox.faults import Faults
from cli.mailbox.letters import Letters
from cli.mailbox.pages import add_routes
from gateway.app import Gateway
from mailroom.message import Status
from mailroom.roles import Role
from mailroom.serving import serving
from mailroom.settings import EmailOptions
from tests.gateway.admin.visitor import PASSWORD, Entrance
from tests.journeys.office import VAULT, Office
from tests.services import free_port
from tests.smtp_server import ScriptedSmtp, scripted_smtp

#: What the integration logs in with, and may be on no page.
SECRET = "a secret that is on no page"

#: The address that nobody may be reached at when a test says so.
GONE = "gone.test"

#: How the forms of these tests are set up: held while their integration may not send; to wherever their caller says.
HOLDING = EmailOptions(
    rate_limit=None, when_inactive="hold", mailbox="support@company.test",
    allowed_mailboxes=("*@company.test", f"*@{GONE}"),
)  # fmt: skip


@dataclass(slots=True)
class Stage:
    """Where a story takes place."""

    office: Office
    smtp: ScriptedSmtp
    gateway: Gateway
    entrance: Entrance
    #: What the pages of the development mailbox show, as under `mailroom up`; nothing is delivered there by itself.
    letters: Letters
    faults: Faults

    def url(self, path: str = "/") -> str:
        """Where a page is."""
        return f"http://{self.entrance.address}{path}"

    async def enter(self, page: Page, name: str = "jane", role: Role = Role.ADMIN) -> None:
        """Add a person and sign in as them, through the form."""
        await self.entrance.add_user(name, role)
        await page.goto(self.url())
        await self.sign_in(page, name)

    async def sign_in(self, page: Page, name: str) -> None:
        """Fill in the form of the sign-in that the page shows."""
        await page.get_by_label("Name").fill(name)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_url(lambda url: "/sign-in" not in url)

    async def submit(self, subject: str, service: str = "support", **fields: Any) -> UUID:
        """Post a form; its id."""
        return await self.office.accepted(service, subject=subject, **fields)

    async def sent(self, subject: str, **fields: Any) -> UUID:
        """Post a form; its id once it was sent."""
        message_id = await self.submit(subject, **fields)
        await self.office.becomes(message_id, Status.SENT)
        return message_id

    async def path_of(self, name: str = "main") -> str:
        """The page of an integration."""
        return f"/integrations/{(await self.office.integration(name)).id}"

    def change_the_password(self) -> None:
        """The provider has another password from now on, and ends every connection."""
        self.smtp.password = "another one"
        self.smtp.hang_up()

    def mend_the_password(self) -> None:
        """The provider takes the old one again."""
        self.smtp.password = SECRET


@contextlib.asynccontextmanager
async def a_stage(office: Office, workers: int = 2, **settings: Any) -> AsyncIterator[Stage]:
    """A gateway with its pages and several workers on this office, and an ACTIVE integration that logs in."""
    listen = f"127.0.0.1:{free_port()}"
    office.settings = replace(
        office.settings, listen=listen, email=HOLDING, services=MappingProxyType({"support": HOLDING}), **settings
    )
    async with contextlib.AsyncExitStack() as stack:
        smtp = await stack.enter_async_context(scripted_smtp(username="forms", password=SECRET))
        await office.add_integration(smtp.port, username="forms", sealed_password=VAULT.seal(SECRET))
        gateway = await stack.enter_async_context(office.gateway(listen=listen))
        for _ in range(workers):
            await stack.enter_async_context(office.worker())
        await office.active()
        letters, faults = Letters(office.folder / "mailbox"), Faults()
        pages, console = gateway.pages(mailbox=True)
        add_routes(pages, letters, prefix="/mailbox", faults=faults, shell=ConsoleShell(console))
        address = await stack.enter_async_context(serving(pages, "127.0.0.1:0", shutdown_seconds=2))
        yield Stage(office, smtp, gateway, Entrance(address, office.store, console), letters, faults)
