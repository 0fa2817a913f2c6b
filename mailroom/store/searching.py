"""Queries of the search: the newest messages that all of a question fits, found within bounds, whatever is asked.

What may fit is looked at in stretches, newest first: the tail that is in no block yet, then the blocks that have every
term of the question (mailroom/store/blocks.py). Who asks for what is unfinished or a dead letter is led by those tables,
which are small. A look that comes to its bound says so, and how to go on.

Statements here must stay quick under plans that were made for other figures and kept: what the planner may not guess
from stands in a subquery, and what it may not turn around is a lateral join.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection
from sqlalchemy.dialects.postgresql import ARRAY

from mailroom import terms
from mailroom.message import DEAD_LETTERS, ENDED, Kind, Status, first_id_at, made_at
from mailroom.store import blocks
from mailroom.store.messages import Standing, standings_of
from mailroom.store.schema import dead_letters, live, messages, search_blocks

#: Messages that one look covers, and those after it: a page is mostly filled by the first. Together they are the bound
#: of a request; 25,000 rows that all have to be looked at take about 50 ms.
LOOKS = (1000, 4000, 20_000)

#: The same where each row is found by its key, which takes longer.
LOOKS_BY_KEY = (1000, 9000)

#: The same in blocks.
LOOKS_IN_BLOCKS = tuple(most // blocks.BLOCK for most in LOOKS)
_MOST_BLOCKS = sum(LOOKS_IN_BLOCKS)

#: No block is larger, before latecomers are cut off from it; only tells the planner what to expect.
LARGEST_BLOCK = 4 * blocks.BLOCK

#: Rows of one look that the database lets pass and we check ourselves.
MOST_CHECKED = 3000

_MILLISECOND = timedelta(milliseconds=1)
_LAST_ID = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is searched for: all of it must fit. Times are those at which messages got their ids.

    `since` is within the range, `until` is not. A message asked for by its id is found whatever else is asked.
    """

    since: datetime
    until: datetime
    message_id: UUID | None = None
    #: Of the recipient or the sender, as the domain is.
    address: str | None = None
    domain: str | None = None
    #: Each stands in the subject, as a word.
    words: tuple[str, ...] = ()
    service: str | None = None
    kind: Kind | None = None
    status: Status | None = None
    integration_id: UUID | None = None
    #: Only what is older than this message: `older` of the page before.
    before: UUID | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A page of messages, newest first."""

    standings: list[Standing]
    #: What `before` has to be for the next page; None when there is no more.
    older: UUID | None = None
    #: The bound was reached before the page was full: what is older than this has not been looked at.
    looked_back_to: datetime | None = None


def search(tx: Connection, query: Query) -> Found:
    """The newest messages that fit, as many as a page has, or as are found among a bounded number of candidates."""
    if query.message_id is not None:
        return Found(standings=standings_of(tx, [query.message_id]))
    sought = _sought(tx, query)
    ids: list[UUID] = []
    for look in _looks(tx, sought):
        enough = query.limit + 1 - len(ids)
        most = max(MOST_CHECKED, enough) if sought.is_checked else enough
        rows = tx.execute(look.rows.limit(most)).all()
        ids += [row.id for row in rows if sought.fits(row)][:enough]
        if len(ids) > query.limit:
            return Found(standings=standings_of(tx, ids[:-1]), older=ids[-2])
        edge = rows[-1].id if len(rows) == most else look.edge
        if edge is not None and (look.is_last or edge != look.edge):
            return Found(standings=standings_of(tx, ids), older=edge, looked_back_to=made_at(edge))
    return Found(standings=standings_of(tx, ids))


# --- what is sought -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sought:
    """A question, with its texts as they are compared, and where it is put."""

    query: Query
    address: str | None
    domain: str | None
    words: frozenset[str]
    dialect: str

    @property
    def is_checked(self) -> bool:
        """Whether rows that the database lets pass may yet not fit."""
        return bool(self.address or self.domain or self.words)

    def fits(self, row: Any) -> bool:
        """Whether the row has the texts that are sought."""
        people = {terms.address(text) for text in (row.recipient, row.sender) if text}
        return (
            (self.address is None or self.address in people)
            and (self.domain is None or self.domain in {terms.domain(one) for one in people})
            and self.words <= terms.words(row.subject or "")
        )

    def terms(self) -> list[str]:
        """What a block must have."""
        # An address has its domain's number too, so that hardly a block is looked through by mistake.
        found = {*self.words, self.address, self.domain, terms.domain(self.address or "")} - {None, ""}
        if self.query.kind is not None:
            found.add(terms.kind(self.query.kind))
        if self.query.service is not None:
            found.add(terms.service(self.query.service))
        if self.query.integration_id is not None:
            found.add(terms.integration(self.query.integration_id))
        return sorted(map(str, found))


def _sought(tx: Connection, query: Query) -> _Sought:
    return _Sought(
        query,
        address=None if query.address is None else terms.address(query.address),
        domain=None if query.domain is None else terms.domain(f"@{query.domain.rpartition('@')[2]}"),
        words=terms.words("\n".join(query.words)),
        dialect=tx.dialect.name,
    )


# --- where to look ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Window:
    """Ids from the first, which is within, to the end, which is not."""

    first: UUID
    end: UUID

    @property
    def is_empty(self) -> bool:
        return self.first >= self.end


@dataclass(frozen=True, slots=True)
class _Look:
    """One statement for candidates, newest first."""

    rows: sa.Select[Any]
    #: All that may fit from here on is among them; None when that is all there is in the window.
    edge: UUID | None
    #: Nothing further is looked at in this request.
    is_last: bool


def _looks(tx: Connection, sought: _Sought) -> Iterator[_Look]:
    """Where what fits can be, newest first, up to the bound."""
    window, leader, wanted = _window(sought.query), _leader(sought.query.status), sought.terms()
    if window.is_empty or sought.query.status is Status.REFUSED:
        return
    if not blocks.has_blocks(tx) or not wanted:
        yield from _led(tx, leader, window, sought) if leader is not None else _all(tx, window, sought)
        return
    indexed = _next(blocks.indexed_up_to(tx))
    old = replace(window, end=min(window.end, indexed))
    stretches = [] if old.is_empty else _blocks_with(tx, wanted, old)
    if leader is not None and len(stretches) > _MOST_BLOCKS:
        # So many blocks have the terms that the small table is the shorter way.
        yield from _led(tx, leader, window, sought)
        return
    young = replace(window, first=max(window.first, indexed))
    for look in _all(tx, young, sought):
        yield look
        if look.is_last and look.edge is not None:
            return
    yield from _in_blocks(stretches, sought)


def _window(query: Query) -> _Window:
    end = first_id_at(query.until + _MILLISECOND - timedelta.resolution)
    return _Window(first_id_at(query.since), end if query.before is None else min(end, query.before))


def _next(id_: UUID) -> UUID:
    return id_ if id_ == _LAST_ID else UUID(int=id_.int + 1)


def _leader(status: Status | None) -> sa.Table | None:
    """The small table that has a row for every message of this status."""
    if status in DEAD_LETTERS:
        return dead_letters
    return None if status is None or status in ENDED else live


def _all(tx: Connection, window: _Window, sought: _Sought) -> Iterator[_Look]:
    """Every message of the window."""
    for part, size, edge in _parts(tx, messages.c.id, window, LOOKS):
        within = sa.and_(messages.c.id >= part.first, messages.c.id < part.end)
        yield _Look(_fitting(_newest(within, size).subquery("m"), sought), edge, is_last=size == LOOKS[-1])


def _led(tx: Connection, leader: sa.Table, window: _Window, sought: _Sought) -> Iterator[_Look]:
    """Every message of the window that has a row in this table."""
    key = leader.c.message_id if leader is dead_letters else leader.c.id
    for part, size, edge in _parts(tx, key, window, LOOKS_BY_KEY):
        leading = sa.select(leader, key.label("led_id")).where(key >= part.first, key < part.end)
        led = leading.order_by(key.desc()).limit(size).subquery("led")
        rows = _each(led, sought, led.c.status if leader is live else None)
        if sought.query.integration_id is not None:
            rows = rows.where(led.c.integration_id == sought.query.integration_id)
        yield _Look(rows, edge, is_last=size == LOOKS_BY_KEY[-1])


def _in_blocks(stretches: Sequence[_Window], sought: _Sought) -> Iterator[_Look]:
    """The messages of these blocks, of which one more than the bound says that there are more."""
    looked = 0
    for number in LOOKS_IN_BLOCKS:
        some = stretches[looked : min(looked + number, _MOST_BLOCKS)]
        if not some:
            return
        looked += len(some)
        more = looked < len(stretches)
        yield _Look(_within(some, sought), some[-1].first if more else None, is_last=looked == _MOST_BLOCKS)


def _parts(
    tx: Connection, key: ColumnElement[UUID], window: _Window, sizes: Sequence[int]
) -> Iterator[tuple[_Window, int, UUID | None]]:
    """The window in parts of so many keys, newest first, each with its edge; the last is where the sizes end.

    Keys are counted down from one bound: given both, and no statistics yet, the planner would sort all between them.
    """
    end = window.end
    for size in sizes:
        if window.first >= end:
            return
        older = sa.select(key).where(key < end).order_by(key.desc())
        edge = tx.execute(older.offset(size - 1).limit(1)).scalar_one_or_none()
        if edge is not None and edge < window.first:
            edge = None
        yield _Window(edge or window.first, end), size, edge
        if edge is None:
            return
        end = edge


_NUMBERS = ARRAY(sa.Integer)
_IDS = ARRAY(sa.Uuid)

#: True, and never computed. But the planner adds up what it would cost, which makes it use the index of terms: of itself
#: it would rather read the blocks one by one, not knowing that each array has to be fetched and unpacked (20 us) for it.
_DEAR = sa.text(
    "CASE WHEN number >= 0 THEN true ELSE "
    + " AND ".join(f"to_tsvector('simple', '{n}' || number) IS NULL" for n in range(4))
    + " END"
)


def _blocks_with(tx: Connection, wanted: Sequence[str], window: _Window) -> list[_Window]:
    """The newest blocks of the window that have all these terms: one more than a request looks at.

    The planner is not told which terms, and holds the window against what their index found: it shall know no other way.
    """
    hashes = sa.cast(sa.literal(terms.numbers(wanted), _NUMBERS), _NUMBERS)
    having = sa.type_coerce(search_blocks.c.terms, _NUMBERS).contains(sa.select(hashes).scalar_subquery())
    found = sa.select(search_blocks.c.first_id, search_blocks.c.last_id).where(having, _DEAR).cte("found")
    found = found.prefix_with("MATERIALIZED")
    rows = tx.execute(
        sa.select(found.c.first_id, found.c.last_id)
        .where(found.c.first_id < window.end, found.c.last_id >= window.first)
        .order_by(found.c.first_id.desc())
        .limit(_MOST_BLOCKS + 1)
    )
    return [_Window(max(row.first_id, window.first), min(_next(row.last_id), window.end)) for row in rows]


# --- the candidates -----------------------------------------------------------------------------------------------------

#: What candidates are chosen by.
_CANDIDATES = sa.select(
    messages.c.id, messages.c.kind, messages.c.service, messages.c.integration_id, messages.c.recipient,
    messages.c.sender, messages.c.subject, messages.c.status,
)  # fmt: skip


def _newest(within: ColumnElement[bool], most: int) -> sa.Select[Any]:
    """So many of these at most. The limit, which no stretch exceeds, tells the planner what to expect."""
    return _CANDIDATES.where(within).order_by(messages.c.id.desc()).limit(most)


def _within(stretches: Sequence[_Window], sought: _Sought) -> sa.Select[Any]:
    """What fits of the messages of these stretches, on PostgreSQL."""
    bounds = (sa.cast(sa.literal([getattr(one, side) for one in stretches], _IDS), _IDS) for side in ("first", "end"))
    sides = (sa.column("first", sa.Uuid), sa.column("end", sa.Uuid))
    stretch = sa.func.unnest(*bounds).table_valued(*sides, name="s").render_derived()
    inside = sa.and_(messages.c.id >= stretch.c.first, messages.c.id < stretch.c.end)
    one = _newest(inside, LARGEST_BLOCK).lateral("m")
    return _fitting(one, sought, stretch.join(one, sa.true()))


def _each(led: sa.Subquery, sought: _Sought, now: ColumnElement[str] | None) -> sa.Select[Any]:
    """What fits of the messages that go with these rows; each is looked up, which the OFFSET keeps as it is."""
    mine = _CANDIDATES.where(messages.c.id == led.c.led_id)
    one = mine.offset(sa.literal_column("0")).lateral("m") if sought.dialect == "postgresql" else messages.alias("m")
    matching = sa.true() if sought.dialect == "postgresql" else one.c.id == led.c.led_id
    return _fitting(one, sought, led.join(one, matching), now)


def _fitting(
    one: sa.FromClause,
    sought: _Sought,
    source: sa.FromClause | None = None,
    now: ColumnElement[str] | None = None,
) -> sa.Select[Any]:
    """Those that fit so far as the database can tell; too many may pass for their texts, never too few.

    `now` is the status of what is unfinished, where the source has it already.
    """
    query = sought.query
    found = [_status(one.c, query.status, now)]
    for column, value in (
        (one.c.kind, query.kind),
        (one.c.service, query.service),
        (one.c.integration_id, query.integration_id),
    ):
        if value is not None:
            found.append(column == value)
    for text, at_the_end in ((sought.address, False), (sought.domain, True)):
        if text is not None:
            people = (one.c.recipient, one.c.sender)
            found.append(sa.or_(*(_has(person, text, sought.dialect, at_the_end=at_the_end) for person in people)))
    found += [_has(one.c.subject, word, sought.dialect) for word in sorted(sought.words)]
    chosen = sa.select(one.c.id, one.c.recipient, one.c.sender, one.c.subject).where(*found)
    return chosen.select_from(one if source is None else source).order_by(one.c.id.desc())


def _status(one: Any, status: Status | None, now: ColumnElement[str] | None) -> ColumnElement[bool]:
    if status is None:
        return sa.or_(one.status.is_(None), one.status != Status.REFUSED)
    if status in ENDED:
        return sa.and_(one.status == status)
    if now is None:
        now = sa.select(live.c.status).where(live.c.id == one.id).scalar_subquery()
    return sa.and_(one.status.is_(None), now == status)


def _has(column: ColumnElement[Any], text: str, dialect: str, *, at_the_end: bool = False) -> ColumnElement[bool]:
    """Whether the column may have this text in it. Databases fold only ASCII as we do: all else passes, and is checked."""
    if dialect == "postgresql":
        small, foreign = sa.func.lower(sa.collate(column, "C")), sa.func.octet_length(column) != sa.func.length(column)
    else:
        small, foreign = (
            sa.func.lower(column),
            sa.func.length(sa.cast(column, sa.LargeBinary)) != sa.func.length(column),
        )
    if not text.isascii():
        return foreign
    plain = small.endswith(text, autoescape=True) if at_the_end else small.contains(text, autoescape=True)
    return sa.or_(plain, foreign)
