"""The first page: what needs a person, what comes in and goes out, what waits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from gateway.admin import integrations
from gateway.admin.charts import Bars, Lines, bars, lines
from gateway.admin.console import Visit
from gateway.admin.layout import NAVIGATION, number, roughly
from gateway.admin.live import live
from gateway.admin.pulse import MOST_GROUPS, Charted, Span
from mailroom.integration import IntendedState, ReportedState
from mailroom.latency import quantile
from mailroom.message import Kind, Status
from mailroom.roles import Permission
from mailroom.store.dead_letters import Group
from mailroom.store.sweeping import Waiting
from mailroom.store.tallies import Point
from mailroom.tally import What

#: Mail that may go out and has waited longer than this is worth a look.
LONG = timedelta(minutes=10)

FAILURES = (What.FAILED, What.EXPIRED, What.UNCERTAIN)


@dataclass(frozen=True, slots=True)
class Need:
    """Something that needs a person: what, why, and where to go."""

    what: str
    why: str
    where: str = ""
    do: str = ""
    tone: str = ""


async def show(visit: Visit) -> web.Response:
    """What is so now; who may not see that is taken to the first page they may see."""
    if not visit.may(Permission.PAGES_VIEW):
        return visit.see_other(next((where for where, _, asks in NAVIGATION if visit.may(asks)), "/account"))
    return visit.page("overview.html", fragment=await _now(visit), span=_span(visit))


async def watch(visit: Visit) -> web.StreamResponse:
    """The same, as it changes."""
    return await live(visit, _now)


async def _now(visit: Visit) -> str:
    pulse = visit.console.pulse
    rows = await integrations.glance(visit)
    groups, waiting = await pulse.groups.now(), await pulse.waiting.now()
    charted, last_hour = await pulse.charts[_span(visit)].now(), await pulse.charts[Span.HOUR].now()
    workers = await pulse.workers.now()
    needs = list(needing(rows, groups, waiting, workers, broker=visit.console.queue.connected, now=visit.now))
    counted = {what: _in_all(last_hour.by_kind, what) for what in What}
    return visit.text(
        "_overview.html", rows=rows, needs=needs, workers=workers, counted=counted, span=_span(visit),
        failed=sum(counted[what] for what in FAILURES),
        unsent=sum(sum(one.numbers.values()) for one in waiting),
        oldest=min((one.oldest for one in waiting if one.oldest), default=None),
        half=quantile(_counts(last_hour.took), 0.5), most=quantile(_counts(last_hour.took), 0.95),
        accepted=_bars(charted, (What.ACCEPTED,)), sent=_bars(charted, (What.SENT,)), bad=_bars(charted, FAILURES),
        took=_took(charted), oldest_waited=_oldest(charted), moments=charted.moments, kinds=list(Kind),
    )  # fmt: skip


def needing(
    rows: Sequence[dict[str, Any]], groups: Sequence[Group], waiting: Sequence[Waiting], workers: int, *, broker: bool,
    now: datetime,
) -> Iterator[Need]:  # fmt: skip
    """Everything that needs a person, the worst first."""
    if not workers:
        yield Need("No worker is running", "What is accepted waits. Start `mailroom worker`.")
    if not broker:
        yield Need("RabbitMQ does not answer", "Mail is accepted and stored, and goes out when it is back.")
    for one in rows:
        yield from _troubled(one, now)
    if groups:
        yield _dead(groups)
    active = {one["row"].id: one["row"].name for one in rows if one["row"].reported_state == ReportedState.ACTIVE}
    for lot in waiting:
        if lot.integration_id in active:
            yield from _late(lot, active[lot.integration_id], now)


def _troubled(one: dict[str, Any], now: datetime) -> Iterator[Need]:
    row, where = one["row"], f"/integrations/{one['row'].id}"
    if row.reported_state == ReportedState.ERROR:
        cause, held = one["cause"] or "the cause is not known", one["held"]
        why = f"{cause[0].upper()}{cause[1:]}, for {roughly(now - row.since)}." + (
            f" {number(held)} held." if held else ""
        )
        yield Need(f"{row.name} is in ERROR", why, where, "See why and reset")
    elif row.intended_state == IntendedState.ENABLED and not row.from_address:
        yield Need(f"{row.name} has no sender address", "Nothing can be sent through it.", where, "See it")


def _dead(groups: Sequence[Group]) -> Need:
    letters, more = sum(group.number for group in groups), "At least " if len(groups) == MOST_GROUPS else ""
    many = "group" if len(groups) == 1 else "groups"
    why = f"{more or 'In '}{len(groups)} {many} of the same cause; nobody tries them again."
    what = f"{more}{number(letters)} dead {'letter' if letters == 1 else 'letters'}"
    return Need(what, why, "/dead-letters", "See them", "warn")


def _late(lot: Waiting, name: str, now: datetime) -> Iterator[Need]:
    queued = sum(lot.numbers.get(status, 0) for status in (Status.QUEUED, Status.SENDING))
    if queued and lot.oldest and now - lot.oldest > LONG:
        why = f"{number(queued)} wait to be tried; the oldest message for {roughly(now - lot.oldest)}."
        yield Need(f"{lot.kind} mail of {name} is late", why, f"/integrations/{lot.integration_id}", "See it", "warn")


# --- charts -----------------------------------------------------------------------------------------------------------


def _span(visit: Visit) -> Span:
    given = visit.request.query.get("span", "")
    return Span(given) if given in set(Span) else Span.HOUR


def _bars(charted: Charted, whats: Sequence[What]) -> Bars:
    at = {moment: i for i, moment in enumerate(charted.moments)}
    series = {str(kind): [0] * len(charted.moments) for kind in Kind}
    for point in charted.by_kind:
        if point.what in whats and point.of in series and point.at in at:
            series[str(point.of)][at[point.at]] += point.number
    return bars(charted.moments, series)


def _took(charted: Charted) -> Lines:
    steps: dict[datetime, list[Point]] = {}
    for point in charted.took:
        steps.setdefault(point.at, []).append(point)
    return lines(
        charted.moments,
        {
            name: [quantile(_counts(steps[at]), share) if at in steps else None for at in charted.moments]
            for name, share in (("95 % within", 0.95), ("half within", 0.5))
        },
        "s",
    )


def _oldest(charted: Charted) -> Lines:
    at = {point.at: float(point.number) for point in charted.oldest}
    return lines(charted.moments, {"the oldest waited": [at.get(moment) for moment in charted.moments]}, "s")


def _counts(points: Sequence[Point]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for point in points:
        counts[point.what] = counts.get(point.what, 0) + point.number
    return counts


def _in_all(points: Sequence[Point], what: What) -> int:
    return sum(point.number for point in points if point.what == what)
