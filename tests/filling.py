"""A store as months of mail leave it, and one in which very much waits: made by SQL, on PostgreSQL."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
from sqlalchemy import Connection, delete

from mailroom.message import Lane, first_id_at
from mailroom.queue.opening import open_queue
from mailroom.queue.ticket import Address, Ticket, chunks
from mailroom.store import blocks, integrations
from mailroom.store.content import encode_content
from mailroom.store.opening import open_store
from mailroom.store.schema import messages, search_blocks
from tests.builders import a_content

#: Rows made by one statement, and tickets on their way to the broker at once.
ROWS_AT_ONCE = 50_000
TICKETS_AT_ONCE = 50

#: How far apart the messages of the past are; five million of them go back eight weeks.
APART = timedelta(seconds=1)

#: The fingerprint of the one group of dead letters that is here.
FAILED = hashlib.md5(b"rejected.recipient").hexdigest()  # noqa: S324 - as PostgreSQL makes it

#: Per cent to which accepted messages fill a page, as the schema has it.
_FULL = messages.dialect_options["postgresql"]["with"]["fillfactor"]

#: Before all of it.
EVER = datetime(2000, 1, 1, tzinfo=UTC)

_TEXT = (
    "Hello,\nI ordered two of these on Monday, and only one has arrived. The parcel was open at one side.\n"
    "Could you please have a look where the other one is? I have added the number of the order above.\nJane Doe\n"
)
_BODY = encode_content(
    a_content(subject="A question about an order", text=_TEXT, reply_to="jane@customer.test", from_name="Jane Doe")
)

#: Messages in the order of their time, as ids are; the number of each makes its id.
_MADE = """
    WITH made AS MATERIALIZED (
        SELECT n, at, 'person' || (n * 7919) % 2000000 || '@customer' || n % 50000 || '.test' AS sender,
               'A question about the order ' || n % 100000 AS subject,
               (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3)
                || '8' || substr(md5(n::text), 4, 15))::uuid AS id
        FROM generate_series($1::bigint, $2::bigint) AS n, LATERAL (SELECT $3::timestamptz + n * $4::interval) AS t (at)
    ), said AS (
        INSERT INTO contents (message_id, body) SELECT id, $6::bytea FROM made
    )
"""

#: One in fifty needed a second try, and one in two hundred failed: what both leave is here, too.
_ENDED = f"""
    {_MADE}, tried AS (
        INSERT INTO attempts (message_id, claim, number, started_at, ended_at, outcome, blame, command, code, reply)
        SELECT id, 1, 1, at + interval '1 second', at + interval '2 seconds', 'deferred', 'recipient', 'RCPT', 450,
               'RCPT: 450 4.2.0 try again later' FROM made WHERE n % 50 = 0
        UNION ALL
        SELECT id, 2, 2, at + interval '9 seconds', at + interval '9 seconds', 'rejected', 'recipient', 'RCPT', 550,
               'RCPT: 550 5.1.1 no such user' FROM made WHERE n % 200 = 0
    ), buried AS (
        INSERT INTO dead_letters (message_id, integration_id, ended_at, reason, command, code, said, fingerprint)
        SELECT id, $5::uuid, at + interval '9 seconds', 'rejected.recipient', 'RCPT', 550, 'no such user',
               md5('rejected.recipient') FROM made WHERE n % 200 = 0
    )
    INSERT INTO messages (id, kind, service, tenant, integration_id, recipient, sender, subject, size, accepted_at,
                          expires_at, status, ended_at, reason, reply, took, attempts, claims)
    SELECT id, 'form', 'support', 'Environment', $5::uuid, 'support@company.test', sender, subject, 900, at,
           at + interval '5 days', CASE WHEN n % 200 = 0 THEN 'failed' ELSE 'sent' END, at + interval '9 seconds',
           CASE WHEN n % 200 = 0 THEN 'rejected.recipient' END,
           CASE WHEN n % 200 = 0 THEN 'RCPT: 550 5.1.1 no such user' ELSE 'dot: 250 2.0.0 Ok' END, 12,
           1 + (n % 50 = 0)::int, 1 + (n % 50 = 0)::int
    FROM made
"""  # noqa: S608 - put together of the texts above

_WAITING = f"""
    {_MADE}, awaited AS (
        INSERT INTO live (id, kind, integration_id, status, queued_at, expires_at)
        SELECT id, 'form', $5::uuid, 'queued', $7::timestamptz, $7::timestamptz + interval '5 days' FROM made
    )
    INSERT INTO messages (id, kind, service, tenant, integration_id, recipient, sender, subject, size, accepted_at,
                          expires_at)
    SELECT id, 'form', 'support', 'Environment', $5::uuid, 'support@company.test', sender, subject, 900, at,
           $7::timestamptz + interval '5 days'
    FROM made
