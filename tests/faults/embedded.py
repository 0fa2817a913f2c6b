"""The same for `mailroom up`: one process on SQLite, which is killed again and again."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from mailroom.message import ENDED, Status
from tests.faults.clients import Clients
from tests.faults.events import Notebook
from tests.faults.faults import Fault, clients_leave, disabled, mail_server_gone, weather
from tests.faults.mail_server import MATRIX, MailServer
from tests.faults.system import READY_SECONDS, SETTINGS, CannotBeDone, CommandFailed, fill_up
from tests.processes import becomes, environment, mailroom
from tests.services import LOOPBACK, free_port

#: How a message stands that is not over.
WAITING = {str(one) for one in Status} - {str(one) for one in ENDED}


@dataclass(slots=True, eq=False)
class Embedded:
    """One `mailroom up`, and the mail server that it sends to."""

    folder: Path
    variables: dict[str, str]
    mail: MailServer
    small_disk: Path | None
    process: subprocess.Popen[bytes] | None = None
    #: Whether somebody has told it to end since it was started.
    told_to_end: bool = False
    deaths: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it takes forms."""
        return f"http://{self.variables['MAILROOM_LISTEN']}"

    async def start(self) -> None:
        """Return once mail would be taken and sent."""
        self._begin()
        async with asyncio.timeout(READY_SECONDS):
            await becomes(f"{self.url}/readyz", 200)
        await self.active()

    def _begin(self) -> None:
        self.told_to_end = False
        with (self.folder / "up.log").open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli", "up"], cwd=self.folder, env=environment(self.variables),
                stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip

    async def active(self) -> None:
        """Return once its integration may send."""
        async with asyncio.timeout(READY_SECONDS):
            while await self._state() != "ACTIVE":
                await asyncio.sleep(0.5)

    async def _state(self) -> str | None:
        try:
            listed = json.loads(await self.command("integrations", "list", "--json"))
        except CommandFailed:
            return None
        return next((str(one["reported_state"]) for one in listed if one["name"] == "main"), None)

    async def command(self, *arguments: str) -> str:
        """What a command beside it prints."""
        done = await mailroom(self.folder, self.variables, *arguments)
        if done.returncode:
            raise CommandFailed(f"mailroom {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    async def attend(self) -> None:
        """The operator: looks every few seconds, resets what is in ERROR, and starts again what ended by itself."""
        while True:
            await asyncio.sleep(4)
            if self.process is not None and not self.told_to_end and (code := self.process.poll()) is not None:
                self.deaths.append(f"mailroom up ended by itself with {code}")
                self._begin()
            if await self._state() == "ERROR":
                with contextlib.suppress(CommandFailed):
                    await self.command("integrations", "reset", "main", "--why", "the fault run looked into it")

    async def details(self, message_id: str) -> dict[str, object]:
        """All that `mailroom messages show` tells."""
        return dict(json.loads(await self.command("messages", "show", message_id, "--json")))

    async def unfinished(self) -> int:
        """How many messages are not over, as `mailroom figures` counts them."""
        waiting = json.loads(await self.command("figures", "--json"))["waiting"]
        return sum(number for line in waiting for name, number in line.items() if name in WAITING)

    async def end(self, number: signal.Signals) -> None:
        """Signal it, and wait until it has ended."""
        assert self.process is not None
        self.told_to_end = True
        self.process.send_signal(number)
        await asyncio.to_thread(self.process.wait, 120)

    async def stop(self) -> None:
        """End it in order."""
        await self.end(signal.SIGTERM)


@contextlib.asynccontextmanager
async def killed(system: Embedded, _: Clients) -> AsyncIterator[None]:
    """It is gone at once, and started again."""
    await system.end(signal.SIGKILL)
    await system.start()
    yield


@contextlib.asynccontextmanager
async def restarted(system: Embedded, _: Clients) -> AsyncIterator[None]:
    """It is told to stop, and started again."""
    await system.end(signal.SIGTERM)
    await system.start()
    yield


@contextlib.asynccontextmanager
async def disk_full(system: Embedded, _: Clients) -> AsyncIterator[None]:
    """There is no room for its database, and then there is again."""
    if system.small_disk is None:
        raise CannotBeDone("a file system of our own cannot be made here")
    async with fill_up(system.small_disk):
        yield


_OTHERS: list[Fault[Embedded]] = [
    Fault("told to stop", restarted, 2, mute=True),
    Fault("mail server: smtp-sink -q .", weather(MATRIX["-q ."]), 6),
    Fault("mail server: smtp-sink -r RCPT", weather(MATRIX["-r RCPT"]), 6),
    Fault("mail server gone", mail_server_gone, 5),
    Fault("integration disabled", disabled, 5, closes=True),
    Fault("clients leave", clients_leave, 6),
    Fault("disk full", disk_full, 6),
]

#: A kill -9 about every 20 seconds, and what else can happen to it between them.
EVERY = [*_OTHERS, *[Fault("killed (SIGKILL)", killed, 4, cuts_records=True, mute=True) for _ in _OTHERS]]


@contextlib.asynccontextmanager
async def an_embedded_system(folder: Path, small_disk: Path | None) -> AsyncIterator[Embedded]:
    """`mailroom up`, not started yet."""
    smtp = free_port()
    (folder / "company.toml").write_text(SETTINGS.format(smtp=smtp))
    variables = {
        "MAILROOM_CONFIG": str(folder / "company.toml"),
        "MAILROOM_LISTEN": f"{LOOPBACK}:{free_port()}",
        "MAILROOM_ADMIN_LISTEN": f"{LOOPBACK}:{free_port()}",
        "MAILROOM_DATA_DIR": str((small_disk or folder) / "var"),
    }
    async with contextlib.AsyncExitStack() as stack:
        notebook = stack.enter_context(Notebook(folder / "mail-server.jsonl"))
        mail = await stack.enter_async_context(MailServer(notebook, smtp))
        system = Embedded(folder, variables, mail, small_disk)
        try:
            yield system
        finally:
            if system.process is not None and system.process.poll() is None:
                system.process.kill()
                system.process.wait()
