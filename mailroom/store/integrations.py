"""Queries about integrations: their configuration, what people want of them, and the failures that are counted."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.integration import BEGINNINGS, Cause, IntendedState, Move, Mover, ReportedState
from mailroom.message import Lane
from mailroom.store import audit, connection_tests, states
from mailroom.store.absent import insert_absent
from mailroom.store.audit import Entry
from mailroom.store.clock import told
from mailroom.store.connection_tests import Letter
from mailroom.store.schema import connection_tests as tests_table
from mailroom.store.schema import credentials, domains, integrations
from mailroom.store.states import SUBJECT, Made


class UnknownIntegration(Exception):
    """There is no such integration (any more)."""


class NameTaken(Exception):
    """Another integration has this name."""


class WrongVersion(Exception):
    """Somebody else changed the configuration meanwhile."""


class NotConfigured(Exception):
    """The integration lacks what it needs to be ENABLED."""


class UnknownCredential(Exception):
    """There is no such credential."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All that people can set of an integration; `properties` and `advanced` are JSON texts kept for clients."""

    name: str
    #: Empty for one that is not configured yet; such a one cannot be ENABLED.
    host: str = ""
    port: int = 587
    security: str = "starttls"
    from_address: str = ""
    from_name: str | None = None
    default_mailbox: str | None = None
    max_connections: int = 8
    per_second: float | None = None
    per_day: int | None = None
    credential_id: UUID | None = None
    notes: str | None = None
    properties: str | None = None
    advanced: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewIntegration(Configuration):
    """An integration to be created. With a user name and an encrypted password it gets a credential of its own."""

    username: str | None = None
    sealed_password: str | None = None

    @property
    def logs_in(self) -> bool:
        """Whether it brings a credential along."""
        return self.username is not None or self.sealed_password is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blamed:
    """A failure that is the account's, the host's or the connection's fault, from an attempt begun under `generation`."""

    integration_id: UUID
    generation: int
    cause: Cause
    threshold: int
    transcript: str
    who: str
    #: When the attempt began. It counts when that is at least `apart` after the last failure that was counted.
    began_at: datetime
    apart: timedelta


class Sort(StrEnum):
    """What a list of integrations can be ordered by; names settle ties."""

    NAME = "name"
    STATE = "reported_state"
    SINCE = "since"


_LANE_COLUMN = {
    Lane.AGENT: integrations.c.agent_lane,
    Lane.FORM: integrations.c.form_lane,
    Lane.CAMPAIGN: integrations.c.campaign_lane,
}

#: What a configuration is made of, and the part of it that decides how the server is reached.
_CONFIGURED = tuple(field.name for field in fields(Configuration))
_CONNECTS = ("host", "port", "security", "credential_id")

_EXISTING = integrations.c.intended_state != IntendedState.DELETED


def _rows() -> sa.Select[Any]:
    """Integrations with what they log in with, and whether a test waits for a worker."""
    waiting = (
        sa.select(sa.literal(1))
        .where(
            tests_table.c.integration_id == integrations.c.id,
            tests_table.c.ended_at.is_(None),
            tests_table.c.taken_at.is_(None),
        )
        .exists()
    )
    return sa.select(
        integrations,
        credentials.c.username,
        credentials.c.sealed_password,
        credentials.c.name.label("credential_name"),
        credentials.c.type.label("credential_type"),
        waiting.label("test_waiting"),
    ).select_from(integrations.outerjoin(credentials, credentials.c.id == integrations.c.credential_id))


def all_rows(tx: Connection) -> Sequence[Any]:
    """Every integration, deleted ones too, with its credential, `test_waiting` and its queued lanes; one statement."""
    return tx.execute(_rows().order_by(integrations.c.name)).all()


def all_rows_now(tx: Connection) -> tuple[Sequence[Any], datetime]:
    """The same, and what time the database has."""
    return all_rows(tx), told(tx)


