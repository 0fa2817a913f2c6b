"""A deployment to be troubled: real services, every process of ours behind proxies of its own, HAProxy in front."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mailroom.integration import ReportedState
from mailroom.store import integrations
from mailroom.store.opening import open_store
from mailroom.store.port import Store, StoreUnavailable
from tests.builders import migrated
from tests.fault_proxy import FaultProxy
from tests.faults.events import Notebook
from tests.faults.mail_server import MailServer
from tests.journeys.office import unfinished
from tests.processes import ROOT, becomes, environment, mailroom
from tests.services import LOOPBACK, Postgres, RabbitMQ, free_port

#: Debian's libfaketime: gives a process a clock that jumps when a file is written. Not there: no clock jumps.
FAKE_CLOCKS = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))

#: What a process of ours may take to be ready, on a machine that has much else to do.
READY_SECONDS = 60.0

SETTINGS = """
[email]
any_service = true
rate_limit = false

[integrations.main]
host = "127.0.0.1"
port = {smtp}
security = "none"
from = "forms@company.test"
mailbox = "support@company.test"
max_connections = 32

[retry]
first_delay = 0.5
longest_delay = 4.0
max_attempts = 12

[smtp]
private_relays = ["127.0.0.0/8:*"]
"""


@dataclass(slots=True, eq=False)
class Member:
    """One process of ours, with its own proxies to the database and the broker."""

    name: str
    module: str
    folder: Path
    variables: dict[str, str]
    database: FaultProxy
    broker: FaultProxy
    ready: str
    #: Where the source is that it runs: ours, or one with a bug planted in it.
    source: Path = ROOT
    process: subprocess.Popen[bytes] | None = None
    #: Whether somebody has told it to end since it was started.
    told_to_end: bool = False

    def start(self) -> None:
        """Start it; it may not be ready yet."""
        self.told_to_end = False
        with (self.folder / f"{self.name}.log").open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                env=environment(self.variables) | {"PYTHONPATH": str(self.source)},
            )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        """Signal it, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.told_to_end = self.told_to_end or number in {signal.SIGTERM, signal.SIGKILL}
            self.process.send_signal(number)

    @property
    def ended_by_itself(self) -> int | None:
        """The code that it ended with although nobody had told it to; None while it runs as it should."""
        return None if self.process is None or self.told_to_end else self.process.poll()

    async def ended(self) -> None:
        """Return once it has ended."""
        if self.process is not None:
            await asyncio.to_thread(self.process.wait, 120)

    async def is_ready(self) -> None:
        """Return once it says that it can work."""
        async with asyncio.timeout(READY_SECONDS):
            await becomes(self.ready, 200)

    def has_port(self, port: int) -> bool:
        """Whether a connection from this local port is one of its own."""
        if self.process is None or self.process.poll() is not None:
            return False
        return _inode_of(port) in _sockets_of(self.process.pid)


