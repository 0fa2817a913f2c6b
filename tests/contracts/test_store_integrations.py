"""What every store promises about integrations: their state moves by the table only, and every move is on record."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from mailroom.integration import Cause, IntendedState, ReportedState
from mailroom.store import integrations
from mailroom.store.integrations import Blamed, ConnectionTest, UnknownIntegration
from mailroom.store.port import Store
from tests.builders import NOW, an_integration

LATER = NOW + timedelta(minutes=1)
WHO = "jane"


async def row_of(store: Store, integration_id: UUID) -> Any:
    """The integration as it is."""
    [row] = [row for row in await store.read(integrations.all_rows) if row.id == integration_id]
    return row


async def reported(store: Store, integration_id: UUID) -> ReportedState:
    """Its reported state."""
    return ReportedState((await row_of(store, integration_id)).reported_state)


async def taken(store: Store, integration_id: UUID) -> ConnectionTest:
    """A test that a worker has just taken."""
    test = await store.transaction(integrations.take_test, integration_id, uuid4(), now=NOW)
    assert test is not None
    return test


async def concluded(store: Store, test: ConnectionTest, cause: Cause | None = None) -> ReportedState | None:
    """Tell how a test went; the state it decided."""
    return await store.transaction(
        integrations.conclude_test,
        test,
        cause=cause,
        transcript="S: 220 hello",
        ehlo_size=None,
        who="worker",
        now=LATER,
    )


async def active(store: Store, integration_id: UUID) -> int:
    """Bring it to ACTIVE; its generation."""
    assert await concluded(store, await taken(store, integration_id)) is ReportedState.ACTIVE
    return int((await row_of(store, integration_id)).generation)


async def failed(
    store: Store,
    integration_id: UUID,
    generation: int,
    *,
    cause: Cause = Cause.TIMED_OUT,
    threshold: int = 3,
    began_at: datetime = LATER,
    apart: float = 0,
    now: datetime = LATER,
) -> bool:
    """Count a failure; whether it set ERROR."""
    blamed = Blamed(
        integration_id=integration_id, generation=generation, cause=cause, threshold=threshold,
        transcript="C: EHLO", who="worker", began_at=began_at, apart=timedelta(seconds=apart),
    )  # fmt: skip
    return await store.transaction(integrations.count_failure, blamed, now=now)


async def moves(store: Store, integration_id: UUID) -> list[tuple[str, str | None, str | None]]:
    """What the audit says happened, in the order of time where that differs."""
    rows = await store.read(integrations.history, integration_id)
    return sorted((row.action, row.before, row.after) for row in rows)


# --- created ----------------------------------------------------------------------------------------------------------


async def test_an_integration_is_created_once(store: Store) -> None:
    """The first process creates what the settings name, about to be tested; for every other it exists."""
    new = an_integration(username="forms", sealed_password="sealed")
    outcomes = await asyncio.gather(
        *(store.transaction(integrations.create_absent, new, who=WHO, now=NOW) for _ in range(4))
    )

    assert sorted(outcomes) == [False, False, False, True]
    [row] = await store.read(integrations.all_rows)
    assert (row.name, row.host, row.port, row.username, row.sealed_password) == (
        "main", "smtp.company.test", 587, "forms", "sealed",
    )  # fmt: skip
    assert (row.intended_state, row.reported_state) == (IntendedState.ENABLED, ReportedState.ACTIVATING)
    assert (row.generation, row.failures, row.since, bool(row.test_waiting)) == (1, 0, NOW, True)
    assert await moves(store, row.id) == [("created", None, "ACTIVATING")]


# --- failures ---------------------------------------------------------------------------------------------------------


async def test_failures_are_counted_for_all_workers_together(store: Store, integration_id: UUID) -> None:
    """The failure that reaches the threshold sets ERROR, and it alone, whoever met it."""
    generation = await active(store, integration_id)
    outcomes = await asyncio.gather(*(failed(store, integration_id, generation, threshold=3) for _ in range(5)))

    assert sorted(outcomes) == [False, False, False, False, True]
    row = await row_of(store, integration_id)
    assert (row.reported_state, row.cause, row.failures) == (ReportedState.ERROR, Cause.TIMED_OUT, 3)
    assert (row.since, row.transcript) == (LATER, "C: EHLO")
    assert ("error", "ACTIVE", "ERROR") in await moves(store, integration_id)


async def test_failures_side_by_side_count_once(store: Store, integration_id: UUID) -> None:
    """What began before the last failure was counted, or soon after it, is the same trouble once more."""
    generation = await active(store, integration_id)
    began, seconds = LATER, timedelta(seconds=1)
    for _ in range(8):
        assert not await failed(store, integration_id, generation, began_at=began, apart=5, now=began + seconds)
    soon = began + 5 * seconds
    assert not await failed(store, integration_id, generation, began_at=soon, apart=5, now=soon)
    assert (await row_of(store, integration_id)).failures == 1

    again = began + 6 * seconds
    assert not await failed(store, integration_id, generation, began_at=again, apart=5, now=again)
    assert (await row_of(store, integration_id)).failures == 2
    at_last = began + 11 * seconds
    assert await failed(store, integration_id, generation, began_at=at_last, apart=5, now=at_last)


async def test_failures_must_follow_one_another(store: Store, integration_id: UUID) -> None:
    """A send that went through breaks the row of failures; one of an older generation does not."""
    generation = await active(store, integration_id)
    await failed(store, integration_id, generation, threshold=2)
    await store.statement(integrations.forget_failures, integration_id, generation - 1)
    assert (await row_of(store, integration_id)).failures == 1
    await store.statement(integrations.forget_failures, integration_id, generation)

    assert not await failed(store, integration_id, generation, threshold=2)
    assert await reported(store, integration_id) is ReportedState.ACTIVE


async def test_blame_from_before_a_reset_changes_nothing(store: Store, integration_id: UUID) -> None:
    """An attempt begun under an older generation says nothing about the configuration of today."""
    old = await active(store, integration_id)
    await store.transaction(integrations.reset, "main", who=WHO, why=None, now=NOW)
    await active(store, integration_id)

    assert not await failed(store, integration_id, old, threshold=1)
    assert (await row_of(store, integration_id)).failures == 0


@pytest.mark.parametrize("state", [ReportedState.ACTIVATING, ReportedState.INACTIVE, ReportedState.ERROR])
async def test_only_an_active_integration_can_fall_into_error(
    store: Store, integration_id: UUID, state: ReportedState
) -> None:
    """Failures met while it is not ACTIVE are not counted."""
    if state is ReportedState.INACTIVE:
        await store.transaction(integrations.disable, "main", who=WHO, why=None, now=NOW)
    if state is ReportedState.ERROR:
        await concluded(store, await taken(store, integration_id), Cause.HOST_INVALID)
    generation = (await row_of(store, integration_id)).generation

    assert not await failed(store, integration_id, generation, threshold=1)
    row = await row_of(store, integration_id)
    assert (row.reported_state, row.failures) == (state, 0)


async def test_an_error_is_left_by_a_reset_only(store: Store, integration_id: UUID) -> None:
    """Successes, tests that only tell, late results: nothing leads out of ERROR but a person's reset."""
    generation = await active(store, integration_id)
    await failed(store, integration_id, generation, threshold=1)
    await store.statement(integrations.forget_failures, integration_id, generation)
    await store.transaction(integrations.create_absent, an_integration(), who=WHO, now=NOW)
    await store.transaction(integrations.request_test, "main", who=WHO, now=NOW)
    assert await concluded(store, await taken(store, integration_id)) is None
    assert await reported(store, integration_id) is ReportedState.ERROR

    await store.transaction(integrations.reset, "main", who=WHO, why="new password", now=NOW)
    assert await reported(store, integration_id) is ReportedState.ACTIVATING
    await active(store, integration_id)
    assert (await row_of(store, integration_id)).cause is None


