"""What every store promises about the sweep: due, released, lost, abandoned and expired messages are found."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from mailroom.message import ENDED, Kind, Lane, Status
from mailroom.store import messages, sessions, sweeping, tallies
from mailroom.store.messages import Standing
from mailroom.store.port import Store
from mailroom.store.sweeping import Due, Waiting
from tests.builders import NOW, a_message, a_settlement, accepted, claimed, created

SECOND = timedelta(seconds=1)
LATER_BY = timedelta(minutes=5)
LATER = NOW + LATER_BY


async def standing_of(store: Store, message_id: UUID) -> Standing:
    """Where a message that exists stands."""
    found = await store.read(messages.standing, message_id)
    assert found is not None
    return found


async def deferred(store: Store, integration_id: UUID, wake_after: timedelta) -> UUID:
    """A message that sleeps."""
    claim = await claimed(store, await accepted(store, integration_id))
    await store.statement(messages.settle, [a_settlement(claim, Status.DEFERRED, wake_at=NOW + wake_after)])
    return claim.id


async def held(store: Store, integration_id: UUID) -> UUID:
    """A message that waits for its integration."""
    claim = await claimed(store, await accepted(store, integration_id))
    await store.statement(messages.settle, [a_settlement(claim, Status.HELD, attempts=0)])
    return claim.id


async def a_session(store: Store) -> UUID:
    """A worker that lives."""
    session = uuid4()
    await store.transaction(sessions.open_session, session, host="here", pid=1, at=NOW)
    return session


async def abandoned(store: Store, message_id: UUID) -> None:
    """Claim the message for a session that then dies."""
    session = await a_session(store)
    assert await store.statement(messages.claim, [message_id], session, suspect=message_id)
    assert await store.transaction(sessions.declare_dead, session, 0, at=NOW)


async def test_dlv_9_a_last_chance_is_taken_by_itself(store: Store, integration_id: UUID) -> None:
    """What two workers died with is claimed only by who asks for it by name; what one died with, by anybody."""
    once, twice, thrice = [(await accepted(store, integration_id)).id for _ in range(3)]
    for crashed in (once, twice, thrice, twice, thrice):
        await abandoned(store, crashed)
        await store.transaction(sweeping.recover, now=NOW, limit=100)
    ids = [once, twice, thrice]
    usual = await store.statement(messages.claim, ids, uuid4())
    waiting = await store.read(messages.suspects, ids)
    by_name = await store.statement(messages.claim, ids, uuid4(), suspect=thrice)

    assert list(usual) == [once]
    assert waiting == sorted([twice, thrice])
    assert list(by_name) == [thrice]


# --- due --------------------------------------------------------------------------------------------------------------


async def test_what_fell_due_is_queued(store: Store, integration_id: UUID) -> None:
    """A deferred message is queued when its time has come, and not before; a held one never by time."""
    due = await deferred(store, integration_id, SECOND)
    later = await deferred(store, integration_id, 3 * SECOND)
    waiting = await held(store, integration_id)

    found = await store.transaction(sweeping.wake, now=NOW + 2 * SECOND, limit=10)
    assert found == [Due(due, Kind.FORM, integration_id, alone=False)]
    assert await store.transaction(sweeping.wake, now=NOW + 2 * SECOND, limit=10) == []
    assert await store.read(messages.statuses, [due, later, waiting]) == {
        due: Status.QUEUED, later: Status.DEFERRED, waiting: Status.HELD,
    }  # fmt: skip


async def test_the_earliest_are_due_first(store: Store, integration_id: UUID) -> None:
    """One pass takes no more than its limit, and those that wait longest."""
    second = await deferred(store, integration_id, 2 * SECOND)
    third = await deferred(store, integration_id, 3 * SECOND)
    first = await deferred(store, integration_id, SECOND)

    passes = [await store.transaction(sweeping.wake, now=LATER, limit=2) for _ in range(2)]
    assert [{due.id for due in found} for found in passes] == [{first, second}, {third}]


# --- released ---------------------------------------------------------------------------------------------------------


async def test_held_messages_are_released_oldest_first(store: Store, integration_id: UUID) -> None:
    """A release takes a slice of one integration's held messages, the oldest in front, and nothing of another's."""
    other = await created(store, name="other")
    mine = sorted([await held(store, integration_id) for _ in range(5)])
    foreign = await held(store, other)

    slices = [await store.transaction(sweeping.release, integration_id, now=NOW, limit=3) for _ in range(3)]
    assert [[due.id for due in found] for found in slices] == [mine[:3], mine[3:], []]
    assert (await standing_of(store, foreign)).status is Status.HELD


async def test_a_release_leaves_the_deferred_asleep(store: Store, integration_id: UUID) -> None:
    """What was deferred has its own time, whatever becomes of its integration."""
    await deferred(store, integration_id, SECOND)

    assert await store.transaction(sweeping.release, integration_id, now=NOW, limit=10) == []


# --- lost -------------------------------------------------------------------------------------------------------------


async def test_what_its_queue_has_passed_is_lost(store: Store, integration_id: UUID) -> None:
    """Messages of one lane queued before a moment are queued anew; then they are as young as their new ticket."""
    old = await accepted(store, integration_id, accepted_at=NOW)
    await accepted(store, integration_id, accepted_at=NOW + 9 * SECOND)
    await accepted(store, integration_id, accepted_at=NOW, kind=Kind.ACD)
    await accepted(store, await created(store, name="other"), accepted_at=NOW)
    await claimed(store, await accepted(store, integration_id, accepted_at=NOW))

    looks = [
        await store.transaction(
            sweeping.lost, integration_id, Lane.FORM, queued_before=NOW + SECOND, now=LATER, limit=10
        )
        for _ in range(2)
    ]
    assert looks == [[Due(old.id, Kind.FORM, integration_id, alone=False)], []]


async def test_one_look_takes_no_more_than_its_limit(store: Store, integration_id: UUID) -> None:
    """A limit bounds what is queued anew, however many are lost."""
    for _ in range(5):
        await accepted(store, integration_id)

    found = await store.transaction(sweeping.lost, integration_id, Lane.FORM, queued_before=LATER, now=LATER, limit=3)
    assert len(found) == 3


async def test_lanes_with_queued_messages_are_told(store: Store, integration_id: UUID) -> None:
    """Only lanes in which something is queued need a look."""
    await accepted(store, integration_id, kind=Kind.AGENTLESS)
    await accepted(store, integration_id, kind=Kind.ACD)
    await held(store, integration_id)

    assert await store.read(sweeping.queued_lanes) == {(integration_id, Lane.AGENT)}


# --- abandoned --------------------------------------------------------------------------------------------------------


async def test_a_form_of_a_dead_worker_is_tried_once_more(store: Store, integration_id: UUID) -> None:
    """A form whose worker died is queued again, to travel alone, and marked as a possible duplicate."""
    message = await accepted(store, integration_id)
    await abandoned(store, message.id)

    again = (await store.transaction(sweeping.recover, now=NOW, limit=10)).again
    assert again == [Due(message.id, Kind.FORM, integration_id, alone=True)]
    standing = await standing_of(store, message.id)
    assert (standing.status, standing.possible_duplicate) == (Status.QUEUED, True)
    assert (await claimed(store, message)).claim == 2


@pytest.mark.parametrize("kind", [Kind.ACD, Kind.AGENTLESS, Kind.CAMPAIGN])
async def test_other_kinds_of_a_dead_worker_wait_for_a_person(store: Store, integration_id: UUID, kind: Kind) -> None:
    """An agent's or a campaign's message whose worker died is a dead letter, marked as a possible duplicate."""
    message = await accepted(store, integration_id, kind=kind)
    await abandoned(store, message.id)

    recovered = await store.transaction(sweeping.recover, now=NOW, limit=10)
    assert (recovered.again, recovered.ended) == ([], {(Status.UNCERTAIN, kind, integration_id): 1})
    standing = await standing_of(store, message.id)
    assert (standing.status, standing.reason) == (Status.UNCERTAIN, "session_lost")
    assert (standing.possible_duplicate, standing.ended_at) == (True, NOW)


async def test_dlv_9_a_message_that_kills_three_workers_is_a_dead_letter(store: Store, integration_id: UUID) -> None:
    """The third death under the same message is taken to be its fault."""
    message = await accepted(store, integration_id)
    for _ in range(2):
        await abandoned(store, message.id)
        assert (await store.transaction(sweeping.recover, now=NOW, limit=10)).again
    await abandoned(store, message.id)

    recovered = await store.transaction(sweeping.recover, now=NOW, limit=10)
    assert (recovered.again, recovered.ended) == ([], {(Status.FAILED, Kind.FORM, integration_id): 1})
    standing = await standing_of(store, message.id)
    assert (standing.status, standing.reason, standing.possible_duplicate) == (Status.FAILED, "crashed", True)


async def test_a_suspect_travels_alone_ever_after(store: Store, integration_id: UUID) -> None:
    """A message that saw a worker die takes no neighbours along when it falls due later."""
    message = await accepted(store, integration_id)
    await abandoned(store, message.id)
    await store.transaction(sweeping.recover, now=NOW, limit=10)
    claim = await claimed(store, message)
    await store.statement(messages.settle, [a_settlement(claim, Status.DEFERRED, wake_at=NOW)])

    [due] = await store.transaction(sweeping.wake, now=NOW, limit=10)
    assert due.alone


async def test_the_living_keep_their_claims(store: Store, integration_id: UUID) -> None:
    """A claim of a session that has not ended is nobody else's business."""
    message = await accepted(store, integration_id)
    await claimed(store, message, await a_session(store))

    assert (await store.transaction(sweeping.recover, now=NOW, limit=10)).again == []
    assert (await standing_of(store, message.id)).status is Status.SENDING


