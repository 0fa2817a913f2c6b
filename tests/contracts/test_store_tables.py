"""What every store promises about its tables: the migration makes what the models say, and says what is missing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from mailroom.store.migrating import config, migrate
from mailroom.store.opening import SchemaMismatch, check_schema, newest_version, open_store
from mailroom.store.port import Store
from mailroom.store.schema import metadata
from tests.builders import NOW, migrated
from tests.services import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
async def empty(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store without tables."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/deep/down/empty.db"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.new_database()
    store = open_store(url)
    yield store
    await store.aclose()


def differences(tx: Connection) -> list[Any]:
    """How the tables differ from the models."""
    return list(compare_metadata(MigrationContext.configure(tx, opts={"compare_type": True}), metadata))


def say_revision(tx: Connection, revision: str) -> None:
    """Have the tables claim another version."""
    tx.execute(sa.text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


async def test_the_migration_makes_what_the_models_say(store: Store) -> None:
    """Tables, columns, types and indexes are those the queries are written for."""
    assert await store.transaction(differences) == []


async def test_migrating_twice_at_once_is_harmless(empty: Store) -> None:
    """Processes that start together bring the tables up to date once, and a later run changes nothing."""
    await asyncio.gather(empty.transaction(migrate), empty.transaction(migrate))
    await empty.transaction(migrate)

    await empty.read(check_schema)


@pytest.mark.parametrize("number", [0, 1, 2300])
async def test_dead_letters_of_before_get_their_rows(empty: Store, number: int) -> None:
    """The migration to version 5 enters every dead letter there is, with its cause, batch after batch."""
    await empty.transaction(_upgraded, "0004")
    dead = [uuid4() for _ in range(number)]
    sent: dict[str, Any] = {"id": uuid4(), "status": "sent"}
    rows: list[dict[str, Any]] = [
        sent,
        {"id": uuid4(), "status": None},
        *({"id": one, "status": "failed"} for one in dead),
    ]

    def insert(tx: Connection) -> None:
        usual = {"kind": "form", "integration_id": uuid4(), "accepted_at": NOW, "ended_at": NOW,
                 "reason": "rejected.recipient", "reply": "RCPT: 550 5.1.1 <jane@customer.test>: no"}  # fmt: skip
        tx.execute(sa.insert(metadata.tables["messages"]), [usual | row for row in rows])

    await empty.transaction(insert)
    await empty.transaction(migrate)

    found = await empty.read(lambda tx: tx.execute(sa.select(metadata.tables["dead_letters"])).all())
    assert {row.message_id for row in found} == set(dead)
    assert {(row.reason, row.command, row.code, row.said, row.ended_at) for row in found} == (
        {("rejected.recipient", "RCPT", 550, "5.1.1 (address): no", NOW)} if number else set()
    )
    assert len({row.fingerprint for row in found}) == min(number, 1)


def _upgraded(tx: Connection, revision: str) -> None:
    command.upgrade(config(tx), revision)


async def test_missing_tables_are_told(empty: Store) -> None:
    """A database without our tables is named as such, with what to do."""
    with pytest.raises(SchemaMismatch, match="mailroom migrate"):
        await empty.read(check_schema)


async def test_older_tables_are_told(store: Store) -> None:
    """Tables of an earlier version are named as such, with what to do."""
    await store.transaction(say_revision, "0001")

    with pytest.raises(SchemaMismatch, match="older than this Mailroom: run `mailroom migrate`"):
        await store.read(check_schema)


def test_the_newest_version_is_alembics() -> None:
    """What a process looks for is where the migrations lead."""
    assert newest_version() == ScriptDirectory.from_config(config(None)).get_current_head()


async def test_newer_tables_are_no_mistake(store: Store) -> None:
    """During a rolling update a process finds tables newer than itself, and works."""
    await store.transaction(say_revision, "9999")

    await store.read(check_schema)


@pytest.fixture
async def connection(postgres: Postgres) -> AsyncIterator[Store]:
    """A store on PostgreSQL with our tables."""
    store = open_store(postgres.new_database(migrated))
    yield store
    await store.aclose()


async def test_the_tables_are_laid_out_as_measured(connection: Store) -> None:
    """Fill factors, clean-up, storage and partial indexes are as the design has them."""

    def layout(tx: Connection) -> tuple[dict[str, set[str]], str, str, str]:
        options = tx.execute(sa.text("SELECT relname, reloptions FROM pg_class WHERE relname IN ('live', 'messages')"))
        storage = tx.execute(
            sa.text(
                "SELECT attstorage::text FROM pg_attribute WHERE attrelid = 'contents'::regclass AND attname = 'body'"
            )
        )
        indexes = [
            tx.execute(sa.text("SELECT indexdef FROM pg_indexes WHERE indexname = :name"), {"name": name}).scalar_one()
            for name in ("live_sleeping", "connection_tests_waiting")
        ]
        return {row.relname: set(row.reloptions) for row in options}, storage.scalar_one(), indexes[0], indexes[1]

    options, storage, sleeping, waiting = await connection.read(layout)
    assert options == {
        "messages": {"fillfactor=80"},
        "live": {
            "fillfactor=50", "autovacuum_vacuum_scale_factor=0.02", "autovacuum_vacuum_threshold=1000",
            "autovacuum_vacuum_cost_delay=0",
        },
    }  # fmt: skip
    assert storage == "e"
    assert sleeping.endswith("(wake_at, integration_id, id) WHERE (wake_at IS NOT NULL)")
    assert waiting.endswith("(integration_id) WHERE (ended_at IS NULL)")


#: Names and types of `accepted_message` on PostgreSQL, in the order in which they are given. Never to be changed:
#: the version before gives them as it did. Moments are seconds since 1970; bodies of a group are counted from its byte 1.
ACCEPTED_MESSAGE = (
    ("id", "uuid"), ("kind", "text"), ("service", "text"), ("tenant", "text"), ("integration_id", "uuid"),
    ("recipient", "text"), ("sender", "text"), ("subject", "text"), ("size", "bigint"),
    ("accepted_at", "double precision"), ("expires_at", "double precision"), ("status", "text"),
    ("body_begins", "integer"), ("body_bytes", "integer"),
)  # fmt: skip


async def test_what_is_accepted_has_the_row_that_it_comes_in(connection: Store) -> None:
    """The values of an accepted message are read as the columns, types and order of its row say."""

    def columns(tx: Connection) -> list[tuple[str, str]]:
        found = tx.execute(
            sa.text(
                "SELECT attname::text, format_type(atttypid, atttypmod) "
                "FROM pg_attribute JOIN pg_type ON attrelid = typrelid "
                "WHERE typname = 'accepted_message' AND attnum > 0 ORDER BY attnum"
            )
        )
        return [(name, type_) for name, type_ in found]

    assert tuple(await connection.read(columns)) == ACCEPTED_MESSAGE