# --- what a person does -----------------------------------------------------------------------------------------------


async def test_a_reset_asks_for_a_test_that_decides(store: Store, integration_id: UUID) -> None:
    """A reset raises the generation, wants the integration ENABLED, and leaves one test to be taken: its own."""
    await store.transaction(integrations.disable, "main", who=WHO, why=None, now=NOW)
    before = await row_of(store, integration_id)
    test_id = await store.transaction(integrations.reset, "main", who=WHO, why="try again", now=LATER)

    row = await row_of(store, integration_id)
    assert (row.intended_state, row.reported_state) == (IntendedState.ENABLED, ReportedState.ACTIVATING)
    assert row.generation == before.generation + 1
    test = await taken(store, integration_id)
    assert (test.id, test.decides, test.generation) == (test_id, True, row.generation)
    [newest, *_] = await store.read(integrations.history, integration_id)
    assert (newest.who, newest.at, newest.action, newest.before, newest.after, newest.why) == (
        WHO, LATER, "reset", "INACTIVE", "ACTIVATING", "try again",
    )  # fmt: skip


async def test_a_disabled_integration_is_inactive(store: Store, integration_id: UUID) -> None:
    """Switching off is at once, on record, and raises the generation."""
    generation = await active(store, integration_id)
    await store.transaction(integrations.disable, "main", who=WHO, why="holidays", now=LATER)

    row = await row_of(store, integration_id)
    assert (row.intended_state, row.reported_state) == (IntendedState.DISABLED, ReportedState.INACTIVE)
    assert row.generation == generation + 1
    assert ("disabled", "ACTIVE", "INACTIVE") in await moves(store, integration_id)


async def test_an_unknown_name_is_told_with_the_known_ones(store: Store, integration_id: UUID) -> None:
    """Whoever mistypes a name reads which names there are."""
    with pytest.raises(UnknownIntegration, match="main"):
        await store.transaction(integrations.reset, "mian", who=WHO, why=None, now=NOW)
    with pytest.raises(UnknownIntegration):
        await store.transaction(integrations.disable, "mian", who=WHO, why=None, now=NOW)
    with pytest.raises(UnknownIntegration):
        await store.transaction(integrations.request_test, "mian", who=WHO, now=NOW)


