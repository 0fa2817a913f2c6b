"""What every store promises about dead letters: each has its row, and what they have in common is told."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.fingerprint import cause_of
from mailroom.message import DEAD_LETTERS, Kind, Status, new_message_id
from mailroom.store import audit, dead_letters, messages, redrives, schema, sessions, sweeping
from mailroom.store.dead_letters import Group, NoSuchGroup, NotOpen
from mailroom.store.messages import Claimed, NotADeadLetter
from mailroom.store.port import Store
from tests.builders import NOW, a_message, a_settlement, accepted, claimed, created

SECOND = timedelta(seconds=1)
LATER = NOW + timedelta(days=6)
NO_SUCH_USER = "RCPT: 550 5.1.1 <jane@customer.test>: no such user"
FULL = "RCPT: 552 5.2.2 mailbox full"


def rows_of(tx: Connection) -> dict[UUID, Any]:
    """Every row of the table, by its message."""
    return {row.message_id: row for row in tx.execute(sa.select(schema.dead_letters))}


def dead(tx: Connection) -> set[UUID]:
    """Every message that stands as a dead letter."""
    rows = tx.execute(sa.select(schema.messages.c.id).where(schema.messages.c.status.in_(DEAD_LETTERS)))
    return set(rows.scalars())


async def failed(store: Store, integration_id: UUID, reply: str = NO_SUCH_USER, **changes: Any) -> UUID:
    """A message that the server refused for good."""
    claim = await claimed(store, await accepted(store, integration_id))
    usual = {"reason": "rejected.recipient", "reply": reply}
    assert await store.statement(messages.settle, [a_settlement(claim, Status.FAILED, **usual | changes)]) == [True]
    return claim.id


async def of_a_dead_worker(store: Store, integration_id: UUID, kind: Kind) -> Claimed:
    """A message whose worker died."""
    session = uuid4()
    await store.transaction(sessions.open_session, session, host="here", pid=1, at=NOW)
    claim = await claimed(store, await accepted(store, integration_id, kind=kind), session)
    assert await store.transaction(sessions.declare_dead, session, 0, at=NOW)
    await store.transaction(sweeping.recover, now=NOW, limit=10)
    return claim


# --- every path -------------------------------------------------------------------------------------------------------


async def settled_failed(store: Store, integration_id: UUID) -> Claimed:
    """The server said never."""
    return await _settled(store, integration_id, Status.FAILED)


async def settled_expired(store: Store, integration_id: UUID) -> Claimed:
    """Its time ran out during an attempt."""
    return await _settled(store, integration_id, Status.EXPIRED)


async def settled_uncertain(store: Store, integration_id: UUID) -> Claimed:
    """The answer to the dot was lost."""
    return await _settled(store, integration_id, Status.UNCERTAIN)


async def settled_among_others(store: Store, integration_id: UUID) -> Claimed:
    """In one group with what was sent, deferred and held."""
    claims = [await claimed(store, await accepted(store, integration_id)) for _ in range(4)]
    statuses = (Status.SENT, Status.FAILED, Status.DEFERRED, Status.HELD)
    group = [a_settlement(claim, status, wake_at=LATER) for claim, status in zip(claims, statuses, strict=True)]
    assert all(await store.statement(messages.settle, group))
    return claims[1]


async def _settled(store: Store, integration_id: UUID, status: Status) -> Claimed:
    claim = await claimed(store, await accepted(store, integration_id))
    assert await store.statement(messages.settle, [a_settlement(claim, status, reason="because")]) == [True]
    return claim


async def expired_waiting(store: Store, integration_id: UUID) -> Claimed:
    """It waited longer than its kind may."""
    claim = await claimed(store, await accepted(store, integration_id))
    await store.statement(messages.settle, [a_settlement(claim, Status.DEFERRED, wake_at=LATER)])
    assert await store.transaction(sweeping.expire, now=LATER, limit=10)
    return claim


async def in_doubt(store: Store, integration_id: UUID) -> Claimed:
    """Its worker died, and its kind is not sent twice."""
    return await of_a_dead_worker(store, integration_id, Kind.ACD)


async def crashing(store: Store, integration_id: UUID) -> Claimed:
    """The third worker died with it in hand."""
    message = await accepted(store, integration_id)
    for _ in range(3):
        session = uuid4()
        await store.transaction(sessions.open_session, session, host="here", pid=1, at=NOW)
        claim = await claimed(store, message, session)
        assert await store.transaction(sessions.declare_dead, session, 0, at=NOW)
        await store.transaction(sweeping.recover, now=NOW, limit=10)
    return claim


ENDINGS = (
    settled_failed, settled_expired, settled_uncertain, settled_among_others, expired_waiting, in_doubt, crashing,
)  # fmt: skip
Ending = Callable[[Store, UUID], Awaitable[Claimed]]


async def redriven(store: Store, claim: Claimed) -> None:
    """A person re-drives it."""
    await store.transaction(redrives.redrive_one, claim.id, who="jane", now=LATER)


async def redriven_with_others(store: Store, claim: Claimed) -> None:
    """A person re-drives the group it is in."""
    [revived] = await store.transaction(messages.redrive_all, [claim.id, uuid4()], at=LATER)
    assert revived.id == claim.id


async def sent_late(store: Store, claim: Claimed) -> None:
    """The claim it ended with turns out to have sent it."""
    assert await store.statement(messages.settle, [a_settlement(claim)]) == [True]


REVIVALS = (redriven, redriven_with_others, sent_late)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("revival", REVIVALS)
async def test_every_dead_letter_has_a_row_for_as_long_as_it_is_one(
    store: Store, integration_id: UUID, ending: Ending, revival: Callable[[Store, Claimed], Awaitable[None]]
) -> None:
    """Whatever ends a message for a person to see writes its row with it; whatever revives it takes the row away."""
    claim = await ending(store, integration_id)
    row = (await store.read(rows_of))[claim.id]
    assert set(await store.read(rows_of)) == await store.read(dead) == {claim.id}
    assert (row.integration_id, row.dismissed_at) == (integration_id, None)
    await revival(store, claim)

    assert await store.read(rows_of) == {}
    assert await store.read(dead) == set()


async def test_what_overrules_nothing_leaves_the_row(store: Store, integration_id: UUID) -> None:
    """A result of an older claim, and a second failure of the same one, change neither the letter nor its row."""
    claim = await settled_failed(store, integration_id)
    before = await store.read(rows_of)
    for late in (
        a_settlement(claim, Status.FAILED, reason="else"),
        replace(a_settlement(claim), claim=claim.claim - 1),
    ):
        assert await store.statement(messages.settle, [late]) == [False]

    assert await store.read(rows_of) == before


async def test_a_letter_that_fails_again_is_open_again(store: Store, integration_id: UUID) -> None:
    """A re-driven message that fails anew is a dead letter like any other, by its new cause."""
    claim = await settled_failed(store, integration_id)
    await redriven(store, claim)
    again = (await store.statement(messages.claim, [claim.id], uuid4()))[claim.id]
    await store.statement(messages.settle, [a_settlement(again, Status.FAILED, reason="rejected.us", reply=FULL)])

    row = (await store.read(rows_of))[claim.id]
    assert (row.reason, row.code, row.said) == ("rejected.us", 552, "5.2.2 mailbox full")


async def test_a_row_left_behind_is_written_over(store: Store, integration_id: UUID) -> None:
    """Where a process of the version before revived a message without taking its row away, the next end does it right."""
    claims = [await claimed(store, await accepted(store, integration_id)) for _ in range(2)]

    def leave_behind(tx: Connection) -> None:
        for claim in claims:
            dead_letters.enter(tx, claim.id, cause_of("old", None), NOW)
            dead_letters.dismiss_one(tx, claim.id, who="jane", why="old", now=NOW)

    await store.transaction(leave_behind)
    await store.statement(messages.settle, [a_settlement(claims[0], Status.FAILED, reason="new")])
    await store.statement(messages.settle, [a_settlement(claims[1], Status.DEFERRED, wake_at=LATER)])
    await store.transaction(sweeping.expire, now=LATER, limit=10)

    rows = await store.read(rows_of)
    assert {(row.reason, row.dismissed_by) for row in rows.values()} == {("new", None), ("expired", None)}


# --- groups -----------------------------------------------------------------------------------------------------------


async def test_one_cause_is_one_group(store: Store, integration_id: UUID) -> None:
    """Failures of one cause are counted together, for each integration, whatever ids and addresses the server named."""
    other = await created(store, name="other")
    first = await failed(store, integration_id)
    second = await failed(store, integration_id, NO_SUCH_USER.replace("jane", "john"), at=NOW + 2 * SECOND)
    full = await failed(store, integration_id, FULL, at=NOW + SECOND)
    elsewhere = await failed(store, other, at=NOW + 3 * SECOND)
    cause = cause_of("rejected.recipient", NO_SUCH_USER)

    found = await store.read(dead_letters.groups)
    assert [(group.sample, group.number) for group in found] == [(elsewhere, 1), (second, 2), (full, 1)]
    assert found[1] == Group(
        integration_id=integration_id, fingerprint=cause.fingerprint, reason="rejected.recipient", command="RCPT",
        code=550, said="5.1.1 (address): no such user", number=2, first_at=NOW, last_at=NOW + 2 * SECOND,
        sample=max(first, second),
    )  # fmt: skip
    assert [one.sample for one in await store.read(dead_letters.groups, limit=1)] == [elsewhere]
    assert [one.sample for one in await store.read(dead_letters.groups, integration_id=other)] == [elsewhere]
    named = await store.read(dead_letters.groups, fingerprint=cause.fingerprint[:8])
    assert {one.integration_id for one in named} == {integration_id, other}
    assert await store.read(dead_letters.groups, fingerprint="%") == []


async def test_a_group_is_read_in_pages(store: Store, integration_id: UUID) -> None:
    """Its members come the youngest first, and whom it concerns the oldest first, each page after the one before."""
    ids = sorted([await failed(store, integration_id) for _ in range(5)])
    await failed(store, integration_id, FULL)
    group = (integration_id, cause_of("rejected.recipient", NO_SUCH_USER).fingerprint)

    page = await store.read(dead_letters.members, *group, limit=3)
    assert [one.id for one in page] == ids[:1:-1]
    rest = await store.read(dead_letters.members, *group, limit=3, before=page[-1].id)
    assert [one.id for one in rest] == ids[1::-1]
    pages = [await store.read(dead_letters.affected, *group, limit=4)]
    pages.append(await store.read(dead_letters.affected, *group, limit=4, after=pages[0][-1].id))
    assert [one.id for found in pages for one in found] == ids
    assert (page[0].recipient, page[0].sender, page[0].subject, page[0].accepted_at, page[0].ended_at) == (
        "support@company.test", "jane@customer.test", "A question", NOW, NOW,
    )  # fmt: skip
    assert (page[0].kind, page[0].status, page[0].answered) == (Kind.FORM, Status.FAILED, False)


async def test_a_member_that_was_answered_is_told(store: Store, integration_id: UUID) -> None:
    """A message whose client was told that it failed is shown as one that can only be sent anew."""
    answered = await failed(store, integration_id)
    await store.statement(messages.answered_one, answered)

    [one] = await store.read(
        dead_letters.members, integration_id, cause_of("rejected.recipient", NO_SUCH_USER).fingerprint
    )
    assert one.answered


async def test_two_thousand_are_one_group(store: Store, integration_id: UUID) -> None:
    """A flood of one cause is one row of the list."""
    flood = [a_message(integration_id, id=new_message_id()) for _ in range(2000)]
    for start in range(0, len(flood), 500):
        await store.statement(messages.accept, flood[start : start + 500])
    assert (await store.transaction(sweeping.expire, now=LATER, limit=5000)).total() == 2000

    [group] = await store.read(dead_letters.groups)
    assert (group.number, group.reason, group.said) == (2000, "expired", None)


# --- dismissing -------------------------------------------------------------------------------------------------------


async def test_a_dismissed_group_is_out_of_sight(store: Store, integration_id: UUID) -> None:
    """It is shown no more, who did it and why is on record, and what fails later is a group of its own."""
    for _ in range(3):
        await failed(store, integration_id)
    fingerprint = cause_of("rejected.recipient", NO_SUCH_USER).fingerprint
    done: Any = {"who": "jane", "why": "wrong list", "now": LATER, "until": LATER}

    assert await store.transaction(dead_letters.dismiss, integration_id, fingerprint, **done) == 3
    assert await store.read(dead_letters.groups) == []
    [entry] = await store.read(audit.history, "dead letters", UUID(fingerprint))
    assert (entry.action, entry.who, entry.why, entry.before) == ("dismissed", "jane", "wrong list", "3 of main")
    with pytest.raises(NoSuchGroup):
        await store.transaction(dead_letters.dismiss, integration_id, fingerprint, **done)
    await failed(store, integration_id)
    [group] = await store.read(dead_letters.groups)
    assert group.number == 1


async def test_one_dead_letter_can_be_dismissed(store: Store, integration_id: UUID) -> None:
    """The rest of its group stays, and the message itself is still the dead letter it was: it can be re-driven."""
    gone, kept = [await failed(store, integration_id) for _ in range(2)]
    await store.transaction(dead_letters.dismiss_one, gone, who="jane", why="known", now=LATER)

    [group] = await store.read(dead_letters.groups)
    assert (group.number, group.sample) == (1, kept)
    [entry] = await store.read(audit.history, "message", gone)
    assert (entry.action, entry.why) == ("dismissed", "known")
    with pytest.raises(NotOpen):
        await store.transaction(dead_letters.dismiss_one, gone, who="jane", why="again", now=LATER)
    await store.transaction(messages.redrive_all, [gone], at=LATER)
    assert set(await store.read(rows_of)) == {kept}


async def test_what_cannot_be_redriven_stays(store: Store, integration_id: UUID) -> None:
    """A re-drive that is refused leaves the row where it is."""
    answered = await failed(store, integration_id)
    await store.statement(messages.answered_one, answered)
    with pytest.raises(NotADeadLetter):
        await store.transaction(redrives.redrive_one, answered, who="jane", now=LATER)

    assert await store.transaction(messages.redrive_all, [answered], at=LATER) == []
    assert set(await store.read(rows_of)) == {answered}
