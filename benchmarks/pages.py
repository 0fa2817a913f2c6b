"""The operator's pages over the messages of benchmarks/search.py: what each takes, from the request to its last byte."""

import hashlib
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import sqlalchemy as sa

from gateway.app import Gateway
from mailroom.attachments import AttachmentStore
from mailroom.queue.memory import MemoryQueue
from mailroom.settings import EmailOptions, Settings
from mailroom.store.content import encode_content
from mailroom.store.opening import open_store
from mailroom.store.port import Store
from mailroom.store.schema import contents
from tests.builders import a_content
from tests.gateway.admin.visitor import Visitor, entrance_of
from tests.journeys.office import VAULT

#: How often each page is loaded.
RUNS = 100

_INTEGRATIONS = """
    INSERT INTO integrations (id, name, host, port, security, from_address, max_connections, intended_state,
                              reported_state, since)
    SELECT lpad(n::text, 32, '0')::uuid, 'integration' || n, 'smtp.company.test', 587, 'starttls', 'forms@company.test', 8,
           'ENABLED', CASE WHEN n = 3 THEN 'ERROR' ELSE 'ACTIVE' END, now()
    FROM generate_series(1, :integrations) AS n
"""
_FINGERPRINTS = "UPDATE dead_letters SET fingerprint = md5(reason)"
_AUDIT = """
    INSERT INTO audit (id, at, who, subject, subject_id, action, before, after, why)
    SELECT gen_random_uuid(), now() - n * interval '10 seconds', 'user' || n % 20, 'integration',
           lpad((1 + n % 30)::text, 32, '0')::uuid, 'configured', 'port=25', 'port=587', 'for the benchmark'
    FROM generate_series(1, 200000) AS n
"""
#: Three hundred things counted in each minute of a day, and in each hour of the week before.
_TALLIES = """
    INSERT INTO tallies (minute, what, kind, service, integration_id, number)
    SELECT date_trunc(:step, now()) - n * CAST('1 ' || :step AS interval), what, 'form', '',
           lpad(i::text, 32, '0')::uuid, 7
    FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS n, generate_series(1, :integrations) AS i,
         unnest(ARRAY['accepted', 'sent', 'deferred', 'failed', 'held', 'within 0.1', 'within 0.5', 'within 1', 'within 5',
                      'within 30']) AS what
"""


async def measure(url: str, ids: list[UUID], words: list[str], integrations: int) -> float:
    """Load every page again and again; what p95 of the slowest of them took, in milliseconds."""
    store = open_store(url, command_seconds=600)
    with TemporaryDirectory() as folder:
        settings = Settings(email=EmailOptions(mailbox="team@company.test"), any_service=True, data_dir=Path(folder))
        gateway = Gateway(settings, store, MemoryQueue(), AttachmentStore(Path(folder)), VAULT)
        try:
            await _fill(store, ids, integrations)
            async with gateway.running(), entrance_of(gateway, store) as entrance, entrance.person() as visitor:
                await gateway.watch.fresh()
                return max([await _load(visitor, name, paths) for name, paths in _pages(ids, words).items()])
        finally:
            await store.aclose()


async def _fill(store: Store, ids: list[UUID], integrations: int) -> None:
    """Everything that pages show beside the messages themselves."""
    body = encode_content(a_content())

    def fill(tx: sa.Connection) -> None:
        tx.execute(sa.text(_INTEGRATIONS), {"integrations": integrations})
        tx.execute(sa.text(_FINGERPRINTS))
        tx.execute(sa.text(_AUDIT))
        for step, first, last in (("minute", 0, 26 * 60), ("hour", 27, 7 * 24)):
            tx.execute(sa.text(_TALLIES), {"step": step, "first": first, "last": last, "integrations": integrations})
        tx.execute(sa.insert(contents), [{"message_id": one, "body": body} for one in ids])
        tx.execute(sa.text("ANALYZE"))

    await store.transaction(fill)


def _pages(ids: list[UUID], words: list[str]) -> dict[str, list[str]]:
    """The addresses that are loaded in turn, by what they show."""
    of = "00000000-0000-0000-0000-000000000001"
    group = f"{of}/{hashlib.md5(b'rejected.recipient').hexdigest()}"  # noqa: S324 - as _FINGERPRINTS has it
    since, until = "2026-01-01", (datetime(2026, 1, 31, tzinfo=UTC) - timedelta(days=1)).date().isoformat()
    within = f"from={since}&to={until}"
    return {
        "overview": ["/"],
        "overview, a week": ["/?span=week"],
        "integrations": ["/integrations"],
        "one integration": [f"/integrations/{of}"],
        "before a reset": [f"/integrations/{of}/reset"],
        "messages of a month": [f"/messages?{within}"],
        "messages, a word": [f"/messages?{within}&text={word}" for word in words[: RUNS * 20 : 20]],
        "messages, failed": [f"/messages?{within}&status=failed"],
        "one message": [f"/messages/{one}" for one in ids[:RUNS]],
        "dead letters": ["/dead-letters"],
        "a group of dead letters": [f"/dead-letters/{group}"],
        "forms": ["/forms"],
        "one form": ["/forms/support"],
        "explain": [f"/explain?message={one}" for one in ids[:RUNS]],
        "audit": ["/audit"],
        "audit of one integration": ["/audit?integration=integration7"],
        "people": ["/people"],
        "account": ["/account"],
    }


async def _load(visitor: Visitor, name: str, paths: list[str]) -> float:
    took: list[float] = []
    for run in range(RUNS):
        begun = time.perf_counter()
        seen = await visitor.get(paths[run % len(paths)])
        took.append((time.perf_counter() - begun) * 1000)
        if seen.status != 200:
            raise RuntimeError(f"{paths[run % len(paths)]} answered {seen.status}: {seen.words[:300]}")
    took.sort()
    p95 = took[int(len(took) * 0.95)]
    print(f"  {name:<40}p50 {took[len(took) // 2]:.1f}, p95 {p95:.1f}, max {took[-1]:.1f} ms")
    return p95
