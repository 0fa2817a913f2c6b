"""The pages of dead letters: in groups, with everybody whom they concern, and what is done about all of them."""

import asyncio
import csv
import io
import re
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway.admin.dead_letters import MEMBERS_ON_A_PAGE
from mailroom.fingerprint import cause_of
from mailroom.message import Status
from mailroom.store import audit, dead_letters, integrations, messages, redrives
from tests.builders import a_message, a_settlement
from tests.gateway.admin.visitor import Seen, Visitor
from tests.journeys.office import Office

NO = "RCPT: 550 5.1.1 no such user"
CAUSE = cause_of("rejected.recipient", NO)


async def dead(office: Office, number: int, *, later: int = 0, **changes: Any) -> list[UUID]:
    """So many dead letters of one cause, so many seconds after the integration began; the oldest first."""
    row = await office.store.read(integrations.named, "main")
    now = row.since + timedelta(seconds=later)
    ids: list[UUID] = []
    for start in range(0, number, 250):
        several = [a_message(row.id, accepted_at=now, **changes) for _ in range(min(250, number - start))]
        await office.store.statement(messages.accept, several)
        taken = await office.store.statement(messages.claim, [one.id for one in several], uuid4())
        failures = [
            a_settlement(claim, Status.FAILED, reason="rejected.recipient", reply=NO, at=now)
            for claim in taken.values()
        ]
        assert all(await office.store.statement(messages.settle, failures))
        ids += [one.id for one in several]
    return sorted(ids)


async def group_page(office: Office, action: str = "") -> str:
    """Where the group is."""
    row = await office.store.read(integrations.named, "main")
    return f"/dead-letters/{row.id}/{CAUSE.fingerprint}{action}"


async def running(office: Office) -> list[redrives.Redrive]:
    """Re-drives under way."""
    return await office.store.read(redrives.listed, running=True)


async def test_a_group_is_turned_over(office: Office, admin: Visitor) -> None:
    """Each of its letters is on one of its pages, the youngest first."""
    ids = await dead(office, 2 * MEMBERS_ON_A_PAGE + 3)
    path, found = await group_page(office), []
    while path:
        seen = await admin.get(path)
        found += [UUID(one) for one in re.findall(r'<td class="whole"><a href="/messages/([0-9a-f-]{36})"', seen.text)]
        older = re.search(r'href="([^"]*)" rel="next"', seen.text)
        path = older[1] if older else ""
    listed = await admin.get("/dead-letters")

    assert found == ids[::-1]
    assert "103" in listed.words
    assert "no such user" in listed.words


async def test_everybody_whom_it_concerns_is_in_the_sheet(office: Office, admin: Visitor) -> None:
    """Each once, however many there are, and whatever they wrote is text."""
    ids = await dead(office, 2500)
    evil = await dead(office, 1, subject='=HYPERLINK("http://evil.test")\r\n+1,"x"; =2', sender="@evil.test")
    seen = await admin.get(await group_page(office, "/affected.csv"))
    heading, *rows = csv.reader(io.StringIO(seen.text, newline=""))

    assert heading == ["id", "kind", "status", "recipient", "sender", "subject", "accepted", "ended"]
    assert [UUID(row[0]) for row in rows] == sorted([*ids, *evil])
    mine = next(row for row in rows if row[0] == str(evil[0]))
    assert mine[4] == "'@evil.test"
    assert mine[5].startswith("'=HYPERLINK(")
    assert "; =" not in mine[5]
    assert seen.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert seen.headers["Content-Disposition"].startswith("attachment; ")
    assert seen.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("rate", ["", "0", "-1", "nan", "inf", "1e-300", "1e300", "1001", "many", "0x10"])
async def test_a_rate_that_is_none_is_told(office: Office, admin: Visitor, rate: str) -> None:
    """Nothing is queued, and what was typed stands there still."""
    await dead(office, 1)
    seen = await admin.post(await group_page(office, "/redrive"), {"per_second": rate, "why": "it is cured"})

    assert seen.status == 400
    assert "from 0.001 to 1000" in seen.words
    assert 'value="it is cured"' in seen.text
    assert await running(office) == []


