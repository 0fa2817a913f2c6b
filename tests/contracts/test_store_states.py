"""What every store promises about states: they move by the table only, and every move is on record with its reason."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from mailroom.integration import STATE_MOVES, Cause, IntendedState, Move, Mover, ReportedState, ways_from
from mailroom.message import Status
from mailroom.pace import Granted, NotNow, awaits_proof
from mailroom.store import allowances, connection_tests, integrations, messages, states
from mailroom.store.connection_tests import ConnectionTest, Letter, Posted
from mailroom.store.integrations import Blamed
from mailroom.store.messages import Settlement
from mailroom.store.port import Store
from mailroom.store.states import IllegalMove, Made
from tests.builders import NOW, accepted, an_integration, claimed

LATER = NOW + timedelta(minutes=1)
WHO = "jane"


async def row_of(store: Store, integration_id: UUID) -> Any:
    """The integration as it is, deleted or not."""
    [row] = [row for row in await store.read(integrations.all_rows) if row.id == integration_id]
    return row


async def intend(store: Store, integration_id: UUID, intended: IntendedState, why: str | None = None) -> UUID | None:
    """What a person does."""
    return await store.transaction(integrations.intend, integration_id, intended, who=WHO, why=why, now=LATER)


async def worker_tests(store: Store, integration_id: UUID, cause: Cause | None = None, now: datetime = LATER) -> None:
    """Let a worker run the test that waits, where one does."""
    test = await store.transaction(connection_tests.take_test, integration_id, uuid4(), now=NOW)
    if test is not None:
        await concluded(store, test, cause, now=now)


async def concluded(
    store: Store, test: ConnectionTest, cause: Cause | None = None, now: datetime = LATER, **more: Any
) -> ReportedState | None:
    """Tell how a test went."""
    return await store.transaction(
        connection_tests.conclude_test, test, cause=cause, transcript="> EHLO", ehlo_size=None, who="worker 1",
        now=now, **more,
    )  # fmt: skip


async def failed(store: Store, integration_id: UUID) -> None:
    """A failure that is one too many."""
    row = await row_of(store, integration_id)
    blamed = Blamed(
        integration_id=integration_id, generation=row.generation, cause=Cause.TIMED_OUT, threshold=1,
        transcript="> connect", who="worker 1", began_at=LATER, apart=timedelta(0),
    )  # fmt: skip
    await store.transaction(integrations.count_failure, blamed, now=LATER)


async def reconfigured(store: Store, integration_id: UUID) -> None:
    """Another server."""
    row = await row_of(store, integration_id)
    configuration = integrations.configuration_of(row, host=f"{uuid4()}.test")
    await store.transaction(
        integrations.configure, integration_id, configuration, version=row.version, who=WHO, now=LATER
    )


async def settled(store: Store, integration_id: UUID) -> None:
    """What the sweep does."""
    await store.transaction(states.settle_deactivating, LATER)


#: Everything that is done to integrations, whatever their state.
DEEDS = {
    "enable": lambda store, one: intend(store, one, IntendedState.ENABLED),
    "disable": lambda store, one: intend(store, one, IntendedState.DISABLED),
    "pass": worker_tests,
    "fail": lambda store, one: worker_tests(store, one, Cause.HOST_INVALID),
    "break": failed,
    "change": reconfigured,
    "settle": settled,
}
WANTED = {
    IntendedState.ENABLED: {ReportedState.ACTIVATING, ReportedState.ACTIVE, ReportedState.ERROR},
    IntendedState.DISABLED: {ReportedState.DEACTIVATING, ReportedState.INACTIVE},
}


@pytest.mark.parametrize("first", DEEDS)
async def test_whatever_is_done_the_state_moves_by_the_table(store: Store, first: str) -> None:
    """After every order of deeds the state came there by moves of the table, all on record, and fits what is wanted."""
    numbers = itertools.count()
    for second, third in itertools.product(DEEDS, DEEDS):
        new = an_integration(name=f"{first}-{next(numbers)}")
        one = await store.transaction(integrations.create, new, intended=IntendedState.ENABLED, who=WHO, now=NOW)
        if next(numbers) % 3:
            await claimed(store, await accepted(store, one))
        seen = [ReportedState.ACTIVATING]
        for deed in (first, second, third):
            await DEEDS[deed](store, one)
            row = await row_of(store, one)
            assert row.reported_state in WANTED[IntendedState(row.intended_state)], (first, second, third)
            seen.append(ReportedState(row.reported_state))

        steps = [(before, after) for before, after in itertools.pairwise(seen) if before is not after]
        assert all(after in ways_from(before) for before, after in steps), seen
        history = [(entry.before, entry.after) for entry in await store.read(integrations.history, one, 100)]
        assert all(step in history for step in steps)


async def test_a_move_is_whose_it_is(store: Store, integration_id: UUID) -> None:
    """Nobody makes a move that the table does not give them, and from no other state than it says."""
    for name, by in itertools.product(Move, Mover):
        made = Made(name=name, by=by, who=by, at=LATER)
        rules = STATE_MOVES[name]
        before = ReportedState((await row_of(store, integration_id)).reported_state)
        if by not in rules.by:
            with pytest.raises(IllegalMove, match=name):
                await store.transaction(states.move, integration_id, made)
            continue
        moved = await store.transaction(states.move, integration_id, made)
        after = (await row_of(store, integration_id)).reported_state

        assert moved is (before in rules.sources)
        assert after == (rules.target if moved else before)


async def test_a_move_of_an_older_generation_is_none(store: Store, integration_id: UUID) -> None:
    """What was found out about an older configuration moves nothing."""
    made = Made(name=Move.SUCCEED, by=Mover.WORKER, who="worker 1", at=LATER, generation=0)

    assert not await store.transaction(states.move, integration_id, made)
    assert not await store.transaction(states.move, uuid4(), made)


# --- switched off while sending ---------------------------------------------------------------------------------------


async def test_what_is_being_sent_is_finished_first(store: Store, integration_id: UUID) -> None:
    """Disabled while a worker has a message in hand it is DEACTIVATING, and INACTIVE once that has ended."""
    await worker_tests(store, integration_id)
    message = await claimed(store, await accepted(store, integration_id))
    await intend(store, integration_id, IntendedState.DISABLED, why="holidays")
    assert (await row_of(store, integration_id)).reported_state == ReportedState.DEACTIVATING
    assert await store.transaction(states.settle_deactivating, LATER) == []

    sent = Settlement(
        id=message.id, claim=message.claim, status=Status.SENT, at=LATER, attempts=1, blamed=0, reply="250"
    )
    await store.statement(messages.settle, [sent])
    assert await store.transaction(states.settle_deactivating, LATER) == [integration_id]
    assert await store.transaction(states.settle_deactivating, LATER) == []
    assert (await row_of(store, integration_id)).reported_state == ReportedState.INACTIVE
    rows = await store.read(integrations.history, integration_id)
    assert {(row.who, row.action, row.before, row.after, row.why) for row in rows} >= {
        (WHO, "disabled", "ACTIVE", "DEACTIVATING", "holidays"),
        ("sweep", "settled", "DEACTIVATING", "INACTIVE", STATE_MOVES[Move.SETTLE].why),
    }


async def test_a_message_of_another_integration_does_not_hold_it_up(store: Store, integration_id: UUID) -> None:
    """Only its own messages in hand keep an integration from being INACTIVE at once."""
    other = await store.transaction(
        integrations.create, an_integration(name="other"), intended=IntendedState.ENABLED, who=WHO, now=NOW
    )
    await claimed(store, await accepted(store, other))
    await intend(store, integration_id, IntendedState.DISABLED)

    assert (await row_of(store, integration_id)).reported_state == ReportedState.INACTIVE


async def test_one_that_winds_down_can_be_switched_on_again(store: Store, integration_id: UUID) -> None:
    """A reset while something is still being sent leads to a live test as ever."""
    await claimed(store, await accepted(store, integration_id))
    await intend(store, integration_id, IntendedState.DISABLED)
    await intend(store, integration_id, IntendedState.ENABLED)
    await store.transaction(states.settle_deactivating, LATER)

    assert (await row_of(store, integration_id)).reported_state == ReportedState.ACTIVATING


# --- on record --------------------------------------------------------------------------------------------------------


async def test_what_led_to_an_error_is_on_record(store: Store, integration_id: UUID) -> None:
    """The audit keeps cause and conversation of every ERROR, also when the integration has long been reset."""
    await worker_tests(store, integration_id)
    await failed(store, integration_id)
    await intend(store, integration_id, IntendedState.ENABLED)
    await worker_tests(store, integration_id, Cause.AUTHENTICATION_REFUSED)
    rows = await store.read(integrations.history, integration_id)
    told = {(row.who, row.action, row.before, row.after, row.cause, row.transcript) for row in rows}

    assert told >= {
        ("worker 1", "tested", "ACTIVATING", "ACTIVE", None, "> EHLO"),
        ("worker 1", "error", "ACTIVE", "ERROR", "timed_out", "> connect"),
        (WHO, "reset", "ERROR", "ACTIVATING", None, None),
        ("worker 1", "tested", "ACTIVATING", "ERROR", "authentication_refused", "> EHLO"),
    }


async def test_active_again_it_starts_anew(store: Store, integration_id: UUID) -> None:
    """Since when it is ACTIVE again is written down, and that nothing has passed since; the first time there is no again."""
    await worker_tests(store, integration_id)
    assert (await row_of(store, integration_id)).released_at is None
    await intend(store, integration_id, IntendedState.ENABLED)
    await worker_tests(store, integration_id)

    row = await row_of(store, integration_id)
    assert abs(datetime.now(UTC) - row.released_at) < timedelta(minutes=5)
    assert row.proven_at is None


async def test_a_slow_start_begins_whatever_a_worker_takes_for_the_time(store: Store, integration_id: UUID) -> None:
    """A worker whose clock is an hour ahead lets one message go first after a reset, and one that passed is proof."""
    await worker_tests(store, integration_id)
    await DEEDS["enable"](store, integration_id)
    await worker_tests(store, integration_id, now=datetime.now(UTC) + timedelta(hours=1))
    slices = [await store.transaction(allowances.take, integration_id, wanted=1) for _ in range(2)]
    await store.transaction(allowances.proven, integration_id, (await row_of(store, integration_id)).generation)

    assert [type(one) for one in slices] == [Granted, NotNow]
    assert not awaits_proof(await row_of(store, integration_id))


async def test_another_server_has_asked_for_nothing_yet(store: Store, integration_id: UUID) -> None:
    """A server's wish to slow down outlives a reset, and not a change of the server."""
    await worker_tests(store, integration_id)
    await store.transaction(allowances.slow_down, integration_id, 1, seen=20.0)
    await DEEDS["enable"](store, integration_id)
    after_a_reset = await row_of(store, integration_id)
    await DEEDS["change"](store, integration_id)
    after_a_change = await row_of(store, integration_id)

    assert after_a_reset.pace == 10
    assert (after_a_change.pace, after_a_change.paced_at) == (None, None)


