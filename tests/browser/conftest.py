"""A browser for each test that asks for one: `page`, or `browser` for more pages, dark ones and narrow ones."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from playwright.async_api import Page

from tests.browser.kit import Browsing, browsing, take_picture

Picture = Callable[[Page, str], Awaitable[None]]


@pytest.fixture
async def browser() -> AsyncIterator[Browsing]:
    """A browser for the test alone, which fails it when anything went wrong that the test did not take."""
    async with browsing() as seen:
        yield seen


@pytest.fixture
async def page(browser: Browsing) -> Page:
    """One light page of the size of a small desktop."""
    return await browser.open()


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Picture:
    """Takes a picture for docs/screenshots when the run was asked for pictures (`--screenshots`); otherwise nothing."""

    async def take(page: Page, name: str) -> None:
        if request.config.getoption("screenshots"):
            await take_picture(page, name)

    return take
