"""Queries about the programs that call the platform API: their secrets and tokens, of which only hashes are kept.

Both are 32 random bytes, so one SHA-256 is enough: there is nothing to guess.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.roles import Role
from mailroom.store import audit
from mailroom.store.absent import insert_absent
from mailroom.store.audit import Entry
from mailroom.store.schema import clients, tokens

SUBJECT = "client"

#: How long a token is good for.
TOKEN_LIFE = timedelta(hours=24)

_RANDOM_BYTES = 32

#: What the secret of a client that does not exist is compared with, so that this takes as long.
_NOBODYS = hashlib.sha256(secrets.token_bytes(_RANDOM_BYTES)).hexdigest()


class ClientNameTaken(Exception):
    """There is, or was, a client of this name."""


class UnknownClient(Exception):
    """There is no client of this name (any more)."""


@dataclass(frozen=True, slots=True)
class NewClient:
    """A client just made. The secret is nowhere else, and cannot be had again."""

    id: UUID
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Known:
    """A client that may call at the moment."""

    id: UUID
    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whose a token is, and for how long."""

    client: Known
    expires_at: datetime


def create(tx: Connection, name: str, role: Role, *, who: str, now: datetime) -> NewClient:
    """Let a program call; its id and secret. Raises ClientNameTaken."""
    new = NewClient(uuid4(), secrets.token_urlsafe(_RANDOM_BYTES))
    row = {
        "id": new.id, "name": name, "role": role, "secret_hash": hash_of(new.secret), "created_at": now,
        "created_by": who,
    }  # fmt: skip
    if not insert_absent(tx, clients, [row]):
        raise ClientNameTaken(f"there is, or was, a client {name!r} already; choose another name")
    _note(tx, new.id, "created", who=who, now=now, after=f"{name} ({role})")
    return new


def listed(tx: Connection) -> Sequence[Any]:
    """Every client by name, those that were disabled too; not their secrets."""
    shown = (clients.c.id, clients.c.name, clients.c.role, clients.c.created_at, clients.c.created_by)
    return tx.execute(sa.select(*shown, clients.c.ended_at).order_by(clients.c.name)).all()


def end(tx: Connection, name: str, *, who: str, now: datetime) -> None:
    """Let a client never call again; its tokens are worth nothing from now on. Raises UnknownClient."""
    ended = tx.execute(
        sa.update(clients)
        .where(clients.c.name == name, clients.c.ended_at.is_(None))
        .values(ended_at=now)
        .returning(clients.c.id, clients.c.role)
    ).one_or_none()
    if ended is None:
        raise UnknownClient(
            f"there is no client {name!r}, or it was disabled already; `mailroom clients list` shows all"
        )
    tx.execute(sa.delete(tokens).where(tokens.c.client_id == ended.id))
    _note(tx, ended.id, "disabled", who=who, now=now, before=f"{name} ({ended.role})")


def authenticated(tx: Connection, client_id: UUID | None, secret: str) -> Known | None:
    """The client with this id, when that is its secret."""
    row = tx.execute(
        sa.select(clients.c.id, clients.c.name, clients.c.role, clients.c.secret_hash).where(
            clients.c.id == client_id, clients.c.ended_at.is_(None)
        )
    ).one_or_none()
    is_right = hmac.compare_digest(hash_of(secret), _NOBODYS if row is None else row.secret_hash)
    return Known(row.id, row.name, Role(row.role)) if row is not None and is_right else None


def issue(tx: Connection, client_id: UUID, *, now: datetime) -> str:
    """A new token of a client; tokens that expired are deleted in passing."""
    token = secrets.token_urlsafe(_RANDOM_BYTES)
    tx.execute(sa.delete(tokens).where(tokens.c.expires_at <= now))
    tx.execute(
        sa.insert(tokens).values(
            hash=hash_of(token), client_id=client_id, issued_at=now, expires_at=now + TOKEN_LIFE
        )
    )  # fmt: skip
    return token


def bearer(tx: Connection, token_hash: str, *, now: datetime) -> Bearer | None:
    """Whose token has this hash; None when it is nobody's, expired, or its client was disabled."""
    row = tx.execute(
        sa.select(clients.c.id, clients.c.name, clients.c.role, tokens.c.expires_at)
        .join(tokens, tokens.c.client_id == clients.c.id)
        .where(tokens.c.hash == token_hash, tokens.c.expires_at > now, clients.c.ended_at.is_(None))
    ).one_or_none()
    return None if row is None else Bearer(Known(row.id, row.name, Role(row.role)), row.expires_at)


def hash_of(secret: str) -> str:
    """What is kept of a secret or a token."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _note(
    tx: Connection, client_id: UUID, action: str, *, who: str, now: datetime, before: str | None = None,
    after: str | None = None,
) -> None:  # fmt: skip
    audit.note(
        tx,
        Entry(
            subject=SUBJECT, subject_id=client_id, action=action, who=who, at=now, before=before, after=after,
        ),
    )  # fmt: skip
