"""What every stack of a comparison stands on, the same for all: PostgreSQL, RabbitMQ and smtp-sink, and the machine."""

import contextlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.stacks import Places
from tests.services import Postgres, RabbitMQ, Sink

#: What the broker counts, in the words of its global counters.
_PUBLISHES = "maps:get(messages_received_total, maps:get([{protocol, amqp091}], rabbit_global_counters:overview()))."

#: As a small machine that keeps its promises would have it.
_POSTGRESQL = {
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "shared_preload_libraries": "pg_stat_statements",
}


@dataclass(frozen=True, slots=True)
class Ground:
    """Database, broker and SMTP server, the same for every stack."""

    postgres: Postgres
    rabbitmq: RabbitMQ
    sink: Sink

    @contextlib.contextmanager
    def places(self) -> Iterator[Places]:
        """A database, a virtual host and a folder for one stack, gone afterwards."""
        self.postgres.run_sql("CHECKPOINT")
        self.sink.start_counting()
        with tempfile.TemporaryDirectory(prefix="mailroom-bench-") as folder:
            yield Places(
                amqp_url=self.rabbitmq.new_vhost(),
                database_url=self.postgres.new_database(),
                smtp_port=self.sink.port,
                folder=Path(folder),
            )
        self.postgres.tidy()
        self.rabbitmq.tidy()

    def roots(self) -> dict[str, list[int]]:
        """Their processes by role."""
        sink = [self.sink.pid] if self.sink.running else []
        return {"postgresql": [self.postgres.pid], "rabbitmq": [self.rabbitmq.pid], "sink": sink}

    def statements(self, database_url: str) -> float:
        """How many were run in this database since its beginning."""
        database = database_url.rpartition("/")[2]
        asked = "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements JOIN pg_database d ON d.oid = dbid"
        return float(self.postgres.run_sql(f"{asked} WHERE datname = '{database}'"))

    def publishes(self) -> float:
        """How many the broker was given since its start."""
        return float(self.rabbitmq.evaluate(_PUBLISHES))


@contextlib.contextmanager
def ground() -> Iterator[Ground]:
    """All of it, ended on leaving."""
    with contextlib.ExitStack() as endings, tempfile.TemporaryDirectory() as folder:
        # What is acknowledged is on the disk, here as in the broker: with less there would be no promise to compare.
        postgres = Postgres(fsync="on", settings=_POSTGRESQL)
        endings.callback(postgres.close)
        rabbitmq = RabbitMQ()
        endings.callback(rabbitmq.close)
        sink = Sink(Path(folder) / "sink")
        endings.callback(sink.stop)
        postgres.start()
        postgres.run_sql("CREATE EXTENSION pg_stat_statements")
        rabbitmq.start()
        yield Ground(postgres, rabbitmq, sink)


def machine() -> dict[str, Any]:
    """What it was measured on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    asked = {
        "commit": ["git", "rev-parse", "HEAD"],
        "rabbitmq": ["dpkg-query", "--show", "--showformat=${Version}", "rabbitmq-server"],
        "postgresql": ["psql", "--version"],
        "postfix": ["dpkg-query", "--show", "--showformat=${Version}", "postfix"],
        "wrk": ["dpkg-query", "--show", "--showformat=${Version}", "wrk"],
        "node": ["node", "--version"],
    }
    return {
        "cores": os.cpu_count(),
        "processor": model[1] if model else platform.machine(),
        "memory_mb": int(memory[1]) // 1024 if memory else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: _told(command) for name, command in asked.items()},
    }


def _told(command: list[str]) -> str | None:
    """The first line a program prints; none where there is no such program."""
    if shutil.which(command[0]) is None:
        return None
    printed = subprocess.run(command, check=False, capture_output=True, text=True).stdout.splitlines()
    return printed[0] if printed else None
