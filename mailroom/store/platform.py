"""Changes that the platform API makes as one: several queries about its nouns in one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.integration import IntendedState
from mailroom.store import credentials, domains, integrations
from mailroom.store.credentials import NewCredential
from mailroom.store.domains import Direction
from mailroom.store.integrations import NameTaken, NewIntegration, UnknownIntegration
from mailroom.store.schema import integrations as integrations_table
from mailroom.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialChange:
    """What shall be different about a credential; None stays as it is, an empty user name becomes none."""

    name: str | None = None
    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"CredentialChange({self.name or 'the name it has'})"


def create_integration(tx: Connection, name: str | None, kind_of: str, *, who: str, now: datetime) -> Any:
    """A new DISABLED integration; without a name it gets this one, numbered where that is taken. Raises NameTaken."""
    for number in count(1):
        chosen = name or (kind_of if number == 1 else f"{kind_of} {number}")
        try:
            created = integrations.create(
                tx, NewIntegration(name=chosen), intended=IntendedState.DISABLED, who=who, now=now
            )
        except NameTaken:
            if name:
                raise
        else:
            return integrations.find(tx, created)
    raise AssertionError("there is always a next number")


def intend(tx: Connection, integration_id: UUID, intended: IntendedState, *, who: str, now: datetime) -> Any:
    """Want this of an integration; it as it is then. Raises UnknownIntegration, NotConfigured."""
    integrations.intend(tx, integration_id, intended, who=who, now=now)
    return integrations.find(tx, integration_id)


def delete_integration(tx: Connection, integration_id: UUID, *, who: str, now: datetime) -> tuple[Any, Any]:
    """Delete an integration: it as it was, and what is left of it. Raises UnknownIntegration."""
    row = integrations.find(tx, integration_id)
    if row is None:
        raise UnknownIntegration(f"there is no integration {integration_id}, or it was deleted")
    integrations.intend(tx, integration_id, IntendedState.DELETED, who=who, now=now)
    left = sa.select(integrations_table).where(integrations_table.c.id == integration_id)
    return row, tx.execute(left).one()


def change_credential(
    tx: Connection, credential_id: UUID, change: CredentialChange, vault: Vault, *, who: str, now: datetime
) -> tuple[Any, list[UUID]]:
    """Change some of a credential: it as it is then, and who logs in anew because of it. Raises UnknownCredential."""
    # What stays is what nobody else is just changing.
    row = credentials.locked(tx, credential_id)
    new = NewCredential(
        name=change.name or row.name,
        type=row.type,
        username=row.username if change.username is None else change.username or None,
        password=change.password,
    )
    used_by = credentials.put(tx, credential_id, new, vault, who=who, now=now)
    return credentials.get(tx, credential_id), used_by


def change_domain(
    tx: Connection, direction: Direction, name: str, changes: Mapping[str, Any], *, who: str, now: datetime
) -> Any:
    """Change where a domain points (`integration_id`), its `sender_type`, or both; it as it is then.

    Raises UnknownDomain, UnknownIntegration.
    """
    row = domains.get(tx, direction, name)
    if "sender_type" in changes:
        row = domains.set_sender_type(tx, direction, name, changes["sender_type"], who=who, now=now)
    if "integration_id" in changes:
        row = domains.point(tx, direction, name, changes["integration_id"], who=who, now=now)
    if row is None:
        raise domains.UnknownDomain(f"there is no {direction} domain {name}")
    return row


def create_credential(tx: Connection, new: NewCredential, vault: Vault, *, who: str, now: datetime) -> Any:
    """A new credential."""
    return credentials.get(tx, credentials.create(tx, new, vault, who=who, now=now))
