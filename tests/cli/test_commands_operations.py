"""What an operator can ask for, on a store that no worker serves."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from cli.desk import NobodyThere, Refused, ask, open_desk
from mailroom.message import Status, first_id_at, new_message_id
from mailroom.operating.audit import BadMoment
from mailroom.operating.integrations import NoAnswerYet, NoKey, NoWorker
from mailroom.operating.messages import UnknownKind, UnknownMessage, UnknownStatus
from mailroom.operating.operations import perform
from mailroom.operating.operator import Operator
from mailroom.operating.searchbox import UnclearSearch
from mailroom.queue.memory import MemoryQueue
from mailroom.settings import BadSettings
from mailroom.store import connection_tests, integrations, messages
from mailroom.store.integrations import NameTaken, NewIntegration, UnknownIntegration
from mailroom.store.migrating import migrate
from mailroom.store.schema import messages as messages_table
from mailroom.store.searching import LOOKS
from mailroom.store.sqlite import SqliteStore
from mailroom.vault import Vault
from tests.builders import a_message
from tests.processes import run_mailroom


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    """An operator of an office with one integration and no worker."""
    store, queue = SqliteStore(tmp_path / "mailroom.db"), MemoryQueue()
    await store.transaction(migrate)
    new = NewIntegration(
        name="main", host="127.0.0.1", port=25, security="none", from_address="a@company.test", max_connections=1
    )
    await store.transaction(integrations.create_absent, new, who="test", now=datetime.now(UTC))
    yield Operator(store=store, queue=queue, who="cli tester", patience=0.5, vault=Vault(["a key for tests"]))
    await queue.aclose()
    await store.aclose()


@pytest.mark.parametrize(("operation", "args"), [("integrations.test", {}), ("integrations.reset", {"why": "because"})])
async def test_without_a_worker_a_test_says_so(operator: Operator, operation: str, args: dict[str, str]) -> None:
    """When nobody takes a live test, the operator is told that no worker is running."""
    with pytest.raises(NoWorker, match="no worker is running"):
        await perform(operator, operation, {"name": "main", **args})


async def test_a_reset_without_a_worker_waits_for_one(operator: Operator) -> None:
    """A reset that no worker took stays ACTIVATING, and the history names the operator and the reason."""
    with pytest.raises(NoWorker, match="ACTIVATING"):
        await perform(operator, "integrations.reset", {"name": "main", "why": "new password"})

    shown = await perform(operator, "integrations.show", {"name": "main"})
    assert shown["reported_state"] == "ACTIVATING"
    newest = shown["history"][0]
    assert (newest["who"], newest["action"], newest["why"]) == ("cli tester", "reset", "new password")


async def test_a_slow_server_is_told_apart(operator: Operator) -> None:
    """When a worker took the test and the server keeps it waiting, that is what is said."""
    row = (await operator.store.read(integrations.all_rows))[0]
    # The test from its creation is the oldest; conclude it, so that the next one can be taken.
    session = UUID(int=1)
    first = await operator.store.transaction(connection_tests.take_test, row.id, session, now=datetime.now(UTC))
    assert first is not None
    await operator.store.transaction(
        connection_tests.conclude_test, first, cause=None, transcript="", ehlo_size=None, who="w", now=datetime.now(UTC)
    )
    with pytest.raises(NoWorker):
        await perform(operator, "integrations.test", {"name": "main"})
    taken = await operator.store.transaction(connection_tests.take_test, row.id, session, now=datetime.now(UTC))
    assert taken is not None

    from mailroom.operating.integrations import _answered  # noqa: PLC0415 - the step alone can be given a test that was taken

    with pytest.raises(NoAnswerYet):
        await _answered(operator, taken.id, "")


@pytest.mark.parametrize(
    ("operation", "args", "refusal"),
    [
        ("integrations.show", {"name": "x"}, UnknownIntegration),
        ("integrations.disable", {"name": "x", "why": None}, UnknownIntegration),
        ("messages.show", {"message_id": "x"}, UnknownMessage),
        ("messages.redrive", {"message_id": str(new_message_id())}, UnknownMessage),
        ("messages.search", {"text": None, "narrowed": {"status": "lost"}, "limit": 5}, UnknownStatus),
        ("messages.search", {"text": None, "narrowed": {"kind": "x"}, "limit": 5}, UnknownKind),
        ("messages.search", {"text": None, "narrowed": {"integration": "x"}, "limit": 5}, UnknownIntegration),
    ],
)
async def test_what_does_not_exist_is_refused(
    operator: Operator, operation: str, args: dict[str, object], refusal: type[Exception]
) -> None:
    """A name or an id that does not exist is refused, and what there is instead is named."""
    with pytest.raises(refusal, match=r"there is no|there are"):
        await perform(operator, operation, args)


async def test_the_desk_answers_and_refuses(operator: Operator, tmp_path: Path) -> None:
    """Over the socket the same is answered, and refusals arrive as the same sentence."""
    async with open_desk(tmp_path, lambda _: operator):
        listed = await ask(tmp_path, "integrations.list", {}, "cli tester")
        with pytest.raises(Refused, match="there is no integration 'x'; there are: main"):
            await ask(tmp_path, "integrations.show", {"name": "x"}, "cli tester")
        with pytest.raises(Refused, match="another version"):
            await ask(tmp_path, "integrations.paint", {}, "cli tester")
        with pytest.raises(Refused, match="not text in this terminal's encoding"):
            await ask(tmp_path, "integrations.show", {"name": "x\udcff"}, "cli tester")

    assert [one["name"] for one in listed] == ["main"]


async def test_an_empty_desk_is_told_apart(tmp_path: Path, operator: Operator) -> None:
    """Without a process, or with the socket of one that was killed, nobody is there."""
    with pytest.raises(NobodyThere):
        await ask(tmp_path, "integrations.list", {}, "cli tester")
    async with open_desk(tmp_path, lambda _: operator):
        (tmp_path / "mailroom.sock").rename(tmp_path / "kept")
    (tmp_path / "kept").rename(tmp_path / "mailroom.sock")
    with pytest.raises(NobodyThere):
        await ask(tmp_path, "integrations.list", {}, "cli tester")


async def test_a_socket_left_behind_is_replaced(tmp_path: Path, operator: Operator) -> None:
    """The socket of a process that was killed does not keep the next one from opening its desk."""
    (tmp_path / "mailroom.sock").touch()
    async with open_desk(tmp_path, lambda _: operator):
        found = await ask(tmp_path, "messages.search", {"text": None, "narrowed": {}, "limit": 5}, "x")

    assert found == {"messages": [], "older": None, "looked_back_to": None}


NEW = {"host": "smtp.company.test", "from": "Forms <forms@company.test>"}


async def test_a_disabled_integration_is_created_and_changed(operator: Operator) -> None:
    """Without a test to wait for the answer comes at once; what was given is shown, the password never."""
    asked = {"name": "second", "given": NEW | {"username": "forms"}, "password": "canary", "enabled": False}
    created = await perform(operator, "integrations.create", asked)
    change = {"name": "second", "given": {"port": 2525, "mailbox": "a@b.test"}, "password": None, "anonymous": False}
    await perform(operator, "integrations.set", change | {"why": "moved"})
    shown = await perform(operator, "integrations.show", {"name": "second"})

    assert (created["passed"], created["reported_state"]) == (None, "INACTIVE")
    assert (shown["port"], shown["mailbox"], shown["from_name"], shown["username"], shown["has_password"]) == (
        2525, "a@b.test", "Forms", "forms", True,
    )  # fmt: skip
    assert shown["history"][0]["why"] == "moved"
    assert "canary" not in str(shown)


@pytest.mark.parametrize(
    ("name", "given", "refusal"),
    [
        ("main", {}, NameTaken),
        ("a name", {}, BadSettings),
        ("second", {"host": "a b"}, BadSettings),
        ("second", {"port": 70000}, BadSettings),
        ("second", {"security": "ssl"}, BadSettings),
        ("second", {"from": "nobody"}, BadSettings),
        ("second", {"per_second": -1.0}, BadSettings),
    ],
)
async def test_what_cannot_be_created_is_refused(
    operator: Operator, name: str, given: dict[str, object], refusal: type[Exception]
) -> None:
    """What the settings file would not take, and a name that is taken, is refused with the reason."""
    asked = {"name": name, "given": NEW | given, "password": None, "enabled": True}
    with pytest.raises(refusal):
        await perform(operator, "integrations.create", asked)

    assert [one["name"] for one in await perform(operator, "integrations.list", {})] == ["main"]


async def test_a_deleted_integration_is_listed_no_more(operator: Operator) -> None:
    """It is gone from the list, and cannot be shown or deleted again."""
    deleted = await perform(operator, "integrations.delete", {"name": "main", "why": "moved"})

    assert (deleted["name"], deleted["unfinished"]) == ("main", {})
    assert await perform(operator, "integrations.list", {}) == []
    with pytest.raises(UnknownIntegration):
        await perform(operator, "integrations.delete", {"name": "main", "why": None})


async def test_stored_passwords_get_the_new_key(operator: Operator) -> None:
    """`keys reseal` tells how many it sealed anew, and which no key opens; without a key it says what is missing."""
    new = NewIntegration(name="second", host="h.test", from_address="a@company.test", username="u",
                         sealed_password=Vault(["lost"]).seal("x"))  # fmt: skip
    await operator.store.transaction(integrations.create_absent, new, who="test", now=datetime.now(UTC))
    done = await perform(operator, "keys.reseal", {})

    assert (done["resealed"], len(done["unreadable"])) == (0, 1)
    with pytest.raises(NoKey, match="MAILROOM_SECRET_KEY"):
        await perform(replace(operator, vault=None), "keys.reseal", {})


def test_a_password_needs_somebody_to_ask(tmp_path: Path) -> None:
    """Without a terminal and without a file for the password nothing is done, and the way is told."""
    words = ["integrations", "create", "main", "--host", "h.test", "--from", "a@b.test", "--username", "u"]
    empty = tmp_path / "empty"
    empty.touch()
    ended = run_mailroom(tmp_path, {}, *words)
    missing = run_mailroom(tmp_path, {}, *words, "--password-file", "none")
    nothing = run_mailroom(tmp_path, {}, *words, "--password-file", str(empty))
    unchanged = run_mailroom(tmp_path, {}, "integrations", "set", "main")

    assert {one.returncode for one in (ended, missing, nothing, unchanged)} == {1}
    assert "--password-file" in ended.stderr
    assert "No such file" in missing.stderr
    assert "empty" in nothing.stderr
    assert "nothing to change" in unchanged.stderr


async def test_a_reset_is_previewed(operator: Operator) -> None:
    """What waits, since when, what is past its time and how long the rest takes is told before anything is released."""
    [row] = await operator.store.read(integrations.all_rows)
    now = datetime.now(UTC)
    late = a_message(row.id, id=UUID(int=7), accepted_at=now - timedelta(days=6), expires_at=now - timedelta(days=1))
    held = [a_message(row.id, accepted_at=now, status=Status.HELD) for _ in range(30)]
    await operator.store.statement(messages.accept, [late, *held])
    told = await perform(operator, "integrations.preview", {"name": "main"})

    assert (told["held"], told["queued"], told["deferred"], told["past_expiry"]) == (30, 1, 0, 1)
    assert told["oldest"].startswith(late.accepted_at.date().isoformat())
    # One message, then two a second, four, eight: thirty take somewhat longer than ten seconds.
    assert 5 <= told["drain_seconds"] <= 30
    shown = await perform(operator, "integrations.show", {"name": "main"})
    assert shown["a_reset_releases"]["held"] == 30
    assert (await operator.store.read(integrations.all_rows))[0].generation == row.generation


async def test_a_list_is_searched(operator: Operator) -> None:
    """What was typed, what it is narrowed to, and a cursor are understood; unclear ones are refused."""
    [row] = await operator.store.read(integrations.all_rows)
    first, second = (a_message(row.id, subject=subject) for subject in ("Late parcel", "Parcel lost"))
    await operator.store.statement(messages.accept, [first, second])
    ask_for: dict[str, Any] = {"text": "parcel @customer.test", "limit": 1, "narrowed": {
        "integration": "main", "status": "queued", "kind": "form", "service": "support", "since": "2020-01-01"}}  # fmt: skip
    page = await perform(operator, "messages.search", ask_for)
    rest = await perform(operator, "messages.search", ask_for | {"before": page["older"]})

    newest, oldest = sorted((first, second), key=lambda message: message.id, reverse=True)
    assert [one["id"] for one in page["messages"] + rest["messages"]] == [str(newest.id), str(oldest.id)]
    assert (page["older"], rest["older"], rest["looked_back_to"]) == (str(newest.id), None, None)
    for wrong in ({"text": "?"}, {"before": "x"}, {"narrowed": {"since": "yesterday"}}):
        with pytest.raises((UnclearSearch, BadMoment)):
            await perform(operator, "messages.search", ask_for | wrong)


def insert_sent(tx: Connection, number: int) -> None:
    """Many messages that were sent, and an older one that failed for its word alone."""
    usual = {"kind": "form", "accepted_at": datetime.now(UTC), "subject": "A question", "status": "sent"}
    first = first_id_at(datetime.now(UTC)).int
    tx.execute(sa.insert(messages_table), [usual | {"id": UUID(int=first - (more << 70))} for more in range(number)])
    tx.execute(sa.insert(messages_table), usual | {"id": UUID(int=first - (number << 70)), "subject": "An answer"})


async def test_a_list_looks_further_by_itself(tmp_path: Path) -> None:
    """The command goes on where one request came to its bound."""
    store = SqliteStore(tmp_path / "mailroom.db")
    await store.transaction(migrate)
    await store.transaction(insert_sent, sum(LOOKS) + 100)
    await store.aclose()
    variables = {"MAILROOM_DATABASE_URL": f"sqlite:///{tmp_path}/mailroom.db", "MAILROOM_DATA_DIR": str(tmp_path)}
    listed = run_mailroom(tmp_path, variables, "messages", "list", "--search", "ANSWER", "--kind", "form")

    assert listed.stdout.count("An answer") == 1
    assert (listed.returncode, listed.stderr) == (0, "")
