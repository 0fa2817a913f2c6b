"""The gate on every path: every way a message can reach SMTP, for every kind, in every state an integration can have."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.gate import Enforcement, Open, gate
from mailroom.integration import Cause, IntendedState, ReportedState
from mailroom.kinds import KINDS
from mailroom.message import Kind, Status
from mailroom.queue.ticket import Address, Ticket
from mailroom.store import integrations, messages, redrives, schema, sessions
from mailroom.store.messages import Claimed, Settlement
from tests.builders import migrated
from tests.journeys.office import Office, a_row, an_office
from tests.services import Postgres, RabbitMQ
from tests.smtp_server import ScriptedSmtp, scripted_smtp

States = tuple[IntendedState, ReportedState]

#: Every pair of states, the ones that no table of moves leads to included: the gate must not depend on that table.
STATES: tuple[States, ...] = tuple(itertools.product(IntendedState, ReportedState))

#: The only state that may send, and the one exception: agents' mail passes ERROR before its enforcement date.
SENDING: States = (IntendedState.ENABLED, ReportedState.ACTIVE)
BEFORE_ENFORCEMENT = (Kind.ACD, (IntendedState.ENABLED, ReportedState.ERROR))

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One message of one kind that is about to reach SMTP on one way, through an integration of its own."""

    way: str
    kind: Kind
    states: States
    integration_id: UUID
    message_id: UUID
    server: ScriptedSmtp

    def __str__(self) -> str:
        return f"{self.kind} by way of {self.way}, {self.states[0]}/{self.states[1]}"


def _claimed(tx: Connection, message_id: UUID) -> Claimed:
    session = uuid4()
    sessions.open_session(tx, session, host="elsewhere", pid=1, at=datetime.now(UTC))
    return messages.claim(tx, [message_id], session)[message_id]


def _settled(tx: Connection, message_id: UUID, status: Status, wake_at: datetime | None = None) -> None:
    claim = _claimed(tx, message_id)
    settlement = Settlement(
        id=message_id, claim=claim.claim, status=status, at=datetime.now(UTC), attempts=2, blamed=1, wake_at=wake_at
    )
    assert messages.settle(tx, [settlement]) == [True]


def first(tx: Connection, message_id: UUID) -> None:
    """Accepted a moment ago, with its ticket on the queue."""


def retry(tx: Connection, message_id: UUID) -> None:
    """Tried before and deferred, and now it is due."""
    _settled(tx, message_id, Status.DEFERRED, wake_at=datetime.now(UTC))


def scheduled(tx: Connection, message_id: UUID) -> None:
    """Never tried, to be sent at a time that has come."""
    due = {"status": Status.DEFERRED, "wake_at": datetime.now(UTC)}
    tx.execute(sa.update(schema.live).where(schema.live.c.id == message_id).values(due))


def release(tx: Connection, message_id: UUID) -> None:
    """Held while its integration could not send."""
    _settled(tx, message_id, Status.HELD)


def redrive(tx: Connection, message_id: UUID) -> None:
    """A dead letter that a person sends again."""
    _settled(tx, message_id, Status.FAILED)
    redrives.redrive_one(tx, message_id, who="jane", now=datetime.now(UTC))


def group_redrive(tx: Connection, message_id: UUID) -> None:
    """A dead letter that a person sends again with all of its cause."""
    _settled(tx, message_id, Status.FAILED)
    assert messages.redrive_all(tx, [message_id], at=datetime.now(UTC))


def recovery(tx: Connection, message_id: UUID) -> None:
    """Claimed by a worker that died."""
    session = _claimed(tx, message_id).session
    assert sessions.declare_dead(tx, session, 0, at=datetime.now(UTC))


#: Every way to SMTP. What a new one does must be added here; the kinds come from the registry by themselves.
WAYS: MappingProxyType[str, Callable[[Connection, UUID], None]] = MappingProxyType(
    {
        "first": first,
        "retry": retry,
        "scheduled": scheduled,
        "release": release,
        "redrive": redrive,
        "group redrive": group_redrive,
        "recovery": recovery,
    }
)


def passes(kind: Kind, states: States, *, enforced: bool) -> bool:
    """What the promise says: only ENABLED and ACTIVE sends, but for the one named exception."""
    return states == SENDING or (not enforced and (kind, states) == BEFORE_ENFORCEMENT)


def may_arrive(case: Case, *, enforced: bool) -> bool:
    """Whether a connection may be made for it at all."""
    return passes(case.kind, case.states, enforced=enforced)


def must_arrive(case: Case, *, enforced: bool) -> bool:
    """Whether it is delivered without anybody's help."""
    if case.way == "recovery" and case.kind is not Kind.FORM:
        return False  # the server may have it: a dead letter for a person
    if case.way == "release" and case.states != SENDING:
        return False  # nothing is released but by an integration that is ACTIVE
    return may_arrive(case, enforced=enforced)