def find(tx: Connection, integration_id: UUID) -> Any | None:
    """An integration as it is, with its credential; None when there is none or it was deleted."""
    return tx.execute(_rows().where(integrations.c.id == integration_id, _EXISTING)).one_or_none()


def named(tx: Connection, name: str) -> Any:
    """The integration of this name, with its credential. Raises UnknownIntegration."""
    row = tx.execute(_rows().where(integrations.c.name == name, _EXISTING)).one_or_none()
    if row is None:
        names = sa.select(integrations.c.name).where(_EXISTING).order_by(integrations.c.name)
        known = ", ".join(tx.execute(names).scalars())
        raise UnknownIntegration(f"there is no integration {name!r}; there are: {known or 'none'}")
    return row


def listed(
    tx: Connection, *, ids: Collection[UUID] | None = None, reported_state: ReportedState | None = None,
    credential_id: UUID | None = None, limit: int = 100, offset: int = 0, sort: Sort = Sort.NAME,
) -> tuple[Sequence[Any], int]:  # fmt: skip
    """A page of the integrations that are not deleted and meet every condition, and how many do in all."""
    conditions = [_EXISTING]
    if ids is not None:
        conditions.append(integrations.c.id.in_(ids))
    if reported_state is not None:
        conditions.append(integrations.c.reported_state == reported_state)
    if credential_id is not None:
        conditions.append(integrations.c.credential_id == credential_id)
    page = _rows().where(*conditions).order_by(integrations.c[sort], integrations.c.name).limit(limit).offset(offset)
    total = tx.execute(sa.select(sa.func.count()).select_from(integrations).where(*conditions)).scalar_one()
    return tx.execute(page).all(), int(total)


# --- created ----------------------------------------------------------------------------------------------------------


def create_absent(tx: Connection, new: NewIntegration, *, who: str, now: datetime) -> bool:
    """Create an integration, ENABLED and about to be tested; False when one of this name exists already."""
    return _created(tx, new, IntendedState.ENABLED, who=who, now=now) is not None


def create(tx: Connection, new: NewIntegration, *, intended: IntendedState, who: str, now: datetime) -> UUID:
    """Create an integration: ENABLED it is tested at once, DISABLED it waits. Its id.

    Raises NameTaken, UnknownCredential, NotConfigured.
    """
    if intended is IntendedState.DELETED:
        raise ValueError("an integration begins as ENABLED or DISABLED")
    if intended is IntendedState.ENABLED:
        _must_be_configured(new)
    _must_exist(tx, new.credential_id)
    integration_id = _created(tx, new, intended, who=who, now=now)
    if integration_id is None:
        raise NameTaken(f"there is an integration {new.name!r} already; choose another name")
    return integration_id


def _created(tx: Connection, new: NewIntegration, intended: IntendedState, *, who: str, now: datetime) -> UUID | None:
    integration_id = uuid4()
    enabled = intended is IntendedState.ENABLED
    reported = BEGINNINGS[0 if enabled else 1]
    row = {name: getattr(new, name) for name in _CONFIGURED} | {
        "id": integration_id, "intended_state": intended, "reported_state": reported, "since": now,
    }  # fmt: skip
    if new.logs_in:
        # Under the integration's own id: it goes when the integration is deleted.
        row["credential_id"] = integration_id
    if not insert_absent(tx, integrations, [row]):
        return None
    if new.logs_in:
        tx.execute(
            sa.insert(credentials).values(
                id=integration_id, name=new.name, type="basicAuth", username=new.username,
                sealed_password=new.sealed_password, created_at=now, modified_at=now,
            )
        )  # fmt: skip
    if enabled:
        connection_tests.ask_for_test(tx, integration_id, 1, decides=True, who=who, now=now)
    _note(tx, integration_id, "created", who=who, now=now, after=reported, why=_server(row))
    return integration_id


# --- configured -------------------------------------------------------------------------------------------------------


def configuration_of(row: Any, **changes: Any) -> Configuration:
    """The configuration in a row of an integration, with these changes."""
    return Configuration(**({name: getattr(row, name) for name in _CONFIGURED} | changes))


