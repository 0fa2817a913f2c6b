"""What an operator is told who asks why."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from mailroom.message import Kind, Status
from mailroom.operating.explaining import Unexplainable, recipient_of
from mailroom.operating.messages import UnknownMessage
from mailroom.operating.operations import perform
from mailroom.operating.operator import Operator
from mailroom.queue.memory import MemoryQueue
from mailroom.settings import EmailOptions, Settings
from mailroom.store import domains
from mailroom.store.domains import Direction
from mailroom.store.sqlite import SqliteStore
from tests.builders import accepted, created
from tests.processes import run_mailroom

SERVICES = {
    "support": EmailOptions(mailbox="support@company.test", allowed_mailboxes=("*@company.test", "a@other.test")),
    "bare": EmailOptions(),
    "astray": EmailOptions(integration="missing", mailbox="a@company.test"),
}


@pytest.fixture
def operator(store: SqliteStore) -> Operator:
    """Somebody who asks."""
    settings = Settings(services=MappingProxyType(SERVICES))
    return Operator(store=store, queue=MemoryQueue(), who="cli tester", settings=settings)


def verdicts(found: Any) -> dict[str, str]:
    """What each decision comes to."""
    return {one["topic"]: one["verdict"] for one in found["decisions"]}


async def test_a_message_is_explained(operator: Operator) -> None:
    """A form that waits for an integration that is being tested: held by the gate, with its time left."""
    now = datetime.now(UTC)
    message = await accepted(
        operator.store, await created(operator.store), accepted_at=now, status=Status.HELD,
        expires_at=now + timedelta(days=3, hours=1),
    )  # fmt: skip
    found = await perform(operator, "explain.message", {"message_id": str(message.id)})

    told = {one["topic"]: one["why"] for one in found["decisions"]}
    assert verdicts(found)["gate"] == "waits"
    assert told["status"] == "It is held; it was not tried yet."
    assert told["expiry"].startswith("It expires in 3 days")
    assert "being tested" in told["gate"]
    assert "smtp.company.test:587" in told["integration"]


@pytest.mark.parametrize(
    ("asked", "last", "words"),
    [
        ({"service": "support"}, "gate", "the answer is 1"),
        ({"service": "nobody"}, "service", "404"),
        ({"service": "bare"}, "recipient", "neither the service nor its integration"),
        ({"service": "support", "mailbox": "x@evil.test"}, "recipient", "does not let it"),
        ({"service": "astray"}, "integration", "'missing' (default) does not exist"),
        ({"kind": "acd", "from_address": "jane@unknown.test"}, "integration", "inbound domain unknown.test"),
        ({"kind": "agentless", "from_address": "jane@known.test"}, "gate", "the answer is 400"),
    ],
)
async def test_a_submission_is_explained(operator: Operator, asked: dict[str, Any], last: str, words: str) -> None:
    """What would be answered now, down to the decision that stops it; nothing is sent."""
    one = await created(operator.store)
    await operator.store.transaction(
        domains.create, Direction.OUTBOUND, "known.test", who="test", now=datetime.now(UTC), integration_id=one
    )
    found = await perform(operator, "explain.submission", asked)

    assert found["decisions"][-1]["topic"] == last
    assert words in found["decisions"][-1]["why"]


@pytest.mark.parametrize(
    ("operation", "asked", "refusal"),
    [
        ("explain.message", {"message_id": "x"}, UnknownMessage),
        ("explain.submission", {"kind": "acd"}, Unexplainable),
        ("explain.submission", {"kind": "campaign"}, Unexplainable),
    ],
)
async def test_what_cannot_be_explained_is_refused(
    operator: Operator, operation: str, asked: dict[str, str], refusal: type[Exception]
) -> None:
    """With a sentence that says what is missing."""
    with pytest.raises(refusal):
        await perform(operator, operation, asked)


@pytest.mark.parametrize(
    ("given", "address", "words"),
    [
        (None, "support@company.test", "(default)"),
        ("SUPPORT@company.test", "support@company.test", "own mailbox"),
        ("x@Company.test", "x@Company.test", "*@company.test"),
        ("a@other.test", "a@other.test", "a@other.test"),
        ("b@other.test", None, "does not let it"),
        ("x@sub.company.test", None, "does not let it"),
    ],
)
def test_the_recipient_is_chosen_as_for_a_form(given: str | None, address: str | None, words: str) -> None:
    """The service's own mailbox, or what the form names where a pattern allows it."""
    recipient = recipient_of(SERVICES["support"], "default", None, given)

    assert recipient.address == address
    assert words in recipient.chosen_by


async def test_the_command_prints_it(operator: Operator, tmp_path: Path, sqlite_file: Path) -> None:
    """A line for each decision: what about, what it comes to, and why."""
    message = await accepted(operator.store, await created(operator.store), kind=Kind.ACD)
    await operator.store.aclose()
    variables = {"MAILROOM_DATABASE_URL": f"sqlite:///{sqlite_file}", "MAILROOM_DATA_DIR": str(tmp_path)}
    of_message = run_mailroom(tmp_path, variables, "explain", str(message.id))
    of_form = run_mailroom(tmp_path, variables, "explain", "--service", "nobody")

    assert (of_message.returncode, of_form.returncode) == (0, 0), of_message.stderr + of_form.stderr
    assert "gate         stops   Refused" in of_message.stdout
    assert of_form.stdout.startswith("service      stops   There is no service 'nobody'")
