"""What needs a person: a rule over what is so, the worst first."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from gateway.admin.overview import LONG, needing
from gateway.admin.pulse import MOST_GROUPS
from mailroom.message import Kind, Status
from mailroom.roles import Role
from mailroom.store.dead_letters import Group
from mailroom.store.sweeping import Waiting
from tests.gateway.admin.visitor import Entrance

NOON = datetime(2026, 1, 6, 12, tzinfo=UTC)
MAIN, OTHER = UUID(int=1), UUID(int=2)


@dataclass(frozen=True, slots=True)
class Row:
    """An integration as its row tells it."""

    id: UUID = MAIN
    name: str = "main"
    intended_state: str = "ENABLED"
    reported_state: str = "ACTIVE"
    from_address: str | None = "forms@company.test"
    since: datetime = NOON - timedelta(hours=3, seconds=7)


def glanced(row: Row, cause: str | None = None, held: int = 0) -> dict[str, Any]:
    """An integration as the pages glance at it."""
    return {"row": row, "cause": cause, "held": held, "waiting": 0}


def lot(integration_id: UUID, oldest: timedelta | None, **numbers: int) -> Waiting:
    """What waits of the forms of one."""
    moment = None if oldest is None else NOON - oldest
    return Waiting(integration_id, Kind.FORM, {Status(name): number for name, number in numbers.items()}, moment)


def group(number: int) -> Group:
    """Dead letters of one cause."""
    return Group(
        integration_id=MAIN, fingerprint="0" * 32, reason="rejected.recipient", command="RCPT", code=550, said="no",
        number=number, first_at=NOON, last_at=NOON, sample=MAIN,
    )  # fmt: skip


def told(
    rows: list[dict[str, Any]], groups: tuple[Group, ...] = (), waiting: tuple[Waiting, ...] = (), workers: int = 1,
    *, broker: bool = True, now: datetime = NOON,
) -> list[tuple[str, str, str]]:  # fmt: skip
    """What needs a person."""
    needs = needing(rows, groups, waiting, workers, broker=broker, now=now)
    return [(need.what, need.why, need.where) for need in needs]


def test_nothing_does_when_all_is_well() -> None:
    """Mail that waits for less than ten minutes, was held, or has nobody to send it, is nothing by itself."""
    waiting = (
        lot(MAIN, LONG, queued=3), lot(MAIN, timedelta(days=1), held=3, deferred=2), lot(OTHER, timedelta(days=1), queued=3),
        lot(MAIN, None),
    )  # fmt: skip
    rows = [glanced(Row()), glanced(Row(OTHER, "other", "DISABLED", "INACTIVE", None))]

    assert told(rows, (), waiting) == []


def test_the_worst_comes_first() -> None:
    """What stops all mail, then what stops one integration's, then what nobody tries again, then what is late."""
    rows = [
        glanced(Row(OTHER, "other", "ENABLED", "ERROR"), "the server does not let us in", 1234),
        glanced(Row(from_address=None)),
    ]
    late = lot(MAIN, timedelta(minutes=61), queued=2, sending=1, deferred=5)
    found = told(rows, (group(1), group(1233)), (late,), 0, broker=False)

    assert [what for what, _, _ in found] == [
        "No worker is running", "RabbitMQ does not answer", "other is in ERROR", "main has no sender address",
        "1\u202f234 dead letters", "form mail of main is late",
    ]  # fmt: skip
    assert found[2][1:] == ("The server does not let us in, for 3 h. 1\u202f234 held.", f"/integrations/{OTHER}")
    assert found[4][1:] == ("In 2 groups of the same cause; nobody tries them again.", "/dead-letters")
    assert found[5][1:] == ("3 wait to be tried; the oldest message for 1 h 1 min.", f"/integrations/{MAIN}")


def test_one_is_one() -> None:
    """A single dead letter is a letter, in a group."""
    assert told([], (group(1),)) == [
        ("1 dead letter", "In 1 group of the same cause; nobody tries them again.", "/dead-letters")
    ]  # fmt: skip


def test_more_groups_than_are_counted_are_said_to_be_more() -> None:
    """The sum of those that are shown is not told as the sum of all."""
    assert told([], tuple(group(2) for _ in range(MOST_GROUPS))) == [
        ("At least 400 dead letters", "At least 200 groups of the same cause; nobody tries them again.", "/dead-letters")
    ]  # fmt: skip


def test_an_unknown_cause_is_said_to_be_so() -> None:
    """An integration in ERROR is shown even when nothing tells why."""
    [(what, why, _)] = told([glanced(Row(reported_state="ERROR"))])

    assert (what, why) == ("main is in ERROR", "The cause is not known, for 3 h.")


def test_what_is_watched_does_not_change_for_nothing() -> None:
    """A second later the same is said: the page is not sent anew each second while something is wrong."""
    rows = [glanced(Row(reported_state="ERROR", since=NOON - timedelta(minutes=5))), glanced(Row(OTHER, "other"))]
    late = lot(OTHER, timedelta(minutes=15), queued=2)

    assert told(rows, (), (late,)) == told(rows, (), (late,), now=NOON + timedelta(seconds=20))


@pytest.mark.parametrize(("role", "where"), [(Role.AGENT, "/messages"), (Role.SENDER, "/account"), (Role.VIEWER, None)])
async def test_everybody_comes_to_a_page_of_theirs(entrance: Entrance, role: Role, where: str | None) -> None:
    """Who may not see the first page is taken to the first one they may."""
    async with entrance.person(role) as visitor:
        seen = await visitor.get("/")

    assert seen.headers.get("Location") == where
    assert seen.status == (303 if where else 200)


@pytest.mark.parametrize("given", ["hour", "day", "week", "", "year", "%00"])
async def test_charts_have_a_span(entrance: Entrance, given: str) -> None:
    """The last hour, day or week; the hour where nothing else was asked for."""
    async with entrance.person(Role.VIEWER) as visitor:
        seen = await visitor.get(f"/?span={given}")

    assert seen.status == 200
    assert f'<strong aria-current="true">{given if given in {"day", "week"} else "hour"}</strong>' in seen.text
    assert seen.text.count('<svg viewBox="0 0 1000 100"') == 5
