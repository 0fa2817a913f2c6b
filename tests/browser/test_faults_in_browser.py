"""The fault panel as a person uses it: clicks and fields, an error said where it is, and mail that meets the fault."""

from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path
from typing import Literal

import aiosmtplib
import pytest
from aiohttp import web
from playwright.async_api import Page, ViewportSize, expect
from pytest_aiohttp.plugin import AiohttpServer

from cli.mailbox.faults import Deed, Fault, Faults, Step
from cli.mailbox.letters import Letters
from cli.mailbox.pages import add_routes
from cli.mailbox.smtp import SmtpServer, serve_smtp
from tests.browser.kit import DESKTOP, PHONE, Browsing, Kind, assert_accessible, assert_fits


@pytest.fixture
def faults() -> Faults:
    """None yet."""
    return Faults()


@pytest.fixture
def letters(tmp_path: Path) -> Letters:
    """An empty mailbox."""
    return Letters(tmp_path / "mail")


@pytest.fixture
async def server(letters: Letters, faults: Faults) -> AsyncIterator[SmtpServer]:
    """Its SMTP server."""
    async with await serve_smtp(letters, "127.0.0.1", 0, faults) as server:
        yield server


@pytest.fixture
async def url(letters: Letters, faults: Faults, aiohttp_server: AiohttpServer) -> str:
    """Where its pages are."""
    app = web.Application()
    add_routes(app, letters, faults=faults)
    return str((await aiohttp_server(app)).make_url("/"))


async def send(server: SmtpServer) -> None:
    """A small mail with a log-in; raises what becomes of it."""
    message = EmailMessage()
    message["From"], message["To"] = "bob@b.example", "jane@a.example"
    await aiosmtplib.send(message, hostname="127.0.0.1", port=server.port, username="bob", password="secret")


async def test_a_click_refuses_the_log_in_and_another_lets_it_in(page: Page, url: str, server: SmtpServer) -> None:
    """The ready-made button is all it takes; the panel counts; removing it repairs the mailbox."""
    await page.goto(url)
    await page.get_by_role("link", name="Faults").click()
    await page.get_by_role("button", name="Refuse the log-in").click()
    with pytest.raises(aiosmtplib.SMTPAuthenticationError):
        await send(server)
    await page.reload()
    await expect(page.locator(".faults")).to_contain_text("struck")

    await page.get_by_role("button", name="Remove: at AUTH").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Everything works")
    await send(server)


async def test_a_fault_of_ones_own(page: Page, browser: Browsing, url: str, server: SmtpServer) -> None:
    """A wrong field is named and keeps what was typed; put right, the fault meets the next mail."""
    await page.goto(f"{url}faults")
    await page.get_by_label("At", exact=True).select_option("dot")
    await page.get_by_label("Code").fill("250")
    await page.get_by_label("Text").fill("5.7.1 Spam")
    await page.get_by_role("button", name="Set fault").click()
    await expect(page.get_by_role("alert")).to_contain_text("1 field")
    await expect(page.get_by_label("Code")).to_have_value("250")
    await assert_accessible(page)
    browser.take(Kind.CONSOLE, "422")

    await page.get_by_label("Code").fill("554")
    await page.get_by_role("button", name="Set fault").click()
    await expect(page.locator(".faults .what")).to_have_text(["dot answer “554 5.7.1 Spam”"])
    with pytest.raises(aiosmtplib.SMTPDataError, match="Spam"):
        await send(server)


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_everyone_can_use_the_panel(
    browser: Browsing, url: str, faults: Faults, colours: Literal["light", "dark"], size: ViewportSize
) -> None:
    """Empty and full it passes axe, in both colours, and fits its window."""
    page = await browser.open(colours=colours, size=size)
    await page.goto(f"{url}faults")
    await assert_accessible(page)
    faults.add(Fault(at=Step.RCPT, do=Deed.ANSWER, text="word " * 30, address="x" * 200))
    faults.add(Fault(at=Step.MAIL, do=Deed.DROP, times=1))
    faults.strike(Step.MAIL, (), 0.0, lambda: 0.0)
    await page.goto(f"{url}faults")

    await expect(page.locator(".over")).to_have_count(1)
    await assert_accessible(page)
    await assert_fits(page)
