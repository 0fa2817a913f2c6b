"""What an operator can ask for, on a store that no worker serves."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from cli.desk import NobodyThere, Refused, ask, open_desk
from cli.operations import NoAnswerYet, NoWorker, Operator, UnknownMessage, UnknownStatus, perform
from mailroom.message import new_message_id
from mailroom.queue.memory import MemoryQueue
from mailroom.store import integrations
from mailroom.store.integrations import NewIntegration, UnknownIntegration
from mailroom.store.opening import migrate
from mailroom.store.sqlite import SqliteStore


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    """An operator of an office with one integration and no worker."""
    store, queue = SqliteStore(tmp_path / "mailroom.db"), MemoryQueue()
    await store.transaction(migrate)
    new = NewIntegration(
        name="main", host="127.0.0.1", port=25, security="none", from_address="a@company.test", max_connections=1
    )
    await store.transaction(integrations.create_absent, new, who="test", now=datetime.now(UTC))
    yield Operator(store=store, queue=queue, who="cli tester", patience=0.5)
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
    first = await operator.store.transaction(integrations.take_test, row.id, session, now=datetime.now(UTC))
    assert first is not None
    await operator.store.transaction(
        integrations.conclude_test, first, cause=None, transcript="", ehlo_size=None, who="w", now=datetime.now(UTC)
    )
    with pytest.raises(NoWorker):
        await perform(operator, "integrations.test", {"name": "main"})
    taken = await operator.store.transaction(integrations.take_test, row.id, session, now=datetime.now(UTC))
    assert taken is not None

    from cli.operations import _answered  # noqa: PLC0415 - the step alone can be given a test that was taken

    with pytest.raises(NoAnswerYet):
        await _answered(operator, taken.id, "")


@pytest.mark.parametrize(
    ("operation", "args", "refusal"),
    [
        ("integrations.show", {"name": "x"}, UnknownIntegration),
        ("integrations.disable", {"name": "x", "why": None}, UnknownIntegration),
        ("messages.show", {"message_id": "x"}, UnknownMessage),
        ("messages.redrive", {"message_id": str(new_message_id())}, UnknownMessage),
        ("messages.list", {"status": "lost", "integration": None, "limit": 5}, UnknownStatus),
        ("messages.list", {"status": None, "integration": "x", "limit": 5}, UnknownIntegration),
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
        assert await ask(tmp_path, "messages.list", {"status": None, "integration": None, "limit": 5}, "x") == []
