"""What an operator can do with dead letters, alone and in groups, on a store that no worker serves."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.attachments import AttachmentMissing, AttachmentStore
from mailroom.integration import IntendedState, ReportedState
from mailroom.kinds import KINDS
from mailroom.message import Attachment, Content, Correspondent, Kind, Lane, Status, new_message_id
from mailroom.operating.copying import BadAddress, MayNotSend
from mailroom.operating.dead_letters import BadRate, SeveralGroups
from mailroom.operating.messages import NoReason
from mailroom.operating.operations import perform
from mailroom.operating.operator import Operator
from mailroom.queue.memory import MemoryQueue
from mailroom.queue.ticket import Address, Ticket
from mailroom.store import audit, copying, integrations, messages, schema
from mailroom.store.clock import told
from mailroom.store.content import decode_content, encode_content
from mailroom.store.dead_letters import NoSuchGroup, NotOpen
from mailroom.store.messages import NotADeadLetter
from mailroom.store.migrating import migrate
from mailroom.store.redrives import AlreadyRunning, NoSuchRedrive, NothingToRedrive
from mailroom.store.sqlite import SqliteStore
from tests.builders import NOW, a_content, a_settlement, accepted, an_integration, claimed

NO = "RCPT: 550 5.1.1 <jane@customer.test>: no such user"


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    """An operator of an office with one integration that sends, and no worker."""
    store, queue = SqliteStore(tmp_path / "mailroom.db"), MemoryQueue()
    await store.transaction(migrate)
    await store.transaction(integrations.create_absent, an_integration(), who="test", now=NOW)
    operator = Operator(
        store=store, queue=queue, who="cli tester", attachments=AttachmentStore(tmp_path / "attachments")
    )
    await be(operator, ReportedState.ACTIVE)
    yield operator
    await queue.aclose()
    await store.aclose()


async def be(operator: Operator, state: ReportedState, intended: IntendedState = IntendedState.ENABLED) -> None:
    """Set the state of the one integration behind everybody's back."""

    def change(tx: Connection) -> None:
        tx.execute(sa.update(schema.integrations).values(intended_state=intended, reported_state=state))

    await operator.store.transaction(change)


async def main(operator: Operator) -> UUID:
    """The id of the one integration."""
    return UUID(str((await operator.store.read(integrations.named, "main")).id))


async def failed(operator: Operator, reply: str = NO, **changes: Any) -> str:
    """A message that the server refused for good."""
    claim = await claimed(operator.store, await accepted(operator.store, await main(operator), **changes))
    refused = a_settlement(claim, Status.FAILED, reason="rejected.recipient", reply=reply)
    assert await operator.store.statement(messages.settle, [refused]) == [True]
    return str(claim.id)


async def content_of(operator: Operator, message_id: str) -> Content:
    """What a message says."""
    return decode_content(await operator.store.read(messages.body_of, UUID(message_id)))


# --- groups -----------------------------------------------------------------------------------------------------------


async def test_groups_are_listed_and_shown(operator: Operator) -> None:
    """A list has the groups, and a group its members page by page, what can be re-driven, its re-drives and history."""
    ids = sorted([await failed(operator) for _ in range(3)])
    await failed(operator, "RCPT: 552 5.2.2 mailbox full")
    listed = await perform(operator, "dead_letters.list", {})
    [group] = [one for one in listed if one["number"] == 3]
    asked = {"group": group["fingerprint"][:6], "limit": 2}
    shown = await perform(operator, "dead_letters.show", asked)
    rest = await perform(operator, "dead_letters.show", asked | {"before": shown["members"][-1]["id"]})

    assert len(listed) == 2
    assert (group["integration"], group["command"], group["code"]) == ("main", "RCPT", 550)
    assert group["said"] == "5.1.1 (address): no such user"
    assert [one["id"] for one in (*shown["members"], *rest["members"])] == ids[::-1]
    assert (shown["can_be_redriven"], shown["redrives"], shown["history"]) == (3, [], [])
    assert await perform(operator, "dead_letters.list", {"integration": "main", "limit": 1}) == listed[:1]


