"""What every store promises about integrations: their state moves by the table only, and every move is on record."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from mailroom.integration import Cause, IntendedState, ReportedState
from mailroom.message import Status
from mailroom.store import connection_tests, credentials, facts, integrations, messages, sessions
from mailroom.store.connection_tests import ConnectionTest
from mailroom.store.integrations import (
    Blamed,
    NameTaken,
    NewIntegration,
    NotConfigured,
    Sort,
    UnknownCredential,
    UnknownIntegration,
)
from mailroom.store.port import Store
from tests.builders import NOW, accepted, an_integration

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
    test = await store.transaction(connection_tests.take_test, integration_id, uuid4(), now=NOW)
    assert test is not None
    return test


async def concluded(store: Store, test: ConnectionTest, cause: Cause | None = None) -> ReportedState | None:
    """Tell how a test went; the state it decided."""
    return await store.transaction(
        connection_tests.conclude_test,
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
    assert (await store.read(integrations.named, "main")).transcript == "S: 220 hello"
    assert ("tested", "ACTIVATING", state) in await moves(store, integration_id)
    stands = await store.read(connection_tests.test, test.id)
    assert (stands.passed, stands.cause, stands.ended_at) == (cause is None, cause, LATER)


async def test_one_of_many_takes_a_test(store: Store, integration_id: UUID) -> None:
    """However many workers see a waiting test, one takes it; a second test waits until the first has ended."""
    await store.transaction(integrations.request_test, "main", who=WHO, now=LATER)
    took = await asyncio.gather(
        *(store.transaction(connection_tests.take_test, integration_id, uuid4(), now=NOW) for _ in range(4))
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
    assert (await store.read(connection_tests.test, old.id)).passed is False


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
    first = await store.transaction(connection_tests.take_test, integration_id, mine, now=NOW)

    assert first is not None
    assert await store.transaction(connection_tests.take_test, integration_id, mine, now=LATER) == first
    assert await store.transaction(connection_tests.take_test, integration_id, other, now=LATER) is None


async def test_a_test_can_be_given_back(store: Store, integration_id: UUID) -> None:
    """What a worker cannot end another one takes up; a test that has ended stays so."""
    test = await taken(store, integration_id)
    await store.transaction(connection_tests.give_back_test, test)
    again = await taken(store, integration_id)
    assert again.id == test.id
    await concluded(store, again)
    await store.transaction(connection_tests.give_back_test, again)

    assert (await store.read(connection_tests.test, test.id)).passed is True
    assert await store.transaction(connection_tests.take_test, integration_id, uuid4(), now=NOW) is None


async def test_the_test_of_a_dead_worker_is_taken_up_by_another(store: Store, integration_id: UUID) -> None:
    """A test whose worker died waits again, if it was asked for lately; one whose worker lives does not."""
    alive = uuid4()
    await store.transaction(sessions.open_session, alive, host="here", pid=1, at=NOW)
    test = await store.transaction(connection_tests.take_test, integration_id, alive, now=NOW)
    assert test is not None
    await store.transaction(connection_tests.reopen_orphaned, asked_since=NOW)
    assert await store.transaction(connection_tests.take_test, integration_id, uuid4(), now=LATER) is None
    await store.transaction(sessions.end_session, alive, at=NOW)
    await store.transaction(connection_tests.reopen_orphaned, asked_since=LATER)
    assert await store.transaction(connection_tests.take_test, integration_id, uuid4(), now=LATER) is None

    await store.transaction(connection_tests.reopen_orphaned, asked_since=NOW)
    again = await taken(store, integration_id)
    assert again.id == test.id


async def test_abandoned_tests_are_found(store: Store, integration_id: UUID) -> None:
    """A test that was asked for long ago and whose worker is gone is found, so that it can end; one that waits is not."""

    async def abandoned(*, asked_before: datetime = LATER, taken_before: datetime = NOW) -> list[ConnectionTest]:
        return await store.read(connection_tests.abandoned_tests, asked_before=asked_before, taken_before=taken_before)

    assert await abandoned() == []
    test = await taken(store, integration_id)
    assert await abandoned(asked_before=NOW) == []
    assert await abandoned() == [test]
    assert await abandoned(asked_before=NOW, taken_before=LATER) == [test]
    await concluded(store, test)
    assert await abandoned(taken_before=LATER) == []


async def test_the_size_a_server_takes_is_remembered(store: Store, integration_id: UUID) -> None:
    """The SIZE of the last EHLO stands; a test that met none leaves it, and so does a server we have left since."""
    await store.statement(integrations.set_ehlo_size, integration_id, 1, 10_485_760)
    await store.statement(integrations.set_ehlo_size, integration_id, 0, 1024)
    await concluded(store, await taken(store, integration_id))

    assert (await row_of(store, integration_id)).ehlo_size == 10_485_760


# --- administered -----------------------------------------------------------------------------------------------------


async def created_as(store: Store, name: str, intended: IntendedState = IntendedState.DISABLED, **more: Any) -> UUID:
    """An integration as the platform's clients create one."""
    return await store.transaction(
        integrations.create, NewIntegration(name=name, **more), intended=intended, who=WHO, now=NOW
    )


