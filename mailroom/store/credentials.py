"""Queries about credentials: what integrations log in with. A password goes in sealed and is never given out again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.integration import IntendedState
from mailroom.store import audit, integrations
from mailroom.store.audit import Entry
from mailroom.store.integrations import UnknownCredential
from mailroom.store.schema import credentials
from mailroom.store.schema import integrations as integrations_table
from mailroom.vault import CannotDecrypt, Vault

SUBJECT = "credential"

#: The one type there is: a user name and a password.
BASIC = "basicAuth"


class CredentialInUse(Exception):
    """An integration logs in with it, so it cannot be deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCredential:
    """A credential as it shall be. Without a `password` the one that is stored stays."""

    name: str
    username: str | None = None
    password: str | None = None
    type: str = BASIC

    def __repr__(self) -> str:
        return f"NewCredential({self.name}, {self.type})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resealed:
    """How many passwords a new key seals now, and the credentials whose password no key opens."""

    resealed: int
    unreadable: tuple[UUID, ...]


#: All that may be shown of a credential.
_SHOWN = (
    credentials.c.id, credentials.c.name, credentials.c.type, credentials.c.username, credentials.c.created_at,
    credentials.c.modified_at, credentials.c.sealed_password.is_not(None).label("has_password"),
)  # fmt: skip


def create(tx: Connection, new: NewCredential, vault: Vault, *, who: str, now: datetime) -> UUID:
    """Keep a credential; its id."""
    credential_id = uuid4()
    tx.execute(
        sa.insert(credentials).values(
            id=credential_id, name=new.name, type=new.type, username=new.username,
            sealed_password=None if new.password is None else vault.seal(new.password), created_at=now,
            modified_at=now,
        )
    )  # fmt: skip
    _note(tx, credential_id, "created", who=who, now=now, after=_told(new.name, new.username))
    return credential_id


def get(tx: Connection, credential_id: UUID) -> Any | None:
    """A credential with `has_password` in place of its password; None when there is none."""
    return tx.execute(sa.select(*_SHOWN).where(credentials.c.id == credential_id)).one_or_none()


def listed(tx: Connection, *, limit: int = 100, offset: int = 0) -> tuple[Sequence[Any], int]:
    """A page of all credentials by name, and how many there are."""
    total = tx.execute(sa.select(sa.func.count()).select_from(credentials)).scalar_one()
    page = sa.select(*_SHOWN).order_by(credentials.c.name, credentials.c.id).limit(limit).offset(offset)
    return tx.execute(page).all(), int(total)


def put(
    tx: Connection, credential_id: UUID, new: NewCredential, vault: Vault, *, who: str, now: datetime
) -> list[UUID]:
    """Change a credential; the integrations that log in anew with it, each by way of a live test when it is ENABLED.

    Raises UnknownCredential.
    """
    row = locked(tx, credential_id)
    secret_changed = new.username != row.username or (
        new.password is not None and not _is_same(vault, row.sealed_password, new.password)
    )
    values = {"name": new.name, "type": new.type, "username": new.username, "modified_at": now}
    if new.password is not None:
        values["sealed_password"] = vault.seal(new.password)
    tx.execute(sa.update(credentials).where(credentials.c.id == credential_id).values(**values))
    before, after = _told(row.name, row.username), _told(new.name, new.username)
    told = "with another password or user name" if secret_changed else None
    _note(tx, credential_id, "changed", who=who, now=now, before=before, after=after, why=told)
    if not secret_changed:
        return []
    why = f"its credential {new.name} was changed"
    used_by = [used.id for used in users_of(tx, credential_id)]
    for integration_id in used_by:
        integrations.reconnect(tx, integration_id, who=who, why=why, now=now)
    return used_by


def delete(tx: Connection, credential_id: UUID, *, who: str, now: datetime) -> None:
    """Forget a credential that nothing uses. Raises UnknownCredential, CredentialInUse."""
    row = locked(tx, credential_id)
    used_by = [used.name for used in users_of(tx, credential_id)]
    if used_by:
        raise CredentialInUse(
            f"the credential {row.name!r} is used by {', '.join(used_by)}; give them another one, or none, first"
        )
    tx.execute(sa.delete(credentials).where(credentials.c.id == credential_id))
    _note(tx, credential_id, "deleted", who=who, now=now, before=_told(row.name, row.username))


def users_of(tx: Connection, credential_id: UUID) -> Sequence[Any]:
    """Id and name of every integration that logs in with it."""
    return tx.execute(
        sa.select(integrations_table.c.id, integrations_table.c.name)
        .where(
            integrations_table.c.credential_id == credential_id,
            integrations_table.c.intended_state != IntendedState.DELETED,
        )
        .order_by(integrations_table.c.name)
    ).all()


def reseal_all(tx: Connection, vault: Vault, *, who: str, now: datetime) -> Resealed:
    """Seal every password with the first key, so that older keys can go. What no key opens stays, and is named."""
    resealed, unreadable = 0, []
    sealed = (
        sa.select(credentials.c.id, credentials.c.sealed_password)
        .where(credentials.c.sealed_password.is_not(None))
        .order_by(credentials.c.id)
        .with_for_update()
    )
    for row in tx.execute(sealed).all():
        try:
            fresh = vault.reseal(row.sealed_password)
        except CannotDecrypt:
            unreadable.append(row.id)
            continue
        tx.execute(sa.update(credentials).where(credentials.c.id == row.id).values(sealed_password=fresh))
        resealed += 1
    told = f"{resealed} resealed, {len(unreadable)} unreadable"
    audit.note(tx, Entry(subject="keys", subject_id=None, action="resealed", who=who, at=now, after=told))
    return Resealed(resealed=resealed, unreadable=tuple(unreadable))


def locked(tx: Connection, credential_id: UUID) -> Any:
    """A credential that nobody else changes before this transaction ends. Raises UnknownCredential."""
    _lock_users(tx, credential_id)
    row = tx.execute(sa.select(credentials).where(credentials.c.id == credential_id).with_for_update()).one_or_none()
    if row is None:
        raise UnknownCredential(f"there is no credential {credential_id}; it may have been deleted")
    return row


def _lock_users(tx: Connection, credential_id: UUID) -> None:
    """Integrations first, as whoever configures or deletes one does: in turns the two would wait for each other."""
    users = sa.select(integrations_table.c.id).where(integrations_table.c.credential_id == credential_id)
    tx.execute(users.order_by(integrations_table.c.id).with_for_update()).all()


def _is_same(vault: Vault, sealed: str | None, password: str) -> bool:
    """Whether nothing is new; a password that cannot be read any more is another one."""
    try:
        return sealed is not None and vault.open(sealed) == password
    except CannotDecrypt:
        return False


def _told(name: str, username: str | None) -> str:
    return f"{name} (user {username})" if username else name


def _note(
    tx: Connection, credential_id: UUID, action: str, *, who: str, now: datetime, before: str | None = None,
    after: str | None = None, why: str | None = None,
) -> None:  # fmt: skip
    audit.note(
        tx,
        Entry(
            subject=SUBJECT, subject_id=credential_id, action=action, who=who, at=now, before=before, after=after,
            why=why,
        ),
    )  # fmt: skip