@dataclass(slots=True, eq=False)
class System:
    """All of it, and what a fault may do to it."""

    folder: Path
    postgres: Postgres
    rabbitmq: RabbitMQ
    database_url: str
    queue_url: str
    mail: MailServer
    gateways: list[Member]
    workers: list[Member]
    url: str
    store: Store
    #: What PostgreSQL's data stands on, when it is a file system of its own that can be filled.
    small_disk: Path | None = None
    balancer: subprocess.Popen[bytes] | None = None
    #: The offset of the clocks of those that have one of their own.
    clock: Path = Path("clock")
    clock_can_jump: bool = False
    #: While nobody is to look after the integration.
    unattended: bool = False
    operator_resets: int = 0
    #: Processes that ended although nobody had told them to.
    deaths: list[str] = field(default_factory=list)
    _since_error: float | None = None

    @property
    def members(self) -> list[Member]:
        """Every process of ours."""
        return [*self.gateways, *self.workers]

    async def start(self) -> None:
        """Return once mail would be taken and sent."""
        for member in self.members:
            member.start()
        for member in self.members:
            await member.is_ready()
        await becomes(f"{self.url}/readyz", 200)
        await self.active()

    async def active(self, seconds: float = READY_SECONDS) -> None:
        """Return once the integration may send."""
        async with asyncio.timeout(seconds):
            while await self.state() is not ReportedState.ACTIVE:
                await asyncio.sleep(0.2)

    async def state(self) -> ReportedState | None:
        """How the integration is; None while the database does not say."""
        try:
            row = await self.store.read(integrations.named, "main")
        except (StoreUnavailable, integrations.UnknownIntegration):
            return None
        return None if row is None else ReportedState(row.reported_state)

    async def command(self, *arguments: str) -> str:
        """What a command of ours prints, given the settings of a worker, past its proxies."""
        direct = {"MAILROOM_DATABASE_URL": self.database_url, "MAILROOM_QUEUE_URL": self.queue_url}
        done = await mailroom(self.folder, self.workers[0].variables | direct, *arguments)
        if done.returncode:
            raise CommandFailed(f"mailroom {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    async def attend(self) -> None:
        """The operator: resets what has been in ERROR for three seconds, and starts again what ended by itself."""
        while True:
            await asyncio.sleep(1)
            for member in self.members:
                if (code := member.ended_by_itself) is not None:
                    self.deaths.append(f"{member.name} ended by itself with {code}")
                    member.start()
            if self.unattended or await self.state() is not ReportedState.ERROR:
                self._since_error = None
            elif self._since_error is None:
                self._since_error = time.monotonic()
            elif time.monotonic() - self._since_error > 3:
                self._since_error = None
                self.operator_resets += 1
                with contextlib.suppress(CommandFailed):
                    await self.command("integrations", "reset", "main", "--why", "the fault run looked into it")

    async def details(self, message_id: str) -> dict[str, object]:
        """All that `mailroom messages show` tells."""
        return dict(json.loads(await self.command("messages", "show", message_id, "--json")))

    async def unfinished(self) -> int:
        """How many messages are not over."""
        return await self.store.read(unfinished)

    async def stop(self) -> None:
        """End every process of ours, in order."""
        for member in self.members:
            member.signal(signal.SIGCONT)
            member.signal(signal.SIGTERM)
        for member in self.members:
            await member.ended()


class CannotBeDone(Exception):
    """This machine does not let us inflict that fault."""


class CommandFailed(Exception):
    """A command of ours ended with another code than 0."""


def _inode_of(port: int) -> str:
    """The socket of a local port of the loopback interface, as proc(5) names it."""
    wanted = f"0100007F:{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[1] == wanted:
            return words[9]
    return ""


def _sockets_of(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if named := re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink())):
                    found.add(named[1])
    return found


@contextlib.contextmanager
def a_small_disk(megabytes: int) -> Iterator[Path | None]:
    """A file system in memory, which can be filled; None where this machine does not let us make one."""
    folder = Path(tempfile.mkdtemp(prefix="mailroom-disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", folder], check=False, capture_output=True
    )
    try:
        yield folder if mounted.returncode == 0 else None
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "--lazy", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def fill_up(disk: Path) -> AsyncIterator[None]:
    """Leave no room there while inside, also not what others give back meanwhile."""
    ballast = disk / "ballast"

    async def keep_full() -> None:
        while True:
            await asyncio.to_thread(_fill, ballast)
            await asyncio.sleep(0.2)

    try:
        async with meanwhile(keep_full()):
            yield
    finally:
        ballast.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def meanwhile(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do these while inside; a defect in one of them is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _fill(ballast: Path) -> None:
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(65536))


