"""What every store promises about sign-ins: whose they are, how long they hold, and how often they may fail."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa

from mailroom.roles import Role
from mailroom.store import sign_ins, users
from mailroom.store.port import Store
from mailroom.store.sign_ins import FAILURES_KEPT, IDLE_AFTER, LONGEST, SEEN_TO, Account
from tests.builders import NOW

SECOND = timedelta(seconds=1)


@pytest.fixture
async def jane(store: Store) -> UUID:
    """Somebody who may sign in."""
    return await store.transaction(users.create, "jane", Role.OPERATOR, "a hash", who="test", now=NOW)


async def signed_in(store: Store, user_id: UUID, at: timedelta = timedelta()) -> str:
    """The token of a sign-in."""
    return await store.transaction(sign_ins.begin, user_id, address="192.0.2.1", browser="a browser", now=NOW + at)


async def account(store: Store) -> Account:
    """Jane's account."""
    found = await store.read(sign_ins.account, "jane")
    assert found is not None
    return found


async def test_sec_7_a_token_is_somebodys(store: Store, jane: UUID) -> None:
    """It tells who they are and what for; only a hash of it is kept."""
    token = await signed_in(store, jane)
    found = await store.read(sign_ins.find, token, now=NOW)
    assert found is not None
    person, is_to_be_noted = found

    assert (person.user_id, person.name, person.role, person.hash) == (
        jane,
        "jane",
        "operator",
        sign_ins.hash_of(token),
    )
    assert not is_to_be_noted
    assert await store.read(sign_ins.find, person.hash, now=NOW) is None
    assert await store.read(sign_ins.find, token + "x", now=NOW) is None


@pytest.mark.parametrize(
    ("seen_after", "asked_after", "holds"),
    [
        (timedelta(), IDLE_AFTER - SECOND, True),
        (timedelta(), IDLE_AFTER, False),
        (LONGEST - SEEN_TO, LONGEST - SECOND, True),
        (LONGEST - SEEN_TO, LONGEST, False),
    ],
    ids=["in time", "idle", "a long day", "too long a day"],
)
async def test_sec_7_a_sign_in_ends_by_itself(
    store: Store, jane: UUID, seen_after: timedelta, asked_after: timedelta, *, holds: bool
) -> None:
    """After an hour without a visit, and after twelve hours whatever happens."""
    token = await signed_in(store, jane)
    kept = sign_ins.hash_of(token)
    await store.transaction(sign_ins.seen, kept, now=NOW + seen_after)

    assert (await store.read(sign_ins.find, token, now=NOW + asked_after) is not None) is holds
    assert await store.read(sign_ins.is_valid, kept, Role.OPERATOR, now=NOW + asked_after) is holds
    assert bool(await store.read(sign_ins.of_user, jane, now=NOW + asked_after)) is holds
    await store.transaction(sign_ins.forget_old, now=NOW + asked_after)
    assert (await store.transaction(sign_ins.end_all, jane) == 1) is holds


async def test_a_visit_is_noted_once_a_minute(store: Store, jane: UUID) -> None:
    """Not every page is a write."""
    token = await signed_in(store, jane)
    told = [await store.read(sign_ins.find, token, now=NOW + after) for after in (SEEN_TO - SECOND, SEEN_TO)]

    assert [found is not None and found[1] for found in told] == [False, True]


async def test_a_sign_in_holds_for_its_role_and_its_person(store: Store, jane: UUID) -> None:
    """Who gets another role, or is disabled, is not let in by what was so before."""
    token = await signed_in(store, jane)
    kept = sign_ins.hash_of(token)
    assert await store.read(sign_ins.is_valid, kept, Role.OPERATOR, now=NOW)
    assert not await store.read(sign_ins.is_valid, kept, Role.ADMIN, now=NOW)

    await store.transaction(users.end, "jane", who="test", now=NOW)
    assert not await store.read(sign_ins.is_valid, kept, Role.OPERATOR, now=NOW)
    assert await store.read(sign_ins.find, token, now=NOW) is None
    assert await store.read(sign_ins.account, "jane") is None