# --- live tests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", [None, *Cause])
async def test_a_deciding_test_decides(store: Store, integration_id: UUID, cause: Cause | None) -> None:
    """A test that passed makes the integration ACTIVE, one that failed sets ERROR with its cause and transcript."""
    test = await taken(store, integration_id)
    state = ReportedState.ERROR if cause else ReportedState.ACTIVE

    assert await concluded(store, test, cause) is state
    row = await row_of(store, integration_id)
    assert (row.reported_state, row.cause, row.since) == (state, cause, LATER)
    assert await store.read(integrations.transcript_of, integration_id) == "S: 220 hello"
    assert ("tested", "ACTIVATING", state) in await moves(store, integration_id)
    stands = await store.read(integrations.test, test.id)
    assert (stands.passed, stands.cause, stands.ended_at) == (cause is None, cause, LATER)


async def test_one_of_many_takes_a_test(store: Store, integration_id: UUID) -> None:
    """However many workers see a waiting test, one takes it; a second test waits until the first has ended."""
    await store.transaction(integrations.request_test, "main", who=WHO, now=LATER)
    took = await asyncio.gather(
        *(store.transaction(integrations.take_test, integration_id, uuid4(), now=NOW) for _ in range(4))
    )

    [first] = [test for test in took if test is not None]
    assert first.decides
    await concluded(store, first)
    assert not (await taken(store, integration_id)).decides


async def test_a_test_that_a_reset_overtook_decides_nothing(store: Store, integration_id: UUID) -> None:
    """Whoever runs a test while somebody resets has tested what is not so any more."""
    old = await taken(store, integration_id)
    await store.transaction(integrations.reset, "main", who=WHO, why=None, now=NOW)

    assert await concluded(store, old) is None
    assert await reported(store, integration_id) is ReportedState.ACTIVATING
    assert (await store.read(integrations.test, old.id)).passed is False


async def test_a_test_that_was_switched_off_decides_nothing(store: Store, integration_id: UUID) -> None:
    """A test that passes after the integration was disabled leaves it disabled."""
    test = await taken(store, integration_id)
    await store.transaction(integrations.disable, "main", who=WHO, why=None, now=NOW)

    assert await concluded(store, test) is None
    assert await reported(store, integration_id) is ReportedState.INACTIVE


async def test_a_test_ends_once(store: Store, integration_id: UUID) -> None:
    """The first conclusion stands."""
    test = await taken(store, integration_id)
    await concluded(store, test, Cause.TIMED_OUT)

    assert await concluded(store, test) is None
    assert await reported(store, integration_id) is ReportedState.ERROR


async def test_a_test_is_taken_again_by_the_same_session_only(store: Store, integration_id: UUID) -> None:
    """A worker whose answer was lost asks again and gets the same test; for everybody else it is taken."""
    mine, other = uuid4(), uuid4()
    first = await store.transaction(integrations.take_test, integration_id, mine, now=NOW)

    assert first is not None
    assert await store.transaction(integrations.take_test, integration_id, mine, now=LATER) == first
    assert await store.transaction(integrations.take_test, integration_id, other, now=LATER) is None


async def test_a_test_can_be_given_back(store: Store, integration_id: UUID) -> None:
    """What a worker cannot end another one takes up; a test that has ended stays so."""
    test = await taken(store, integration_id)
    await store.transaction(integrations.give_back_test, test)
    again = await taken(store, integration_id)
    assert again.id == test.id
    await concluded(store, again)
    await store.transaction(integrations.give_back_test, again)

    assert (await store.read(integrations.test, test.id)).passed is True
    assert await store.transaction(integrations.take_test, integration_id, uuid4(), now=NOW) is None


async def test_abandoned_tests_are_found(store: Store, integration_id: UUID) -> None:
    """A test that was taken and not ended in time is found, so that it can end; one that waits is not abandoned."""
    assert await store.read(integrations.abandoned_tests, taken_before=LATER) == []
    test = await taken(store, integration_id)

    assert await store.read(integrations.abandoned_tests, taken_before=NOW) == []
    assert await store.read(integrations.abandoned_tests, taken_before=LATER) == [test]
    await concluded(store, test)
    assert await store.read(integrations.abandoned_tests, taken_before=LATER) == []


async def test_the_size_a_server_takes_is_remembered(store: Store, integration_id: UUID) -> None:
    """The SIZE of the last EHLO stands; a test that met none leaves it."""
    await store.statement(integrations.set_ehlo_size, integration_id, 10_485_760)
    await concluded(store, await taken(store, integration_id))

    assert (await row_of(store, integration_id)).ehlo_size == 10_485_760


# --- facts ------------------------------------------------------------------------------------------------------------


async def test_the_first_to_state_a_fact_is_right(store: Store) -> None:
    """Everybody who states a fact is told the first one's, also when they state it at the same time."""
    told = await asyncio.gather(*(store.transaction(integrations.fact, "marker", str(n)) for n in range(4)))

    assert len(set(told)) == 1
    assert await store.transaction(integrations.fact, "marker", "another") == told[0]
