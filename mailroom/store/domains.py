"""Queries about domains: which integration mail from (or in answer to) an address of a domain leaves through.

`inbound` domains are those that customers write to: agents' replies leave through theirs. `outbound` ones are for what
nobody asked for: campaigns and notifications. A domain's name is its id, in lower case, as A-labels.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.integration import IntendedState
from mailroom.message import Kind
from mailroom.store import audit
from mailroom.store.absent import insert_absent
from mailroom.store.audit import Entry
from mailroom.store.integrations import UnknownIntegration
from mailroom.store.schema import domains, integrations


class Direction(StrEnum):
    """Which mail a domain decides about."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


#: Which domains decide where a kind leaves through; the others have an integration by their service or campaign.
DECIDED_BY: Mapping[Kind, Direction] = MappingProxyType(
    {Kind.ACD: Direction.INBOUND, Kind.AGENTLESS: Direction.OUTBOUND}
)


class UnknownDomain(Exception):
    """There is no such domain."""


class DomainTaken(Exception):
    """This domain is there already."""


def create(
    tx: Connection, direction: Direction, name: str, *, who: str, now: datetime, integration_id: UUID | None = None,
    sub_domain: bool = False, sender_type: str | None = None,
) -> Any:  # fmt: skip
    """Add a domain; its row. `name` is in lower case, as A-labels. Raises DomainTaken, UnknownIntegration."""
    _must_exist(tx, integration_id)
    row = {
        "direction": direction, "name": name, "integration_id": integration_id, "sub_domain": sub_domain,
        "sender_type": sender_type, "created_at": now,
    }  # fmt: skip
    if not insert_absent(tx, domains, [row]):
        raise DomainTaken(f"there is an {direction} domain {name} already")
    _note(tx, direction, name, "created", who=who, now=now, after=_told(_values(row)))
    return get(tx, direction, name)


def get(tx: Connection, direction: Direction, name: str) -> Any | None:
    """A domain with its `integration_name`; None when there is none."""
    return tx.execute(_rows(direction).where(domains.c.name == name)).one_or_none()


def listed(tx: Connection, direction: Direction, *, limit: int = 100, offset: int = 0) -> tuple[Sequence[Any], int]:
    """A page of the domains of one direction by name, and how many there are."""
    total = tx.execute(
        sa.select(sa.func.count()).select_from(domains).where(domains.c.direction == direction)
    ).scalar_one()
    return tx.execute(_rows(direction).order_by(domains.c.name).limit(limit).offset(offset)).all(), int(total)


def point(
    tx: Connection, direction: Direction, name: str, integration_id: UUID | None, *, who: str, now: datetime
) -> Any:
    """Let mail of a domain leave through this integration, or through none; the row then.

    Raises UnknownDomain, UnknownIntegration.
    """
    return _changed(tx, direction, name, who=who, now=now, integration_id=integration_id)


def set_sender_type(
    tx: Connection, direction: Direction, name: str, sender_type: str | None, *, who: str, now: datetime
) -> Any:
    """Keep what kind of sender a domain is for its clients; the row then. Raises UnknownDomain."""
    return _changed(tx, direction, name, who=who, now=now, sender_type=sender_type)


def delete(tx: Connection, direction: Direction, name: str, *, who: str, now: datetime) -> None:
    """Forget a domain. Raises UnknownDomain."""
    row = _known(tx, direction, name)
    tx.execute(sa.delete(domains).where(domains.c.direction == direction, domains.c.name == name))
    _note(tx, direction, name, "deleted", who=who, now=now, before=_told(_values(row._asdict())))


def integration_for(tx: Connection, direction: Direction, address: str) -> UUID | None:
    """The integration that mail of this address leaves through; None where its domain has none or is not known."""
    domain = address.rpartition("@")[2].lower()
    return tx.execute(
        sa.select(domains.c.integration_id).where(domains.c.direction == direction, domains.c.name == domain)
    ).scalar_one_or_none()


def history(tx: Connection, direction: Direction, name: str, limit: int = 20) -> Sequence[Any]:
    """The newest audit rows of one domain first."""
    return audit.history(tx, _subject(direction, name), None, limit)


def _rows(direction: Direction) -> sa.Select[Any]:
    return (
        sa.select(domains, integrations.c.name.label("integration_name"))
        .select_from(domains.outerjoin(integrations, integrations.c.id == domains.c.integration_id))
        .where(domains.c.direction == direction)
    )


def _changed(tx: Connection, direction: Direction, name: str, *, who: str, now: datetime, **values: Any) -> Any:
    # The integration first, as whoever deletes one does: in turns the two would wait for each other.
    _must_exist(tx, values.get("integration_id"))
    row = _known(tx, direction, name)
    tx.execute(sa.update(domains).where(domains.c.direction == direction, domains.c.name == name).values(**values))
    before = _told({key: getattr(row, key) for key in values})
    _note(tx, direction, name, "changed", who=who, now=now, before=before, after=_told(values))
    return get(tx, direction, name)


def _known(tx: Connection, direction: Direction, name: str) -> Any:
    row = tx.execute(
        sa.select(domains).where(domains.c.direction == direction, domains.c.name == name).with_for_update()
    ).one_or_none()
    if row is None:
        raise UnknownDomain(f"there is no {direction} domain {name}")
    return row


def _must_exist(tx: Connection, integration_id: UUID | None) -> None:
    """An integration that is pointed to exists, and nobody deletes it before this transaction ends."""
    if integration_id is None:
        return
    known = (
        sa.select(integrations.c.id)
        .where(integrations.c.id == integration_id, integrations.c.intended_state != IntendedState.DELETED)
        .with_for_update(read=True)
    )
    if tx.execute(known).first() is None:
        raise UnknownIntegration(f"there is no integration {integration_id}, or it was deleted")


def _subject(direction: Direction, name: str) -> str:
    return f"{direction} domain {name}"


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("integration_id", "sub_domain", "sender_type")}


def _told(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={'none' if value is None else value}" for key, value in values.items())


def _note(
    tx: Connection, direction: Direction, name: str, action: str, *, who: str, now: datetime,
    before: str | None = None, after: str | None = None,
) -> None:  # fmt: skip
    audit.note(
        tx,
        Entry(
            subject=_subject(direction, name), subject_id=None, action=action, who=who, at=now, before=before,
            after=after,
        ),
    )  # fmt: skip
