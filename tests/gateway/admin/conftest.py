"""The pages of a gateway on SQLite, and an integration that waits to be tested."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.admin.visitor import Entrance, Visitor, entrance_of
from tests.journeys.office import Office, an_office


@pytest.fixture
async def office(tmp_path: Path, sqlite_file: Path) -> AsyncIterator[Office]:
    """An office of one process: SQLite and the queue in memory."""
    async with an_office(tmp_path, f"sqlite:///{sqlite_file}", "memory:") as office:
        yield office


@pytest.fixture
async def entrance(office: Office) -> AsyncIterator[Entrance]:
    """The pages of a gateway; nobody is signed in, and no worker runs."""
    await office.add_integration(2525)
    async with office.gateway() as gateway, entrance_of(gateway, office.store) as entrance:
        yield entrance


@pytest.fixture
async def admin(entrance: Entrance) -> AsyncIterator[Visitor]:
    """An administrator who is signed in."""
    async with entrance.person() as visitor:
        yield visitor
