"""Queries about people who are signed in at the pages, and about sign-ins that failed."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.roles import Role
from mailroom.store.schema import sign_in_failures, sign_ins, users

#: ASVS 7.3.1 and 7.3.2: nobody stays signed in who does nothing for so long, nor anybody for longer than a day's work.
IDLE_AFTER = timedelta(hours=1)
LONGEST = timedelta(hours=12)

#: For so long a failure is kept; it counts for less than that (gateway/admin/patience.py).
FAILURES_KEPT = timedelta(minutes=30)

#: How exactly it is kept when somebody was last seen: not every page shall be a write.
SEEN_TO = timedelta(minutes=1)

#: Bytes of a token (ASVS 7.2.3 asks for 128 bits).
_TOKEN_BYTES = 32

#: Any constant does; with the hash of a name it is the lock under which the failures of that name are counted.
_FAILURES_LOCK = 0x7369676E


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who is signed in."""

    user_id: UUID
    name: str
    role: Role
    #: What is kept of the token that their browser shows.
    hash: str


@dataclass(frozen=True, slots=True)
class Account:
    """A user's name as it is written, and what is kept of the password."""

    user_id: UUID
    name: str
    password_hash: str


def account(tx: Connection, name: str) -> Account | None:
    """The user of this name; None when there is none, or they were disabled."""
    row = tx.execute(
        sa.select(users.c.id, users.c.name, users.c.password_hash).where(
            users.c.name == name, users.c.ended_at.is_(None)
        )
    ).one_or_none()
    return None if row is None else Account(row.id, row.name, row.password_hash)


def is_still(tx: Connection, known: Account) -> bool:
    """Whether an account's password is still the one that was verified, and will be until this transaction ends."""
    same = sa.and_(
        users.c.id == known.user_id, users.c.password_hash == known.password_hash, users.c.ended_at.is_(None)
    )
    return tx.execute(sa.select(users.c.id).where(same).with_for_update()).first() is not None


def begin(tx: Connection, user_id: UUID, *, address: str, browser: str, now: datetime) -> str:
    """Sign somebody in; the token for their browser, which is kept nowhere."""
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    tx.execute(
        sa.insert(sign_ins).values(
            hash=hash_of(token), user_id=user_id, began_at=now, seen_at=now, address=address, browser=browser
        )
    )
    return token


def hash_of(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _valid(now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(
        users.c.ended_at.is_(None), sign_ins.c.seen_at > now - IDLE_AFTER, sign_ins.c.began_at > now - LONGEST
    )


def find(tx: Connection, token: str, *, now: datetime) -> tuple[Person, bool] | None:
    """Whose token this is, and whether it should be noted that they were seen; None when it is worth nothing (any more)."""
    row = tx.execute(
        sa.select(sign_ins.c.hash, sign_ins.c.seen_at, users.c.id, users.c.name, users.c.role)
        .select_from(sign_ins.join(users, users.c.id == sign_ins.c.user_id))
        .where(sign_ins.c.hash == hash_of(token), _valid(now))
    ).one_or_none()
    if row is None:
        return None
    person = Person(user_id=row.id, name=row.name, role=Role(row.role), hash=row.hash)
    return person, now - row.seen_at >= SEEN_TO


def is_valid(tx: Connection, kept: str, role: Role, *, now: datetime) -> bool:
    """Whether a sign-in still holds, in this role."""
    query = (
        sa.select(sign_ins.c.hash)
        .select_from(sign_ins.join(users, users.c.id == sign_ins.c.user_id))
        .where(sign_ins.c.hash == kept, users.c.role == role, _valid(now))
    )
    return tx.execute(query).first() is not None


def seen(tx: Connection, kept: str, *, now: datetime) -> None:
    """Note that somebody was here."""
    tx.execute(sa.update(sign_ins).where(sign_ins.c.hash == kept).values(seen_at=now))


def of_user(tx: Connection, user_id: UUID, *, now: datetime) -> Sequence[Any]:
    """Where somebody is signed in, newest first."""
    query = (
        sa.select(sign_ins)
        .select_from(sign_ins.join(users, users.c.id == sign_ins.c.user_id))
        .where(sign_ins.c.user_id == user_id, _valid(now))
    )
    return tx.execute(query.order_by(sign_ins.c.began_at.desc())).all()


def end(tx: Connection, user_id: UUID, kept: str) -> bool:
    """Sign somebody out in one place; False when they were not signed in there."""
    mine = sa.and_(sign_ins.c.hash == kept, sign_ins.c.user_id == user_id)
    return tx.execute(sa.delete(sign_ins).where(mine)).rowcount == 1


def end_shown(tx: Connection, kept: str) -> None:
    """End the sign-in of a token that its browser has shown, whoever's it is."""
    tx.execute(sa.delete(sign_ins).where(sign_ins.c.hash == kept))


def end_all(tx: Connection, user_id: UUID, *, but: str | None = None) -> int:
    """Sign somebody out everywhere, or everywhere else; in how many places."""
    mine = sa.and_(sign_ins.c.user_id == user_id, sa.true() if but is None else sign_ins.c.hash != but)
    return int(tx.execute(sa.delete(sign_ins).where(mine)).rowcount)


def forget_old(tx: Connection, *, now: datetime) -> None:
    """Drop what means nothing any more."""
    tx.execute(
        sa.delete(sign_ins).where(sa.or_(sign_ins.c.seen_at <= now - IDLE_AFTER, sign_ins.c.began_at <= now - LONGEST))
    )
    tx.execute(sa.delete(sign_in_failures).where(sign_in_failures.c.at < now - FAILURES_KEPT))


# --- failures ---------------------------------------------------------------------------------------------------------


def failures(tx: Connection, who: str, *, since: datetime) -> list[datetime]:
    """When the sign-ins of a name or from an address failed, or were begun and have not ended yet; oldest first."""
    query = sa.select(sign_in_failures.c.at).where(sign_in_failures.c.who == who, sign_in_failures.c.at >= since)
    return list(tx.execute(query.order_by(sign_in_failures.c.at)).scalars())


def lock(tx: Connection, whos: Sequence[str]) -> None:
    """Let nobody else count the failures of these until this transaction ends."""
    if tx.dialect.name == "postgresql":
        for number in sorted(int(hashlib.sha256(who.encode()).hexdigest()[:7], 16) for who in whos):
            tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_FAILURES_LOCK, number)))


def note_failure(tx: Connection, whos: Sequence[str], *, now: datetime) -> list[UUID]:
    """Count a failure of each of these; the ids by which it can be taken back."""
    ids = [uuid4() for _ in whos]
    rows = [{"id": id_, "who": who, "at": now} for id_, who in zip(ids, whos, strict=True)]
    tx.execute(sa.insert(sign_in_failures), rows)
    return ids


def take_back(tx: Connection, ids: Sequence[UUID]) -> None:
    """It was no failure."""
    tx.execute(sa.delete(sign_in_failures).where(sign_in_failures.c.id.in_(ids)))


def forgive(tx: Connection, who: str) -> None:
    """Forget the failures of a name or an address."""
    tx.execute(sa.delete(sign_in_failures).where(sign_in_failures.c.who == who))
