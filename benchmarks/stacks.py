"""What people would build instead of Mailroom (benchmarks/peers), as processes that a benchmark starts and stops.

Each is told where broker, database and SMTP server are. Postfix takes mails and no forms, and has a feed of its own.
The others answer once the broker has confirmed, but do not sync the large files that they save, as hardly anybody does.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.services import free_port

LOOPBACK = "127.0.0.1"
PEERS = Path(__file__).parent / "peers"
#: The peers in Python have an environment of their own: what they need is no part of what Mailroom needs.
PROGRAMS = Path(__file__).parents[1] / ".venv" / "peers" / "bin"
QUEUE = "forms"
MAILBOX = "support@company.test"

START_SECONDS, STOP_SECONDS = 60.0, 30.0

#: Consumers on two cores. Two of FastAPI's sent 1.6 times as much as one. Two of Express' sent up to a quarter more while
#: nothing came in, but a fifth less while it did.
FASTAPI_CONSUMERS, EXPRESS_CONSUMERS = 2, 1


#: Of what a process said the last lines are told, and of each so many characters.
LAST_LINES, MOST_OF_A_LINE = 8, 300


class StackFailed(Exception):
    """A stack is not installed, or did not start; the text ends with what it said last."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a stack finds what it stands on; `folder` is its own, and exists."""

    amqp_url: str
    database_url: str
    smtp_port: int
    folder: Path

    def last_words(self) -> str:
        """What the processes of the stack said last, but for what is only news; empty where they said nothing."""
        said = {file: _complaints(file.read_text(errors="replace")) for file in sorted(self.folder.rglob("*-said"))}
        return "".join(f"\n{file.stem} said last:\n  " + "\n  ".join(lines) for file, lines in said.items() if lines)


class Stack(Protocol):
    """Forms go in over HTTP, mails come out over SMTP; the two halves start and stop by themselves."""

    name: str

    def start_intake(self) -> None:
        """Return once forms are answered."""

    def stop_intake(self) -> None:
        """Answer no more forms; what was accepted stays."""

    def start_delivery(self) -> None:
        """Return once everything that delivers runs."""

    def stop_delivery(self) -> None:
        """Deliver no more."""

    def url(self) -> str:
        """Where forms go."""
        ...

    def roots(self) -> dict[str, list[int]]:
        """Its processes by role; those that they started are not listed."""
        ...


class _Half:
    """Processes that start and stop together, and what they said."""

    def __init__(self, said: Path) -> None:
        self._said = said
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str | Path], environment: Mapping[str, str], times: int, ready: int) -> None:
        """Start it so many times; return once all of it together has said `ready` so many times."""
        self._said.write_bytes(b"")
        with self._said.open("ab") as said:
            for _ in range(times):
                process = subprocess.Popen(
                    [str(part) for part in command],
                    cwd=PEERS, env=dict(environment), stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                    start_new_session=True,
                )  # fmt: skip
                self._processes.append(process)
        self._wait(lambda: len(re.findall(r"^ready$", self._said.read_text(), re.MULTILINE)) >= ready)

    def _wait(self, is_ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            if time.monotonic() > deadline or any(process.poll() is not None for process in self._processes):
                self.stop()
                raise StackFailed(f"did not start\n{self._said.read_text(errors='replace')[-2000:]}")
            _pause(0.05)

    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def stop(self) -> None:
        """Tell all to end; kill what does not, and what they left."""
        for process in self._processes:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()


class _Peer:
    """A web command and a worker command that share an environment and a folder of files."""

    name: str

    def __init__(self, places: Places) -> None:
        self._port = free_port()
        folder = places.folder / re.sub(r"\W+", "-", self.name.lower())
        files = folder / "files"
        files.mkdir(parents=True, exist_ok=True)
        self._environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(folder),
            "PORT": str(self._port),
            "AMQP_URL": places.amqp_url,
            "SMTP_PORT": str(places.smtp_port),
            "FILES": str(files),
            "QUEUE": QUEUE,
        }
        self._intake, self._delivery = _Half(folder / "intake-said"), _Half(folder / "delivery-said")

    def stop_intake(self) -> None:
        self._intake.stop()

    def stop_delivery(self) -> None:
        self._delivery.stop()

    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}/genesys/2/email/support"

    def roots(self) -> dict[str, list[int]]:
        return {"gateway": self._intake.pids(), "worker": self._delivery.pids()}


