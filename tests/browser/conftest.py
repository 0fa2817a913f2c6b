"""A browser for each test that asks for one: `page`, or `browser` for more pages, dark ones and narrow ones."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.browser.kit import Browsing, browsing, take_picture
from tests.browser.stage import Stage, a_stage
from tests.builders import migrated
from tests.journeys.office import an_office
from tests.services import Postgres, RabbitMQ

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


@pytest.fixture
async def stage(browser: Browsing, postgres: Postgres, rabbitmq: RabbitMQ, tmp_path: Path) -> AsyncIterator[Stage]:
    """A deployment on real PostgreSQL and RabbitMQ, with its pages."""
    async with (
        an_office(tmp_path, postgres.new_database(migrated), rabbitmq.new_vhost()) as office,
        a_stage(office) as stage,
    ):
        yield stage
        await browser.leave()