async def test_a_fresh_start_owns_every_old_claim(store: Store, integration_id: UUID) -> None:
    """The only process there can be takes back everything, without waiting for anybody's death."""
    message = await accepted(store, integration_id)
    await claimed(store, message, await a_session(store))
    await store.transaction(sessions.declare_all_dead, at=NOW)

    [due] = (await store.transaction(sweeping.recover, now=NOW, limit=10)).again
    assert due.id == message.id


# --- expired ----------------------------------------------------------------------------------------------------------


async def test_what_waits_too_long_expires(store: Store, integration_id: UUID) -> None:
    """Queued, deferred and held messages end when their time is over; one that is being sent does not."""
    waiting = [
        (await accepted(store, integration_id)).id,
        await deferred(store, integration_id, SECOND),
        await held(store, integration_id),
    ]
    sending = await claimed(store, await accepted(store, integration_id))
    young = await accepted(store, integration_id, expires_at=NOW + timedelta(days=9))

    assert await store.transaction(sweeping.expire, now=NOW + timedelta(days=6), limit=10) == {
        (Status.EXPIRED, Kind.FORM, integration_id): 3
    }
    found = await store.read(messages.statuses, [*waiting, sending.id, young.id])
    assert found == dict.fromkeys(waiting, Status.EXPIRED) | {sending.id: Status.SENDING, young.id: Status.QUEUED}
    assert (await standing_of(store, waiting[1])).reason == "expired"
    assert (await standing_of(store, waiting[1])).attempts == 1