@contextlib.asynccontextmanager
async def a_system(
    folder: Path, postgres: Postgres, rabbitmq: RabbitMQ, *, source: Path = ROOT, queue_url: str = "",
    small_disk: Path | None = None, jumping_clocks: bool = False,
) -> AsyncIterator[System]:  # fmt: skip
    """Two gateways, two workers, HAProxy, a mail server; nothing is started yet but the last two."""
    database_url = await asyncio.to_thread(postgres.new_database, migrated)
    queue_url = queue_url or await asyncio.to_thread(rabbitmq.new_vhost)
    smtp = free_port()
    (folder / "company.toml").write_text(SETTINGS.format(smtp=smtp))
    async with contextlib.AsyncExitStack() as stack:
        notebook = stack.enter_context(Notebook(folder / "mail-server.jsonl"))
        mail = await stack.enter_async_context(MailServer(notebook, smtp))
        shared = {
            "MAILROOM_CONFIG": str(folder / "company.toml"),
            "MAILROOM_SECRET_KEY": "a key for tests",
            "MAILROOM_ATTACHMENTS_URL": f"file://{small_disk or folder}/attachments",
            "MAILROOM_DATA_DIR": str(folder / "var"),
        }
        members = [
            await _member(stack, module, number, folder, shared, database_url, queue_url, source)
            for module in ("gateway", "worker")
            for number in (1, 2)
        ]
        gateways, workers = members[:2], members[2:]
        clock = folder / "clock"
        if jumps := jumping_clocks and bool(FAKE_CLOCKS):
            clock.write_text("+0")
            for member in (gateways[1], workers[1]):
                member.variables |= {
                    "LD_PRELOAD": str(FAKE_CLOCKS[0]), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
                }  # fmt: skip
        port = free_port()
        balancer = _balance(folder, port, gateways)
        store = open_store(database_url)
        system = System(
            folder=folder, postgres=postgres, rabbitmq=rabbitmq, database_url=database_url, queue_url=queue_url,
            mail=mail, gateways=gateways, workers=workers, url=f"http://{LOOPBACK}:{port}", store=store,
            balancer=balancer, small_disk=small_disk, clock=clock, clock_can_jump=jumps,
        )  # fmt: skip
        try:
            yield system
        finally:
            for member in members:
                if member.process is not None and member.process.poll() is None:
                    member.process.kill()
                    member.process.wait()
            balancer.terminate()
            balancer.wait()
            await store.aclose()


async def _member(
    stack: contextlib.AsyncExitStack, module: str, number: int, folder: Path, shared: dict[str, str],
    database_url: str, queue_url: str, source: Path,
) -> Member:  # fmt: skip
    database, through_database = await _proxy(stack, database_url)
    broker, through_broker = await _proxy(stack, queue_url)
    listen, health = f"{LOOPBACK}:{free_port()}", f"{LOOPBACK}:{free_port()}"
    variables = shared | {
        "MAILROOM_DATABASE_URL": through_database,
        "MAILROOM_QUEUE_URL": through_broker,
        "MAILROOM_LISTEN": listen,
        "MAILROOM_ADMIN_LISTEN": f"{LOOPBACK}:{free_port()}",
        "MAILROOM_HEALTH_LISTEN": health,
    }
    ready = f"http://{listen if module == 'gateway' else health}/readyz"
    return Member(f"{module}-{number}", module, folder, variables, database, broker, ready, source)


async def _proxy(stack: contextlib.AsyncExitStack, url: str) -> tuple[FaultProxy, str]:
    """A proxy before it, and the URL through that; one before several hosts would hide which of them answers."""
    if "," in url:
        return await stack.enter_async_context(FaultProxy(0)), url
    parsed = urlsplit(url)
    assert parsed.port is not None
    proxy = await stack.enter_async_context(FaultProxy(parsed.port))
    netloc = parsed.netloc.replace(f":{parsed.port}", f":{proxy.port}")
    return proxy, parsed._replace(netloc=netloc).geturl()


def _balance(folder: Path, port: int, gateways: list[Member]) -> subprocess.Popen[bytes]:
    (folder / "haproxy.cfg").write_text(_balancing(port, gateways))
    with (folder / "haproxy.log").open("ab") as said:
        return subprocess.Popen(
            ["/usr/sbin/haproxy", "-f", folder / "haproxy.cfg"], stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            env={"PATH": os.defpath},
        )  # fmt: skip


def _balancing(port: int, gateways: list[Member]) -> str:
    """What is deployed, with our gateways where it would look for their names."""

    def servers(variable: str) -> str:
        return "\n".join(f"    server {one.name} {one.variables[variable]}" for one in gateways)

    text = re.sub(
        r"^resolvers docker\n(?:    .*\n)+", "", (ROOT / "deploy/haproxy.cfg").read_text(), flags=re.MULTILINE
    )
    for there, here in {
        "bind :8080": f"bind {LOOPBACK}:{port}",
        "bind :8082": f"bind {LOOPBACK}:{free_port()}",
        " resolvers docker resolve-prefer ipv4 init-addr none": "",
        "    server-template gateway 16 gateway:8080": servers("MAILROOM_LISTEN"),
        "    server-template gateway 16 gateway:8081": servers("MAILROOM_ADMIN_LISTEN"),
    }.items():
        assert there in text, f"deploy/haproxy.cfg does not say {there}"
        text = text.replace(there, here)
    return text