async def test_a_group_is_asked_to_be_redriven_and_stopped(operator: Operator) -> None:
    """A re-drive is asked for once, can be looked at and stopped, and all of that is in the group's history."""
    await failed(operator)
    [group] = await perform(operator, "dead_letters.list", {})
    asked = {"group": group["fingerprint"], "per_second": 2.5, "why": "cured"}
    redrive = await perform(operator, "dead_letters.redrive", asked)
    with pytest.raises(AlreadyRunning):
        await perform(operator, "dead_letters.redrive", asked)
    assert await perform(operator, "dead_letters.redrives", {}) == [redrive]
    stopped = await perform(operator, "dead_letters.stop", {"redrive_id": redrive["id"]})

    assert (redrive["total"], redrive["done"], redrive["per_second"], redrive["why"]) == (1, 0, 2.5, "cured")
    assert (redrive["integration"], redrive["requested_by"], redrive["ended_at"]) == ("main", "cli tester", None)
    assert stopped["stopped_by"] == "cli tester"
    shown = await perform(operator, "dead_letters.show", {"group": group["fingerprint"]})
    assert [one["action"] for one in shown["history"]] == ["re-drive stopped", "re-drive requested"]
    assert shown["redrives"] == [stopped]


async def test_a_group_is_dismissed_for_a_reason(operator: Operator) -> None:
    """Without a reason nothing is dismissed; with one the group is out of sight."""
    for _ in range(2):
        await failed(operator)
    [group] = await perform(operator, "dead_letters.list", {})
    with pytest.raises(NoReason):
        await perform(operator, "dead_letters.dismiss", {"group": group["fingerprint"], "why": " "})
    done = await perform(operator, "dead_letters.dismiss", {"group": group["fingerprint"], "why": "a test"})

    assert done == {"fingerprint": group["fingerprint"], "dismissed": 2}
    assert await perform(operator, "dead_letters.list", {}) == []


async def test_those_concerned_come_in_pages(operator: Operator) -> None:
    """Everybody whom a group concerns is told once, the oldest first."""
    ids = sorted([await failed(operator) for _ in range(5)])
    [group] = await perform(operator, "dead_letters.list", {})
    asked = {"group": group["fingerprint"], "limit": 3}
    first = await perform(operator, "dead_letters.affected", asked)
    second = await perform(operator, "dead_letters.affected", asked | {"after": first[-1]["id"]})

    assert [one["id"] for one in (*first, *second)] == ids
    assert (first[0]["recipient"], first[0]["sender"]) == ("support@company.test", "jane@customer.test")


@pytest.mark.parametrize(
    ("operation", "args", "refusal"),
    [
        ("dead_letters.show", {"group": "0" * 32}, NoSuchGroup),
        ("dead_letters.show", {"group": "123"}, NoSuchGroup),
        ("dead_letters.show", {"group": "%%%%"}, NoSuchGroup),
        ("dead_letters.stop", {"redrive_id": "x"}, NoSuchRedrive),
        ("dead_letters.stop", {"redrive_id": str(uuid4())}, NoSuchRedrive),
    ],
)
async def test_what_cannot_be_done_with_a_group_is_refused(
    operator: Operator, operation: str, args: dict[str, Any], refusal: type[Exception]
) -> None:
    """A group or re-drive that is not there is refused in a sentence."""
    with pytest.raises(refusal, match=r"\w+ \w+"):
        await perform(operator, operation, args)


