"""What every store promises about the search: it finds what fits, newest first, and bounds what one request looks at."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from mailroom import terms
from mailroom.message import DEAD_LETTERS, ENDED, Kind, Status, first_id_at, made_at
from mailroom.store import blocks, searching
from mailroom.store import messages as messages_of
from mailroom.store.messages import NewMessage
from mailroom.store.port import Store
from mailroom.store.schema import dead_letters, live, messages
from mailroom.store.searching import Found, Query, search
from tests.builders import NOW, a_message, accepted

DAY = timedelta(days=1)
INTEGRATIONS = [UUID(int=number + 1) for number in range(3)]
SERVICES = ["support", "billing", None]
SUBJECTS = (
    "Your order",
    "order 4711",
    "Größe STRASSE",
    "strasse",
    "注文の確認",
    "reordered",
    "\u212aelvin order",
    "",
    "a_b%c",
)
ADDRESSES = [
    "jane@customer.test",
    "JANE@Customer.Test",
    "joe@other.test",
    "x@my_company.test",
    "é@über.test",
    "x@mycompany.test",
]


def everything(**changes: Any) -> Query:
    """All there is."""
    usual: dict[str, Any] = {"since": NOW - DAY, "until": NOW + DAY, "limit": 1000}
    return Query(**usual | changes)


async def found(store: Store, **changes: Any) -> list[UUID]:
    """The ids that a search finds on its first page."""
    page = await store.read(search, everything(**changes))
    assert (page.older, page.looked_back_to) == (None, None)
    return [standing.id for standing in page.standings]


def ids_at(moment: datetime) -> Iterator[UUID]:
    """Ids as they are made from this moment on, one each second."""
    while True:
        yield UUID(int=first_id_at(moment).int | random.getrandbits(60))
        moment += timedelta(seconds=1)


async def taken_in(store: Store, integration_id: UUID, *changed: dict[str, Any]) -> list[UUID]:
    """Messages that differ in this from an ordinary one, oldest first."""
    rows = [a_message(integration_id, id=id_, **changes) for id_, changes in zip(ids_at(NOW), changed, strict=False)]
    await store.statement(messages_of.accept, rows)
    return [row.id for row in rows]


def stands(tx: Connection, ids: Sequence[UUID], status: Status) -> None:
    """Have messages stand like this."""
    if status not in ENDED:
        tx.execute(sa.update(live).where(live.c.id.in_(ids)).values(status=status))
        return
    tx.execute(sa.delete(live).where(live.c.id.in_(ids)))
    tx.execute(sa.update(messages).where(messages.c.id.in_(ids)).values(status=status, ended_at=NOW))
    tx.execute(sa.delete(dead_letters).where(dead_letters.c.message_id.in_(ids)))
    if status in DEAD_LETTERS and ids:
        integration = sa.select(messages.c.integration_id).where(messages.c.id == dead_letters.c.message_id)
        about = {"integration_id": INTEGRATIONS[0], "ended_at": NOW, "reason": "x", "fingerprint": "x"}
        tx.execute(sa.insert(dead_letters), [about | {"message_id": id_} for id_ in ids])
        tx.execute(sa.update(dead_letters).values(integration_id=integration.scalar_subquery()))


# --- each part --------------------------------------------------------------------------------------------------------


async def test_a_message_is_found_by_its_id(store: Store, integration_id: UUID) -> None:
    """An id finds its message whatever else is asked; an unknown one finds nothing."""
    message = await accepted(store, integration_id)

    assert await found(store, message_id=message.id, service="another", until=NOW - DAY) == [message.id]
    assert await found(store, message_id=uuid4()) == []


async def test_people_are_found_by_address_and_domain(store: Store, integration_id: UUID) -> None:
    """Recipient and sender are found whatever their case; a domain is neither its subdomains nor what looks like it."""
    people = ["Jane@Customer.test", "jane@sub.customer.test", "jane@notcustomer.test", "É@ÜBER.test"]
    ids = await taken_in(store, integration_id, *({"sender": one} for one in people))

    assert await found(store, address="jane@customer.TEST") == [ids[0]]
    assert await found(store, address=" SUPPORT@company.test") == ids[::-1]
    assert await found(store, domain="CUSTOMER.test") == [ids[0]]
    assert await found(store, domain="company.test", address="é@über.TEST") == [ids[3]]
    assert await found(store, domain="über.test") == [ids[3]]
    assert await found(store, domain="test") == []


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (["order"], [6, 1, 0]),
        (["ORDER", "your"], [0]),
        (["ord"], []),
        (["strasse"], [3, 2]),
        (["Straße", "grösse"], [2]),
        (["注文"], [4]),
        (["注確"], []),
        (["kelvin"], [6]),
        (["b"], [8]),
        ([], [8, 7, 6, 5, 4, 3, 2, 1, 0]),
    ],
    ids=lambda value: "-".join(map(ascii, value)) or "none",
)
async def test_subjects_are_found_by_their_words(
    store: Store, integration_id: UUID, words: list[str], numbers: list[int]
) -> None:
    """Every word stands in the subject, whole, whatever its case, in every script."""
    ids = await taken_in(store, integration_id, *({"subject": subject} for subject in SUBJECTS))

    assert await found(store, words=tuple(words)) == [ids[number] for number in numbers]


async def test_a_search_can_be_narrowed(store: Store, integration_id: UUID) -> None:
    """Kind, service, integration and time narrow it; the beginning of the time is within it, its end is not."""
    form, acd, billing = await taken_in(store, integration_id, {}, {"kind": Kind.ACD}, {"service": "billing"})
    second = timedelta(seconds=1)

    assert await found(store, kind=Kind.ACD) == [acd]
    assert await found(store, service="billing") == [billing]
    assert await found(store, integration_id=integration_id) == [billing, acd, form]
    assert await found(store, integration_id=uuid4()) == []
    assert await found(store, since=NOW + second) == [billing, acd]
    assert await found(store, until=NOW + 2 * second) == [acd, form]
    assert await found(store, since=NOW + DAY, until=NOW) == []


@pytest.mark.parametrize("status", list(Status))
async def test_every_status_is_found(store: Store, integration_id: UUID, status: Status) -> None:
    """A message is found by the status it has now, together with anything else; a tombstone by nothing."""
    one, other = await taken_in(store, integration_id, {"service": "billing"}, {})
    await store.transaction(stands, [other], Status.SENT if status is not Status.SENT else Status.FAILED)
    await store.transaction(stands, [one], status)
    expected = [] if status is Status.REFUSED else [one]

    assert await found(store, status=status) == expected
    assert await found(store, status=status, service="billing", words=("question",)) == expected
    assert await found(store, status=status, service="support") == []
    assert await found(store) == [other, *expected]


async def test_a_dead_letter_that_was_dismissed_is_found(store: Store, integration_id: UUID) -> None:
    """Out of sight among the dead letters, it is still a message that failed."""
    [one] = await taken_in(store, integration_id, {})
    await store.transaction(stands, [one], Status.FAILED)
    await store.transaction(Connection.execute, sa.update(dead_letters).values(dismissed_at=NOW))

    assert await found(store, status=Status.FAILED) == [one]


async def test_pages_follow_each_other(store: Store, integration_id: UUID) -> None:
    """A page tells where the next one begins, and the last that it is the last, when it is just full too."""
    ids = await taken_in(store, integration_id, *[{}] * 4)
    query = everything(limit=2)

    first = await store.read(search, query)
    second = await store.read(search, replace(query, before=first.older))

    assert [one.id for one in first.standings] == ids[:1:-1]
    assert (first.older, first.looked_back_to) == (ids[2], None)
    assert [one.id for one in second.standings] == ids[1::-1]
    assert second.older is None


def insert_plain(tx: Connection, ids: Sequence[UUID]) -> None:
    """Many messages that were sent."""
    usual = {"kind": "form", "service": "support", "integration_id": INTEGRATIONS[0], "subject": "A question",
             "accepted_at": NOW, "status": "sent"}  # fmt: skip
    tx.execute(sa.insert(messages), [usual | {"id": id_} for id_ in ids])


async def test_one_request_looks_at_so_many(store: Store) -> None:
    """Where much does not fit, a request ends at its bound, says back to where it has looked, and the next goes on."""
    ids = [UUID(int=first_id_at(NOW).int + (number << 70)) for number in range(sum(searching.LOOKS) + 2)]
    await store.transaction(insert_plain, ids)
    await store.transaction(Connection.execute, sa.update(messages).where(messages.c.id == ids[0]).values(service="x"))

    first = await store.read(search, everything(service="x"))
    second = await store.read(search, everything(service="x", before=first.older))

    assert first == Found(standings=[], older=ids[2], looked_back_to=made_at(ids[2]))
    assert [one.id for one in second.standings] == [ids[0]]
    assert (second.older, second.looked_back_to) == (None, None)


# --- together ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """A message and how it stands."""

    message: NewMessage
    status: Status


@pytest.fixture
async def kept(store: Store, integration_id: UUID) -> list[Kept]:
    """Three blocks of all sorts of messages and some more, newest first."""
    dice = random.Random(7)  # noqa: S311 - the same messages in every run
    rows = [
        Kept(
            a_message(
                dice.choice(INTEGRATIONS), id=id_, kind=dice.choice(list(Kind)), service=dice.choice(SERVICES),
                subject=dice.choice(SUBJECTS), recipient=dice.choice(ADDRESSES), sender=dice.choice(ADDRESSES),
            ),
            dice.choice(list(Status)),
        )
        for id_, _ in zip(ids_at(NOW), range(3 * blocks.BLOCK + 50), strict=False)
    ]  # fmt: skip
    await store.statement(messages_of.accept, [row.message for row in rows])
    for status in Status:
        await store.transaction(stands, [row.message.id for row in rows if row.status is status], status)
    if await store.read(blocks.has_blocks):
        assert await store.transaction(blocks.index_more, now=datetime.now(UTC)) == 3 * blocks.BLOCK
    return rows[::-1]


def fits(row: Kept, query: Query) -> bool:
    """Whether a plain look at the message says so."""
    message = row.message
    people = [str(one).casefold() for one in (message.recipient, message.sender)]
    return (
        row.status is not Status.REFUSED
        and query.since <= made_at(message.id) < query.until
        and (query.before is None or message.id < query.before)
        and (query.address is None or query.address.casefold() in people)
        and (query.domain is None or any(one.endswith(f"@{query.domain.casefold()}") for one in people))
        and all(terms.words(word) <= terms.words(message.subject) for word in query.words)
        and query.service in (None, message.service)
        and query.kind in (None, message.kind)
        and query.status in (None, row.status)
        and query.integration_id in (None, message.integration_id)
    )


def maybe(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    """One of these, or more often nothing."""
    return st.one_of(st.none(), st.none(), st.sampled_from(values))


moments = st.integers(-10, 900).map(lambda seconds: NOW + timedelta(seconds=seconds))
queries = st.builds(
    Query,
    since=st.one_of(st.just(NOW - DAY), moments),
    until=st.one_of(st.just(NOW + DAY), moments),
    address=maybe([*ADDRESSES, "nobody@nowhere.test"]),
    domain=maybe(["customer.test", "MY_company.test", "über.test", "test"]),
    words=st.lists(st.sampled_from(["order", "STRASSE", "größe", "4711", "kelvin", "文の", "never"]), max_size=2).map(tuple),
    service=maybe(["support", "billing", "x"]),
    kind=maybe(list(Kind)),
    status=maybe(list(Status)),
    integration_id=maybe([*INTEGRATIONS, uuid4()]),
    before=st.one_of(st.none(), moments.map(first_id_at)),
    limit=st.sampled_from([20, 50, 1000]),
)  # fmt: skip


# The fixture is only read, so that all examples may share it.
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=queries)
async def test_a_search_finds_what_a_plain_look_finds(store: Store, kept: list[Kept], query: Query) -> None:
    """Whatever is asked together, page by page: all that fits, newest first, and nothing else."""
    ids: list[UUID] = []
    page = await store.read(search, query)
    ids += [one.id for one in page.standings]
    while page.older is not None:
        assert len(page.standings) <= query.limit
        page = await store.read(search, replace(query, before=page.older))
        ids += [one.id for one in page.standings]

    assert ids == [row.message.id for row in kept if fits(row, query)]