"""  # noqa: S608 - as above

#: What was counted in each minute of the last day, and in each hour of the week before.
_TALLIES = """
    INSERT INTO tallies (minute, what, kind, service, integration_id, number)
    SELECT date_trunc($1, now()) - n * ('1 ' || $1)::interval, what, 'form', 'support', $2, 7
    FROM generate_series($3::int, $4::int) AS n,
         unnest(ARRAY['accepted', 'sent', 'deferred', 'failed', 'within 0.1', 'within 0.5', 'within 1']) AS what
    ON CONFLICT DO NOTHING
"""


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def integration_named(url: str, name: str) -> UUID:
    """The id of an integration that is there."""
    async with _connected(url) as connection:
        return UUID(str(await connection.fetchval("SELECT id FROM integrations WHERE name = $1", name)))


async def asked(url: str, sql: str, *given: object) -> list[asyncpg.Record]:
    """The rows that a statement answers."""
    async with _connected(url) as connection:
        return list(await connection.fetch(sql, *given))


async def add_ended(url: str, integration_id: UUID, first: int, last: int, *, since: datetime) -> None:
    """Messages of these numbers that have all come to an end; number 0 was accepted `since`."""
    async with _connected(url) as connection:
        # Of the pages of messages that were accepted and then ended, half and more leave less room than the next one asks
        # for. Those made here come ended, and all of them would leave more: each message accepted later would go to
        # another old page, and after a checkpoint each of these pages as a whole into the log.
        await connection.execute("ALTER TABLE messages SET (fillfactor = 100)")
        for begin in range(first, last, ROWS_AT_ONCE):
            end = min(begin + ROWS_AT_ONCE, last) - 1
            await connection.execute(_ENDED, begin, end, since, APART, integration_id, _BODY)
        await connection.execute(f"ALTER TABLE messages SET (fillfactor = {_FULL})")


async def add_tallies(url: str, integration_id: UUID) -> None:
    """What the minutes of a day and the hours of a week left."""
    async with _connected(url) as connection:
        for step, first, last in (("minute", 0, 26 * 60), ("hour", 27, 7 * 24)):
            await connection.execute(_TALLIES, step, integration_id, first, last)


async def add_waiting(url: str, integration_id: UUID, number: int) -> list[UUID]:
    """So many forms that are queued now, of the last hours, without tickets; their ids, the oldest first."""
    now = datetime.now(UTC)
    apart, since = timedelta(milliseconds=1), now - timedelta(milliseconds=number)
    async with _connected(url) as connection:
        for begin in range(0, number, ROWS_AT_ONCE):
            end = min(begin + ROWS_AT_ONCE, number) - 1
            await connection.execute(_WAITING, begin, end, since, apart, integration_id, _BODY, now)
        rows = await connection.fetch("SELECT id FROM live WHERE integration_id = $1 ORDER BY id", integration_id)
    return [UUID(str(row["id"])) for row in rows]


def _forget_blocks(tx: Connection, since: datetime) -> None:
    tx.execute(delete(search_blocks).where(search_blocks.c.last_id >= first_id_at(since)))


async def add_tickets(database_url: str, queue_url: str, integration_id: UUID, ids: Sequence[UUID]) -> None:
    """Tickets for these, as full as tickets can be, in the queue for forms."""
    address = Address(Lane.FORM, integration_id)
    queue, store = open_queue(queue_url), open_store(database_url)
    try:
        await store.statement(integrations.mark_lane, integration_id, Lane.FORM)
        tickets = [Ticket(some, datetime.now(UTC)) for some in chunks(ids)]
        await queue.publish(address, tickets[0])
        for at in range(1, len(tickets), TICKETS_AT_ONCE):
            await asyncio.gather(*(queue.publish(address, one) for one in tickets[at : at + TICKETS_AT_ONCE]))
    finally:
        await queue.aclose()
        await store.aclose()


async def tidied(url: str, since: datetime) -> None:
    """Return once the store is as it would be after all this time: indexed, vacuumed, analyzed and on its disk.

    What was accepted since then was not made in the order in which it was dated, as far as the index knows.
    """
    store = open_store(url, command_seconds=600)
    try:
        await store.transaction(_forget_blocks, since)
        while await store.transaction(blocks.index_more, now=datetime.now(UTC)):
            pass
    finally:
        await store.aclose()
    async with _connected(url) as connection:
        await connection.execute("VACUUM (ANALYZE)")
        await connection.execute("CHECKPOINT")
