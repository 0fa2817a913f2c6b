"""`mailroom clients …` and `mailroom users …`, as operations and as commands of a deployment."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.desk import Refused, ask, open_desk
from mailroom.operating.operations import perform
from mailroom.operating.operator import Operator
from mailroom.operating.people import BadName, UnknownRole
from mailroom.passwords import BadPassword, is_password
from mailroom.queue.memory import MemoryQueue
from mailroom.roles import Role
from mailroom.store import clients, sign_ins, users
from mailroom.store.clients import ClientNameTaken, UnknownClient
from mailroom.store.migrating import migrate
from mailroom.store.opening import open_store
from mailroom.store.sqlite import SqliteStore
from mailroom.store.users import UnknownUser, UserNameTaken
from tests.builders import migrated
from tests.processes import mailroom
from tests.services import Postgres

PASSWORD = "correct horse battery staple"


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    """An operator, and a client and a user that are there already."""
    store, queue = SqliteStore(tmp_path / "mailroom.db"), MemoryQueue()
    await store.transaction(migrate)
    now = datetime.now(UTC)
    await store.transaction(clients.create, "crm", Role.SENDER, who="test", now=now)
    await store.transaction(users.create, "jane", Role.VIEWER, "kept", who="test", now=now)
    yield Operator(store=store, queue=queue, who="cli tester")
    await queue.aclose()
    await store.aclose()


@pytest.mark.parametrize(
    ("operation", "args", "refusal"),
    [
        ("clients.add", {"name": "crm", "role": "admin"}, ClientNameTaken),
        ("clients.add", {"name": "x\n", "role": "admin"}, BadName),
        ("clients.add", {"name": "x", "role": "owner"}, UnknownRole),
        ("clients.disable", {"name": "jane"}, UnknownClient),
        ("users.add", {"name": "jane", "role": "admin", "password": PASSWORD}, UserNameTaken),
        ("users.add", {"name": "", "role": "admin", "password": PASSWORD}, BadName),
        ("users.add", {"name": "bob", "role": "owner", "password": PASSWORD}, UnknownRole),
        ("users.add", {"name": "bob", "role": "admin", "password": "short"}, BadPassword),
        ("users.disable", {"name": "crm"}, UnknownUser),
        ("users.password", {"name": "crm", "password": PASSWORD}, UnknownUser),
        ("users.password", {"name": "jane", "password": "short"}, BadPassword),
        ("users.sign_out", {"name": "crm"}, UnknownUser),
    ],
)
async def test_what_cannot_be_is_refused(
    operator: Operator, tmp_path: Path, operation: str, args: dict[str, str], refusal: type[Exception]
) -> None:
    """The refusal is a sentence that says what to do, the same over the socket of `mailroom up`."""
    with pytest.raises(refusal) as refused:
        await perform(operator, operation, args)
    async with open_desk(tmp_path, lambda _: operator):
        with pytest.raises(Refused) as told:
            await ask(tmp_path, operation, args, "cli tester")

    assert str(told.value) == str(refused.value) != ""


async def test_a_client_of_a_deployment(postgres: Postgres, tmp_path: Path) -> None:
    """Its secret is printed once, when it is added; it is listed, disabled, and then listed as disabled."""
    url = {"MAILROOM_DATABASE_URL": postgres.new_database(migrated), "MAILROOM_QUEUE_URL": "amqp://127.0.0.1:1/"}
    added = await mailroom(tmp_path, url, "clients", "add", "crm", "--role", "sender", "--json")
    told = await mailroom(tmp_path, url, "clients", "add", "shop", "--role", "viewer")
    disabled = await mailroom(tmp_path, url, "clients", "disable", "crm")
    twice = await mailroom(tmp_path, url, "clients", "disable", "crm")
    listed = await mailroom(tmp_path, url, "clients", "list")
    made = json.loads(added.stdout)

    assert [one.returncode for one in (added, told, disabled, twice, listed)] == [0, 0, 0, 1, 0], twice.stderr
    assert made.keys() == {"name", "role", "client_id", "client_secret"}
    assert "client secret" in told.stdout
    assert made["client_id"] in listed.stdout
    assert made["client_secret"] not in listed.stdout + disabled.stdout + told.stdout
    assert "crm is disabled." in disabled.stdout
    assert "`mailroom clients list` shows all" in twice.stderr


async def test_a_user_of_a_deployment(postgres: Postgres, tmp_path: Path) -> None:
    """The password comes from a file; without a terminal nobody can be asked for it; it is never printed."""
    url = {"MAILROOM_DATABASE_URL": postgres.new_database(migrated), "MAILROOM_QUEUE_URL": "amqp://127.0.0.1:1/"}
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    words = ("users", "add", "bob", "--role", "admin")
    unasked = await mailroom(tmp_path, url, *words)
    missing = await mailroom(tmp_path, url, *words, "--password-file", "nothing")
    added = await mailroom(tmp_path, url, *words, "--password-file", "password")
    disabled = await mailroom(tmp_path, url, "users", "disable", "bob", "--json")
    listed = await mailroom(tmp_path, url, "users", "list", "--json")

    assert [one.returncode for one in (unasked, missing, added, disabled, listed)] == [1, 1, 0, 0, 0], added.stderr
    assert "--password-file" in unasked.stderr
    assert "nothing cannot be read" in missing.stderr
    assert json.loads(disabled.stdout) == {"name": "bob", "disabled": True}
    assert [(one["name"], one["role"]) for one in json.loads(listed.stdout)] == [("bob", "admin")]
    assert PASSWORD not in added.stdout + listed.stdout + disabled.stdout


async def test_a_password_of_a_deployment(postgres: Postgres, tmp_path: Path) -> None:
    """Another password, and signing out, end every sign-in of a person, and of nobody else."""
    address = postgres.new_database(migrated)
    url = {"MAILROOM_DATABASE_URL": address, "MAILROOM_QUEUE_URL": "amqp://127.0.0.1:1/"}
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    store, now = open_store(address), datetime.now(UTC)
    bob = await store.transaction(users.create, "bob", Role.ADMIN, "kept", who="test", now=now)
    eve = await store.transaction(users.create, "eve", Role.VIEWER, "kept", who="test", now=now)
    for whose in (bob, bob, eve):
        await store.transaction(sign_ins.begin, whose, address="127.0.0.1", browser="a test", now=now)
    changed = await mailroom(tmp_path, url, "users", "password", "bob", "--password-file", "password")
    await store.transaction(sign_ins.begin, bob, address="127.0.0.1", browser="a test", now=now)
    told = await mailroom(tmp_path, url, "users", "sign-out", "bob", "--json")
    again = await mailroom(tmp_path, url, "users", "sign-out", "bob")
    unasked = await mailroom(tmp_path, url, "users", "password", "bob")
    left = await store.read(sign_ins.of_user, eve, now=now)
    known = await store.read(sign_ins.account, "bob")
    await store.aclose()

    assert [one.returncode for one in (changed, told, again, unasked)] == [0, 0, 0, 1], changed.stderr
    assert "bob has another password, and was signed out in 2 places." in changed.stdout
    assert json.loads(told.stdout) == {"name": "bob", "signed_out": 1}
    assert "bob was signed out in 0 places." in again.stdout
    assert "--password-file" in unasked.stderr
    assert known is not None
    assert await is_password(PASSWORD, known.password_hash)
    assert len(left) == 1
