"""A gateway on SQLite, and a client of every role."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.builders import migrated
from tests.gateway.cloud.caller import Caller, caller_of
from tests.journeys.office import Office, an_office


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    """An office of one process: SQLite and the queue in memory."""
    url = f"sqlite:///{tmp_path}/mailroom.db"
    await migrated(url)
    async with an_office(tmp_path, url, "memory:") as office:
        yield office


@pytest.fixture
async def caller(office: Office) -> AsyncIterator[Caller]:
    """A gateway, and a client of every role; no worker runs."""
    async with office.gateway():
        yield await caller_of(office)