def configure(
    tx: Connection, integration_id: UUID, configuration: Configuration, *, version: int, who: str, now: datetime,
    why: str | None = None,
) -> Any:  # fmt: skip
    """Put a whole configuration in place of the one of this version; the integration as it is then.

    Where it is ENABLED and is to be reached in another way, a live test decides anew. Raises UnknownIntegration,
    WrongVersion, NameTaken, UnknownCredential, NotConfigured.
    """
    row = _locked(tx, integration_id)
    if row.version != version:
        raise WrongVersion(
            f"{row.name} has version {row.version} by now, not {version}: somebody else changed it meanwhile; "
            "read it again and repeat the change on that"
        )
    if row.intended_state == IntendedState.ENABLED:
        _must_be_configured(configuration)
    _must_exist(tx, configuration.credential_id)
    _must_be_free(tx, configuration.name, integration_id)
    changed = {
        name: getattr(configuration, name) for name in _CONFIGURED if getattr(configuration, name) != getattr(row, name)
    }
    tx.execute(
        sa.update(integrations).where(integrations.c.id == integration_id).values(version=row.version + 1, **changed)
    )
    before = _told({name: getattr(row, name) for name in changed})
    _note(tx, integration_id, "configured", who=who, now=now, before=before, after=_told(changed), why=why)
    if changed.keys() & set(_CONNECTS):
        reconnect(tx, integration_id, who=who, why=why, now=now)
    return find(tx, integration_id)


def reconnect(tx: Connection, integration_id: UUID, *, who: str, why: str | None, now: datetime) -> UUID | None:
    """How it connects was changed: what was learnt before counts no more, and an ENABLED one is tested. The test's id."""
    row = _locked(tx, integration_id)
    generation = row.generation + 1
    fresh = {
        "generation": generation, "failures": 0, "failed_at": None, "ehlo_size": None, "pace": None, "paced_at": None,
    }  # fmt: skip
    made = Made(name=Move.CHANGE, by=Mover.PERSON, who=who, at=now, why=why)
    if not states.move(tx, row.id, made, **fresh):
        tx.execute(sa.update(integrations).where(integrations.c.id == row.id).values(**fresh))
        return None
    connection_tests.withdraw_deciding(tx, row.id, why="the configuration was changed before this test began", now=now)
    return connection_tests.ask_for_test(tx, row.id, generation, decides=True, who=who, now=now)


def _must_be_configured(configuration: Configuration) -> None:
    if not configuration.host:
        raise NotConfigured(f"{configuration.name} is not configured: it has no SMTP host yet; set one, then enable it")


def _must_exist(tx: Connection, credential_id: UUID | None) -> None:
    """A credential that is referred to exists, and nobody deletes it before this transaction ends."""
    if credential_id is None:
        return
    known = sa.select(credentials.c.id).where(credentials.c.id == credential_id).with_for_update(read=True)
    if tx.execute(known).first() is None:
        raise UnknownCredential(f"there is no credential {credential_id}; create it first")


def _must_be_free(tx: Connection, name: str, integration_id: UUID) -> None:
    taken = sa.select(integrations.c.id).where(integrations.c.name == name, integrations.c.id != integration_id)
    if tx.execute(taken).first() is not None:
        raise NameTaken(f"there is an integration {name!r} already; choose another name")


def _server(row: Any) -> str:
    return f"{row['host'] or 'no host yet'}:{row['port']} ({row['security']})"


