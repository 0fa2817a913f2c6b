"""What every store promises about credentials: they go in sealed, never come out, and a change of one counts at once."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from mailroom.integration import IntendedState, ReportedState
from mailroom.store import accounts, audit, connection_tests, credentials, integrations
from mailroom.store.accounts import Anonymous, Login
from mailroom.store.credentials import CredentialInUse, NewCredential, Resealed
from mailroom.store.integrations import NotConfigured, UnknownCredential
from mailroom.store.port import Store
from mailroom.vault import Vault
from tests.builders import NOW, an_integration, created

LATER = NOW + timedelta(minutes=1)
WHO = "jane"
VAULT = Vault(["a key for tests"])
CANARY = "canary-s3cret"


async def kept(store: Store, **changes: Any) -> UUID:
    """A credential that is kept; its id."""
    new = NewCredential(**({"name": "account", "username": "forms", "password": CANARY} | changes))
    return await store.transaction(credentials.create, new, VAULT, who=WHO, now=NOW)


async def using(store: Store, credential_id: UUID, name: str = "main", *, enabled: bool = True) -> UUID:
    """An integration that logs in with it; its id."""
    new = an_integration(name=name, credential_id=credential_id)
    intended = IntendedState.ENABLED if enabled else IntendedState.DISABLED
    return await store.transaction(integrations.create, new, intended=intended, who=WHO, now=NOW)


async def put(store: Store, credential_id: UUID, **changes: Any) -> list[UUID]:
    """Change it; whom that concerns."""
    new = NewCredential(**({"name": "account", "username": "forms"} | changes))
    return await store.transaction(credentials.put, credential_id, new, VAULT, who=WHO, now=LATER)


async def found(store: Store, integration_id: UUID) -> Any:
    """The integration as it is."""
    return await store.read(integrations.find, integration_id)


async def test_sec_6_a_password_never_comes_out(store: Store) -> None:
    """What is shown of a credential, and what the audit says about it, has no password in any form."""
    credential_id = await kept(store)
    await put(store, credential_id, password="another canary-s3cret")
    shown = await store.read(credentials.get, credential_id)
    [listed], total = await store.read(credentials.listed)

    assert total == 1
    assert shown is not None
    assert (shown.name, shown.type, shown.username, bool(shown.has_password)) == ("account", "basicAuth", "forms", True)
    history = await store.read(audit.history, "credential", credential_id)
    assert {row.action for row in history} == {"created", "changed"}
    assert CANARY not in f"{shown} {listed} {history} {NewCredential(name='x', password=CANARY)}"
    assert "password" not in {name for name in shown._fields if not name.startswith("has")}


async def test_a_new_password_is_tested_at_once(store: Store) -> None:
    """An ENABLED integration whose credential changes goes through a live test, with nobody switching it off and on."""
    credential_id = await kept(store)
    integration_id = await using(store, credential_id)
    test = await store.transaction(connection_tests.take_test, integration_id, uuid4(), now=NOW)
    assert test is not None
    await store.transaction(
        connection_tests.conclude_test, test, cause=None, transcript="", ehlo_size=None, who="worker", now=NOW
    )
    before = await found(store, integration_id)
    assert before.reported_state == ReportedState.ACTIVE

    assert await put(store, credential_id, password="new") == [integration_id]
    after = await found(store, integration_id)
    assert (after.reported_state, after.generation) == (ReportedState.ACTIVATING, before.generation + 1)
    assert VAULT.open(after.sealed_password) == "new"
    newest = await store.read(connection_tests.newest_test, integration_id)
    assert newest is not None
    assert (newest.decides, newest.generation, newest.ended_at) == (True, after.generation, None)


async def test_a_disabled_integration_stays_so(store: Store) -> None:
    """A change of its credential does not switch an integration on."""
    credential_id = await kept(store)
    integration_id = await using(store, credential_id, enabled=False)
    await put(store, credential_id, username="other")

    row = await found(store, integration_id)
    assert (row.reported_state, row.generation, bool(row.test_waiting)) == (ReportedState.INACTIVE, 2, False)


@pytest.mark.parametrize("changes", [{"name": "renamed"}, {"password": CANARY}, {}])
async def test_what_changes_nothing_disturbs_nothing(store: Store, changes: dict[str, str]) -> None:
    """Another name, or the same password once more, leaves integrations alone; without a password the old one stays."""
    credential_id = await kept(store)
    integration_id = await using(store, credential_id)

    assert await put(store, credential_id, **changes) == []
    row = await found(store, integration_id)
    assert row.generation == 1
    assert VAULT.open(row.sealed_password) == CANARY


async def test_a_credential_in_use_cannot_be_deleted(store: Store) -> None:
    """It is refused with the names of those that use it; without them it goes."""
    credential_id = await kept(store)
    integration_id = await using(store, credential_id)
    with pytest.raises(CredentialInUse, match="main"):
        await store.transaction(credentials.delete, credential_id, who=WHO, now=NOW)
    await store.transaction(integrations.intend, integration_id, IntendedState.DELETED, who=WHO, now=NOW)
    await store.transaction(credentials.delete, credential_id, who=WHO, now=NOW)

    assert await store.read(credentials.get, credential_id) is None
    with pytest.raises(UnknownCredential):
        await store.transaction(credentials.delete, credential_id, who=WHO, now=NOW)
    with pytest.raises(UnknownCredential):
        await put(store, credential_id)


async def test_sec_6_a_new_key_seals_everything(store: Store) -> None:
    """After the reseal the first key alone opens every password; what no key opens is named and left as it is."""
    await kept(store)
    await kept(store, name="anonymous", password=None)
    lost = await store.transaction(
        credentials.create, NewCredential(name="lost", password="x"), Vault(["a lost key"]), who=WHO, now=NOW
    )
    rotating = Vault(["a new key", "a key for tests"])
    done = await store.transaction(credentials.reseal_all, rotating, who=WHO, now=NOW)

    assert done == Resealed(resealed=1, unreadable=(lost,))
    integration_id = await using(store, (await store.read(credentials.listed))[0][0].id)
    assert Vault(["a new key"]).open((await found(store, integration_id)).sealed_password) == CANARY


# --- an integration with its log-in -----------------------------------------------------------------------------------


async def changed(store: Store, login: Login | Anonymous | None, **changes: Any) -> Any:
    """The integration `main` after a change."""
    return await store.transaction(accounts.change, "main", changes, login, VAULT, who=WHO, why="so", now=LATER)


async def test_an_integration_gets_and_loses_its_log_in(store: Store) -> None:
    """A user name and a password become a credential; either can be changed; anonymous drops it."""
    integration_id = await created(store)
    with pytest.raises(NotConfigured, match="both"):
        await changed(store, Login("forms"))
    first = await changed(store, Login("forms", "one"))
    second = await changed(store, Login(password="two"))
    assert (first.username, VAULT.open(second.sealed_password), second.username) == ("forms", "two", "forms")
    assert second.credential_id == first.credential_id
    last = await changed(store, Anonymous(), host="other.company.test")

    assert (last.id, last.credential_id, last.username, last.host) == (integration_id, None, None, "other.company.test")
    assert "two" not in repr(Login("forms", "two"))


async def test_a_change_of_nothing_is_none(store: Store) -> None:
    """Without anything to change the integration is told as it is."""
    integration_id = await created(store)

    row = await changed(store, None)
    assert (row.id, row.version) == (integration_id, 1)
