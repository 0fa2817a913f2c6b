"""Whether a message costs the same with a thousand and with five million others in the store."""

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.deployment import Deployment, Process, deployment
from benchmarks.scale.measuring import Meter, concluded, pause, percentiles, show
from mailroom.message import Lane
from mailroom.store import blocks, dead_letters, messages, redrives, sessions, sweeping, tallies
from mailroom.store.opening import open_store
from mailroom.store.port import Store
from mailroom.store.searching import Query, search
from tests import filling
from worker.probe import hand_on

SIZES = (1_000, 100_000, 1_000_000, 5_000_000)

#: Seconds of intake at each size, the connections that bring it, and how long everything may take to be delivered.
SECONDS, CONNECTIONS, DRAIN_SECONDS = 8, 32, 120

#: How often each query is put.
RUNS = 20

#: By how much more PostgreSQL may spend on a message at the largest size than at the smallest, before it counts as not
#: flat; two runs over the same rows differ by a tenth.
MOST = 1.25

_SCRIPT = Path(__file__).with_name("form.lua")

_Ask = Callable[[Store], Awaitable[Any]]


def main(sizes: Sequence[int] = SIZES) -> int:
    """Measure and print."""
    found: dict[int, dict[str, float]] = {}
    with deployment() as made:
        gateway = _begun(made)
        url, integration_id = _integration(made)
        since = datetime.now(UTC) - filling.APART * max(sizes) - timedelta(days=1)
        asyncio.run(filling.add_tallies(url, integration_id))
        have = 0
        for size in sizes:
            begun = time.monotonic()
            asyncio.run(filled(url, integration_id, have, size, since))
            print(f"{size:,} messages; the last {size - have:,} made in {time.monotonic() - begun:.0f} s", flush=True)
            have = size
            found[size] = measured(made, gateway) | asyncio.run(queries(url, integration_id))
        sized = asyncio.run(filling.asked(url, _SIZES))
    names = list(next(iter(found.values())))
    show(["", *(f"{size:,}" for size in sizes)], [[name, *(found[size][name] for size in sizes)] for name in names])
    show(
        ["table", "MB", "MB of indexes"], [[row["relname"], float(row["kept"]), float(row["indexed"])] for row in sized]
    )
    grown = {name: found[sizes[-1]][name] / found[sizes[0]][name] for name in (INTAKE_COST, DRAIN_COST)}
    words = ", ".join(f"{name} grew {number:.2f} times" for name, number in grown.items())
    return concluded("rows", found, good=max(grown.values()) <= MOST, words=words)


_SIZES = """
    SELECT relname, pg_table_size(oid) / 1048576 AS kept, pg_indexes_size(oid) / 1048576 AS indexed FROM pg_class
    WHERE relname IN ('messages', 'contents', 'attempts', 'dead_letters', 'live', 'search_blocks', 'tallies') ORDER BY 1
"""


def _begun(made: Deployment) -> Process:
    """A gateway whose integration is tested."""
    gateway, worker = made.gateway(), made.worker()
    pause(2)
    worker.stop()
    return gateway


def _integration(made: Deployment) -> tuple[str, UUID]:
    url = made.environment["MAILROOM_DATABASE_URL"]
    return url, asyncio.run(filling.integration_named(url, "main"))


async def filled(url: str, integration_id: UUID, have: int, size: int, since: datetime) -> None:
    """Grow the store to so many messages."""
    await filling.add_ended(url, integration_id, have, size, since=since)
    await filling.tidied(url, since + have * filling.APART)


# --- what passes ------------------------------------------------------------------------------------------------------

INTAKE_COST = "intake: ms of PostgreSQL a message"
DRAIN_COST = "drain: ms of PostgreSQL a message"


def measured(made: Deployment, gateway: Process) -> dict[str, float]:
    """Take forms in, then deliver them: what is done in a second, and what each message costs whom."""
    pids = {"PostgreSQL": made.postgres.pid, "RabbitMQ": made.rabbitmq.pid, "gateway": gateway.popen.pid}
    meter, before = Meter(pids), gateway.figures()["mailroom_accepted_total"]
    written = _wal(made)
    _submit(made.listen_port)
    took = meter.seconds
    accepted = gateway.figures()["mailroom_accepted_total"] - before
    intake, busy = meter.spent(), meter.busy()
    found = {
        "intake: accepted a second": accepted / took,
        INTAKE_COST: intake["PostgreSQL"] / accepted * 1000,
        "intake: ms of RabbitMQ a message": intake["RabbitMQ"] / accepted * 1000,
        "intake: ms of the gateway a message": intake["gateway"] / accepted * 1000,
        "intake: part of the cores busy": busy,
        "intake: bytes of WAL a message": (_wal(made) - written) / accepted,
    }
    return found | _drained(made, accepted)