def _told(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={'-' if value is None else value}" for name, value in values.items()) or "nothing"


# --- what people want -------------------------------------------------------------------------------------------------


def intend(
    tx: Connection, integration_id: UUID, intended: IntendedState, *, who: str, why: str | None = None, now: datetime
) -> UUID | None:
    """Want an integration ENABLED, DISABLED or DELETED; the id of the live test that decides, where there is one.

    ENABLED is also the reset out of ERROR. DISABLED and DELETED finish what is just being sent. What is accepted and
    not sent stays held, and expires in its time. A deleted integration's name is free; domains that pointed to it
    point nowhere. Raises UnknownIntegration, NotConfigured.
    """
    row = _locked(tx, integration_id)
    match intended:
        case IntendedState.ENABLED:
            return _enabled(tx, row, who=who, why=why, now=now)
        case IntendedState.DISABLED:
            _switched_off(tx, row, intended, noted_as="disabled", who=who, why=why, now=now)
        case IntendedState.DELETED:
            _switched_off(tx, row, intended, noted_as="deleted", who=who, why=why, now=now)
            _left(tx, row, who=who, now=now)
    return None


def _locked(tx: Connection, integration_id: UUID) -> Any:
    row = tx.execute(
        sa.select(integrations).where(integrations.c.id == integration_id, _EXISTING).with_for_update()
    ).one_or_none()
    if row is None:
        raise UnknownIntegration(f"there is no integration {integration_id}, or it was deleted")
    return row


def _enabled(tx: Connection, row: Any, *, who: str, why: str | None, now: datetime) -> UUID:
    _must_be_configured(row)
    generation = row.generation + 1
    made = Made(name=Move.RESET, by=Mover.PERSON, who=who, at=now, why=why)
    enabled = {"intended_state": IntendedState.ENABLED, "generation": generation, "failures": 0, "failed_at": None}
    states.move(tx, row.id, made, **enabled)
    # An older test of an older configuration decides nothing any more.
    connection_tests.withdraw_deciding(tx, row.id, why="a newer reset took this test's place", now=now)
    return connection_tests.ask_for_test(tx, row.id, generation, decides=True, who=who, now=now)


def _switched_off(
    tx: Connection, row: Any, intended: IntendedState, *, noted_as: str, who: str, why: str | None, now: datetime
) -> None:
    way = Move.WIND_DOWN if states.is_sending(tx, row.id) else Move.SWITCH_OFF
    made = Made(name=way, by=Mover.PERSON, who=who, at=now, why=why, noted_as=noted_as)
    off = {"intended_state": intended, "generation": row.generation + 1}
    if not states.move(tx, row.id, made, **off):
        # It is off already, or just about to be.
        tx.execute(sa.update(integrations).where(integrations.c.id == row.id).values(**off))
        state = row.reported_state
        _note(tx, row.id, noted_as, who=who, now=now, before=state, after=state, why=why)
    connection_tests.withdraw_deciding(
        tx, row.id, why=f"the integration was {noted_as} before this test began", now=now
    )


def _left(tx: Connection, row: Any, *, who: str, now: datetime) -> None:
    """Leave of a deleted integration what the history of its messages needs, and nothing that points to it."""
    tx.execute(
        sa.update(integrations)
        .where(integrations.c.id == row.id)
        .values(name=f"{row.name} (deleted, {row.id})", credential_id=None)
    )
    # The credential that was made with it is nobody else's business, unless somebody chose it.
    chosen = sa.select(integrations.c.id).where(integrations.c.credential_id == row.id).exists()
    tx.execute(sa.delete(credentials).where(credentials.c.id == row.id, ~chosen))
    pointing = (
        sa.update(domains)
        .where(domains.c.integration_id == row.id)
        .values(integration_id=None)
        .returning(domains.c.direction, domains.c.name)
    )
    for domain in tx.execute(pointing).all():
        audit.note(
            tx,
            Entry(
                subject=f"{domain.direction} domain {domain.name}", subject_id=None, action="changed", who=who, at=now,
                before=f"integration_id={row.id}", after="integration_id=none", why="its integration was deleted",
            ),
        )  # fmt: skip


def _note(
    tx: Connection, integration_id: UUID, action: str, *, who: str, now: datetime, before: str | None = None,
    after: str | None = None, why: str | None = None,
) -> None:  # fmt: skip
    audit.note(
        tx,
        Entry(
            subject=SUBJECT, subject_id=integration_id, action=action, who=who, at=now, before=before, after=after,
            why=why,
        ),
    )  # fmt: skip


def reset(tx: Connection, name: str, *, who: str, why: str | None, now: datetime) -> UUID:
    """Ask for a way back to ACTIVE: ENABLED, ACTIVATING, and a live test that decides. Returns the test's id."""
    test_id = intend(tx, named(tx, name).id, IntendedState.ENABLED, who=who, why=why, now=now)
    assert test_id is not None  # noqa: S101 - ENABLED is always tested
    return test_id


def disable(tx: Connection, name: str, *, who: str, why: str | None, now: datetime) -> None:
    """Send nothing through it any more until it is reset; what is accepted waits."""
    intend(tx, named(tx, name).id, IntendedState.DISABLED, who=who, why=why, now=now)


def request_test_of(
    tx: Connection, integration_id: UUID, *, who: str, now: datetime, letter: Letter | None = None
) -> UUID:
    """Ask a worker for a live test that only tells; the state stays. Raises UnknownIntegration, NotConfigured.

    With a letter it also sends that, when the integration is ACTIVE; any other one gets the log-in alone.
    """
    row = _locked(tx, integration_id)
    _must_be_configured(row)
    return connection_tests.ask_for_test(tx, row.id, row.generation, decides=False, who=who, now=now, letter=letter)


def request_test(tx: Connection, name: str, *, who: str, now: datetime, letter: Letter | None = None) -> UUID:
    """As `request_test_of`, by name."""
    return request_test_of(tx, named(tx, name).id, who=who, now=now, letter=letter)


def history(tx: Connection, integration_id: UUID, limit: int = 20) -> Sequence[Any]:
    """The newest audit rows of one integration first."""
    return audit.history(tx, SUBJECT, integration_id, limit)


# --- what workers tell ------------------------------------------------------------------------------------------------


def mark_lane(tx: Connection, integration_id: UUID, lane: Lane) -> None:
    """Tell every worker that this queue exists."""
    column = _LANE_COLUMN[lane]
    tx.execute(
        sa.update(integrations)
        .where(integrations.c.id == integration_id, column.is_(sa.false()))
        .values({column.name: True})
    )


def set_ehlo_size(tx: Connection, integration_id: UUID, generation: int, size: int | None) -> None:
    """Remember what the server's last EHLO gave as its SIZE; a former server's word counts no more."""
    tx.execute(
        sa.update(integrations)
        .where(integrations.c.id == integration_id, integrations.c.generation == generation)
        .values(ehlo_size=size)
    )


def count_failure(tx: Connection, blamed: Blamed, *, now: datetime) -> bool:
    """Count a failure for all workers together; True when it was the one that set the integration to ERROR."""
    mine = sa.and_(
        integrations.c.id == blamed.integration_id,
        integrations.c.generation == blamed.generation,
        integrations.c.reported_state == ReportedState.ACTIVE,
    )
    counted = tx.execute(
        sa.update(integrations)
        .where(
            mine,
            sa.or_(integrations.c.failed_at.is_(None), integrations.c.failed_at <= blamed.began_at - blamed.apart),
        )
        .values(failures=integrations.c.failures + 1, failed_at=now)
        .returning(integrations.c.failures)
    ).scalar_one_or_none()
    if counted is None or counted < blamed.threshold:
        return False
    broken = Made(
        name=Move.BREAK, by=Mover.WORKER, who=blamed.who, at=now, generation=blamed.generation, cause=blamed.cause,
        transcript=blamed.transcript, why=f"{blamed.cause} after {counted} failures in a row",
    )  # fmt: skip
    return states.move(tx, blamed.integration_id, broken)


def forget_failures(tx: Connection, integration_id: UUID, generation: int) -> None:
    """A send went through: the row of failures is broken."""
    tx.execute(
        sa.update(integrations)
        .where(
            integrations.c.id == integration_id, integrations.c.generation == generation, integrations.c.failures > 0
        )
        .values(failures=0, failed_at=None)
    )