@pytest.mark.parametrize("rate", [0, 1001, float("nan")])
async def test_a_rate_that_is_none_is_refused(operator: Operator, rate: float) -> None:
    """Nothing is tried again, and the rates that can be had are told."""
    await failed(operator)
    [group] = await perform(operator, "dead_letters.list", {})
    with pytest.raises(BadRate, match=r"it is from 0.001 to 1000$"):
        await perform(operator, "dead_letters.redrive", {"group": group["fingerprint"], "per_second": rate})

    assert await perform(operator, "dead_letters.redrives", {}) == []


async def test_one_cause_at_two_integrations_must_be_told_apart(operator: Operator) -> None:
    """Where the digits name two groups, both are named; with the integration it is one."""
    await failed(operator)
    await operator.store.transaction(integrations.create_absent, an_integration(name="other"), who="test", now=NOW)
    other = UUID(str((await operator.store.read(integrations.named, "other")).id))
    claim = await claimed(operator.store, await accepted(operator.store, other))
    refused = a_settlement(claim, Status.FAILED, reason="rejected.recipient", reply=NO)
    await operator.store.statement(messages.settle, [refused])
    group = (await perform(operator, "dead_letters.list", {}))[0]["fingerprint"]
    with pytest.raises(SeveralGroups, match="of main"):
        await perform(operator, "dead_letters.show", {"group": group})

    assert (await perform(operator, "dead_letters.show", {"group": group, "integration": "other"}))["number"] == 1


async def test_a_group_of_answered_letters_is_not_redriven(operator: Operator) -> None:
    """Where every client was told of the failure there is nothing to re-drive."""
    await operator.store.statement(messages.answered_one, UUID(await failed(operator)))
    [group] = await perform(operator, "dead_letters.list", {})
    with pytest.raises(NothingToRedrive):
        await perform(operator, "dead_letters.redrive", {"group": group["fingerprint"]})


# --- one letter -------------------------------------------------------------------------------------------------------


async def test_a_redrive_is_on_record(operator: Operator) -> None:
    """Who re-drove a message, and why, stands in its history."""
    letter = await failed(operator)
    shown = await perform(operator, "messages.redrive", {"message_id": letter, "why": "cured"})

    assert shown["status"] == "queued"
    [entry] = await operator.store.read(audit.history, "message", UUID(letter))
    assert (entry.action, entry.who, entry.why) == ("re-driven", "cli tester", "cured")


@pytest.mark.parametrize("off", [timedelta(days=-1), timedelta(days=1)])
@pytest.mark.parametrize("action", ["messages.redrive", "messages.copy"])
async def test_ops_6_an_operators_machine_may_have_another_time(
    operator: Operator, action: str, off: timedelta
) -> None:
    """What is sent again is queued, and expires, by the database's clock, and its ticket tells that time too."""

    class OfAnotherTime(SqliteStore):
        async def read(self, work: Any, *args: Any, **kwargs: Any) -> Any:
            answer = await super().read(work, *args, **kwargs)
            return answer + off if work is told else answer

    operator.store.__class__ = OfAnotherTime
    tickets: list[Ticket] = []
    address = Address(Lane.FORM, await main(operator))
    await operator.queue.subscribe(address, 10, lambda delivery: tickets.append(delivery.ticket))
    asked = {"message_id": await failed(operator)} | ({"to": "jane@customer.test"} if action == "messages.copy" else {})
    sent = await perform(operator, action, asked)
    await asyncio.sleep(0)
    [ticket] = tickets
    [row] = await operator.store.read(lambda tx: tx.execute(sa.select(schema.live)).all())
    assert str(row.id) == sent["id"]
    for told_time in (row.queued_at, row.expires_at - KINDS[Kind.FORM].expires_after, ticket.written_at):
        assert abs(told_time - datetime.now(UTC) - off) < timedelta(minutes=1)


async def test_a_letter_is_dismissed_for_a_reason(operator: Operator) -> None:
    """One dead letter can be put out of sight, once, and not without a reason."""
    letter = await failed(operator)
    with pytest.raises(NoReason):
        await perform(operator, "messages.dismiss", {"message_id": letter, "why": ""})
    await perform(operator, "messages.dismiss", {"message_id": letter, "why": "a test"})
    with pytest.raises(NotOpen):
        await perform(operator, "messages.dismiss", {"message_id": letter, "why": "a test"})

    assert await perform(operator, "dead_letters.list", {}) == []


