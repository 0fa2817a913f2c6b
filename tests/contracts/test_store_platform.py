"""What every store promises about the changes that the platform API makes as one."""

from uuid import uuid4

import pytest

from mailroom.integration import IntendedState
from mailroom.store import credentials, domains, integrations, platform
from mailroom.store.credentials import NewCredential
from mailroom.store.domains import Direction, UnknownDomain
from mailroom.store.integrations import NameTaken, UnknownCredential, UnknownIntegration
from mailroom.store.platform import CredentialChange
from mailroom.store.port import Store
from mailroom.vault import Vault
from tests.builders import NOW, created

WHO = "client crm"
VAULT = Vault(["a key for tests"])


async def test_a_name_is_found_where_none_is_given(store: Store) -> None:
    """Without a name the next free number of its type's is taken; with one that is taken nothing is created."""
    names = [
        (await store.transaction(platform.create_integration, name, "Server", who=WHO, now=NOW)).name
        for name in (None, None, "Server 3", None)
    ]
    with pytest.raises(NameTaken):
        await store.transaction(platform.create_integration, "Server", "Server", who=WHO, now=NOW)

    assert names == ["Server", "Server 2", "Server 3", "Server 4"]


async def test_what_is_deleted_is_told_as_it_was(store: Store) -> None:
    """The answer has the name it had, and the state it has now; a second time there is nothing to delete."""
    one = await created(store)
    before, left = await store.transaction(platform.delete_integration, one, who=WHO, now=NOW)
    with pytest.raises(UnknownIntegration):
        await store.transaction(platform.delete_integration, one, who=WHO, now=NOW)

    assert (before.name, left.intended_state) == ("main", "DELETED")


async def test_what_is_wanted_is_answered_as_it_became(store: Store) -> None:
    """The row after a change of the intended state is the one that the change made."""
    one = await created(store)
    row = await store.transaction(platform.intend, one, IntendedState.DISABLED, who=WHO, now=NOW)

    assert (row.id, row.intended_state) == (one, "DISABLED")


async def test_a_credential_keeps_what_is_not_changed(store: Store) -> None:
    """None stays, an empty user name becomes none; who logs in with it is told when it matters."""
    row = await store.transaction(
        platform.create_credential, NewCredential(name="c", username="u", password="p"), VAULT, who=WHO, now=NOW
    )
    one = await created(store, credential_id=row.id)
    renamed, nobody = await store.transaction(
        platform.change_credential, row.id, CredentialChange(name="d"), VAULT, who=WHO, now=NOW
    )
    anonymous, somebody = await store.transaction(
        platform.change_credential, row.id, CredentialChange(username=""), VAULT, who=WHO, now=NOW
    )
    with pytest.raises(UnknownCredential):
        await store.transaction(platform.change_credential, uuid4(), CredentialChange(), VAULT, who=WHO, now=NOW)

    assert (renamed.name, renamed.username, nobody) == ("d", "u", [])
    assert (anonymous.username, somebody) == (None, [one])
    assert "secret" not in repr(CredentialChange(password="secret"))


async def test_a_domain_changes_in_all_it_was_asked_or_in_nothing(store: Store) -> None:
    """When the integration does not exist the sender type stays too."""
    one = await created(store)
    await store.transaction(domains.create, Direction.OUTBOUND, "a.test", who=WHO, now=NOW, sender_type="Unknown")
    for name, pointed, refusal in (("a.test", uuid4(), UnknownIntegration), ("b.test", one, UnknownDomain)):
        with pytest.raises(refusal):
            await store.transaction(
                platform.change_domain, Direction.OUTBOUND, name, {"integration_id": pointed, "sender_type": "X"},
                who=WHO, now=NOW,
            )  # fmt: skip
    with pytest.raises(UnknownDomain):
        await store.transaction(platform.change_domain, Direction.OUTBOUND, "b.test", {}, who=WHO, now=NOW)
    before = await store.read(domains.get, Direction.OUTBOUND, "a.test")
    after = await store.transaction(
        platform.change_domain, Direction.OUTBOUND, "a.test", {"integration_id": one, "sender_type": "X"}, who=WHO,
        now=NOW,
    )  # fmt: skip

    assert before is not None
    assert (before.integration_id, before.sender_type) == (None, "Unknown")
    assert (after.integration_id, after.sender_type) == (one, "X")
    assert await store.read(integrations.find, one) is not None
    assert (await store.read(credentials.listed))[1] == 0
