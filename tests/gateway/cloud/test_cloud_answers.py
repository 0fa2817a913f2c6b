"""Dates, references and pages."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from gateway.cloud.answers import Page, date, listing, reference, without_nulls


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 1, 6, 12, tzinfo=UTC), "2026-01-06T12:00:00.000Z"),
        (datetime(2026, 1, 6, 12, 0, 0, 999_999, tzinfo=UTC), "2026-01-06T12:00:00.999Z"),
        (datetime(2026, 1, 6, 12, tzinfo=timezone(timedelta(hours=2))), "2026-01-06T10:00:00.000Z"),
    ],
)
def test_dates_have_milliseconds_and_are_in_utc(moment: datetime, text: str) -> None:
    """A date is text like yyyy-MM-ddTHH:mm:ss.SSSZ."""
    assert date(moment) == text


def test_what_has_no_value_is_left_out() -> None:
    """Clients fail on a null where they expect a word."""
    assert without_nulls({"a": None, "b": "", "c": 0}) == {"b": "", "c": 0}
    assert reference(("routing", "email", "domains"), "a/b.test", None) == {
        "id": "a/b.test", "selfUri": "/api/v2/routing/email/domains/a%2Fb.test",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("number", "total", "wanted"),
    [
        (1, 0, {"pageCount": 0, "firstUri": "/p?x=1&pageSize=10&pageNumber=1", "lastUri": "/p?x=1&pageSize=10&pageNumber=1"}),
        (1, 25, {"pageCount": 3, "nextUri": "/p?x=1&pageSize=10&pageNumber=2"}),
        (2, 25, {"nextUri": "/p?x=1&pageSize=10&pageNumber=3", "previousUri": "/p?x=1&pageSize=10&pageNumber=1"}),
        (3, 25, {"previousUri": "/p?x=1&pageSize=10&pageNumber=2", "lastUri": "/p?x=1&pageSize=10&pageNumber=3"}),
        (9, 25, {"selfUri": "/p?x=1&pageSize=10&pageNumber=9", "pageCount": 3}),
    ],
)  # fmt: skip
def test_pages_lead_to_each_other(number: int, total: int, wanted: dict[str, Any]) -> None:
    """Every page knows the first and the last, and the next and the previous where they exist; filters are kept."""
    page = listing([], total, Page(10, number), "/p", [("x", "1")])

    assert page | wanted == page
    assert page["entities"] == []
    assert ("nextUri" in page, "previousUri" in page) == ("nextUri" in wanted, "previousUri" in wanted)