# --- sent again to somebody else --------------------------------------------------------------------------------------


async def test_a_letter_is_sent_again_to_somebody_else(operator: Operator) -> None:
    """The new message says the same to the new recipient, who is named wherever the old one was, and is queued."""
    old, other = Correspondent("jnae@customer.test", "Jane"), Correspondent("boss@customer.test")
    content = a_content(to=old.address, to_all=(old, other), cc=(other,), text="It is on its way.")
    letter = await failed(operator, kind=Kind.ACD, recipient=old.address, body=encode_content(content))
    copied = await perform(
        operator, "messages.copy", {"message_id": letter, "to": "Jane@Customer.TEST", "why": "mistyped"}
    )

    new = replace(old, address="Jane@customer.test")
    assert (copied["status"], copied["kind"], copied["recipient"]) == ("queued", "acd", new.address)
    assert await content_of(operator, copied["id"]) == replace(content, to=new.address, to_all=(new, other))
    assert await content_of(operator, letter) == content
    assert await perform(operator, "dead_letters.list", {}) == []


async def test_an_answered_letter_can_be_sent_again(operator: Operator) -> None:
    """What cannot be re-driven, because its client was told that it failed, goes out as a new message."""
    letter = await failed(operator)
    await operator.store.statement(messages.answered_one, UUID(letter))
    with pytest.raises(NotADeadLetter, match="send it again as a new message"):
        await perform(operator, "messages.redrive", {"message_id": letter})
    copied = await perform(operator, "messages.copy", {"message_id": letter, "to": "support@company.test"})

    assert copied["status"] == "queued"
    assert (await perform(operator, "messages.show", {"message_id": letter}))["answered"]


async def test_files_are_copied_with_their_message(operator: Operator) -> None:
    """The new message has files of its own; what a letter's copies share, and small files, stay where they are."""
    assert operator.attachments is not None
    async with operator.attachments.upload() as upload:
        await upload.write(b"large")
        await upload.finish()
    files = (
        Attachment(name="a", media_type="text/plain", size=5, key=upload.key),
        Attachment(name="b", media_type="text/plain", size=5, key="f" * 32),
        Attachment(name="c", media_type="text/plain", size=5, content=b"small"),
    )
    body = encode_content(a_content(attachments=files))
    letter = await failed(operator, body=body, files=(upload.key,))
    copied = await perform(operator, "messages.copy", {"message_id": letter, "to": "john@customer.test"})

    first, *rest = (await content_of(operator, copied["id"])).attachments
    assert rest == list(files[1:])
    assert first.key not in {None, upload.key}
    assert await operator.attachments.read(first.key or "") == b"large"
    assert await operator.store.read(copying.files_of, UUID(copied["id"])) == {first.key}


async def test_a_file_of_a_bundle_is_copied_by_itself(operator: Operator) -> None:
    """The new message has the bytes that were meant, in a file of its own."""
    assert operator.attachments is not None
    key = await operator.attachments.keep([b"theirs", b"mine", b"and theirs"])
    file = Attachment(name="a", media_type="text/plain", size=4, key=key, at=6)
    letter = await failed(operator, body=encode_content(a_content(attachments=(file,))), bundles=(key,))
    copied = await perform(operator, "messages.copy", {"message_id": letter, "to": "john@customer.test"})

    [own] = (await content_of(operator, copied["id"])).attachments
    assert own.at is None
    assert await operator.attachments.read(own.key or "") == b"mine"
    assert await operator.store.read(copying.files_of, UUID(copied["id"])) == {own.key}


