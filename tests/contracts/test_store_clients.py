"""What every store promises about the programs that may call: secrets and tokens by their hashes only."""

from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa

from mailroom.roles import Role
from mailroom.store import audit, clients, schema
from mailroom.store.clients import ClientNameTaken, Known, UnknownClient
from mailroom.store.port import Store
from tests.builders import NOW

WHO = "cli jane"


async def test_sec_12_a_client_is_known_by_its_secret(store: Store) -> None:
    """Only the secret that its creation told opens; nobody's id and another's secret do not."""
    new = await store.transaction(clients.create, "crm", Role.SENDER, who=WHO, now=NOW)
    other = await store.transaction(clients.create, "other", Role.VIEWER, who=WHO, now=NOW)

    assert await store.read(clients.authenticated, new.id, new.secret) == Known(new.id, "crm", Role.SENDER)
    assert await store.read(clients.authenticated, new.id, other.secret) is None
    assert await store.read(clients.authenticated, uuid4(), new.secret) is None
    assert await store.read(clients.authenticated, None, new.secret) is None
    assert await store.read(clients.authenticated, new.id, "\ud800") is None


async def test_a_name_is_given_once(store: Store) -> None:
    """Two clients of one name could not be told apart in the audit; not even when one was disabled."""
    await store.transaction(clients.create, "crm", Role.ADMIN, who=WHO, now=NOW)
    await store.transaction(clients.end, "crm", who=WHO, now=NOW)
    with pytest.raises(ClientNameTaken, match="crm"):
        await store.transaction(clients.create, "crm", Role.ADMIN, who=WHO, now=NOW)


async def test_sec_12_a_token_tells_whose_it_is(store: Store) -> None:
    """It is good for 24 hours and not a moment longer."""
    new = await store.transaction(clients.create, "crm", Role.AGENT, who=WHO, now=NOW)
    token = await store.transaction(clients.issue, new.id, now=NOW)
    key = clients.hash_of(token)
    found = await store.read(clients.bearer, key, now=NOW + timedelta(hours=23, minutes=59))

    assert found is not None
    assert (found.client, found.expires_at) == (Known(new.id, "crm", Role.AGENT), NOW + clients.TOKEN_LIFE)
    assert await store.read(clients.bearer, key, now=NOW + clients.TOKEN_LIFE) is None
    assert await store.read(clients.bearer, token, now=NOW) is None


async def test_expired_tokens_go_in_passing(store: Store) -> None:
    """Nobody has to tidy up: a new token deletes those that have expired, of whomever."""
    new = await store.transaction(clients.create, "crm", Role.AGENT, who=WHO, now=NOW)
    for hours in (0, 1, 25):
        await store.transaction(clients.issue, new.id, now=NOW + timedelta(hours=hours))

    kept = await store.read(lambda tx: tx.execute(sa.select(schema.tokens.c.issued_at)).scalars().all())
    assert kept == [NOW + timedelta(hours=25)]


async def test_a_disabled_client_is_shut_out(store: Store) -> None:
    """Neither its secret nor a token of its opens any more, also one that is issued in the same moment."""
    new = await store.transaction(clients.create, "crm", Role.ADMIN, who=WHO, now=NOW)
    token = await store.transaction(clients.issue, new.id, now=NOW)
    await store.transaction(clients.end, "crm", who=WHO, now=NOW)
    late = await store.transaction(clients.issue, new.id, now=NOW)

    assert await store.read(clients.authenticated, new.id, new.secret) is None
    assert [await store.read(clients.bearer, clients.hash_of(one), now=NOW) for one in (token, late)] == [None, None]
    with pytest.raises(UnknownClient, match="crm"):
        await store.transaction(clients.end, "crm", who=WHO, now=NOW)


async def test_clients_are_listed_without_their_secrets(store: Store) -> None:
    """The list has who added whom and who was disabled; the audit has both, and neither has a secret."""
    new = await store.transaction(clients.create, "crm", Role.ADMIN, who=WHO, now=NOW)
    await store.transaction(clients.end, "crm", who="cli bob", now=NOW + timedelta(hours=1))
    [row] = await store.read(clients.listed)
    history = await store.read(audit.history, clients.SUBJECT, new.id)

    assert (row.name, row.role, row.created_by, row.ended_at) == ("crm", "admin", WHO, NOW + timedelta(hours=1))
    assert [(one.action, one.who) for one in history] == [("disabled", "cli bob"), ("created", WHO)]
    assert clients.hash_of(new.secret) not in repr([row, history])
    assert new.secret not in repr(new)
