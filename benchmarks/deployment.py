"""One gateway and some workers as real processes, on the services that the tests use too."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.builders import migrated
from tests.services import Postgres, RabbitMQ, Services, Sink, free_port

#: Seconds everything may take to start.
START_SECONDS = 60

#: What the deployments that are measured are told; the compose file's, but for what would get in a load's way.
_CONFIG = """
[email]
any_service = true
rate_limit = false
mailbox = "support@company.test"

# All load comes from one address.
[limits]
connections = 20000
connections_per_client = 20000

[integrations.main]
host = "127.0.0.1"
port = {port}
security = "none"
from = "forms@company.test"
"""


class NotStarted(Exception):
    """A process did not become ready in time; what it said is in the exception."""


@dataclass(slots=True)
class Process:
    """A process of ours and where its figures are."""

    popen: "subprocess.Popen[bytes]"
    figures_port: int

    def figures(self) -> dict[str, float]:
        """What it has done since its start."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.figures_port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, value in (line.split() for line in lines if not line.startswith("#"))}

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ready(self) -> bool:
        """Whether it says that it can work."""
        with contextlib.suppress(OSError):
            url = f"http://127.0.0.1:{self.figures_port}/readyz"
            return bool(urllib.request.urlopen(url, timeout=5).status == 200)
        return False

    def stop(self) -> None:
        """End it as an operator would."""
        self.popen.terminate()
        self.popen.wait()


@dataclass(slots=True)
class Deployment:
    """What is measured."""

    environment: dict[str, str]
    sink: Sink
    log: Path
    listen_port: int
    postgres: Postgres
    rabbitmq: RabbitMQ
    processes: list[Process] = field(default_factory=list)

    def change_config(self, before: str, after: str) -> None:
        """Put something else in the place of a text of the settings file; who runs already does not notice."""
        config = Path(self.environment["MAILROOM_CONFIG"])
        config.write_text(config.read_text().replace(before, after))

    def gateway(self) -> Process:
        """Start a gateway."""
        port = free_port()
        return self.process("gateway", {"MAILROOM_ADMIN_LISTEN": f"127.0.0.1:{port}"}, port)

    def worker(self) -> Process:
        """Start a worker."""
        port = free_port()
        return self.process("worker", {"MAILROOM_HEALTH_LISTEN": f"127.0.0.1:{port}"}, port)

    def process(self, module: str, own: dict[str, str], figures_port: int, wait: bool = True) -> Process:  # noqa: FBT001, FBT002 - of a script
        """Start one, with what only it is told, and wait until it is ready, if that is wanted."""
        with self.log.open("ab") as log:
            popen = subprocess.Popen([sys.executable, "-m", module], env=self.environment | own, stderr=log)
        process = Process(popen, figures_port)
        self.processes.append(process)
        deadline = time.monotonic() + START_SECONDS
        while wait and not process.ready():
            if time.monotonic() > deadline or popen.poll() is not None:
                raise NotStarted(f"{module}: {self.log.read_text()[-2000:]}")
            time.sleep(0.1)  # noqa: TID251 - nothing else runs in this process
        return process


def environment(folder: Path, *, database_url: str, queue_url: str, smtp_port: int, listen: int) -> dict[str, str]:
    """What the processes of a deployment are told; its configuration and its attachments are in this folder."""
    config = folder / "mailroom.toml"
    config.write_text(_CONFIG.format(port=smtp_port))
    return {
        "MAILROOM_CONFIG": str(config),
        "MAILROOM_DATABASE_URL": database_url,
        "MAILROOM_QUEUE_URL": queue_url,
        "MAILROOM_SECRET_KEY": "a key for benchmarks",
        "MAILROOM_ATTACHMENTS_URL": f"file://{folder}/attachments",
        "MAILROOM_LISTEN": f"127.0.0.1:{listen}",
    }


@contextlib.contextmanager
def deployment() -> Iterator[Deployment]:
    """PostgreSQL, RabbitMQ, smtp-sink, and nothing of ours yet; all of it ended on leaving."""
    services = Services()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sink = Sink(folder / "sink")
        try:
            sink.start_counting()
            port = free_port()
            postgres, rabbitmq = services.postgres(), services.rabbitmq()
            told = environment(
                folder,
                database_url=postgres.new_database(migrated),
                queue_url=rabbitmq.new_vhost(),
                smtp_port=sink.port,
                listen=port,
            )
            made = Deployment(told, sink, folder / "log", port, postgres, rabbitmq)
            yield made
        finally:
            for process in made.processes:
                if process.popen.poll() is None:
                    process.stop()
            sink.stop()
            services.close()
