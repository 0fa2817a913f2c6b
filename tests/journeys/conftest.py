"""The office on real PostgreSQL and real RabbitMQ."""

import importlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders import migrated
from tests.journeys.office import Office, an_office
from tests.services import Postgres, RabbitMQ


@pytest.fixture
async def office(postgres: Postgres, rabbitmq: RabbitMQ, tmp_path: Path) -> AsyncIterator[Office]:
    """An office with a database and a virtual host of its own."""
    async with an_office(tmp_path, postgres.new_database(migrated), rabbitmq.new_vhost()) as office:
        yield office


@pytest.fixture(scope="session")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The vendor's package; it looks for a configuration in the home folder, where it finds none."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield importlib.import_module("PureCloudPlatformClientV2")
