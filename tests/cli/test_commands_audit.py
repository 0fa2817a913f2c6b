"""What an operator can ask for about the audit."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailroom.operating.audit import BadCursor, BadMoment, moment_of
from mailroom.operating.operations import perform
from mailroom.operating.operator import Operator
from mailroom.queue.memory import MemoryQueue
from mailroom.store import integrations
from mailroom.store.integrations import UnknownIntegration
from mailroom.store.sqlite import SqliteStore
from tests.builders import created
from tests.processes import run_mailroom

NOW = datetime(2026, 1, 6, 12, tzinfo=UTC)


@pytest.fixture
async def operator(store: SqliteStore) -> Operator:
    """Somebody who asks about two integrations, one of which was disabled."""
    await created(store)
    await created(store, name="second")
    await store.transaction(integrations.disable, "main", who="cli jane", why="spring clean", now=datetime.now(UTC))
    return Operator(store=store, queue=MemoryQueue(), who="cli tester")


async def test_the_audit_is_read_page_by_page(operator: Operator) -> None:
    """Each page says where the next one begins, until there is none; what has a name is called by it."""
    first = await perform(operator, "audit.list", {"limit": 2})
    second = await perform(operator, "audit.list", {"limit": 2, "before": first["next"]})

    entries = first["entries"] + second["entries"]
    assert (entries[0]["name"], entries[0]["action"]) == ("main", "disabled")
    assert {(one["name"], one["action"]) for one in entries[1:]} == {("main", "created"), ("second", "created")}
    assert entries[0]["why"] == "spring clean"
    assert second["next"] is None


async def test_it_is_narrowed(operator: Operator) -> None:
    """By who, by integration, by action."""
    jane = await perform(operator, "audit.list", {"who": "jane", "since": "1h"})
    second = await perform(operator, "audit.list", {"integration": "second"})
    nothing = await perform(operator, "audit.list", {"action": "painted"})

    assert [one["action"] for one in jane["entries"]] == ["disabled"]
    assert [one["name"] for one in second["entries"]] == ["second"]
    assert nothing == {"entries": [], "next": None}


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        ({"since": "soon"}, BadMoment),
        ({"until": "99999999d"}, BadMoment),
        ({"since": "999999d"}, BadMoment),
        ({"before": "there"}, BadCursor),
        ({"integration": "x"}, UnknownIntegration),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    operator: Operator, asked: dict[str, str], refusal: type[Exception]
) -> None:
    """With a sentence that says what can."""
    with pytest.raises(refusal):
        await perform(operator, "audit.list", asked)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90m", NOW - timedelta(minutes=90)),
        ("24h", NOW - timedelta(days=1)),
        (" 7 d ", NOW - timedelta(days=7)),
        ("2026-01-05", datetime(2026, 1, 5, tzinfo=UTC)),
        ("2026-01-05T10:00Z", datetime(2026, 1, 5, 10, tzinfo=UTC)),
        ("2026-01-05T10:00+02:00", datetime(2026, 1, 5, 8, tzinfo=UTC)),
    ],
)
def test_moments_are_written_as_people_do(text: str, moment: datetime) -> None:
    """A date, a moment, or a time ago; without a zone it is UTC."""
    assert moment_of(text, NOW) == moment


async def test_the_commands_print_it(operator: Operator, tmp_path: Path, sqlite_file: Path) -> None:
    """Tables for people: the audit with a hint at its next page, and the figures of a database that is at rest."""
    await operator.store.aclose()
    variables = {"MAILROOM_DATABASE_URL": f"sqlite:///{sqlite_file}", "MAILROOM_DATA_DIR": str(tmp_path)}
    audit = run_mailroom(tmp_path, variables, "audit", "list", "--limit", "1")
    figures = run_mailroom(tmp_path, variables, "figures")

    assert (audit.returncode, figures.returncode) == (0, 0), audit.stderr + figures.stderr
    assert "integration main" in audit.stdout
    assert "--before" in audit.stdout
    assert "Nothing was sent." in figures.stdout
