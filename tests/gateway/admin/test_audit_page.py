"""The page of the audit: narrowed, and turned over page by page."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from gateway.admin.audit import ON_A_PAGE
from mailroom.store import audit
from mailroom.store.audit import Entry
from tests.gateway.admin.visitor import Entrance, Visitor

ANY_ID = UUID(int=7)

BEGAN = datetime(2026, 1, 6, 12, tzinfo=UTC)


async def noted(entrance: Entrance, number: int) -> None:
    """So many entries about one subject, some at the same moment."""
    for one in range(number):
        entry = Entry(
            subject="weather", subject_id=None, action="changed", who=f"user jane {one % 2}", why=f"entry {one};",
            at=BEGAN + timedelta(seconds=one // 3),
        )  # fmt: skip
        await entrance.store.transaction(audit.note, entry)


def entries(words: str) -> list[int]:
    """The entries on a page, in its order."""
    return [int(one) for one in re.findall(r"entry (\d+);", words)]


async def test_it_is_turned_over(entrance: Entrance, admin: Visitor) -> None:
    """Page by page each entry comes once, the newest first, narrowed all along."""
    await noted(entrance, 2 * ON_A_PAGE + 7)
    path, seen, sizes = "/audit?subject=weather", [], []
    while path:
        page = await admin.get(path)
        found = entries(page.words)
        sizes.append(len(found))
        seen += found
        older = re.search(r'href="(/audit\?[^"]*)" rel="next"', page.text)
        path = older[1].replace("&amp;", "&") if older else ""

    assert sizes == [ON_A_PAGE, ON_A_PAGE, 7]
    assert sorted(seen) == list(range(2 * ON_A_PAGE + 7))
    moments = [one // 3 for one in seen]
    assert moments == sorted(moments, reverse=True)


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("who=jane%201", 5),
        ("who=%25", 0),
        ("who=user%20jane", 10),
        ("subject=wea", 10),
        ("subject=ther", 0),
        ("action=changed", 10),
        ("action=change", 0),
        ("since=2026-01-06T12:00:02", 4),
        ("until=2026-01-06T12:00:02", 6),
        ("since=2026-01-06T13:00:02%2B01:00", 4),
        ("since=2026-01-06&until=2026-01-07", 10),
        ("since=9999-12-31", 0),
        ("until=0001-01-01", 0),
        (f"before=2026-01-06T12:00:02/{ANY_ID}&subject=weather", None),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_it_is_narrowed(entrance: Entrance, admin: Visitor, query: str, number: int | None) -> None:
    """By who, what it is about, what was done, and when; what is typed stays in its field."""
    await noted(entrance, 10)
    seen = await admin.get(f"/audit?{query}")

    assert seen.status == 200
    assert number is None or len(entries(seen.words)) == number


@pytest.mark.parametrize(
    "query",
    ["since=yesterday", "until=25:00", "integration=none", "before=x", f"before=x/{ANY_ID}", "before=2026-01-01/x"],
)
async def test_what_cannot_be_asked_for_is_told(admin: Visitor, query: str) -> None:
    """The page says so in our words, and none of the database's."""
    seen = await admin.get(f"/audit?{query}")

    assert seen.status == 400
    assert 'role="alert"' in seen.text
    assert "offset-naive" not in seen.text
