"""The office on real PostgreSQL and real RabbitMQ."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.builders import migrated
from tests.journeys.office import Office, an_office
from tests.services import Postgres, RabbitMQ


@pytest.fixture
async def office(postgres: Postgres, rabbitmq: RabbitMQ, tmp_path: Path) -> AsyncIterator[Office]:
    """An office with a database and a virtual host of its own."""
    async with an_office(tmp_path, postgres.new_database(migrated), rabbitmq.new_vhost()) as office:
        yield office
