"""Bugs of our own, planted to see whether the checker catches them: a run that could not fail would prove nothing.

Each is planted in a copy of the source, runs under the faults that it makes dangerous, and must be found out. The same
campaign without the bug must hold.
"""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fault_proxy import Mode
from tests.faults.campaign import Campaign
from tests.faults.checker import Verdict
from tests.faults.clients import Clients
from tests.faults.faults import (
    Fault,
    answers_of_commits_lost,
    database_crashed,
)
from tests.faults.mail_server import Weather
from tests.faults.system import System
from tests.processes import ROOT

#: What our processes run from.
PACKAGES = ("gateway", "worker", "mailroom")


@dataclass(frozen=True, slots=True)
class Bug:
    """What is planted where, under which faults, and in which findings it must show."""

    name: str
    file: str
    right: str
    wrong: str
    faults: Sequence[Fault[System]]
    shows: str
    per_second: float = 20.0
    patience: float = 75.0

    def planted(self, folder: Path) -> Path:
        """A copy of the source with this bug in it."""
        for package in PACKAGES:
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        path = folder / self.file
        text = path.read_text()
        assert self.right in text, f"{self.file} does not read so any more: {self.right}"
        path.write_text(text.replace(self.right, self.wrong))
        return folder

    @property
    def campaign(self) -> Campaign[System]:
        """What it has to live through."""
        return Campaign(faults=self.faults, per_second=self.per_second, patience=self.patience, warm_up=10.0)

    def is_caught(self, verdict: Verdict) -> bool:
        """Whether the checker found it."""
        return bool(getattr(verdict, self.shows))


@asynccontextmanager
async def _one_without_database(system: System, _: Clients) -> AsyncIterator[None]:
    """One worker cannot reach the database."""
    proxy = system.workers[1].database
    await proxy.set_mode(Mode.REFUSE)
    proxy.cut()
    try:
        yield
    finally:
        await proxy.set_mode(Mode.OK)


@asynccontextmanager
async def _refused_meanwhile(system: System, _: Clients) -> AsyncIterator[None]:
    """A worker stands still; what it has in hand is refused, and long another's, which is sending it, when it goes on."""
    system.mail.weather = [Weather("RCPT", 1.0, b"550 5.1.1 no such user", delay=5.0)]
    await asyncio.sleep(6)
    worker = system.workers[0]
    worker.signal(signal.SIGSTOP)
    system.mail.weather = [Weather("MAIL", 1.0, delay=20.0)]
    try:
        yield
    finally:
        system.mail.weather = []
        worker.signal(signal.SIGCONT)


@asynccontextmanager
async def _disabled_while_connecting(system: System, _: Clients) -> AsyncIterator[None]:
    """An integration is switched off while its messages, let through before, wait for a slow server's greeting."""
    system.mail.weather = [Weather("connect", 1.0, delay=6.0)]
    system.mail.leave()
    await system.mail.listen()
    await asyncio.sleep(1)
    await system.command("integrations", "disable", "main", "--why", "the fault run wants it")
    try:
        yield
    finally:
        system.mail.weather = []
        await system.command("integrations", "reset", "main", "--why", "the fault run is done with it")
        await system.active()


BUGS = [
    Bug(
        # The sweep would find what this loses, in its time: nothing is lost by it. It shows in what is not over soon.
        "acknowledges the ticket before the claim commits",
        "worker/consumer.py",
        "            message = await self.claims.add(message_id)\n",
        "            await self._tick(hand)\n            message = await self.claims.add(message_id)\n",
        [Fault("one worker without its database", _one_without_database, 6)],
        "stuck",
        patience=12.0,
    ),
    Bug(
        "answers 0 before the commit",
        "gateway/intake.py",
        "        if not await self._is_committed(message):\n",
        "        asyncio.get_running_loop().create_task(self._is_committed(message))\n        if False:\n",
        [Fault("database restarted (immediate)", database_crashed, 3)],
        "lost",
        patience=40.0,
    ),
    Bug(
        "skips the tombstone",
        "gateway/intake.py",
        "committed = await self._store.transaction(messages.bury, group, datetime.now(UTC))",
        "committed = {message.id: False}",
        [Fault("database: answers of commits lost", answers_of_commits_lost, 8)],
        "contradicted",
    ),
    Bug(
        "settles without the claim number",
        "mailroom/store/messages.py",
        "l.claim = g.claim AND ",
        "",
        [Fault("a worker stands still, and is refused meanwhile", _refused_meanwhile, 46, cuts_records=True)],
        "misreported",
        per_second=1.0,
        patience=120.0,
    ),
    Bug(
        "asks the gate only once",
        "worker/deliver.py",
        "            before_mail=lambda: refused(message, desk.watch.get(message.integration_id), desk),\n",
        "            before_mail=lambda: None,\n",
        [Fault("integration disabled while a slow server greets", _disabled_while_connecting, 8, closes=True)],
        "ungated",
    ),
]