class FlaskCelery(_Peer):
    """Flask in gunicorn's threads, Celery's children with one connection each.

    Celery closes its connection before the last acknowledgements are out: stopped in the midst of a backlog, it sends up
    to eight mails again when it is started again. Stopped when the queue is empty, it sends each once.
    """

    name = "Flask + Celery"

    def start_intake(self) -> None:
        command = [
            _installed("gunicorn"),
            "--config",
            "flask_gunicorn.py",
            "--log-level",
            "warning",
            "flask_celery:web",
        ]
        self._intake.start(command, self._environment, times=1, ready=2)

    def start_delivery(self) -> None:
        quiet = ["--loglevel", "warning", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        pool = ["--pool", "prefork", "--concurrency", "8", "-O", "fair"]
        command = [_installed("celery"), "--quiet", "--app", "flask_celery:tasks", "worker", *pool, *quiet]
        self._delivery.start(command, self._environment, times=1, ready=1)


class FastApiAioPika(_Peer):
    """FastAPI in uvicorn's processes, and consumers with kept connections."""

    name = "FastAPI + aio-pika"

    def start_intake(self) -> None:
        quiet = ["--log-level", "warning", "--no-access-log"]
        serve = ["--host", LOOPBACK, "--port", str(self._port), "--workers", "2"]
        command = [
            _installed("uvicorn"),
            *serve,
            "--loop",
            "uvloop",
            "--http",
            "httptools",
            *quiet,
            "fastapi_aiopika:web",
        ]
        self._intake.start(command, self._environment, times=1, ready=2)

    def start_delivery(self) -> None:
        command = [_installed("python"), "fastapi_aiopika.py"]
        self._delivery.start(command, self._environment, times=FASTAPI_CONSUMERS, ready=FASTAPI_CONSUMERS)


class ExpressNodemailer(_Peer):
    """Express in a cluster, and consumers with nodemailer's pool."""

    name = "Express + nodemailer"

    def start_intake(self) -> None:
        self._intake.start([_node(), "express/web.js"], self._node_environment, times=1, ready=2)

    def start_delivery(self) -> None:
        command = [_node(), "express/worker.js"]
        self._delivery.start(command, self._node_environment, times=EXPRESS_CONSUMERS, ready=EXPRESS_CONSUMERS)

    @property
    def _node_environment(self) -> dict[str, str]:
        return self._environment | {"NODE_ENV": "production"}


class Postfix:
    """A private instance of the real Postfix, which relays mails to the SMTP server: takes no forms, and has a feed."""

    name = "Postfix"

    def __init__(self, places: Places) -> None:
        self._port, self._smtp_port = free_port(), places.smtp_port
        # Most of Postfix runs as a user of its own, who could not enter the folder of ours.
        self._folder = Path(tempfile.mkdtemp(prefix="mailroom-postfix-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._folder.chmod(0o755)
        for name in ("configuration", "queue", "data"):
            (self._folder / name).mkdir()
        shutil.chown(self._folder / "data", "postfix")
        self._takes = self._delivers = False

    def start_intake(self) -> None:
        self._run(takes=True, delivers=self._delivers)

    def stop_intake(self) -> None:
        self._run(takes=False, delivers=self._delivers)

    def start_delivery(self) -> None:
        """Begin with what was deferred while nothing was delivered."""
        self._run(takes=self._takes, delivers=True)
        self.flush()

    def stop_delivery(self) -> None:
        self._run(takes=self._takes, delivers=False)

    def roots(self) -> dict[str, list[int]]:
        running = self._takes or self._delivers
        return {"relay": [int((self._folder / "queue/pid/master.pid").read_text())] if running else []}

    def feed(self, count: int, connections: int, size: int) -> float:
        """Give it so many mails with bodies of so many bytes; the seconds until the last was taken."""
        envelope = ["-f", "forms@company.test", "-t", MAILBOX, "-S", "A question"]
        amounts = ["-d", "-s", str(connections), "-m", str(count), "-l", str(size)]
        begun = time.monotonic()
        _done(["/usr/sbin/smtp-source", *amounts, *envelope, f"{LOOPBACK}:{self._port}"])
        return time.monotonic() - begun

    def flush(self) -> None:
        """Deliver now what was deferred."""
        self._command("flush")

    def _run(self, *, takes: bool, delivers: bool) -> None:
        """Run, with this half or both; a restart, because a reload forgets what it was flushing."""
        if (takes, delivers) == (self._takes, self._delivers):
            return
        if self._takes or self._delivers:
            self._command("stop")
        self._takes, self._delivers = takes, delivers
        if takes or delivers:
            self._configure()
            self._command("start")

    def _configure(self) -> None:
        filled = {
            "folder": self._folder,
            "port": self._port,
            "smtp_port": self._smtp_port,
            "disabled": "" if self._takes else "inet",
            "deferred": "" if self._delivers else "smtp",
        }
        for name in ("main.cf", "master.cf"):
            text = (PEERS / "postfix" / name).read_text()
            (self._folder / "configuration" / name).write_text(text.format(**filled))
        (self._folder / "configuration" / "dynamicmaps.cf").touch()

    def _command(self, word: str) -> None:
        _done(["/usr/sbin/postfix", "-c", str(self._folder / "configuration"), word])


def _complaints(said: str) -> list[str]:
    """The last lines that say more than that somebody is ready, or that all is well."""
    lines = (line for line in said.splitlines() if line.strip() not in {"", "ready"} and '"level":"info"' not in line)
    return [line[:MOST_OF_A_LINE] for line in lines][-LAST_LINES:]


def _done(command: Sequence[str]) -> None:
    """Run it to its end; StackFailed when it fails."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if ended.returncode:
        raise StackFailed(f"{command[0]}: {ended.stderr[-2000:]}")


def _installed(program: str) -> str:
    path = PROGRAMS / program
    if not path.exists():
        raise StackFailed(f"{program} is not installed: make .venv/peers/installed")
    return str(path)


def _node() -> str:
    found = shutil.which("node")
    if found is None or not (PEERS / "express" / "node_modules").exists():
        raise StackFailed("Express is not installed: tests/install-services.sh bench, then make bench")
    return found


def _pause(seconds: float) -> None:
    time.sleep(seconds)  # noqa: TID251 - there is no event loop here