async def test_a_group_is_redriven_once(office: Office, admin: Visitor) -> None:
    """Of two people who ask at once one is told that it is under way; either stops it, the other is told that it was."""
    await dead(office, 3)
    path = await group_page(office)
    form = {"per_second": "0.5", "why": "it is <b>cured</b>"}
    told = await asyncio.gather(*(admin.post(f"{path}/redrive", form) for _ in range(2)))
    [redrive] = await running(office)
    seen = await admin.get(path)
    stopped = await asyncio.gather(*(admin.post(f"{path}/stop", {"redrive": str(redrive.id)}) for _ in range(2)))

    assert sorted(one.status for one in told) == [303, 400]
    assert (redrive.per_second, redrive.requested_by) == (0.5, "user the admin")
    assert "it is <b>cured</b>" in seen.words
    assert "<b>" not in seen.text
    assert sorted(one.status for one in stopped) == [303, 409]
    assert await running(office) == []


@pytest.mark.parametrize("redrive", ["", "x", "00000000-0000-0000-0000-000000000000"])
async def test_what_is_not_under_way_cannot_be_stopped(office: Office, admin: Visitor, redrive: str) -> None:
    """One that ended, or never was, is told."""
    seen = await admin.post(await group_page(office, "/stop"), {"redrive": redrive})

    assert seen.status in {404, 409}


def until_of(page: Seen) -> str:
    """Up to when the page shows letters, as its form to dismiss them says."""
    found = re.search(r'name="until" value="([^"]+)"', page.text)
    assert found is not None
    return found[1]


async def test_what_came_since_is_not_dismissed(office: Office, admin: Visitor) -> None:
    """Whoever dismisses a group dismisses what the page showed, not what nobody has seen yet."""
    await dead(office, 2)
    path = await group_page(office)
    seen = {"until": until_of(await admin.get(path))}
    [late] = await dead(office, 1, later=1)
    done = await admin.post(f"{path}/dismiss", {"why": "they wrote again", **seen})
    unsaid = await admin.post(f"{path}/dismiss", {"why": "they wrote again"})
    [group] = await office.store.read(dead_letters.groups)

    assert (done.status, unsaid.status) == (303, 409)
    assert (group.number, group.sample) == (1, late)


async def test_a_group_is_dismissed_with_a_reason(office: Office, admin: Visitor) -> None:
    """Without one nothing is done; then all are out of sight, and a second person finds nothing left."""
    await dead(office, 3)
    path = await group_page(office)
    without = await admin.post(f"{path}/dismiss", {"why": " "})
    still = await office.store.read(dead_letters.groups)
    seen = {"until": until_of(await admin.get(path))}
    done = await admin.post(f"{path}/dismiss", {"why": "they wrote again", **seen})
    again = await admin.post(f"{path}/dismiss", {"why": "once more", **seen})
    nothing = await admin.post(f"{path}/redrive", {"per_second": "1"})
    page, sheet = await admin.get(path), await admin.get(f"{path}/affected.csv")
    [entry] = await office.store.read(audit.history, dead_letters.SUBJECT, UUID(CAUSE.fingerprint))

    assert (without.status, done.status, again.status, nothing.status) == (400, 303, 409, 400)
    assert [one.number for one in still] == [3]
    assert "Nothing is left of this group" in page.words
    assert len(sheet.text.splitlines()) == 1
    assert (entry.action, entry.who, entry.why, entry.before) == (
        "dismissed",
        "user the admin",
        "they wrote again",
        "3 of main",
    )


@pytest.mark.parametrize(
    "fingerprint",
    ["", "x", "0" * 31, "0" * 33, "A" * 32, "0" * 31 + "%0a", "%ff" * 32],
    ids=lambda value: value[:6],
)
async def test_there_is_no_such_group(admin: Visitor, fingerprint: str) -> None:
    """What is no fingerprint has no page, and nothing of it is in a header."""
    for action in ("", "/affected.csv", "/live"):
        seen = await admin.get(f"/dead-letters/{uuid4()}/{fingerprint}{action}")
        assert seen.status == 404


async def test_a_page_that_is_none_is_told(office: Office, admin: Visitor) -> None:
    """A cursor that nobody gave out leads nowhere."""
    await dead(office, 1)

    assert (await admin.get(f"{await group_page(office)}?before=x")).status == 409
    assert (await admin.get(f"{await group_page(office)}?before={uuid4()}")).status == 200
