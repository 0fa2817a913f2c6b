"""What every store promises about people."""

from datetime import timedelta

import pytest

from mailroom.roles import Role
from mailroom.store import audit, users
from mailroom.store.port import Store
from mailroom.store.users import UnknownUser, UserNameTaken
from tests.builders import NOW

WHO = "cli jane"


async def test_people_are_listed_without_their_passwords(store: Store) -> None:
    """The list and the audit have who added and who disabled whom; neither has what is kept of a password."""
    user_id = await store.transaction(users.create, "bob", Role.VIEWER, "$argon2id$kept", who=WHO, now=NOW)
    await store.transaction(users.end, "bob", who="cli eve", now=NOW + timedelta(hours=1))
    [row] = await store.read(users.listed)
    history = await store.read(audit.history, users.SUBJECT, user_id)

    assert (row.id, row.name, row.role, row.created_by) == (user_id, "bob", "viewer", WHO)
    assert row.ended_at == NOW + timedelta(hours=1)
    assert [(one.action, one.who) for one in history] == [("disabled", "cli eve"), ("created", WHO)]
    assert "argon2" not in repr([row, history])


async def test_a_person_is_there_once(store: Store) -> None:
    """A name belongs to one person for ever; who is not there cannot be disabled."""
    await store.transaction(users.create, "bob", Role.VIEWER, "kept", who=WHO, now=NOW)
    with pytest.raises(UserNameTaken, match="bob"):
        await store.transaction(users.create, "bob", Role.ADMIN, "kept", who=WHO, now=NOW)
    await store.transaction(users.end, "bob", who=WHO, now=NOW)
    for name in ("bob", "nobody"):
        with pytest.raises(UnknownUser, match=name):
            await store.transaction(users.end, name, who=WHO, now=NOW)