async def test_people_end_their_own(store: Store, jane: UUID) -> None:
    """One place, all others, or all; never somebody else's."""
    joe = await store.transaction(users.create, "joe", Role.VIEWER, "a hash", who="test", now=NOW)
    first, second, third = [sign_ins.hash_of(await signed_in(store, jane, number * SECOND)) for number in range(3)]
    theirs = sign_ins.hash_of(await signed_in(store, joe))

    assert [row.hash for row in await store.read(sign_ins.of_user, jane, now=NOW)] == [third, second, first]
    assert not await store.transaction(sign_ins.end, jane, theirs)
    assert await store.transaction(sign_ins.end, jane, first)
    assert await store.transaction(sign_ins.end_all, jane, but=third) == 1
    assert [row.hash for row in await store.read(sign_ins.of_user, jane, now=NOW)] == [third]
    assert [row.hash for row in await store.read(sign_ins.of_user, joe, now=NOW)] == [theirs]


async def test_failures_are_counted_by_whom_they_are_of(store: Store) -> None:
    """Each is of a name and of an address, is taken back, forgiven, or forgotten when it is old."""
    for minute in (3, 1, 2):
        await store.transaction(sign_ins.note_failure, ["user jane", "address x"], now=NOW + minute * 60 * SECOND)
    taken_back = await store.transaction(sign_ins.note_failure, ["user jane"], now=NOW)
    await store.transaction(sign_ins.take_back, taken_back)
    found = await store.read(sign_ins.failures, "user jane", since=NOW + 90 * SECOND)
    assert found == [NOW + 120 * SECOND, NOW + 180 * SECOND]

    await store.transaction(sign_ins.forgive, "user jane")
    assert await store.read(sign_ins.failures, "user jane", since=NOW) == []
    await store.transaction(sign_ins.forget_old, now=NOW + 150 * SECOND + FAILURES_KEPT)
    assert await store.read(sign_ins.failures, "address x", since=NOW) == [NOW + 180 * SECOND]


async def test_sec_11_failures_are_counted_by_one_at_a_time(store: Store) -> None:
    """Of guesses sent at once each sees those before it."""

    def count(tx: sa.Connection) -> int:
        sign_ins.lock(tx, ["user jane", "address x"])
        seen = len(sign_ins.failures(tx, "user jane", since=NOW))
        sign_ins.note_failure(tx, ["user jane"], now=NOW)
        return seen

    assert sorted(await asyncio.gather(*(store.transaction(count) for _ in range(8)))) == list(range(8))


async def test_an_account_is_the_one_whose_password_was_verified(store: Store, jane: UUID) -> None:
    """A password that was changed, or a person who was disabled, meanwhile, is none to sign in with."""
    known = await account(store)
    assert await store.transaction(sign_ins.is_still, known)

    await store.transaction(users.set_password, "jane", "another hash", who="test", now=NOW)
    changed = await account(store)
    assert not await store.transaction(sign_ins.is_still, known)
    assert await store.transaction(sign_ins.is_still, changed)

    await store.transaction(users.end, "jane", who="test", now=NOW)
    assert not await store.transaction(sign_ins.is_still, changed)


async def test_whoever_changes_a_password_ends_the_sign_ins_that_begin_meanwhile(store: Store, jane: UUID) -> None:
    """A sign-in with the old password and its change exclude each other, whichever comes first."""
    known = await account(store)

    def enter(tx: sa.Connection) -> str | None:
        if not sign_ins.is_still(tx, known):
            return None
        return sign_ins.begin(tx, jane, address="192.0.2.1", browser="", now=NOW)

    def change(tx: sa.Connection) -> int:
        users.set_password(tx, "jane", "another hash", who="test", now=NOW)
        return sign_ins.end_all(tx, jane)

    await asyncio.gather(store.transaction(enter), store.transaction(change), store.transaction(enter))

    assert await store.read(sign_ins.of_user, jane, now=NOW) == []
