"""What an operator can ask for about the last hour and day: what happened, how long it took, and what waits."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from mailroom.latency import SECONDS_OF, quantile
from mailroom.operating.operator import Operator
from mailroom.store import integrations, sweeping, tallies
from mailroom.store.sweeping import Waiting
from mailroom.store.tallies import By, Total
from mailroom.tally import What

SPANS: Mapping[str, timedelta] = MappingProxyType({"hour": timedelta(hours=1), "day": timedelta(days=1)})

#: Which shares of the messages are told how long they took.
SHARES: Mapping[str, float] = MappingProxyType({"half": 0.5, "most": 0.95})


async def show_figures(operator: Operator) -> dict[str, Any]:
    """What happened in the last hour and day by kind, how long half and 95 % of the messages took, and what waits."""
    now = datetime.now(UTC)
    names = {row.id: row.name for row in await operator.store.read(integrations.all_rows)}
    waiting = await operator.store.read(sweeping.waiting)
    told = {}
    for name, span in SPANS.items():
        found = await operator.store.read(
            tallies.totals, now - span, now + timedelta(minutes=1), what=[*What, *SECONDS_OF], by=By.KIND
        )
        told[name] = {"kinds": _by_kind(found), "seconds": _seconds(found)}
    return told | {"waiting": [_line(one, names) for one in waiting]}


def _by_kind(found: Sequence[Total]) -> dict[str, dict[str, int]]:
    kinds: dict[str, dict[str, int]] = {}
    for one in found:
        if one.what in set(What):
            kinds.setdefault(str(one.of), {})[one.what] = one.number
    return kinds


def _seconds(found: Sequence[Total]) -> dict[str, float | None]:
    """Infinity, which JSON does not have, is told as null too: longer than the longest bucket, or nothing was sent."""
    counts: dict[str, int] = {}
    for one in found:
        counts[one.what] = counts.get(one.what, 0) + one.number
    return {name: quantile(counts, share) for name, share in SHARES.items()}


def _line(one: Waiting, names: Mapping[Any, str]) -> dict[str, Any]:
    return {"integration": names.get(one.integration_id), "kind": one.kind, "oldest": one.oldest} | {
        str(status): number for status, number in one.numbers.items()
    }
