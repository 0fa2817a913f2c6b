"""What an operator can ask for about clients of the platform API and people, as data."""

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Protocol

from mailroom.passwords import BadPassword, hashed
from mailroom.roles import Role
from mailroom.store import clients, sign_ins, users
from mailroom.store.clients import ClientNameTaken, UnknownClient
from mailroom.store.port import Store
from mailroom.store.users import UnknownUser, UserNameTaken

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._@-]{0,62}[A-Za-z0-9._-])?")


class BadName(Exception):
    """This cannot be anybody's name."""


class UnknownRole(Exception):
    """There is no such role."""


class Asker(Protocol):
    """Who asks, and where the answer is."""

    @property
    def store(self) -> Store:
        """The database."""
        ...

    @property
    def who(self) -> str:
        """What the audit says."""
        ...


async def add_client(asker: Asker, name: str, role: str) -> dict[str, Any]:
    """Let a program call the platform API. The secret that this tells can never be told again."""
    new = await asker.store.transaction(
        clients.create, _named(name), _role(role), who=asker.who, now=datetime.now(UTC)
    )  # fmt: skip
    return {"name": name, "role": role, "client_id": new.id, "client_secret": new.secret}


async def list_clients(asker: Asker) -> list[dict[str, Any]]:
    """Every client, those that were disabled too."""
    return [_shown(row) for row in await asker.store.read(clients.listed)]


async def disable_client(asker: Asker, name: str) -> dict[str, Any]:
    """Let a client call never again."""
    await asker.store.transaction(clients.end, name, who=asker.who, now=datetime.now(UTC))
    return {"name": name, "disabled": True}


async def add_user(asker: Asker, name: str, role: str, password: str) -> dict[str, Any]:
    """Let a person in."""
    checked, kept = (_named(name), _role(role)), await hashed(password)
    user_id = await asker.store.transaction(users.create, *checked, kept, who=asker.who, now=datetime.now(UTC))
    return {"name": name, "role": role, "id": user_id}


async def list_users(asker: Asker) -> list[dict[str, Any]]:
    """Every user, those that were disabled too."""
    return [_shown(row) for row in await asker.store.read(users.listed)]


async def disable_user(asker: Asker, name: str) -> dict[str, Any]:
    """Let a person in never again."""
    await asker.store.transaction(users.end, name, who=asker.who, now=datetime.now(UTC))
    return {"name": name, "disabled": True}


async def set_password(asker: Asker, name: str, password: str) -> dict[str, Any]:
    """Give a person another password; they are signed out everywhere, and may try at once however often they failed."""
    kept = await hashed(password)

    def change(tx: Any) -> int:
        user_id = users.set_password(tx, name, kept, who=asker.who, now=datetime.now(UTC))
        sign_ins.forgive(tx, f"user {name}")
        return sign_ins.end_all(tx, user_id)

    return {"name": name, "signed_out": await asker.store.transaction(change)}


async def sign_out(asker: Asker, name: str) -> dict[str, Any]:
    """Sign a person out everywhere."""

    def leave(tx: Any) -> int:
        user_id = users.named(tx, name)
        users.note(tx, user_id, "signed out everywhere", who=asker.who, now=datetime.now(UTC))
        return sign_ins.end_all(tx, user_id)

    return {"name": name, "signed_out": await asker.store.transaction(leave)}


#: What can be asked, by the name it has on the socket of `mailroom up`.
OPERATIONS: Mapping[str, Callable[..., Awaitable[Any]]] = MappingProxyType(
    {
        "clients.add": add_client,
        "clients.list": list_clients,
        "clients.disable": disable_client,
        "users.add": add_user,
        "users.list": list_users,
        "users.disable": disable_user,
        "users.password": set_password,
        "users.sign_out": sign_out,
    }
)

#: Those that change nothing.
LOOKS = frozenset({"clients.list", "users.list"})

#: Refusals that a person can act on.
REFUSALS = (ClientNameTaken, UnknownClient, UserNameTaken, UnknownUser, BadPassword, BadName, UnknownRole)


def _shown(row: Any) -> dict[str, Any]:
    return {
        "name": row.name,
        "role": row.role,
        "id": row.id,
        "created_at": row.created_at,
        "created_by": row.created_by,
        "disabled_at": row.ended_at,
    }


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BadName(f"{name!r} is no good name; use up to 64 letters, digits, spaces and the marks . _ @ -")
    return name


def _role(role: str) -> Role:
    try:
        return Role(role)
    except ValueError:
        raise UnknownRole(f"there is no role {role!r}; there are: {', '.join(Role)}") from None
