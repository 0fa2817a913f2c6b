"""The `mailroom` command as a process of its own: given only our variables, told to stop by its pid, never left behind."""

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).parents[1]
WAIT_SECONDS = 60.0


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Our variables, and what Python needs to run from its folder."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT), **variables}


def run_mailroom(folder: Path, variables: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        cwd=folder, env=environment(variables), capture_output=True, text=True, timeout=90, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


async def mailroom(folder: Path, variables: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same, while this loop goes on."""
    return await asyncio.to_thread(run_mailroom, folder, variables, *arguments)


@dataclass(slots=True)
class Running:
    """A command that runs until it is told to stop."""

    process: subprocess.Popen[bytes]
    printed_to: Path
    said_to: Path

    @property
    def printed(self) -> str:
        """What it wrote to stdout so far."""
        return self.printed_to.read_text()

    @property
    def said(self) -> str:
        """What it wrote to stderr so far."""
        return self.said_to.read_text()

    async def prints(self, text: str) -> str:
        """Return what it printed once this is in it."""
        return await self._has(lambda: self.printed, text)

    async def says(self, text: str) -> str:
        """Return what it wrote to stderr once this is in it."""
        return await self._has(lambda: self.said, text)

    async def _has(self, source: Any, text: str) -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS):
                while text not in source() and self.process.poll() is None:
                    await asyncio.sleep(0.05)
        assert text in source(), f"{self.process.args!r} ({self.process.poll()}): {self.printed}{self.said}"
        return str(source())

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to stop; its exit code."""
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        """Its exit code, once it has ended."""
        return await asyncio.to_thread(self.process.wait, WAIT_SECONDS)

    def children(self) -> list[int]:
        """The processes it has started."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextlib.contextmanager
def running(folder: Path, variables: Mapping[str, str], *arguments: str, module: str = "cli") -> Iterator[Running]:
    """A command that runs while inside, at most."""
    number = len(list(folder.glob("printed-*")))
    printed, said = folder / f"printed-{number}", folder / f"said-{number}"
    with printed.open("wb") as out, said.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=folder, env=environment(variables), stdout=out, stderr=err, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    with process:
        try:
            yield Running(process, printed, said)
        finally:
            if process.poll() is None:
                process.kill()


async def get_json(url: str, cookie: str = "") -> tuple[int, Any]:
    """Status and body; (0, None) when nobody answers."""
    headers = {"Cookie": cookie} if cookie else {}
    try:
        async with aiohttp.ClientSession(headers=headers) as session, session.get(url) as answer:
            return answer.status, await answer.json(content_type=None)
    except aiohttp.ClientError:
        return 0, None


async def becomes(url: str, status: int) -> Any:
    """The body, once this URL is answered with this status."""
    async for found, body in _looks(url):
        if found == status:
            return body
    raise AssertionError(f"{url} was never answered with {status}")


async def letters(pages: str, count: int = 1) -> list[dict[str, Any]]:
    """The letters of the development mailbox whose pages are served there, once there are so many."""
    return await _letters_at(f"http://{pages}/letters.json", "", count)


def first_password(greeting: str) -> str:
    """The password of the first administrator, which `mailroom up` tells at its first start."""
    found = re.search(r"sign in as admin with (\S+), told only this once", greeting)
    assert found is not None, greeting
    return found[1]


async def signed_in(pages: str, password: str, name: str = "admin") -> str:
    """The cookie of somebody who has signed in at these pages."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"http://{pages}/sign-in", data={"name": name, "password": password}, allow_redirects=False
        ) as answer,
    ):
        assert answer.status == 303, await answer.text()
        return answer.headers["Set-Cookie"].split(";")[0]


async def letters_of_up(pages: str, cookie: str, count: int = 1) -> list[dict[str, Any]]:
    """The letters in the mailbox of a `mailroom up`, for somebody who is signed in, once there are so many."""
    return await _letters_at(f"http://{pages}/mailbox/letters.json", cookie, count)


async def _letters_at(url: str, cookie: str, count: int) -> list[dict[str, Any]]:
    async for _, body in _looks(url, cookie):
        if body is not None and body["total"] >= count:
            return list(body["letters"])
    raise AssertionError(f"the mailbox did not get {count} letters")


async def _looks(url: str, cookie: str = "") -> AsyncIterator[tuple[int, Any]]:
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        yield await get_json(url, cookie)
        await asyncio.sleep(0.1)
