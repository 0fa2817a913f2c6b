"""The pages of dead letters: in groups of the same cause, with who was affected, and what a person does about all of them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from aiohttp import hdrs, web

from gateway.admin.console import NotFound, NotPossible, Visit
from gateway.admin.live import live
from gateway.admin.pulse import MOST_GROUPS
from gateway.admin.wording import sentence
from mailroom.downloads import attachment_named
from mailroom.operating import dead_letters as operating
from mailroom.operating.sheets import as_csv
from mailroom.store import dead_letters, redrives
from mailroom.store.dead_letters import Group, Member
from mailroom.store.redrives import HIGHEST_RATE, USUAL_RATE

MEMBERS_ON_A_PAGE = 50
ROWS_AT_ONCE = 1000

#: Re-drives that are shown as over, and for how long.
RECENT = 10
SHOWN_AFTER = timedelta(hours=1)


async def show_all(visit: Visit) -> web.Response:
    """Every group, the newest first; without those that were dismissed or re-driven a moment ago."""
    await visit.console.pulse.groups.anew()
    return visit.page("dead_letters.html", fragment=await _groups(visit))


async def watch_all(visit: Visit) -> web.StreamResponse:
    """The groups as they change."""
    return await live(visit, _groups)


async def _groups(visit: Visit) -> str:
    store = visit.console.store
    running = await store.read(redrives.listed, running=True)
    over = [
        one
        for one in await store.read(redrives.listed, limit=RECENT)
        if one.ended_at is not None and visit.now - one.ended_at < SHOWN_AFTER
    ]
    return visit.text(
        "_dead_letters.html", groups=await visit.console.pulse.groups.now(), most=MOST_GROUPS, names=names(visit),
        redrives=[*running, *over],
    )  # fmt: skip


def names(visit: Visit) -> Mapping[UUID, str]:
    """The name of every integration."""
    return {one.id: one.name for one in visit.console.watch.all.values()}


# --- one group --------------------------------------------------------------------------------------------------------


async def show(visit: Visit) -> web.Response:
    """One group with its messages."""
    return await _page(visit)


async def _page(visit: Visit, wrong: str = "", form: Mapping[str, str] | None = None) -> web.Response:
    integration_id, fingerprint = _which(visit)
    group = await _group(visit)
    before = _before(visit)
    members = await visit.console.store.read(
        dead_letters.members, integration_id, fingerprint, limit=MEMBERS_ON_A_PAGE + 1, before=before
    )
    return visit.page(
        "dead_letter_group.html", status=400 if wrong else 200, group=group, names=names(visit),
        members=members[:MEMBERS_ON_A_PAGE], more=len(members) > MEMBERS_ON_A_PAGE, before=before,
        here=_path(integration_id, fingerprint), fragment=await _progress(visit), usual=f"{USUAL_RATE:g}",
        highest=f"{HIGHEST_RATE:g}", wrong=wrong, form=form or {},
        until=group.last_at.isoformat() if group else "",
    )  # fmt: skip


async def watch(visit: Visit) -> web.StreamResponse:
    """How its re-drive comes along."""
    return await live(visit, _progress)


async def _progress(visit: Visit) -> str:
    integration_id, fingerprint = _which(visit)
    store = visit.console.store
    found = await store.read(dead_letters.groups, integration_id=integration_id, fingerprint=fingerprint, limit=1)
    mine = [
        one
        for one in await store.read(redrives.listed, integration_id=integration_id, limit=RECENT)
        if one.fingerprint == fingerprint
    ]
    return visit.text(
        "_redrives.html", left=found[0].number if found else 0, redrives=mine, here=_path(integration_id, fingerprint)
    )


async def affected(visit: Visit) -> web.StreamResponse:
    """Everybody whom it concerns, as CSV."""
    integration_id, fingerprint = _which(visit)
    await _group(visit)
    response = web.StreamResponse(
        headers={hdrs.CONTENT_DISPOSITION: attachment_named(f"dead-letters-{fingerprint[:8]}.csv")}
    )
    response.content_type, response.charset = "text/csv", "utf-8"
    await response.prepare(visit.request)
    await response.write(_sheet([("id", "kind", "status", "recipient", "sender", "subject", "accepted", "ended")]))
    after: UUID | None = None
    while members := await _affected_after(visit, integration_id, fingerprint, after):
        await response.write(_sheet(_row(one) for one in members))
        after = members[-1].id
    await response.write_eof()
    return response


async def _affected_after(visit: Visit, integration_id: UUID, fingerprint: str, after: UUID | None) -> Sequence[Member]:
    async with visit.console.turns:
        return await visit.console.store.read(
            dead_letters.affected, integration_id, fingerprint, limit=ROWS_AT_ONCE, after=after
        )


def _row(one: Member) -> tuple[object, ...]:
    moments = (one.accepted_at.isoformat(timespec="seconds"), one.ended_at.isoformat(timespec="seconds"))
    return (one.id, one.kind, one.status, one.recipient, one.sender, one.subject, *moments)


def _sheet(rows: Iterable[Sequence[object]]) -> bytes:
    return as_csv(rows).encode("utf-8", "replace")


# --- what a person does -----------------------------------------------------------------------------------------------


async def redrive(visit: Visit) -> web.Response:
    """Have all of a group re-driven, so many a second."""
    integration_id, fingerprint = _which(visit)
    form = await visit.form()
    try:
        per_second = float(form.get("per_second", ""))
    except ValueError:
        per_second = 0.0
    try:
        await operating.request_redrive(
            visit.operator, integration_id, fingerprint, per_second, form.get("why") or None
        )
    except operating.REFUSALS as error:
        return await _page(visit, sentence(error), form)
    return visit.see_other(_path(integration_id, fingerprint), done="redriving")


async def stop(visit: Visit) -> web.Response:
    """Stop a re-drive; what it queued goes on."""
    form = await visit.form()
    await operating.stop_redrive(visit.operator, form.get("redrive", ""))
    return visit.see_other(_path(*_which(visit)), done="stopped")


async def dismiss(visit: Visit) -> web.Response:
    """Put a whole group out of sight, with a reason."""
    integration_id, fingerprint = _which(visit)
    form = await visit.form()
    if not form.get("why"):
        return await _page(visit, "Write why they are dismissed: others read it in the audit.", form)
    await operating.dismiss_seen(visit.operator, integration_id, fingerprint, form["why"], _seen_until(form))
    return visit.see_other("/dead-letters", done="dismissed")


def _seen_until(form: Mapping[str, str]) -> datetime:
    """When the youngest letter ended that the person saw: nobody dismisses what came since. Raises NotPossible."""
    try:
        until = datetime.fromisoformat(form.get("until", ""))
    except ValueError:
        raise NotPossible("This form is not whole. Load the page again.") from None
    return until if until.tzinfo else until.replace(tzinfo=UTC)


# --- steps ------------------------------------------------------------------------------------------------------------


def _which(visit: Visit) -> tuple[UUID, str]:
    fingerprint = visit.request.match_info["fingerprint"]
    if len(fingerprint) != 32 or not set(fingerprint) <= set("0123456789abcdef"):  # noqa: PLR2004 - 128 bits
        raise NotFound("There is no such group.")
    return visit.path_id("integration"), fingerprint


def _path(integration_id: UUID, fingerprint: str) -> str:
    return f"/dead-letters/{integration_id}/{fingerprint}"


async def _group(visit: Visit) -> Group | None:
    """The group; None when nothing of it is left."""
    integration_id, fingerprint = _which(visit)
    found = await visit.console.store.read(
        dead_letters.groups, integration_id=integration_id, fingerprint=fingerprint, limit=1
    )
    return found[0] if found else None


def _before(visit: Visit) -> UUID | None:
    given = visit.request.query.get("before")
    try:
        return UUID(given) if given else None
    except ValueError:
        raise NotPossible("This page of the list does not exist. Begin at the first one.") from None
