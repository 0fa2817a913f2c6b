"""`python -m benchmarks.tables`: the three tables of a message against one table, on PostgreSQL.

Every message is accepted, claimed and settled in groups, by the statements the product runs; the rival keeps all of it in
one row that is inserted once and updated twice, and has the index by which a sweep would find what is unfinished.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.message import Status
from mailroom.store import messages
from mailroom.store.messages import Claimed, NewMessage, Settlement
from mailroom.store.opening import open_store
from mailroom.store.port import Store
from tests.builders import created, migrated
from tests.journeys.office import a_row
from tests.services import Services

#: Messages in each run, in groups of so many, and how often each side runs.
MESSAGES = 10_000
GROUP = 50
ROUNDS = 3

#: Bytes of a message's text, random so that nothing is won by compressing it.
TEXTS = (100, 1500, 6000)

_ONE_TABLE = """
    CREATE TABLE one (
        id uuid PRIMARY KEY, kind text NOT NULL, service text, tenant text, integration_id uuid NOT NULL, recipient text,
        sender text, subject text, size bigint, accepted_at timestamptz, expires_at timestamptz, body bytea NOT NULL,
        status text NOT NULL, claim int NOT NULL DEFAULT 0, session uuid, attempts smallint NOT NULL DEFAULT 0,
        wake_at timestamptz, ended_at timestamptz, reply text
    ) WITH (fillfactor = 50);
    CREATE INDEX one_unfinished ON one (integration_id, id) WHERE ended_at IS NULL
"""
_ONE_ACCEPT = sa.text("""
    INSERT INTO one (id, kind, service, integration_id, recipient, sender, subject, accepted_at, expires_at, body, status)
    SELECT *, 'queued' FROM unnest(
        CAST(:id AS uuid[]), CAST(:kind AS text[]), CAST(:service AS text[]), CAST(:integration_id AS uuid[]),
        CAST(:recipient AS text[]), CAST(:sender AS text[]), CAST(:subject AS text[]),
        CAST(:accepted_at AS timestamptz[]), CAST(:expires_at AS timestamptz[]), CAST(:body AS bytea[]))
""")
_ONE_CLAIM = sa.text("""
    UPDATE one SET status = 'sending', session = :session, claim = claim + 1
    WHERE id = ANY(CAST(:id AS uuid[])) AND status = 'queued' RETURNING id, claim, body
""")
_ONE_SETTLE = sa.text("""
    UPDATE one SET status = 'sent', session = NULL, attempts = 1, ended_at = now(), reply = :reply
    WHERE id = ANY(CAST(:id AS uuid[])) AND status = 'sending'
""")


Life = Callable[[Store, list[NewMessage]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run cost per message."""

    wal_bytes: float
    milliseconds: float


def groups(integration_id: UUID, text: int) -> Iterator[list[NewMessage]]:
    """The messages of a run."""
    for _ in range(MESSAGES // GROUP):
        yield [replace(a_row(integration_id), body=os.urandom(350 + text)) for _ in range(GROUP)]


async def three_tables(store: Store, group: list[NewMessage]) -> None:
    """A group's whole life, as the product has it."""
    session = uuid4()
    ids = [message.id for message in group]
    await store.statement(messages.accept, group)
    taken = await store.statement(messages.claim, ids, session)
    await store.statement(messages.settle, [settled(one) for one in taken.values()])


def settled(message: Claimed) -> Settlement:
    """Sent at the first try."""
    return Settlement(
        id=message.id, claim=message.claim, status=Status.SENT, at=datetime.now(UTC), attempts=1, blamed=0,
        reply="dot: 250 2.0.0 Ok",
    )  # fmt: skip


async def one_table(store: Store, group: list[NewMessage]) -> None:
    """A group's whole life in one row each."""
    columns = ("id", "kind", "service", "integration_id", "recipient", "sender", "subject", "accepted_at", "expires_at",
               "body")  # fmt: skip
    arrays = {name: [getattr(message, name) for message in group] for name in columns}
    session = uuid4()

    def accept(tx: Connection) -> None:
        tx.execute(_ONE_ACCEPT, arrays)

    def claim(tx: Connection) -> None:
        tx.execute(_ONE_CLAIM, {"id": arrays["id"], "session": session}).all()

    def settle(tx: Connection) -> None:
        tx.execute(_ONE_SETTLE, {"id": arrays["id"], "reply": "dot: 250 2.0.0 Ok"})

    for step in (accept, claim, settle):
        await store.statement(step)


def position(tx: Connection) -> int:
    """How many bytes of WAL were ever written."""
    return int(tx.execute(sa.text("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")).scalar_one())


async def cost(store: Store, prepared: list[list[NewMessage]], life: Life) -> Cost:
    """What a run of this kind costs."""
    before, begun = await store.read(position), time.perf_counter()
    for group in prepared:
        await life(store, group)
    seconds, wal = time.perf_counter() - begun, await store.read(position) - before
    return Cost(wal / MESSAGES, seconds / MESSAGES * 1000)


async def compare(store: Store, integration_id: UUID, text: int) -> None:
    """Both sides in turn, and their medians, for texts of this size."""
    sides: dict[str, Life] = {"three tables": three_tables, "one table": one_table}
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, life in sides.items():
            costs[name].append(await cost(store, list(groups(integration_id, text)), life))
    for name, runs in costs.items():
        wal = sorted(run.wal_bytes for run in runs)[ROUNDS // 2]
        spent = sorted(run.milliseconds for run in runs)[ROUNDS // 2]
        print(f"text of {text:>4} bytes, {name:<13}{wal:>7.0f} bytes of WAL and {spent:.3f} ms per message")


async def measure(url: str) -> None:
    """Compare for each size."""
    store = open_store(url)
    try:
        for command in _ONE_TABLE.split(";"):
            await store.transaction(Connection.execute, sa.text(command))
        integration_id = await created(store)
        for text in TEXTS:
            await compare(store, integration_id, text)
    finally:
        await store.aclose()


def main() -> None:
    """Measure and print."""
    services = Services()
    try:
        asyncio.run(measure(services.postgres().new_database(migrated)))
    finally:
        services.close()


if __name__ == "__main__":
    main()
