"""`python -m benchmarks search [--rows 10000000]`: search and pages over a month of messages, on PostgreSQL.

Makes the messages, lets the indexer's own statements make the blocks, and puts every kind of question in turn, each with
other words, people and pages every time; then every page of the operators is loaded (benchmarks/pages.py). `make bench`
does not run it: ten million rows take 6 GB and half an hour.
"""

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from benchmarks import pages
from mailroom.message import Kind, Status, first_id_at
from mailroom.store import blocks
from mailroom.store.opening import open_store
from mailroom.store.port import Store
from mailroom.store.searching import Query, search
from tests.builders import migrated
from tests.services import Services

#: How often each question is put, and what it may take: of a hundred times, 95.
RUNS = 200
PROMISED_MS = 200.0

#: A month, some while ago, so that everything is old enough to be in a block.
UNTIL = datetime(2026, 1, 31, tzinfo=UTC)
SINCE = UNTIL - timedelta(days=30)

SERVICES, INTEGRATIONS, VOCABULARY, SENDERS = 20, 30, 20_000, 2_000_000

#: Rows made by one statement.
ROWS_AT_ONCE = 500_000

#: Words by how often they are used: the first ones in one subject of three, the last in one of some ten thousand.
_WORDS = (
    "CREATE TABLE words AS SELECT n, substr(md5(n::text), 1, 4 + n % 5) AS word FROM generate_series(0, :number) AS n"
)