# --- live tests -------------------------------------------------------------------------------------------------------


async def test_a_slow_start_ends_with_its_state(store: Store, integration_id: UUID) -> None:
    """An integration that leaves ACTIVE before its first message has passed limits nobody any more."""
    await worker_tests(store, integration_id)
    await DEEDS["enable"](store, integration_id)
    await worker_tests(store, integration_id)
    assert (await row_of(store, integration_id)).released_at is not None
    await failed(store, integration_id)

    row = await row_of(store, integration_id)
    assert (row.reported_state, row.released_at, row.proven_at) == (ReportedState.ERROR, None, None)


async def test_two_workers_never_test_at_once(store: Store, integration_id: UUID) -> None:
    """A reset while a test runs waits for its end; what was overtaken decides nothing and says so."""
    first = await store.transaction(connection_tests.take_test, integration_id, uuid4(), now=NOW)
    assert first is not None
    test_id = await intend(store, integration_id, IntendedState.ENABLED)
    took = [await store.transaction(connection_tests.take_test, integration_id, uuid4(), now=NOW) for _ in range(3)]
    assert took == [None, None, None]
    assert await concluded(store, first) is None

    overtaken = await store.read(connection_tests.test, first.id)
    assert overtaken.passed is False
    assert "decided nothing" in (overtaken.transcript or "")
    took = await asyncio.gather(
        *(store.transaction(connection_tests.take_test, integration_id, uuid4(), now=NOW) for _ in range(3))
    )
    assert [test.id for test in took if test is not None] == [test_id]


