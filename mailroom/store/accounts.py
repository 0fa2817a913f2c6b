"""An integration together with what it logs in with, as commands and the settings file see it: one thing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from mailroom.store import credentials, integrations
from mailroom.store.credentials import NewCredential
from mailroom.store.integrations import NotConfigured, WrongVersion
from mailroom.vault import Vault


@dataclass(frozen=True, slots=True)
class Login:
    """A user name, a password, or both; what is None stays as it is."""

    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"Login({self.username or 'the user name it has'})"


@dataclass(frozen=True, slots=True)
class Anonymous:
    """No log-in at all."""


def change(  # noqa: PLR0913 - who, why, when and on what it was made are the audit's
    tx: Connection, name: str, changes: Mapping[str, Any], login: Login | Anonymous | None, vault: Vault | None, *,
    who: str, why: str | None, now: datetime, version: int | None = None,
) -> Any:  # fmt: skip
    """Change some of an integration's configuration, and what it logs in with; the integration as it is then.

    `changes` are fields of a Configuration; `version` is the one they were made on, where that matters. Raises what
    `integrations.configure` and `credentials.put` raise.
    """
    row = integrations.named(tx, name)
    if version is not None and row.version != version:
        raise WrongVersion(
            f"{row.name} was changed by somebody else meanwhile (version {row.version}, not {version}); load the page "
            "again and repeat the change on that"
        )
    changes = dict(changes)
    match login:
        case Anonymous():
            changes["credential_id"] = None
        case Login() if row.credential_id is None:
            changes["credential_id"] = _created(tx, row, login, vault, who=who, now=now)
        case Login():
            _put(tx, row, login, vault, who=who, now=now)
            row = integrations.named(tx, name)
        case None:
            pass
    if not changes:
        return row
    configuration = integrations.configuration_of(row, **changes)
    return integrations.configure(tx, row.id, configuration, version=row.version, who=who, why=why, now=now)


def _created(tx: Connection, row: Any, login: Login, vault: Vault | None, *, who: str, now: datetime) -> Any:
    if login.username is None or login.password is None:
        raise NotConfigured(f"{row.name} logs in as nobody so far; give it a user name and a password, both")
    new = NewCredential(name=row.name, username=login.username, password=login.password)
    return credentials.create(tx, new, _needed(vault), who=who, now=now)


def _put(tx: Connection, row: Any, login: Login, vault: Vault | None, *, who: str, now: datetime) -> None:
    # What stays is what nobody else is just changing.
    kept = credentials.locked(tx, row.credential_id)
    new = NewCredential(
        name=kept.name, type=kept.type, username=login.username or kept.username, password=login.password
    )
    credentials.put(tx, row.credential_id, new, _needed(vault), who=who, now=now)


def _needed(vault: Vault | None) -> Vault:
    if vault is None:
        raise ValueError("passwords are stored with a vault only")
    return vault
