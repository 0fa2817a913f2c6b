"""The third observer: what our own API says of every accepted message at the end."""

import asyncio
import time
from collections.abc import Iterable, Mapping

import aiohttp

from tests.faults.checker import TERMINAL, UNKNOWN
from tests.faults.events import Ended

#: Requests at the same time.
AT_ONCE = 16

#: Seconds after the last one's time within which the API must have told of each.
MORE_PATIENCE = 60.0


class NoAnswer(Exception):
    """The API does not say where messages stand."""


async def ended(url: str, ids: Iterable[str], patience: float) -> list[Ended]:
    """Where each stands: once it is over, or when this many seconds are. Each is asked until there is an answer."""
    deadline = time.monotonic() + patience
    found: dict[str, Ended] = {}
    waiting = list(ids)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        while waiting and (time.monotonic() < deadline or any(one not in found for one in waiting)):
            if time.monotonic() > deadline + MORE_PATIENCE:
                raise NoAnswer(f"{url}: {sum(one not in found for one in waiting)} were never told of")
            found.update(await _look(session, url, waiting))
            waiting = [one for one in waiting if one not in found or found[one].status not in TERMINAL]
            await asyncio.sleep(0.5)
    return list(found.values())


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
            if answer.status == 404:
                seen[one] = Ended(id=one, status=UNKNOWN, said=1)
            elif "status" in body:
                seen[one] = Ended(id=one, status=body["status"], said=body["statusCode"])

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    return seen
