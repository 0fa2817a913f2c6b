"""The third observer: what our own API says of every accepted message at the end."""

import asyncio
import time
from collections.abc import Iterable, Mapping

import aiohttp

from tests.faults.checker import TERMINAL
from tests.faults.events import Ended

#: Requests at the same time.
AT_ONCE = 16


async def ended(url: str, ids: Iterable[str], patience: float) -> list[Ended]:
    """Where each stands: once it is over, or when this many seconds are."""
    deadline = time.monotonic() + patience
    found: dict[str, Ended] = {}
    waiting = list(ids)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        while True:
            found.update(await _look(session, url, waiting))
            waiting = [one for one in waiting if one not in found or found[one].status not in TERMINAL]
            if not waiting or time.monotonic() > deadline:
                return list(found.values())
            await asyncio.sleep(0.5)


async def _look(session: aiohttp.ClientSession, url: str, ids: list[str]) -> Mapping[str, Ended]:
    seen: dict[str, Ended] = {}
    left = iter(ids)

    async def ask() -> None:
        for one in left:
            try:
                async with session.get(f"{url}/{one}") as answer:
                    body = await answer.json(content_type=None)
            except (aiohttp.ClientError, TimeoutError, ValueError):
                continue
            if answer.status == 200 and "status" in body:
                seen[one] = Ended(id=one, status=body["status"], said=body["statusCode"])

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    return seen
