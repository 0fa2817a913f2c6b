"""Mailroom as the compose file runs it, `mailroom up`, and the bare program of the same design, as stacks to measure."""

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import asyncpg

from benchmarks.cases import PLACE
from benchmarks.deployment import environment
from benchmarks.stacks import Places, StackFailed
from mailroom.integration import ReportedState
from mailroom.pace import LEAST_RATE
from tests.builders import migrated
from tests.services import free_port, listening_at

#: On two cores that everything shares. A second gateway takes small forms in three quarters faster, end to end it changes
#: nothing; a second worker makes the groups of claims and settlements smaller, and delivers less.
GATEWAYS, WORKERS = 2, 1

#: To the SMTP server, all workers together: what Mailroom's integrations have where nobody says otherwise.
CONNECTIONS = 8

START_SECONDS, STOP_SECONDS = 60.0, 90.0

#: A gateway's snapshot of the integrations is at most so old.
SNAPSHOT_SECONDS = 1.0

#: Answers in a row after which all processes that share a port have answered, most likely.
READY_ANSWERS = 8


class Processes:
    """Some processes with the same environment, and what they said."""

    def __init__(self, folder: Path, name: str, told: Mapping[str, str]) -> None:
        self._said = folder / f"{name}-said"
        self._told = {"PATH": os.defpath, "LANG": "C.UTF-8", **told}
        self._running: list[subprocess.Popen[bytes]] = []
        #: Since the beginning, as what they said is.
        self._started = 0

    @property
    def pids(self) -> list[int]:
        """Of those that were started by us."""
        return [process.pid for process in self._running]

    def start(self, command: Sequence[str], **own: str) -> None:
        """One more of them."""
        self._started += 1
        with self._said.open("ab") as said:
            process = subprocess.Popen(
                [sys.executable, *command], env=self._told | own, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
        self._running.append(process)

    def wait_answering(self, url: str, processes: int = 1) -> None:
        """Return once so many listen there, and answer several times in a row; raises StackFailed."""
        answers, port = 0, urllib.parse.urlsplit(url).port or 0

        def answered() -> bool:
            nonlocal answers
            answers = answers + 1 if listening_at(port) >= processes and _answers(url) else 0
            return answers >= READY_ANSWERS

        self._wait(answered)

    def wait_ready(self) -> None:
        """Return once each has said so; raises StackFailed."""
        self._wait(lambda: self._said.read_text(errors="replace").count("ready\n") >= self._started)

    def wait_ended(self) -> None:
        """Return once all have ended well; raises StackFailed."""
        for process in self._running:
            if process.wait(START_SECONDS):
                raise self._failed()
        self._running.clear()

    def _wait(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if time.monotonic() > deadline or any(process.poll() is not None for process in self._running):
                raise self._failed()
            _pause(0.02)

    def _failed(self) -> StackFailed:
        return StackFailed(f"did not start\n{self._said.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """Tell all to end, and wait for it."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()


class Mailroom:
    """Gateways that share a port, and workers, with everything on."""

    name = "Mailroom"

    def __init__(self, places: Places, gateways: int = GATEWAYS, workers: int = WORKERS) -> None:
        self._port = free_port()
        self._database_url, self._gateways, self._workers = places.database_url, gateways, workers
        self._prepared = False
        told = environment(
            places.folder,
            database_url=places.database_url,
            queue_url=places.amqp_url,
            smtp_port=places.smtp_port,
            listen=self._port,
        )
        self._intake = Processes(places.folder, "gateways", told)
        self._delivery = Processes(places.folder, "workers", told)

    def start_intake(self) -> None:
        """Gateways that know of an integration that may send."""
        self._prepare()
        admin = f"127.0.0.1:{free_port()}"
        self._intake.start(["-m", "gateway", "--processes", str(self._gateways)], MAILROOM_ADMIN_LISTEN=admin)
        self._intake.wait_answering(f"http://127.0.0.1:{self._port}/readyz", self._gateways)

    def _prepare(self) -> None:
        """Tables, and an integration whose first live test a worker made."""
        if self._prepared:
            return
        asyncio.run(migrated(self._database_url))
        self.start_delivery()
        wait_active(lambda: _states_in_postgresql(self._database_url))
        self.stop_delivery()
        self._prepared = True

    def stop_intake(self) -> None:
        """Gateways end as an operator ends them."""
        self._intake.stop()

    def start_delivery(self) -> None:
        """Workers that say that they can work."""
        ports = [free_port() for _ in range(self._workers)]
        for port in ports:
            self._delivery.start(["-m", "worker"], MAILROOM_HEALTH_LISTEN=f"127.0.0.1:{port}")
        for port in ports:
            self._delivery.wait_answering(f"http://127.0.0.1:{port}/readyz")

    def stop_delivery(self) -> None:
        """Workers finish what they have begun."""
        self._delivery.stop()

    def url(self) -> str:
        """Where forms go."""
        return f"http://127.0.0.1:{self._port}{PLACE}"

    def roots(self) -> dict[str, list[int]]:
        """Its processes by role."""
        return {"gateway": self._intake.pids, "worker": self._delivery.pids}


class Embedded:
    """`mailroom up` with SQLite: one process, in which intake alone is intake while its worker may send nothing."""

    name = "Mailroom up"

    def __init__(self, places: Places) -> None:
        self._places = places
        self._port = free_port()
        self._starts = 0
        self._up: Processes | None = None

    def start_intake(self) -> None:
        """Take in, and keep all of it."""
        self._start(paced=True)

    def stop_intake(self) -> None:
        """End it."""
        self._stop()

    def start_delivery(self) -> None:
        """Begin anew, with nothing in hand, and deliver what comes."""
        self._stop()
        self._start(paced=False)

    def stop_delivery(self) -> None:
        """End it."""
        self._stop()

    def url(self) -> str:
        """Where forms go."""
        return f"http://127.0.0.1:{self._port}{PLACE}"

    def roots(self) -> dict[str, list[int]]:
        """Its one process."""
        return {"gateway": self._up.pids if self._up else []}

    def _start(self, *, paced: bool) -> None:
        self._starts += 1
        folder = self._places.folder / f"up-{self._starts}"
        folder.mkdir()
        database = folder / "mailroom.db"
        told = environment(
            folder,
            database_url=f"sqlite:///{database}",
            queue_url="memory:",
            smtp_port=self._places.smtp_port,
            listen=self._port,
        )
        if paced:
            # The last table of the configuration is the integration's.
            config = Path(told["MAILROOM_CONFIG"])
            config.write_text(f"{config.read_text()}per_second = {LEAST_RATE}\n")
        self._up = Processes(folder, "up", told | {"MAILROOM_DATA_DIR": str(folder)})
        admin = f"127.0.0.1:{free_port()}"
        self._up.start(["-m", "cli", "up"], MAILROOM_ADMIN_LISTEN=admin)
        self._up.wait_answering(f"http://127.0.0.1:{self._port}/readyz")
        wait_active(lambda: _states_in_sqlite(database))

    def _stop(self) -> None:
        if self._up is not None:
            self._up.stop()
            self._up = None


class Bare:
    """The same libraries and the same design, and nothing that Mailroom does beside it (benchmarks/peers/bare.py)."""

    name = "Bare program"

    def __init__(self, places: Places, gateways: int = GATEWAYS, workers: int = WORKERS) -> None:
        self._port = free_port()
        self._gateways, self._workers = gateways, workers
        files = places.folder / "files"
        files.mkdir()
        told = {
            "PORT": str(self._port),
            "AMQP_URL": places.amqp_url,
            "DATABASE_URL": places.database_url,
            "SMTP_PORT": str(places.smtp_port),
            "FILES": str(files),
            "CONNECTIONS": str(CONNECTIONS // workers),
        }
        self._tables = Processes(places.folder, "tables", told)
        self._intake = Processes(places.folder, "web", told)
        self._delivery = Processes(places.folder, "worker", told)

    def start_intake(self) -> None:
        """Web processes that share a port."""
        self._program(self._tables, "tables")
        self._tables.wait_ended()
        for _ in range(self._gateways):
            self._program(self._intake, "web")
        self._intake.wait_answering(self.url(), self._gateways)

    def stop_intake(self) -> None:
        """End them."""
        self._intake.stop()

    def start_delivery(self) -> None:
        """Consumers."""
        for _ in range(self._workers):
            self._program(self._delivery, "worker")
        self._delivery.wait_ready()

    def stop_delivery(self) -> None:
        """End them."""
        self._delivery.stop()

    def url(self) -> str:
        """Where forms go."""
        return f"http://127.0.0.1:{self._port}{PLACE}"

    def roots(self) -> dict[str, list[int]]:
        """Its processes by role."""
        return {"gateway": self._intake.pids, "worker": self._delivery.pids}

    def _program(self, processes: Processes, part: str) -> None:
        processes.start(["-m", "benchmarks.peers.bare", part])


def wait_active(states: Callable[[], set[str]]) -> None:
    """Return once every integration may send, and every snapshot of them says so; raises StackFailed."""
    deadline = time.monotonic() + START_SECONDS
    while states() != {ReportedState.ACTIVE}:
        if time.monotonic() > deadline:
            raise StackFailed("the live test of the integration did not succeed")
        _pause(0.1)
    _pause(SNAPSHOT_SECONDS)


_STATES = "SELECT reported_state FROM integrations"


def _states_in_postgresql(url: str) -> set[str]:
    async def read() -> set[str]:
        connection = await asyncpg.connect(url)
        try:
            return {state for (state,) in await connection.fetch(_STATES)}
        finally:
            await connection.close()

    return asyncio.run(read())


def _states_in_sqlite(path: Path) -> set[str]:
    """Past the lock by which a process says that the database is its own."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return {state for (state,) in connection.execute(_STATES)}


def _answers(url: str) -> bool:
    """Whether there is an answer other than that it is not ready yet."""
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - an address of ours
    except urllib.error.HTTPError as error:
        return error.code != 503
    except OSError:
        return False
    return True


def _pause(seconds: float) -> None:
    time.sleep(seconds)  # noqa: TID251 - there is no event loop here