async def test_a_test_is_taken_again_by_the_same_session_only(store: Store, integration_id: UUID) -> None:
    """A worker whose answer was lost asks again and gets the same test."""
    mine = uuid4()
    first = await store.transaction(connection_tests.take_test, integration_id, mine, now=NOW)

    assert first is not None
    assert await store.transaction(connection_tests.take_test, integration_id, mine, now=LATER) == first


async def test_a_test_whose_worker_died_ends_in_error(store: Store, integration_id: UUID) -> None:
    """The sweep ends it; the integration is in ERROR rather than ACTIVATING for ever."""
    test = await store.transaction(connection_tests.take_test, integration_id, uuid4(), now=NOW)
    assert test is not None
    assert await store.transaction(connection_tests.conclude_abandoned, test, now=LATER) is ReportedState.ERROR

    [newest, *_] = await store.read(integrations.history, integration_id, 1)
    assert (newest.who, newest.after, newest.cause) == ("sweep", "ERROR", "timed_out")


@pytest.mark.parametrize("message_id", ["<1@company.test>", None])
async def test_a_letter_goes_with_its_test(store: Store, integration_id: UUID, message_id: str | None) -> None:
    """What shall be sent reaches the worker as it was given, and what it went out with is kept; refused, it failed."""
    letter = Letter(
        sender="a@company.test", sender_name="Jürgen", recipient="b@x.test", subject="Hé", text="Text", html="<b>"
    )
    await worker_tests(store, integration_id)
    test_id = await store.transaction(integrations.request_test_of, integration_id, who=WHO, now=NOW, letter=letter)
    test = await store.transaction(connection_tests.take_test, integration_id, uuid4(), now=NOW)
    assert test is not None
    assert (test.letter, test.decides) == (letter, False)
    await concluded(store, test, posted=Posted(message_id))

    ended = await store.read(connection_tests.test, test_id)
    assert (ended.message_id, ended.passed) == (message_id, message_id is not None)
    assert (await row_of(store, integration_id)).reported_state == ReportedState.ACTIVE
