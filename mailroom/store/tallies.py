"""Queries of the tallies: what happened in each minute, added up by whoever saw it."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import sqlite

from mailroom.store.absent import insert_absent
from mailroom.store.schema import EPOCH, Instant, tallies

#: What is of no integration.
NO_INTEGRATION = UUID(int=0)

#: What one pass forgets, by its time: so a delete stays small, however long nobody came.
FORGOTTEN_AT_ONCE = timedelta(hours=1)

_HOUR = timedelta(hours=1)


#: No count, but seconds: how long the oldest waiting message had waited in a minute. Kept by the minute throughout.
OLDEST = "oldest waiting"


class Key(NamedTuple):
    """What is counted together. `minute`: minutes since 1970 (UTC)."""

    minute: int
    what: str
    kind: str
    #: Empty for what is of no service.
    service: str
    integration_id: UUID


class By(StrEnum):
    """What a number can be told apart by; the names of the columns."""

    KIND = "kind"
    SERVICE = "service"
    INTEGRATION = "integration_id"


@dataclass(frozen=True, slots=True)
class Point:
    """How often something happened in the step that begins at this moment; `of` is the kind, service or integration."""

    at: datetime
    what: str
    of: str | UUID | None
    number: int


@dataclass(frozen=True, slots=True)
class Total:
    """How often something happened; `of` as in Point."""

    what: str
    of: str | UUID | None
    number: int


def add(tx: Connection, counts: Mapping[Key, int]) -> None:
    """Add these to what is there, in one statement."""
    # In one order, so that two processes that add to the same rows wait for each other instead of locking up.
    keys = sorted(counts)
    columns = {
        "minute": [minute_of(key) for key in keys],
        "what": [key.what for key in keys],
        "kind": [key.kind for key in keys],
        "service": [key.service for key in keys],
        "integration_id": [key.integration_id for key in keys],
        "number": [counts[key] for key in keys],
    }
    if tx.dialect.name == "postgresql":
        tx.execute(_ADD, columns)
        return
    insert = sqlite.insert(tallies)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    tx.execute(
        insert.on_conflict_do_update(
            index_elements=list(tallies.primary_key),
            set_={"number": tallies.c.number + insert.excluded.number},
        ),
        rows,
    )


_ADD = sa.text("""
    INSERT INTO tallies (minute, what, kind, service, integration_id, number)
    SELECT * FROM unnest(
        CAST(:minute AS timestamptz[]), CAST(:what AS text[]), CAST(:kind AS text[]), CAST(:service AS text[]),
        CAST(:integration_id AS uuid[]), CAST(:number AS bigint[])
    )
    ON CONFLICT (minute, what, kind, service, integration_id)
    DO UPDATE SET number = tallies.number + excluded.number