async def test_a_flood_expires_in_one_go(store: Store, integration_id: UUID) -> None:
    """However many end together, each keeps its own attempts, claim number and doubt."""
    flood = [a_message(integration_id) for _ in range(1500)]
    await store.statement(messages.accept, flood)
    tried = await deferred(store, integration_id, SECOND)

    assert await store.transaction(sweeping.expire, now=NOW + timedelta(days=6), limit=5000) == {
        (Status.EXPIRED, Kind.FORM, integration_id): 1501
    }
    statuses = await store.read(messages.statuses, [message.id for message in flood])
    assert set(statuses.values()) == {Status.EXPIRED}
    assert [(await standing_of(store, one)).attempts for one in (tried, flood[0].id)] == [1, 0]
    assert await store.read(sweeping.counts) == {}


async def test_unfinished_messages_are_counted(store: Store, integration_id: UUID) -> None:
    """Each integration's unfinished messages are counted by status; the finished are not."""
    await accepted(store, integration_id)
    await held(store, integration_id)
    last = await held(store, integration_id)
    sent = await claimed(store, await accepted(store, integration_id))
    await store.statement(messages.settle, [a_settlement(sent)])

    counts = await store.read(sweeping.counts)
    assert counts == {(integration_id, Status.QUEUED): 1, (integration_id, Status.HELD): 2}
    statuses = await store.read(messages.statuses, [last, sent.id])
    assert {one for one, status in statuses.items() if status not in ENDED} == {last}


async def test_what_waits_is_told_with_the_oldest(store: Store, integration_id: UUID) -> None:
    """By integration and kind: how many in which status, and since when the oldest; what is being sent does not wait."""
    other = await created(store, name="other")
    first = await accepted(store, integration_id, accepted_at=NOW - LATER_BY)
    await held(store, integration_id)
    await held(store, integration_id)
    await deferred(store, integration_id, SECOND)
    await claimed(store, await accepted(store, integration_id, kind=Kind.ACD))
    young = await accepted(store, other, kind=Kind.ACD, accepted_at=LATER)

    found = {(one.integration_id, one.kind): one for one in await store.read(sweeping.waiting)}
    assert found == {
        (integration_id, Kind.FORM): Waiting(
            integration_id, Kind.FORM, {Status.QUEUED: 1, Status.DEFERRED: 1, Status.HELD: 2}, first.accepted_at
        ),
        (other, Kind.ACD): Waiting(other, Kind.ACD, {Status.QUEUED: 1}, young.accepted_at),
    }


async def test_how_long_the_oldest_waited_is_on_record(store: Store, integration_id: UUID) -> None:
    """The charts get it once a minute, nothing being waiting included."""
    minute = NOW.replace(second=0, microsecond=0)
    await store.transaction(sweeping.note_oldest, now=minute)
    await accepted(store, integration_id, accepted_at=minute)
    for second in (60, 70):
        await store.transaction(sweeping.note_oldest, now=minute + timedelta(seconds=second))

    noted = await store.read(tallies.oldest, minute, minute + timedelta(hours=1), timedelta(minutes=1))
    assert [(point.at - minute, point.number) for point in noted] == [(timedelta(), 0), (timedelta(minutes=1), 60)]