def _wal(made: Deployment) -> int:
    """Bytes of the database's log so far."""
    asked = filling.asked(
        made.environment["MAILROOM_DATABASE_URL"], "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn AS at"
    )
    return int(asyncio.run(asked)[0]["at"])


def _submit(port: int) -> None:
    url = f"http://127.0.0.1:{port}/genesys/2/email/support"
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", str(_SCRIPT), url]
    subprocess.run(command, check=True, capture_output=True)


def _drained(made: Deployment, accepted: float) -> dict[str, float]:
    already = made.sink.count()
    worker = made.worker()
    meter = Meter(
        {
            "PostgreSQL": made.postgres.pid,
            "RabbitMQ": made.rabbitmq.pid,
            "worker": worker.popen.pid,
            "sink": made.sink.pid,
        }
    )
    delivered, written = made.sink.count(), _wal(made)
    while made.sink.count() < already + accepted and meter.seconds < DRAIN_SECONDS:
        pause(0.05)
    took, spent, busy, number = meter.seconds, meter.spent(), meter.busy(), made.sink.count() - delivered
    figures = worker.figures()
    worker.stop()
    return {
        "drain: delivered a second": number / took,
        DRAIN_COST: spent["PostgreSQL"] / number * 1000,
        "drain: ms of RabbitMQ a message": spent["RabbitMQ"] / number * 1000,
        "drain: ms of the worker a message": spent["worker"] / number * 1000,
        "drain: ms of the sink a message": spent["sink"] / number * 1000,
        "drain: part of the cores busy": busy,
        "drain: bytes of WAL a message": (_wal(made) - written) / number,
        "drain: claims and settles per 1,000": 1000 / accepted
        * (figures["mailroom_claim_statements_total"] + figures["mailroom_settle_statements_total"]),
    }  # fmt: skip


# --- what looks -------------------------------------------------------------------------------------------------------


async def queries(url: str, integration_id: UUID) -> dict[str, float]:
    """The median of each look that the sweep and the pages take, in milliseconds."""
    store = open_store(url, command_seconds=600)
    try:
        newest = (await filling.asked(url, "SELECT id FROM messages ORDER BY id DESC LIMIT 1"))[0]["id"]
        found = {}
        for name, ask in looks(integration_id, UUID(str(newest))).items():
            took = []
            for _ in range(RUNS):
                begun = time.perf_counter()
                await ask(store)
                took.append((time.perf_counter() - begun) * 1000)
            found[f"ms of {name}"] = percentiles(took)["p50"]
        return found
    finally:
        await store.aclose()


def looks(integration_id: UUID, message_id: UUID) -> dict[str, _Ask]:
    """What the sweep asks again and again, then what pages and the platform API show; by name."""
    now = datetime.now(UTC)
    day, minute = timedelta(days=1), timedelta(minutes=15)
    today = (now - day, now, minute)
    most = 5000
    return {
        "the sweep's wake": lambda store: store.transaction(sweeping.wake, now=now, limit=most),
        "the sweep's held": lambda store: store.read(sweeping.with_held, [integration_id]),
        "the sweep's re-drives": lambda store: store.transaction(redrives.queue_some, [integration_id], now=now),
        "the sweep's beats": lambda store: store.read(sessions.beats),
        "the sweep's take back": lambda store: store.transaction(sweeping.recover, now=now, limit=most),
        "the sweep's abandoned tests": lambda store: hand_on(store, now),
        "the sweep's expired": lambda store: store.transaction(sweeping.expire, now=now, limit=most),
        "the sweep's lanes": lambda store: store.read(sweeping.queued_lanes),
        "the sweep's lost tickets": lambda store: store.transaction(
            sweeping.lost, integration_id, Lane.FORM, queued_before=now - day, now=now, limit=most
        ),
        "the sweep's tallies": lambda store: store.transaction(tallies.merge, before=now - 2 * day),
        "the indexer's look": lambda store: store.transaction(blocks.index_more, now=now),
        "the indexer's recount": lambda store: store.transaction(blocks.recount, now=now),
        "what waits": lambda store: store.read(sweeping.waiting),
        "a message": lambda store: store.read(messages.standing, message_id),
        "the newest messages": lambda store: store.read(search, Query(since=now - 90 * day, until=now)),
        "the dead letters' groups": lambda store: store.read(dead_letters.groups),
        "a group of dead letters": lambda store: store.read(dead_letters.members, integration_id, filling.FAILED),
        "the chart of a day": lambda store: store.read(tallies.series, *today, what=("accepted", "sent")),
    }
