"""One suite, every store and every queue: the fixtures that a contract runs on."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from mailroom.queue.opening import open_queue
from mailroom.queue.port import Queue
from mailroom.store.opening import open_store
from mailroom.store.port import Store
from tests.builders import created, migrated
from tests.services import Postgres, RabbitMQ


@pytest.fixture(params=["sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, sqlite_file: Path) -> AsyncIterator[Store]:
    """A store with our tables and nothing in them."""
    if request.param == "sqlite":
        url = f"sqlite:///{sqlite_file}"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.new_database(migrated)
    store = open_store(url)
    yield store
    await store.aclose()


@pytest.fixture
async def integration_id(store: Store) -> UUID:
    """The one integration there is."""
    return await created(store)


@pytest.fixture(params=["memory", "rabbitmq"])
async def queue(request: pytest.FixtureRequest) -> AsyncIterator[Queue]:
    """A queue with nothing in it."""
    if request.param == "memory":
        url = "memory:"
    else:
        broker: RabbitMQ = request.getfixturevalue("rabbitmq")
        url = broker.new_vhost()
    queue = open_queue(url)
    yield queue
    await queue.aclose()