async def test_a_part_of_a_file_never_becomes_the_whole(operator: Operator) -> None:
    """Where its row does not say that a bundle is the message's, its part stays a part: the rest is other people's."""
    assert operator.attachments is not None
    key = await operator.attachments.keep([b"theirs", b"mine", b"and theirs"])
    part = Attachment(name="a", media_type="text/plain", size=4, key=key, at=6)
    own = Attachment(name="b", media_type="text/plain", size=1, key=await operator.attachments.keep([b"b"]))
    body = encode_content(a_content(attachments=(part, own)))
    letter = await failed(operator, body=body, files=(own.key or "",))
    copied = await perform(operator, "messages.copy", {"message_id": letter, "to": "john@customer.test"})

    assert (await content_of(operator, copied["id"])).attachments[0] == part


async def test_a_file_that_is_gone_is_told(operator: Operator) -> None:
    """Nothing is sent without its files, and no other file is left behind."""
    assert operator.attachments is not None
    async with operator.attachments.upload() as upload:
        await upload.finish()
    keys = (upload.key, "e" * 32)
    files = tuple(Attachment(name="a", media_type="text/plain", size=5, key=key) for key in keys)
    letter = await failed(operator, body=encode_content(a_content(attachments=files)), files=keys)
    for asked in (operator, replace(operator, attachments=None)):
        with pytest.raises(AttachmentMissing):
            await perform(asked, "messages.copy", {"message_id": letter, "to": "john@customer.test"})

    assert [file.name for file in operator.attachments.folder.rglob("*") if file.is_file()] == [upload.key]
    assert len(await perform(operator, "dead_letters.list", {})) == 1


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("state", [ReportedState.ERROR, ReportedState.INACTIVE])
async def test_the_gate_is_passed_as_by_any_other(operator: Operator, kind: Kind, state: ReportedState) -> None:
    """While the integration may not send, kinds that wait are held, and others are refused; what is let pass is noted."""
    letter = await failed(operator, kind=kind)
    await be(operator, state)
    asked = {"message_id": letter, "to": "john@customer.test"}
    if kind in {Kind.FORM, Kind.CAMPAIGN}:
        assert (await perform(operator, "messages.copy", asked))["status"] == "held"
    elif kind is Kind.ACD and state is ReportedState.ERROR:
        assert (await perform(operator, "messages.copy", asked))["status"] == "queued"
        [row, *_] = await operator.store.read(audit.history, "integration", await main(operator))
        assert (row.action, row.who) == ("overlooked", "cli tester")
    else:
        with pytest.raises(MayNotSend, match="nothing was sent"):
            await perform(operator, "messages.copy", asked)
        found = await perform(operator, "messages.search", {"text": None, "narrowed": {}, "limit": 5})
        assert len(found["messages"]) == 1


async def test_without_its_integration_nothing_is_sent_again(operator: Operator) -> None:
    """A message of a deleted integration cannot leave."""
    letter = await failed(operator)
    await perform(operator, "integrations.delete", {"name": "main", "why": None})
    with pytest.raises(MayNotSend, match="deleted"):
        await perform(operator, "messages.copy", {"message_id": letter, "to": "john@customer.test"})


@pytest.mark.parametrize("to", ["", "nobody", "a@b@c.test", "Jane <jane@customer.test>", "jane@customer.test\n"])
async def test_only_to_an_address(operator: Operator, to: str) -> None:
    """What is no address is refused before anything is done."""
    with pytest.raises(BadAddress):
        await perform(operator, "messages.copy", {"message_id": await failed(operator), "to": to})


async def test_what_is_no_dead_letter_is_not_sent_again(operator: Operator) -> None:
    """What is still under way cannot be sent to somebody else beside it."""
    message = await accepted(operator.store, await main(operator), id=new_message_id())
    with pytest.raises(NotADeadLetter, match="it is queued"):
        await perform(operator, "messages.copy", {"message_id": str(message.id), "to": "john@customer.test"})