_MESSAGES = """
    INSERT INTO messages (id, kind, service, tenant, integration_id, recipient, sender, subject, size, accepted_at,
                          expires_at, status, ended_at, reason, reply, tls, took, attempts, claims)
    SELECT id, (ARRAY['form', 'acd', 'agentless', 'campaign'])[1 + n % 4],
           CASE WHEN n % 4 = 0 THEN 'service' || floor(random() * :services) END, 'Environment',
           lpad((1 + floor(power(random(), 2) * :integrations))::text, 32, '0')::uuid,
           'team' || floor(random() * 200) || '@company' || floor(random() * 20) || '.test',
           'person' || floor(random() * :senders) || '@customer' || floor(random() * 50000) || '.test',
           (SELECT string_agg(w.word, ' ') FROM
                (SELECT floor(power(:vocabulary, random()))::int - 1 + n * 0 AS place
                 FROM generate_series(1, 3 + (n % 6)::int)) AS p
            JOIN words AS w ON w.n = p.place),
           20000, at, at + interval '5 days', fate, at + interval '2 seconds',
           CASE WHEN fate = 'failed' THEN 'rejected.recipient' END, 'dot: 250 2.0.0 Ok: queued as 4F2A81C3', 'TLSv1.3',
           300, 1, 1
    FROM (
        SELECT n, at, (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3)
                       || '8' || substr(md5(n::text), 4, 15))::uuid AS id,
               CASE WHEN n % 1000 = 999 THEN NULL WHEN n % 100 = 0 THEN 'failed' ELSE 'sent' END AS fate
        FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n,
             LATERAL (SELECT CAST(:since AS timestamptz) + n * CAST(:apart AS interval)) AS t (at)
    ) AS made
"""
_DEAD_LETTERS = """
    INSERT INTO dead_letters (message_id, integration_id, ended_at, reason, fingerprint)
    SELECT id, integration_id, ended_at, reason, reason FROM messages WHERE status = 'failed'
"""
_LIVE = """
    INSERT INTO live (id, kind, integration_id, status, expires_at)
    SELECT id, kind, integration_id, (ARRAY['queued', 'deferred', 'held'])[1 + floor(random() * 3)::int], expires_at
    FROM messages WHERE status IS NULL
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """What questions are made of: things that are there."""

    dice: random.Random
    people: list[str]
    words: list[str]
    ids: list[UUID]

    def word(self, first: int, last: int) -> str:
        """A word of those that are so frequent: 0 is the most frequent."""
        return self.words[self.dice.randrange(first, min(last, len(self.words)))]

    def integration(self) -> UUID:
        """One of the integrations, the busy ones as often as the others."""
        return UUID(f"{self.dice.randrange(1, INTEGRATIONS + 1):032d}")

    def moment(self) -> datetime:
        """Some moment of the month."""
        return SINCE + (UNTIL - SINCE) * self.dice.random()


ALL = Query(since=SINCE, until=UNTIL)
Question = Callable[[Sample], Query]

QUESTIONS: dict[str, Question] = {
    "the newest of all": lambda _: ALL,
    "an id": lambda it: replace(ALL, message_id=it.dice.choice(it.ids)),
    "a sender": lambda it: replace(ALL, address=it.dice.choice(it.people)),
    "a sender that is not there": lambda it: replace(ALL, address=f"{it.dice.random()}@nowhere.test"),
    "a recipient": lambda it: replace(ALL, address=f"team{it.dice.randrange(200)}@company{it.dice.randrange(20)}.test"),
    "a domain of a customer": lambda it: replace(ALL, domain=it.dice.choice(it.people).partition("@")[2]),
    "our own domain": lambda it: replace(ALL, domain=f"company{it.dice.randrange(20)}.test"),
    "a rare word": lambda it: replace(ALL, words=(it.word(15_000, 20_000),)),
    "a frequent word": lambda it: replace(ALL, words=(it.word(0, 20),)),
    "a word that is not there": lambda it: replace(ALL, words=(f"no{it.dice.randrange(10**9)}",)),
    "two frequent words": lambda it: replace(ALL, words=(it.word(0, 20), it.word(20, 60))),
    "two words that hardly meet": lambda it: replace(ALL, words=(it.word(300, 600), it.word(600, 1200))),
    "five frequent words": lambda it: replace(ALL, words=tuple(it.word(0, 30) for _ in range(5))),
    "a service": lambda it: replace(ALL, service=f"service{it.dice.randrange(SERVICES)}"),
    "kind and integration": lambda it: replace(ALL, kind=it.dice.choice(list(Kind)), integration_id=it.integration()),
    "what cannot be: acd of a service": lambda _: replace(ALL, kind=Kind.ACD, service="service1"),
    "failed": lambda _: replace(ALL, status=Status.FAILED),
    "failed of an integration": lambda it: replace(ALL, status=Status.FAILED, integration_id=it.integration()),
    "failed with a frequent word": lambda it: replace(ALL, status=Status.FAILED, words=(it.word(0, 20),)),
    "failed with a rare word": lambda it: replace(ALL, status=Status.FAILED, words=(it.word(15_000, 20_000),)),
    "held": lambda _: replace(ALL, status=Status.HELD),
    "held of a domain": lambda it: replace(ALL, status=Status.HELD, domain=f"company{it.dice.randrange(20)}.test"),
    "sent, an hour of it, a frequent word": lambda it: replace(
        ALL, status=Status.SENT, words=(it.word(0, 20),), since=(hour := it.moment()), until=hour + timedelta(hours=1)
    ),
    "a page anywhere, a word": lambda it: replace(ALL, words=(it.word(50, 500),), before=first_id_at(it.moment())),
    "the oldest page": lambda it: replace(ALL, until=SINCE + timedelta(minutes=it.dice.randrange(1, 60))),
    "everything at once": lambda it: Query(
        since=SINCE, until=UNTIL, domain=f"company{it.dice.randrange(20)}.test", words=(it.word(0, 50),),
        service=f"service{it.dice.randrange(SERVICES)}", kind=Kind.FORM, status=Status.SENT,
        integration_id=it.integration(),
    ),
}  # fmt: skip


async def told(store: Store, statement: str, **given: Any) -> Any:
    """Run one statement."""

    def run(tx: Connection) -> list[Any]:
        result = tx.execute(sa.text(statement), given)
        return list(result) if result.returns_rows else []

    return await store.transaction(run)


async def fill(store: Store, rows: int) -> None:
    """Make the messages, and everything that goes with them."""
    begun = time.perf_counter()
    await told(store, _WORDS, number=VOCABULARY)
    await told(store, "CREATE UNIQUE INDEX ON words (n)")
    sizes = {"services": SERVICES, "integrations": INTEGRATIONS, "vocabulary": VOCABULARY, "senders": SENDERS}
    for first in range(0, rows, ROWS_AT_ONCE):
        await told(store, _MESSAGES, first=first, last=min(first + ROWS_AT_ONCE, rows) - 1, since=SINCE,
                   apart=(UNTIL - SINCE) / rows, **sizes)  # fmt: skip
    await told(store, _DEAD_LETTERS)
    await told(store, _LIVE)
    print(f"{rows:,} messages made in {time.perf_counter() - begun:.0f} s")


async def index(store: Store) -> None:
    """Make every block, as the indexer does after an update."""
    rounds, begun, cpu = [], time.perf_counter(), time.process_time()
    wal = await wal_written(store)
    count = 0
    while True:
        began = time.perf_counter()
        made = await store.transaction(blocks.index_more, now=datetime.now(UTC))
        if not made:
            break
        count += made
        rounds.append((time.perf_counter() - began) * 1000)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    wal = await wal_written(store) - wal
    print(f"indexed {count:,}: {seconds / count * 1e6:.1f} us a message, {cpu / count * 1e6:.1f} of them ours; "
          f"{wal / count:.0f} bytes of WAL a message; a round of {blocks.AT_ONCE} took {shown(rounds)}")  # fmt: skip
    begun = time.perf_counter()
    blocks_made = (await told(store, "SELECT count(*) FROM search_blocks"))[0][0]
    while await told(store, "SELECT 1 FROM facts WHERE value = (SELECT replace(last_id::text, '-', '') FROM search_blocks "
                            "ORDER BY first_id DESC LIMIT 1)") == []:  # fmt: skip
        await store.transaction(blocks.recount, now=datetime.now(UTC))
    print(f"recounted {blocks_made:,} blocks: {(time.perf_counter() - begun) / blocks_made * 1e6:.0f} us each")


async def wal_written(store: Store) -> int:
    """How many bytes of WAL were ever written."""
    return int((await told(store, "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))[0][0])


async def tables(store: Store) -> None:
    """What everything takes on the disk."""
    sizes = await told(
        store,
        "SELECT relname, pg_table_size(oid), pg_indexes_size(oid) FROM pg_class "
        "WHERE relname IN ('messages', 'search_blocks', 'dead_letters', 'live') ORDER BY 1",
    )
    for name, table, indexes in sizes:
        print(f"  {name:<15}{table / 2**20:>9,.0f} MB{indexes / 2**20:>9,.0f} MB of indexes")


def shown(milliseconds: list[float]) -> str:
    """p50, p95 and the longest."""
    cuts = statistics.quantiles(milliseconds, n=20)
    return f"p50 {cuts[9]:.1f}, p95 {cuts[18]:.1f}, max {max(milliseconds):.1f} ms"


async def sampled(store: Store) -> Sample:
    """Things that are there."""
    rows = await told(store, "SELECT id, sender FROM messages TABLESAMPLE SYSTEM (0.1) LIMIT 5000")
    words = await told(store, "SELECT word FROM words ORDER BY n")
    dice = random.Random(1)  # noqa: S311 - the same questions in every run
    return Sample(dice, [row.sender for row in rows], [row.word for row in words], [row.id for row in rows])


async def ask(store: Store, sample: Sample, name: str, question: Question) -> float:
    """Put one kind of question; what p95 of them took, in milliseconds."""
    took, hits, bounded = [], 0, 0
    for _ in range(RUNS):
        query = question(sample)
        begun = time.perf_counter()
        found = await store.read(search, query)
        took.append((time.perf_counter() - begun) * 1000)
        hits += len(found.standings)
        bounded += found.looked_back_to is not None
    print(f"  {name:<40}{shown(took):<46} {hits / RUNS:>5.1f} found, {bounded / RUNS:>4.0%} to the bound")
    return statistics.quantiles(took, n=20)[18]


async def measure(url: str, rows: int) -> bool:
    """Fill, index, ask; whether every question was answered in the time that is promised."""
    store = open_store(url, command_seconds=3600)
    try:
        await fill(store, rows)
        await index(store)
        await told(store, "ANALYZE")
        await tables(store)
        sample = await sampled(store)
        slowest = max([await ask(store, sample, name, question) for name, question in QUESTIONS.items()])
    finally:
        await store.aclose()
    print("Pages:")
    slowest = max(slowest, await pages.measure(url, sample.ids, sample.words, INTEGRATIONS))
    print(f"slowest p95: {slowest:.1f} ms, promised: {PROMISED_MS:.0f} ms")
    return slowest <= PROMISED_MS


def main(words: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks search")
    parser.add_argument("--rows", type=int, default=10_000_000)
    rows = parser.parse_args(words).rows
    services = Services()
    try:
        return 0 if asyncio.run(measure(services.postgres().new_database(migrated), rows)) else 1
    finally:
        services.close()