async def configured(store: Store, integration_id: UUID, version: int = 1, **changes: Any) -> Any:
    """The integration after a change of its configuration."""
    row = await store.read(integrations.find, integration_id)
    configuration = integrations.configuration_of(row, **changes)
    return await store.transaction(
        integrations.configure, integration_id, configuration, version=version, who=WHO, why="so", now=LATER
    )


async def test_an_integration_can_begin_with_a_name_alone(store: Store) -> None:
    """Created DISABLED it waits to be configured; until then it can neither be enabled nor tested, and is told why."""
    integration_id = await created_as(store, "new")
    with pytest.raises(NotConfigured, match="no SMTP host"):
        await store.transaction(integrations.intend, integration_id, IntendedState.ENABLED, who=WHO, now=NOW)
    with pytest.raises(NotConfigured, match="no SMTP host"):
        await store.transaction(integrations.request_test, "new", who=WHO, now=NOW)
    with pytest.raises(NotConfigured):
        await created_as(store, "other", IntendedState.ENABLED)
    row = await row_of(store, integration_id)
    assert (row.intended_state, row.reported_state, row.version, row.host) == ("DISABLED", "INACTIVE", 1, "")

    await configured(store, integration_id, host="smtp.company.test")
    await store.transaction(integrations.intend, integration_id, IntendedState.ENABLED, who=WHO, now=NOW)
    assert await reported(store, integration_id) is ReportedState.ACTIVATING


async def test_a_name_is_one_integrations(store: Store, integration_id: UUID) -> None:
    """Neither a new integration nor a renamed one takes another's name."""
    other = await created_as(store, "other")
    with pytest.raises(NameTaken, match="main"):
        await created_as(store, "main")
    with pytest.raises(NameTaken, match="main"):
        await configured(store, other, name="main")

    assert (await configured(store, other, name="third")).name == "third"


async def test_another_server_is_tested_before_it_is_used(store: Store, integration_id: UUID) -> None:
    """An ACTIVE integration that is to be reached in another way goes through a live test that decides."""
    generation = await active(store, integration_id)
    row = await configured(store, integration_id, host="other.company.test")
    assert (row.version, row.generation, row.reported_state, bool(row.test_waiting)) == (
        2, generation + 1, "ACTIVATING", True,
    )  # fmt: skip
    await active(store, integration_id)

    rows = await store.read(integrations.history, integration_id)
    assert {(entry.action, entry.before, entry.after, entry.why) for entry in rows} >= {
        ("configured", "host=smtp.company.test", "host=other.company.test", "so"),
        ("retested", "ACTIVE", "ACTIVATING", "so"),
    }


@pytest.mark.parametrize("changes", [{"per_second": 2.5, "per_day": 100}, {"notes": "Jane's"}, {"name": "renamed"}, {}])
async def test_what_does_not_concern_the_server_disturbs_nothing(
    store: Store, integration_id: UUID, changes: dict[str, Any]
) -> None:
    """Limits, notes and names change while mail goes on; only the version rises."""
    generation = await active(store, integration_id)
    row = await configured(store, integration_id, **changes)

    assert (row.version, row.generation, row.reported_state) == (2, generation, "ACTIVE")
    assert {name: getattr(row, name) for name in changes} == changes