@contextlib.asynccontextmanager
async def cases(office: Office, ways: tuple[str, ...]) -> AsyncIterator[list[Case]]:
    """Every way, kind and state, each with an integration and a counting SMTP server of its own."""
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for way, kind, states in itertools.product(ways, Kind, STATES):
            server = await stack.enter_async_context(scripted_smtp())
            name = f"{way}-{kind}-{states[0]}-{states[1]}"
            await office.add_integration(server.port, name=name)
            made.append(await office.store.transaction(_prepare, name, way, kind, states, server))
        yield made


def _prepare(tx: Connection, name: str, way: str, kind: Kind, states: States, server: ScriptedSmtp) -> Case:
    integration_id = tx.execute(
        sa.select(schema.integrations.c.id).where(schema.integrations.c.name == name)
    ).scalar_one()
    tx.execute(sa.delete(schema.connection_tests).where(schema.connection_tests.c.integration_id == integration_id))
    row = replace(a_row(integration_id, subject=name), kind=kind)
    messages.accept(tx, [row])
    WAYS[way](tx, row.id)
    intended, reported = states
    cause = Cause.AUTHENTICATION_REFUSED if reported is ReportedState.ERROR else None
    changed = {"intended_state": intended, "reported_state": reported, "cause": cause}
    tx.execute(sa.update(schema.integrations).where(schema.integrations.c.id == integration_id).values(changed))
    integrations.mark_lane(tx, integration_id, KINDS[kind].lane)
    return Case(
        way=way, kind=kind, states=states, integration_id=integration_id, message_id=row.id, server=server
    )  # fmt: skip


async def walk(office: Office, ways: tuple[str, ...], *, enforced: bool) -> None:
    """Let a worker loose on all of them, and count who was connected to."""
    enforcement = Enforcement(acd_from=LONG_AGO if enforced else None)
    async with cases(office, ways) as made:
        store, queue = office.store_and_queue()
        try:
            for case in made:
                address = Address(KINDS[case.kind].lane, case.integration_id)
                await queue.publish(address, Ticket((case.message_id,), datetime.now(UTC)))
        finally:
            await office.let_go(store, queue)
        async with office.worker(enforcement=enforcement):
            await _until_arrived([case for case in made if must_arrive(case, enforced=enforced)])
            # Who may not be connected to has had as long as everybody else; two more rounds of the sweep for good measure.
            await asyncio.sleep(3)
        connected = {str(case) for case in made if case.server.connections}

    assert connected == {str(case) for case in made if must_arrive(case, enforced=enforced)}


async def _until_arrived(wanted: list[Case]) -> None:
    try:
        async with asyncio.timeout(90):
            while not all(case.server.inbox for case in wanted):
                await asyncio.sleep(0.1)
    except TimeoutError:
        missing = [str(case) for case in wanted if not case.server.inbox]
        raise AssertionError(f"never arrived: {missing}") from None


async def test_no_way_leads_past_the_gate(tmp_path: Path) -> None:
    """Every way, every kind, every state: no connection is made unless the integration may send this kind."""

    async def walk_apart(folder: Path, *, enforced: bool) -> None:
        async with an_office(folder, f"sqlite:///{folder}/mailroom.db", "memory:") as office:
            await walk(office, tuple(WAYS), enforced=enforced)

    enforced, before = tmp_path / "enforced", tmp_path / "before"
    for folder in (enforced, before):
        await migrated(f"sqlite:///{folder}/mailroom.db")
    # At the same time, because most of it is waiting for what must not come.
    await asyncio.gather(walk_apart(enforced, enforced=True), walk_apart(before, enforced=False))


async def test_the_deployed_parts_obey_the_gate_too(postgres: Postgres, rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    """The same over PostgreSQL and RabbitMQ, for the way that most mail takes."""
    async with an_office(tmp_path, postgres.new_database(migrated), rabbitmq.new_vhost()) as office:
        await walk(office, ("first",), enforced=True)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize("enforced", [True, False])
def test_every_registered_kind_passes_the_gate(kind: Kind, states: States, enforced: bool) -> None:  # noqa: FBT001
    """Whoever registers a kind that is let through elsewhere must name that exception here, or this fails."""
    verdict = gate(
        kind, *states, Cause.TIMED_OUT, datetime.now(UTC), Enforcement(acd_from=LONG_AGO if enforced else None)
    )

    assert isinstance(verdict, Open) is passes(kind, states, enforced=enforced)


def test_every_kind_is_registered() -> None:
    """A kind without rules could not be gated, retried or expired."""
    assert set(KINDS) == set(Kind)
