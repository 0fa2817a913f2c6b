"""What every store promises about re-drives: at their rate, oldest first, each letter once, on record."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from mailroom.fingerprint import cause_of
from mailroom.message import Kind, Status
from mailroom.store import audit, dead_letters, messages, redrives, sessions, sweeping
from mailroom.store.messages import NotADeadLetter
from mailroom.store.port import Store
from mailroom.store.redrives import AlreadyRunning, NoSuchRedrive, NothingToRedrive, Redrive
from tests.builders import NOW, a_message, a_settlement, accepted, claimed, created

SECOND = timedelta(seconds=1)
NO = "RCPT: 550 5.1.1 <jane@customer.test>: no such user"
CAUSE = cause_of("rejected.recipient", NO)


async def dead(store: Store, integration_id: UUID, number: int, at: datetime = NOW) -> list[UUID]:
    """So many messages that failed for one cause, the oldest first."""
    group = [a_message(integration_id) for _ in range(number)]
    await store.statement(messages.accept, group)
    taken = await store.statement(messages.claim, [one.id for one in group], uuid4())
    failures = [
        a_settlement(claim, Status.FAILED, reason="rejected.recipient", reply=NO, at=at) for claim in taken.values()
    ]
    assert all(await store.statement(messages.settle, failures))
    return sorted(taken)


async def requested(store: Store, integration_id: UUID, per_second: float = 10, **changes: Any) -> Redrive:
    """A re-drive of that cause."""
    usual: dict[str, Any] = {"per_second": per_second, "who": "jane", "now": NOW, "why": "cured"}
    return await store.transaction(redrives.request, integration_id, CAUSE.fingerprint, **usual | changes)


async def queued(store: Store, integration_id: UUID, at: datetime) -> list[UUID]:
    """What one round queues."""
    found = await store.transaction(redrives.queue_some, [integration_id], now=at)
    return [due.id for due in found]


async def now(store: Store) -> Redrive:
    """The one re-drive there is."""
    [redrive] = await store.read(redrives.listed)
    return redrive


async def test_a_group_goes_back_at_its_rate(store: Store, integration_id: UUID) -> None:
    """Each second so many, the oldest first, until none is left; then it is over."""
    ids = await dead(store, integration_id, 25)
    redrive = await requested(store, integration_id)
    assert (redrive.total, redrive.done, redrive.ended_at) == (25, 0, None)

    rounds = [await queued(store, integration_id, NOW + second * SECOND) for second in (0, 1, 2, 3)]
    assert rounds == [[], ids[:10], ids[10:20], ids[20:]]
    ended = await now(store)
    assert (ended.done, ended.ended_at, ended.stopped_by) == (25, NOW + 3 * SECOND, None)
    assert set((await store.read(messages.statuses, ids)).values()) == {Status.QUEUED}
    assert await store.read(dead_letters.groups) == []
    entries = await store.read(audit.history, dead_letters.SUBJECT, UUID(CAUSE.fingerprint))
    told = {(one.action, one.who, one.before, one.after, one.why) for one in entries}
    assert told == {
        ("re-drive requested", "jane", "25 of main", "10 a second", "cured"),
        ("re-drive ended", "the sweep", "25 of main", "25 were queued", None),
    }


async def test_several_workers_keep_one_rate(store: Store, integration_id: UUID) -> None:
    """However often somebody looks after it, no more is queued than the rate allows; slow ones get their turn too."""
    await dead(store, integration_id, 30)
    await requested(store, integration_id)
    looks = [await queued(store, integration_id, NOW + timedelta(milliseconds=50) * look) for look in range(21)]
    assert sum(map(len, looks)) == 10

    other = await created(store, name="other")
    await dead(store, other, 3)
    await requested(store, other, 0.1)
    slow = [await queued(store, other, NOW + second * SECOND) for second in range(21)]
    assert [len(found) for found in slow] == [0] * 10 + [1] + [0] * 9 + [1]


async def test_what_was_missed_is_not_made_up_for(store: Store, integration_id: UUID) -> None:
    """After an hour without a worker it goes on at its rate, from where it was, whoever looks after it now."""
    await dead(store, integration_id, 60)
    await requested(store, integration_id)
    await queued(store, integration_id, NOW + SECOND)
    hour = NOW + timedelta(hours=1)
    rounds = [await queued(store, integration_id, hour + second * SECOND) for second in range(3)]

    assert [len(found) for found in rounds] == [20, 10, 10]
    assert (await now(store)).done == 50


async def test_it_waits_while_its_integration_may_not_send(store: Store, integration_id: UUID) -> None:
    """Nothing is queued of what could not be sent."""
    await dead(store, integration_id, 3)
    await requested(store, integration_id)

    assert await queued(store, uuid4(), NOW + SECOND) == []
    assert await store.transaction(redrives.queue_some, [], now=NOW + SECOND) == []
    assert len(await queued(store, integration_id, NOW + 2 * SECOND)) == 3


async def test_what_fails_again_stays_failed(store: Store, integration_id: UUID) -> None:
    """Only letters that had ended when it was asked for are re-driven: none of them comes twice."""
    [first] = await dead(store, integration_id, 1)
    await requested(store, integration_id, 1)
    assert await queued(store, integration_id, NOW + SECOND) == [first]
    again = (await store.statement(messages.claim, [first], uuid4()))[first]
    failure = a_settlement(again, Status.FAILED, reason="rejected.recipient", reply=NO, at=NOW + 2 * SECOND)
    await store.statement(messages.settle, [failure])

    assert await queued(store, integration_id, NOW + 3 * SECOND) == []
    assert (await now(store)).ended_at == NOW + 3 * SECOND
    [group] = await store.read(dead_letters.groups)
    assert group.number == 1


async def test_others_are_left_alone(store: Store, integration_id: UUID) -> None:
    """What was answered as failed, was dismissed, or is of another integration or cause, stays."""
    answered, dismissed, mine = await dead(store, integration_id, 3)
    other = await created(store, name="other")
    await dead(store, other, 1)
    await store.statement(messages.answered_one, answered)
    await store.transaction(dead_letters.dismiss_one, dismissed, who="jane", why="known", now=NOW)
    claim = await claimed(store, await accepted(store, integration_id))
    await store.statement(messages.settle, [a_settlement(claim, Status.FAILED, reason="rejected.us", reply=NO)])
    redrive = await requested(store, integration_id)

    assert redrive.total == 1
    assert await queued(store, integration_id, NOW + SECOND) == [mine]
    assert (await now(store)).ended_at is not None
    assert len(await store.read(dead_letters.groups)) == 3


async def test_it_can_be_stopped(store: Store, integration_id: UUID) -> None:
    """Nothing more is queued, who stopped it is on record, and another one can be asked for."""
    await dead(store, integration_id, 30)
    redrive = await requested(store, integration_id)
    await queued(store, integration_id, NOW + SECOND)
    with pytest.raises(AlreadyRunning):
        await requested(store, integration_id)
    stopped = await store.transaction(redrives.stop, redrive.id, who="john", now=NOW + SECOND)

    assert (stopped.done, stopped.stopped_by, stopped.ended_at) == (10, "john", NOW + SECOND)
    assert await queued(store, integration_id, NOW + 2 * SECOND) == []
    with pytest.raises(NoSuchRedrive):
        await store.transaction(redrives.stop, redrive.id, who="john", now=NOW)
    entries = await store.read(audit.history, dead_letters.SUBJECT, UUID(CAUSE.fingerprint))
    assert ("re-drive stopped", "john", "10 were queued") in {(one.action, one.who, one.after) for one in entries}
    assert (await requested(store, integration_id, now=NOW + 3 * SECOND)).total == 20
    assert len(await store.read(redrives.listed)) == 2
    assert len(await store.read(redrives.listed, running=True, integration_id=integration_id)) == 1


async def test_nothing_is_no_redrive(store: Store, integration_id: UUID) -> None:
    """Where no letter can be re-driven that is said, and nothing is begun."""
    [answered] = await dead(store, integration_id, 1)
    await store.statement(messages.answered_one, answered)
    with pytest.raises(NothingToRedrive):
        await requested(store, integration_id)

    assert await store.read(redrives.listed) == []


async def test_suspects_travel_alone(store: Store, integration_id: UUID) -> None:
    """What workers died of takes no neighbours along when it is re-driven with its group."""
    message = await accepted(store, integration_id)
    for _ in range(3):
        session = uuid4()
        await store.transaction(sessions.open_session, session, host="here", pid=1, at=NOW)
        await claimed(store, message, session)
        await store.transaction(sessions.declare_dead, session, 0, at=NOW)
        await store.transaction(sweeping.recover, now=NOW, limit=10)
    fingerprint = cause_of("crashed", None).fingerprint
    await store.transaction(redrives.request, integration_id, fingerprint, per_second=50, who="jane", now=NOW)

    [due] = await store.transaction(redrives.queue_some, [integration_id], now=NOW + SECOND)
    assert (due.id, due.kind, due.alone) == (message.id, Kind.FORM, True)


async def test_one_letter_is_redriven_on_record(store: Store, integration_id: UUID) -> None:
    """Who re-drove a single dead letter, and why, is kept with the message."""
    [letter] = await dead(store, integration_id, 1)
    revived = await store.transaction(redrives.redrive_one, letter, who="jane", now=NOW, why="asked for")

    assert (revived.id, revived.kind, revived.integration_id) == (letter, Kind.FORM, integration_id)
    [entry] = await store.read(audit.history, "message", letter)
    assert (entry.action, entry.who, entry.why, entry.at) == ("re-driven", "jane", "asked for", NOW)
    with pytest.raises(NotADeadLetter):
        await store.transaction(redrives.redrive_one, letter, who="jane", now=NOW)


@pytest.mark.parametrize(
    ("per_second", "can_be"),
    [
        (50.0, True),
        (redrives.HIGHEST_RATE, True),
        (redrives.LOWEST_RATE, True),
        (redrives.HIGHEST_RATE * 1.01, False),
        (redrives.LOWEST_RATE * 0.99, False),
        (0.0, False),
        (-1.0, False),
        (5e-324, False),
        (float("nan"), False),
        (float("inf"), False),
    ],
    ids=lambda value: f"{value:g}" if isinstance(value, float) else str(value),
)
def test_some_rates_are_none(per_second: float, can_be: bool) -> None:  # noqa: FBT001 - a table's column
    """A re-drive asked for at no rate, or at one so small that its next round cannot be told, would stop all others."""
    assert redrives.is_rate(per_second) is can_be


async def test_the_slowest_does_not_stop_the_others(store: Store, integration_id: UUID) -> None:
    """At the lowest rate the rounds of all re-drives go on."""
    ids = await dead(store, integration_id, 2)
    await requested(store, integration_id, per_second=redrives.LOWEST_RATE)

    assert await queued(store, integration_id, NOW + 1000 * SECOND) == ids[:1]