async def test_nobody_overwrites_what_they_have_not_seen(store: Store, integration_id: UUID) -> None:
    """Of two who change the same version, one is told that it is not the current one."""
    outcomes = await asyncio.gather(
        *(configured(store, integration_id, notes=str(number)) for number in range(3)), return_exceptions=True
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Row", "WrongVersion", "WrongVersion"]
    assert (await row_of(store, integration_id)).version == 2


async def test_an_enabled_integration_keeps_its_host(store: Store, integration_id: UUID) -> None:
    """A host or credential that is none cannot be put into an integration that is ENABLED."""
    with pytest.raises(NotConfigured):
        await configured(store, integration_id, host="")
    with pytest.raises(UnknownCredential):
        await configured(store, integration_id, credential_id=uuid4())


async def test_integrations_are_listed_by_what_is_asked(store: Store, integration_id: UUID) -> None:
    """A list keeps to ids, state and credential, comes in pages, and tells how many there are in all."""
    others = [await created_as(store, name) for name in ("c", "a", "b")]

    async def names(**conditions: Any) -> tuple[list[str], int]:
        rows, total = await store.read(integrations.listed, **conditions)
        return [row.name for row in rows], total

    assert await names() == (["a", "b", "c", "main"], 4)
    assert await names(limit=2, offset=1) == (["b", "c"], 4)
    assert await names(ids=others[:2]) == (["a", "c"], 2)
    assert await names(ids=[]) == ([], 0)
    assert await names(reported_state=ReportedState.ACTIVATING) == (["main"], 1)
    assert await names(credential_id=uuid4()) == ([], 0)
    assert await names(sort=Sort.STATE) == (["main", "a", "b", "c"], 4)


async def test_a_deleted_integration_is_gone_but_for_its_messages(store: Store, integration_id: UUID) -> None:
    """It is not found or listed, its name is free, nothing of it can be changed; its row stays for the history."""
    await active(store, integration_id)
    message = await accepted(store, integration_id)
    await store.transaction(integrations.intend, integration_id, IntendedState.DELETED, who=WHO, why="moved", now=LATER)

    assert await store.read(integrations.find, integration_id) is None
    assert await store.read(integrations.listed) == ([], 0)
    with pytest.raises(UnknownIntegration):
        await store.transaction(integrations.reset, "main", who=WHO, why=None, now=LATER)
    with pytest.raises(UnknownIntegration):
        await store.transaction(integrations.intend, integration_id, IntendedState.ENABLED, who=WHO, now=LATER)
    row = await row_of(store, integration_id)
    assert (row.intended_state, row.reported_state, row.credential_id) == ("DELETED", "INACTIVE", None)
    assert row.name.startswith("main (deleted")
    [newest] = await store.read(integrations.history, integration_id, 1)
    assert (newest.action, newest.before, newest.after, newest.why) == ("deleted", "ACTIVE", "INACTIVE", "moved")
    standing = await store.read(messages.standing, message.id)
    assert standing is not None
    assert (standing.status, standing.integration_id) == (Status.QUEUED, integration_id)
    await store.transaction(integrations.create_absent, an_integration(), who=WHO, now=LATER)


async def test_a_credential_of_its_own_goes_with_its_integration(store: Store) -> None:
    """What the settings or a command made for one integration is not kept when that is deleted."""
    new = an_integration(username="forms", sealed_password="sealed")
    await store.transaction(integrations.create_absent, new, who=WHO, now=NOW)
    row = await store.read(integrations.named, "main")
    assert (row.username, row.sealed_password, row.credential_name) == ("forms", "sealed", "main")
    await store.transaction(integrations.intend, row.id, IntendedState.DELETED, who=WHO, now=NOW)

    assert await store.read(credentials.get, row.credential_id) is None


# --- facts ------------------------------------------------------------------------------------------------------------


async def test_the_first_to_state_a_fact_is_right(store: Store) -> None:
    """Everybody who states a fact is told the first one's, also when they state it at the same time."""
    told = await asyncio.gather(*(store.transaction(facts.fact, "marker", str(n)) for n in range(4)))

    assert len(set(told)) == 1
    assert await store.transaction(facts.fact, "marker", "another") == told[0]
