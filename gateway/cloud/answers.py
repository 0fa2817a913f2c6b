"""What the platform API answers: dates, references and pages as the vendor's clients read them.

Those clients fail on a null where a word is expected and on dates that are numbers: what has no value is left out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

PREFIX = "/api/v2"


def date(moment: datetime) -> str:
    """`2026-01-06T12:00:00.000Z`."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"


def without_nulls(members: Mapping[str, Any]) -> dict[str, Any]:
    """The members that have a value."""
    return {name: value for name, value in members.items() if value is not None}


def uri(*parts: str) -> str:
    """The relative uri of something: `/api/v2/integrations/…`."""
    return "/".join((PREFIX, *(quote(part, safe="") for part in parts)))


def reference(kind: tuple[str, ...], entity_id: str, name: str | None) -> dict[str, Any]:
    """A DomainEntityRef."""
    return without_nulls({"id": entity_id, "name": name, "selfUri": uri(*kind, entity_id)})


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted."""

    size: int
    number: int

    @property
    def offset(self) -> int:
        """How many come before it."""
        return (self.number - 1) * self.size


def listing(
    entities: Iterable[dict[str, Any]], total: int, page: Page, path: str, filters: Iterable[tuple[str, str]] = ()
) -> dict[str, Any]:
    """A page of a list. Its uris keep the filters; the first page has no previous one, the last no next one."""
    kept = list(filters)
    count = -(-total // page.size)

    def at(number: int) -> str:
        return f"{path}?{urlencode([*kept, ('pageSize', page.size), ('pageNumber', number)])}"

    return without_nulls(
        {
            "entities": list(entities),
            "pageSize": page.size,
            "pageNumber": page.number,
            "total": total,
            "pageCount": count,
            "selfUri": at(page.number),
            "firstUri": at(1),
            "lastUri": at(max(count, 1)),
            "nextUri": at(page.number + 1) if page.number < count else None,
            "previousUri": at(page.number - 1) if 1 < page.number <= count + 1 else None,
        }
    )
