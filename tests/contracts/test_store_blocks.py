"""What PostgreSQL promises about the index of the search: it follows the intake, and latecomers come into it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.message import first_id_at
from mailroom.store import blocks
from mailroom.store.opening import open_store
from mailroom.store.port import Store
from mailroom.store.schema import messages, search_blocks
from mailroom.store.searching import Query, search
from tests.builders import NOW, migrated
from tests.services import Postgres
from worker.indexing import Indexer

DAY = timedelta(days=1)


@pytest.fixture
async def connection(postgres: Postgres) -> AsyncIterator[Store]:
    """A store on PostgreSQL with our tables."""
    store = open_store(postgres.new_database(migrated))
    yield store
    await store.aclose()


def insert(tx: Connection, ids: Sequence[UUID], subject: str = "A question") -> None:
    """Messages that were sent."""
    usual = {"kind": "form", "subject": subject, "accepted_at": NOW, "status": "sent"}
    tx.execute(sa.insert(messages), [usual | {"id": id_} for id_ in ids])


def ids_from(moment: datetime, count: int) -> list[UUID]:
    """Ids of the milliseconds from then on, with room between them."""
    return [UUID(int=first_id_at(moment).int + (number << 80)) for number in range(count)]


def made(tx: Connection) -> list[tuple[UUID, UUID, int]]:
    """First, last and number of every block."""
    columns = (search_blocks.c.first_id, search_blocks.c.last_id, search_blocks.c.number)
    return [(*row,) for row in tx.execute(sa.select(*columns).order_by(search_blocks.c.first_id))]


async def found(store: Store, word: str) -> list[UUID]:
    """The ids of messages with this word."""
    page = await store.read(search, Query(since=NOW - DAY, until=NOW + DAY, words=(word,)))
    return [standing.id for standing in page.standings]


async def test_full_blocks_are_made(connection: Store) -> None:
    """Messages come into blocks in the order of their ids once a block is full, each into one."""
    ids = ids_from(NOW, 2 * blocks.BLOCK + 10)
    await connection.transaction(insert, ids)
    first = await connection.transaction(blocks.index_more, now=datetime.now(UTC))
    again = await connection.transaction(blocks.index_more, now=datetime.now(UTC))
    await connection.transaction(insert, ids_from(NOW + DAY, blocks.BLOCK - 10))
    third = await connection.transaction(blocks.index_more, now=NOW + 2 * DAY)

    assert (first, again, third) == (2 * blocks.BLOCK, 0, blocks.BLOCK)
    assert await connection.read(made) == [
        (ids[0], ids[255], 256), (ids[256], ids[511], 256), (ids[512], ids_from(NOW + DAY, 246)[-1], 256),
    ]  # fmt: skip


async def test_what_is_young_waits(connection: Store) -> None:
    """What may still get older neighbours comes into no block, and is found all the same."""
    ids = ids_from(NOW, blocks.BLOCK)
    await connection.transaction(insert, ids)

    assert await connection.transaction(blocks.index_more, now=NOW + timedelta(seconds=3)) == 0
    assert len(await found(connection, "question")) == 50
    assert await connection.transaction(blocks.index_more, now=NOW + timedelta(seconds=4)) == blocks.BLOCK
    assert len(await found(connection, "question")) == 50


async def test_a_round_is_bounded(connection: Store) -> None:
    """What lies there from before comes in by rounds of so many, the oldest first."""
    ids = ids_from(NOW, blocks.AT_ONCE + blocks.BLOCK)
    await connection.transaction(insert, ids)

    assert await connection.transaction(blocks.index_more, now=datetime.now(UTC)) == blocks.AT_ONCE
    assert await connection.read(blocks.indexed_up_to) == ids[blocks.AT_ONCE - 1]
    assert await connection.transaction(blocks.index_more, now=datetime.now(UTC)) == blocks.BLOCK


@pytest.mark.parametrize("place", [-1, 0.5, 100.5, 255.5, 300.5])
async def test_latecomers_are_found(connection: Store, place: float) -> None:
    """What is committed among messages that are in blocks, or before or between them, is found after the recount."""
    ids = ids_from(NOW, 2 * blocks.BLOCK)
    await connection.transaction(insert, ids)
    await connection.transaction(blocks.index_more, now=NOW + timedelta(seconds=10))
    late = UUID(int=first_id_at(NOW).int + int(place * 2**80))
    await connection.transaction(insert, [late], "A latecomer")

    assert await connection.transaction(blocks.recount, now=NOW + timedelta(seconds=60)) == 0
    assert await connection.transaction(blocks.recount, now=NOW + timedelta(seconds=130)) == 1
    assert await found(connection, "latecomer") == [late]
    assert sum(number for _, _, number in await connection.read(made)) == len(ids) + 1


async def test_many_latecomers_are_cut(connection: Store) -> None:
    """A block that became several has all of its messages in them; one that became none is gone."""
    ids = ids_from(NOW, 2 * blocks.BLOCK)
    await connection.transaction(insert, ids)
    await connection.transaction(blocks.index_more, now=NOW + timedelta(seconds=10))
    await connection.transaction(insert, [UUID(int=id_.int + 1 + more) for id_ in ids[:200] for more in range(3)])
    await connection.transaction(
        Connection.execute, sa.delete(messages).where(messages.c.id >= ids[256], messages.c.id <= ids[-1])
    )

    assert await connection.transaction(blocks.recount, now=NOW + DAY) == 2
    sizes = [number for _, _, number in await connection.read(made)]
    assert sizes == [285, 285, 286]


async def test_blocks_are_counted_again_once(connection: Store) -> None:
    """A block that was looked at is left alone, and the next one is not overlooked."""
    ids = ids_from(NOW, 2 * blocks.BLOCK)
    await connection.transaction(insert, ids[:256])
    await connection.transaction(blocks.index_more, now=NOW + timedelta(seconds=10))
    assert await connection.transaction(blocks.recount, now=NOW + DAY) == 0
    await connection.transaction(insert, ids[256:])
    await connection.transaction(blocks.index_more, now=NOW + timedelta(seconds=10))
    await connection.transaction(insert, [UUID(int=ids[number].int + 1) for number in (7, 300)])

    assert await connection.transaction(blocks.recount, now=NOW + DAY) == 1
    assert [number for _, _, number in await connection.read(made)] == [256, 257]


async def test_one_indexes_at_a_time(connection: Store) -> None:
    """While one makes blocks, others leave it alone; together they make each block once."""
    await connection.transaction(insert, ids_from(NOW, 2 * blocks.BLOCK))
    counts = await asyncio.gather(*(connection.transaction(blocks.index_more, now=datetime.now(UTC)) for _ in range(4)))

    assert sum(counts) == 2 * blocks.BLOCK
    assert len(await connection.read(made)) == 2


async def test_the_indexer_follows(connection: Store) -> None:
    """A running indexer brings in what is there, by itself."""
    ids = ids_from(NOW, blocks.BLOCK)
    await connection.transaction(insert, ids)
    running = asyncio.create_task(Indexer(connection).run())
    while await connection.read(blocks.indexed_up_to) != ids[-1]:
        await asyncio.sleep(0.05)
    running.cancel()

    assert await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("plans", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("number", [3000, 30_000])
async def test_blocks_are_not_read_one_by_one(connection: Store, plans: str, number: int) -> None:
    """However many there are, and whether plans are kept, blocks are found by the index of their terms."""

    def scans(tx: Connection) -> int:
        read = "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'search_blocks'"
        return int(tx.execute(sa.text(read)).scalar_one())

    def searched(tx: Connection) -> int:
        tx.execute(sa.text(f"SET LOCAL plan_cache_mode = {plans}"))
        before = scans(tx)
        search(tx, Query(since=NOW - DAY, until=NOW + DAY, words=("question",)))
        return scans(tx) - before

    await connection.transaction(insert, ids_from(NOW, 4 * blocks.BLOCK))
    await connection.transaction(blocks.index_more, now=datetime.now(UTC))
    many = "SELECT gen_random_uuid(), gen_random_uuid(), 256, ARRAY[n] FROM generate_series(1, :number) AS n"
    await connection.transaction(Connection.execute, sa.text(f"INSERT INTO search_blocks {many}"), {"number": number})
    await connection.transaction(Connection.execute, sa.text("ANALYZE"))

    assert await connection.transaction(searched) == 0
