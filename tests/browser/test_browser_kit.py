"""The browser that tests look through notices what a person would only find in its console."""

from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Page
from pytest_aiohttp.plugin import AiohttpServer

from tests.browser.kit import (
    DESKTOP,
    PHONE,
    Browsing,
    Kind,
    assert_accessible,
    assert_fits,
    browsing,
    take_picture,
)

_GOOD = "<!doctype html><html lang=en><title>A page</title><link rel=icon href='data:,'><main><h1>A page</h1>"


async def _served(aiohttp_server: AiohttpServer, markup: str, policy: str = "") -> str:
    async def answer(_: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": policy} if policy else {}
        return web.Response(text=_GOOD + markup, content_type="text/html", headers=headers)

    app = web.Application()
    app.router.add_get("/", answer)
    return str((await aiohttp_server(app)).make_url("/"))


@pytest.mark.parametrize(
    ("kind", "markup", "policy"),
    [
        (Kind.CONSOLE, "<script>console.error('a complaint')</script>", ""),
        (Kind.CONSOLE, "<img src=/nowhere alt=''>", ""),
        (Kind.SCRIPT, "<script>nobody.home()</script>", ""),
        (Kind.POLICY, "<p style='color: red'>red</p>", "style-src 'self'"),
        (Kind.DIALOG, "<script>alert('a dialog')</script>", ""),
        (Kind.ELSEWHERE, "<img src=http://elsewhere.invalid/x.png alt=''>", ""),
        (Kind.REQUEST, "<img src=http://127.0.0.1:1/x.png alt=''>", ""),
    ],
    ids=["a complaint", "a missing file", "an error", "a violation", "a dialog", "another host", "a failed request"],
)
async def test_sec_9_whatever_goes_wrong_fails_the_test(
    aiohttp_server: AiohttpServer, kind: Kind, markup: str, policy: str
) -> None:
    """A page that complains, breaks its policy, asks elsewhere or asks the person fails the test that opened it."""
    url = await _served(aiohttp_server, markup, policy)
    with pytest.raises(AssertionError, match=rf"(?m)^{kind}: "):
        async with browsing() as browser:
            await (await browser.open()).goto(url)


async def test_a_good_page_is_no_trouble(page: Page, browser: Browsing, aiohttp_server: AiohttpServer) -> None:
    """A page on which nothing goes wrong passes, scripts included."""
    await page.goto(await _served(aiohttp_server, "<p id=said></p><script>said.textContent = 'Hello'</script>"))

    assert await page.inner_text("#said") == "Hello"
    assert browser.troubles == []


async def test_a_trouble_that_was_expected_is_taken(
    page: Page, browser: Browsing, aiohttp_server: AiohttpServer
) -> None:
    """A test may take a trouble that it provoked, and no other."""
    await page.goto(await _served(aiohttp_server, "<script>console.error('a complaint')</script>"))
    with pytest.raises(AssertionError, match="no dialog trouble"):
        browser.take(Kind.DIALOG, "complaint")

    assert [one.text for one in browser.take(Kind.CONSOLE, "complaint")] == ["a complaint"]


async def test_what_axe_finds_is_told(page: Page, aiohttp_server: AiohttpServer) -> None:
    """A field without a label is named with its rule and its markup."""
    await page.goto(await _served(aiohttp_server, "<input name=nameless>"))

    with pytest.raises(AssertionError, match=r"label \(critical\)[^$]*nameless"):
        await assert_accessible(page)


async def test_a_page_wider_than_its_window_is_noticed(browser: Browsing, aiohttp_server: AiohttpServer) -> None:
    """What fits a desk and not a phone is told from what fits both."""
    url = await _served(aiohttp_server, "<pre style='width: 900px'>wide</pre>")
    desktop, phone = await browser.open(size=DESKTOP), await browser.open(size=PHONE)
    await desktop.goto(url)
    await phone.goto(url)

    await assert_fits(desktop)
    with pytest.raises(AssertionError, match="pixels wide"):
        await assert_fits(phone)


async def test_pictures_are_the_same_each_time(page: Page, aiohttp_server: AiohttpServer, tmp_path: Path) -> None:
    """Two pictures of a page are the same file, and small."""
    await page.goto(await _served(aiohttp_server, "<input autofocus aria-label=field><p>Same</p>"))
    await take_picture(page, "one", tmp_path)
    await take_picture(page, "two", tmp_path)

    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
