"""A fault run as a story: traffic, one fault after the other, everything whole again, and the verdict."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

from tests.faults import events, standings
from tests.faults.checker import NOT_SENT, Verdict, check, taken
from tests.faults.clients import Clients
from tests.faults.events import Copied, Ended, Happened, Notebook, Submitted
from tests.faults.faults import Fault
from tests.faults.system import meanwhile

#: Seconds after a fault before the next one: what it did shall not be taken for the next one's doing.
BREATH = 2.0

#: How soon a change of state must be obeyed everywhere, and how long its commands take at most to come to it.
OBEYED_WITHIN = 1.5


class Troubles(Protocol):
    """What a campaign asks of a system."""

    folder: Path
    #: Processes that ended although nobody had told them to.
    deaths: list[str]

    @property
    def url(self) -> str:
        """Where forms are taken."""
        ...

    async def start(self) -> None:
        """Return once mail would be taken and sent."""
        ...

    async def attend(self) -> None:
        """Be the operator for as long as this runs."""
        ...

    async def details(self, message_id: str) -> dict[str, object]:
        """All that is known of a message."""
        ...

    async def unfinished(self) -> int:
        """How many messages are not over, also of those that nobody was answered 0 for."""
        ...

    async def stop(self) -> None:
        """End it."""
        ...


AnySystem = TypeVar("AnySystem", bound=Troubles)


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign(Generic[AnySystem]):
    """What is done, how fast, and how long everything may take to be over after the last fault."""

    faults: Sequence[Fault[AnySystem]]
    per_second: float = 30.0
    seconds: float | None = None
    patience: float = 75.0
    seed: int = 1
    #: Seconds of undisturbed traffic before the first fault.
    warm_up: float = 5.0
    tell: Callable[[str], None] = print


async def carry_out(campaign: Campaign[AnySystem], system: AnySystem) -> Verdict:
    """Inflict every fault, for `seconds` again and again, under traffic; what the observers saw, judged."""
    url = f"{system.url}/genesys/2/email/support"
    with Notebook(system.folder / "clients.jsonl") as told, Notebook(system.folder / "faults.jsonl") as done:
        clients = Clients(url, told, campaign.per_second)
        await system.start()
        async with meanwhile(clients.run(), system.attend()):
            await asyncio.sleep(campaign.warm_up)
            await _inflict_all(campaign, system, clients, done)
    campaign.tell(f"{len(clients.accepted)} accepted; waiting until each of them is over")
    async with meanwhile(system.attend()):
        deadline = time.monotonic() + campaign.patience
        found = await standings.ended(url, clients.accepted, campaign.patience)
        # What was answered 1 and is there all the same may take as long as a lost ticket to be sent.
        while (left := await system.unfinished()) and time.monotonic() < deadline:
            await asyncio.sleep(1)
    copied = events.read(system.folder / "mail-server.jsonl", Copied)
    found = await _marks(found, copied, system)
    await system.stop()
    submitted = events.read(system.folder / "clients.jsonl", Submitted)
    verdict = check(submitted, copied, found, events.read(system.folder / "faults.jsonl", Happened))
    verdict.died = system.deaths
    if left > len(verdict.stuck):
        verdict.stuck.append(f"{left - len(verdict.stuck)} of which nobody was answered 0")
    return verdict


async def _inflict_all(campaign: Campaign[AnySystem], system: AnySystem, clients: Clients, notebook: Notebook) -> None:
    """Each at least once, and again and again until the time is over."""
    deadline = time.monotonic() + (campaign.seconds or 0.0)
    order, chance = list(campaign.faults), random.Random(campaign.seed)  # noqa: S311 - an order, no secret
    done = 0
    while done < len(order) or time.monotonic() < deadline:
        if done % len(order) == 0:
            chance.shuffle(order)
        await _inflict(order[done % len(order)], system, clients, notebook, campaign.tell)
        await asyncio.sleep(BREATH)
        done += 1


async def _inflict(
    fault: Fault[AnySystem], system: AnySystem, clients: Clients, notebook: Notebook, tell: Callable[[str], None]
) -> None:
    since, before = time.time(), len(clients.accepted)
    closed: tuple[float, float] | None = None
    undone: str | None = None
    try:
        async with fault.inflict(system, clients):
            closed_since = time.time() + OBEYED_WITHIN
            await asyncio.sleep(fault.seconds)
            closed = (closed_since, time.time()) if fault.closes else None
    except Exception as error:  # noqa: BLE001 - whatever keeps one fault from being inflicted, the others are worth it
        undone = f"{type(error).__name__}: {error}"
    until = time.time()
    notebook.write(
        Happened(
            name=fault.name, since=since, until=until, cuts_records=fault.cuts_records, mute=fault.mute, closed=closed,
            undone=undone,
        )
    )  # fmt: skip
    tell(
        f"{fault.name}: {until - since:.1f} s, {len(clients.accepted) - before} accepted meanwhile"
        + (f": {undone}" if undone else "")
    )


async def _marks(found: Sequence[Ended], copied: Sequence[Copied], system: Troubles) -> list[Ended]:
    """The same, and of what came twice, or came and is told as not sent, whether it is marked."""
    copies = Counter(one.id for some in taken(copied).values() for one in some)
    return [
        msgspec.structs.replace(one, marked=bool((await system.details(one.id))["possible_duplicate"]))
        if copies[one.id] > (one.status not in NOT_SENT)
        else one
        for one in found
    ]


def kept(folder: Path, verdict: Verdict) -> Path:
    """Write the verdict beside the events."""
    path = folder / "verdict.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(verdict)))
    return path