""")


def minute_of(key: Key) -> datetime:
    """When its minute began."""
    return EPOCH + timedelta(minutes=key.minute)


def series(
    tx: Connection, since: datetime, until: datetime, step: timedelta, *, what: Collection[str], by: By | None = None
) -> list[Point]:
    """What happened from `since` until before `until`, in steps of whole minutes, the earliest first.

    Steps begin at whole multiples since 1970; those in which nothing happened are left out.
    """
    rows = _sums(tx, since, until, what, [_beginning(tx, step).label("begins"), *_columns(by)])
    return [Point(row.begins, row.what, row.of if by else None, row.number) for row in rows]


def totals(
    tx: Connection, since: datetime, until: datetime, *, what: Collection[str], by: By | None = None
) -> list[Total]:
    """What happened from `since` until before `until`, all together."""
    rows = _sums(tx, since, until, what, _columns(by))
    return [Total(row.what, row.of if by else None, row.number) for row in rows]


def note_oldest(tx: Connection, waited: timedelta, *, at: datetime) -> None:
    """Put on record how long the oldest waiting message has waited, once for its minute."""
    row = {
        "minute": at.replace(second=0, microsecond=0), "what": OLDEST, "kind": "", "service": "",
        "integration_id": NO_INTEGRATION, "number": max(0, int(waited.total_seconds())),
    }  # fmt: skip
    insert_absent(tx, tallies, [row])


def oldest_is_noted(tx: Connection, *, at: datetime) -> bool:
    """Whether that is on record for this minute."""
    minute = at.replace(second=0, microsecond=0)
    noted = sa.select(tallies.c.number).where(tallies.c.minute == minute, tallies.c.what == OLDEST)
    return tx.execute(noted).first() is not None


def oldest(tx: Connection, since: datetime, until: datetime, step: timedelta) -> list[Point]:
    """How many seconds the oldest waiting message had waited at most, step by step; unknown ones are left out."""
    begins, of = _beginning(tx, step).label("begins"), tallies.c
    rows = tx.execute(
        sa.select(begins, sa.func.max(of.number).label("number"))
        .where(of.minute >= since, of.minute < until, of.what == OLDEST)
        .group_by(begins)
        .order_by(begins)
    )
    return [Point(row.begins, OLDEST, None, row.number) for row in rows]


def forget(tx: Connection, *, before: datetime) -> int:
    """Delete the oldest of what is older than this, an hour's worth at most; how many rows those were."""
    oldest = tx.execute(sa.select(sa.func.min(tallies.c.minute, type_=Instant()))).scalar_one()
    if oldest is None:
        return 0
    gone = tx.execute(sa.delete(tallies).where(tallies.c.minute < min(before, oldest + FORGOTTEN_AT_ONCE)))
    return gone.rowcount


def merge(tx: Connection, *, before: datetime) -> int:
    """Put the minutes of the oldest hour that ended before this into that hour's first; how many rows those were.

    A chart of a week would otherwise read millions of them. Several may do this at once: each row goes to one of them.
    """
    of, hour = tallies.c, _beginning(tx, _HOUR)
    counted = sa.and_(of.minute != hour, of.what != OLDEST)
    fine = sa.select(hour).where(of.minute < before - _HOUR, counted).order_by(of.minute).limit(1)
    begins = tx.execute(fine).scalar_one_or_none()
    if begins is None:
        return 0
    gone = tx.execute(
        sa.delete(tallies).where(of.minute > begins, of.minute < begins + _HOUR, counted).returning(*tallies.c)
    ).all()
    sums: Counter[Key] = Counter()
    minute = (begins - EPOCH) // timedelta(minutes=1)
    for row in gone:
        sums[Key(minute, row.what, row.kind, row.service, row.integration_id)] += row.number
    if sums:
        add(tx, sums)
    return len(gone)


def _columns(by: By | None) -> list[sa.ColumnElement[Any]]:
    return [tallies.c.what] if by is None else [tallies.c.what, tallies.c[by].label("of")]


def _sums(
    tx: Connection, since: datetime, until: datetime, what: Collection[str], groups: Sequence[sa.ColumnElement[Any]]
) -> Sequence[Any]:
    # A sum of 64 bits has more of them on PostgreSQL.
    number = sa.cast(sa.func.sum(tallies.c.number), sa.BigInteger).label("number")
    return tx.execute(
        sa.select(*groups, number)
        .where(tallies.c.minute >= since, tallies.c.minute < until, tallies.c.what.in_(what))
        .group_by(*groups)
        .order_by(*groups)
    ).all()


def _beginning(tx: Connection, step: timedelta) -> sa.ColumnElement[datetime]:
    """The beginning of the step that a minute is in."""
    if tx.dialect.name == "postgresql":
        return sa.func.date_bin(step, tallies.c.minute, EPOCH, type_=Instant())
    microseconds = sa.type_coerce(tallies.c.minute, sa.BigInteger)
    whole = sa.literal(step // timedelta(microseconds=1))
    return sa.type_coerce(microseconds - microseconds % whole, Instant())
