"""What every store promises about messages: accepted, claimed, settled, buried, re-driven."""

import asyncio
import random
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.kinds import KINDS
from mailroom.message import DEAD_LETTERS, MOVES, Kind, Lane, Status, new_message_id
from mailroom.store import integrations, messages, schema, sessions, sweeping
from mailroom.store.content import decode_content, encode_content
from mailroom.store.messages import CARRIED_BY_CLAIM, Claimed, Revived, Standing
from mailroom.store.port import BadRow, Store, StoreUnavailable
from tests.builders import NOW, a_content, a_message, a_settlement, accepted, an_attempt, claimed, every_standing

SOON = NOW + timedelta(minutes=5)


async def standing_of(store: Store, message_id: UUID) -> Standing:
    """Where a message that exists stands."""
    found = await store.read(messages.standing, message_id)
    assert found is not None
    return found


async def status_of(store: Store, message_id: UUID) -> Status:
    """Its status alone."""
    return (await standing_of(store, message_id)).status


# --- accept and claim -------------------------------------------------------------------------------------------------


async def test_an_accepted_message_is_queued(store: Store, integration_id: UUID) -> None:
    """What was accepted can be looked up as it was given."""
    message = await accepted(store, integration_id, subject="Grüße", size=17, tenant="Environment")

    standing = await standing_of(store, message.id)
    assert standing.status is Status.QUEUED
    assert (standing.kind, standing.service, standing.integration_id) == (Kind.FORM, "support", integration_id)
    assert (standing.recipient, standing.sender) == ("support@company.test", "jane@customer.test")
    assert (standing.subject, standing.size, standing.accepted_at) == ("Grüße", 17, NOW)
    assert (standing.attempts, standing.possible_duplicate, standing.due) == (0, False, None)


async def test_a_claim_brings_all_that_an_attempt_needs(store: Store, integration_id: UUID) -> None:
    """A claim returns the content, the number of the claim, and what was tried before."""
    body = encode_content(a_content(text="Hello"))
    message = await accepted(store, integration_id, body=body)

    session = uuid4()
    claim = await claimed(store, message, session)
    assert claim.body is not None
    assert decode_content(claim.body).text == "Hello"
    assert claim == Claimed(
        id=message.id, kind=Kind.FORM, integration_id=integration_id, session=session, claim=1, attempts=0, blamed=0,
        possible_duplicate=False, accepted_at=NOW, expires_at=message.expires_at, body=body,
    )  # fmt: skip
    assert await status_of(store, message.id) is Status.SENDING


async def test_each_of_a_group_has_its_own(store: Store, integration_id: UUID) -> None:
    """Bodies of any bytes and any length, an empty one too, and moments to the microsecond come back as they were given."""
    dice = random.Random(7)  # noqa: S311 - the same in every run
    group = [
        a_message(
            integration_id, body=dice.randbytes(length), subject=f"Number {length}",
            accepted_at=NOW + timedelta(microseconds=dice.randrange(10**15)),
        )
        for length in (3, 0, 1, 2500, 70_000, 0, 12)
    ]  # fmt: skip
    await store.statement(messages.accept, group)

    taken = await store.statement(messages.claim, [message.id for message in group], uuid4())
    for message in group:
        claim = taken[message.id]
        assert (claim.body, claim.accepted_at, claim.expires_at) == (
            message.body,
            message.accepted_at,
            message.expires_at,
        )
        assert (await standing_of(store, message.id)).subject == message.subject


async def test_a_claim_that_nobody_works_on_is_handed_back(store: Store, integration_id: UUID) -> None:
    """A session queues anew what it has claimed itself; what is another's, or has ended, stays as it is."""
    session = uuid4()
    mine, others, ended = [await accepted(store, integration_id) for _ in range(3)]
    await claimed(store, mine, session)
    await claimed(store, others)
    await store.statement(messages.settle, [a_settlement(await claimed(store, ended, session))])
    await store.statement(messages.hand_back, [mine.id, others.id, ended.id], session, at=NOW)

    found = [await status_of(store, one.id) for one in (mine, others, ended)]
    assert found == [Status.QUEUED, Status.SENDING, Status.SENT]


async def test_a_large_content_is_read_apart(store: Store, integration_id: UUID) -> None:
    """A claim leaves a large content behind; it is there when it is asked for."""
    body = b"\x01" * (CARRIED_BY_CLAIM + 1)
    message = await accepted(store, integration_id, body=body)

    assert (await claimed(store, message)).body is None
    assert await store.read(messages.body_of, message.id) == body


async def test_a_content_that_does_not_exist_is_our_mistake(store: Store) -> None:
    """Asking for what does not exist is told apart from a database that is away."""
    with pytest.raises((BadRow, StoreUnavailable)) as raised:
        await store.read(messages.body_of, uuid4())

    assert raised.type is BadRow


async def test_a_held_message_is_not_claimed(store: Store, integration_id: UUID) -> None:
    """A message accepted as held waits for its release."""
    message = await accepted(store, integration_id, status=Status.HELD)

    assert await store.statement(messages.claim, [message.id], uuid4()) == {}
    assert await status_of(store, message.id) is Status.HELD


async def test_a_claim_of_nothing_takes_nothing(store: Store, integration_id: UUID) -> None:
    """Unknown ids, and those already taken, are left out of a claim's answer."""
    first, second = [await accepted(store, integration_id) for _ in range(2)]
    await claimed(store, first)

    taken = await store.statement(messages.claim, [first.id, second.id, uuid4()], uuid4())
    assert set(taken) == {second.id}


async def test_a_group_is_accepted_whole_or_not_at_all(store: Store, integration_id: UUID) -> None:
    """One bad member, here an id that is taken, keeps its whole group out."""
    known = await accepted(store, integration_id)
    fresh = a_message(integration_id)
    with pytest.raises(BadRow):
        await store.statement(messages.accept, [fresh, a_message(integration_id, id=known.id)])

    assert await store.read(messages.standing, fresh.id) is None
    assert await store.statement(messages.claim, [fresh.id], uuid4()) == {}


async def test_sto_4_text_that_is_no_text_is_a_bad_row(store: Store, integration_id: UUID) -> None:
    """Half a surrogate pair cannot be stored, and says so as a bad row; the store works on."""
    with pytest.raises(BadRow):
        await accepted(store, integration_id, subject="\ud800")

    assert await accepted(store, integration_id)


async def test_files_are_kept_with_their_message(store: Store, integration_id: UUID) -> None:
    """A key of the attachment store belongs to one message only."""
    await accepted(store, integration_id, files=("a" * 32, "b" * 32))

    with pytest.raises(BadRow):
        await accepted(store, integration_id, files=("b" * 32,))


async def test_sto_2_eight_claimers_never_share_a_message(store: Store, integration_id: UUID) -> None:
    """However many sessions claim the same messages at once, each message is one session's."""
    group = [a_message(integration_id) for _ in range(64)]
    await store.statement(messages.accept, group)
    ids = [message.id for message in group]
    taken: list[UUID] = []

    async def claimer(seed: int) -> None:
        session = uuid4()
        mine = random.Random(seed).sample(ids, len(ids))  # noqa: S311 - an order that is the same in every run
        for at in range(0, len(mine), 16):
            taken.extend(await store.statement(messages.claim, mine[at : at + 16], session))

    await asyncio.gather(*(claimer(seed) for seed in range(8)))

    assert sorted(taken) == sorted(ids)


async def test_a_claim_whose_answer_was_lost_is_taken_again(store: Store, integration_id: UUID) -> None:
    """What this session may have claimed already is taken once more, under a new number; another's is not."""
    mine, other = [await accepted(store, integration_id) for _ in range(2)]
    session = uuid4()
    await claimed(store, mine, session)
    await claimed(store, other)
    ids = [mine.id, other.id]

    assert await store.statement(messages.claim, ids, session) == {}
    again = await store.statement(messages.claim, ids, session, doubtful=ids)
    assert {id_: claim.claim for id_, claim in again.items()} == {mine.id: 2}


# --- settle -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", sorted(MOVES[Status.SENDING] - {Status.QUEUED}))
async def test_a_claimed_message_can_be_settled(store: Store, integration_id: UUID, status: Status) -> None:
    """Whatever became of a message is where it stands afterwards, with the reason and the reply."""
    claim = await claimed(store, await accepted(store, integration_id))
    final = not MOVES[status] or status in DEAD_LETTERS
    settlement = a_settlement(
        claim, status, reason="because", reply="RCPT: 450", wake_at=SOON if status is Status.DEFERRED else None
    )

    assert await store.statement(messages.settle, [settlement]) == [True]
    standing = await standing_of(store, claim.id)
    assert standing.status is status
    assert standing.attempts == 1
    assert (standing.reason, standing.reply, standing.ended_at) == (
        ("because", "RCPT: 450", NOW) if final else (None, None, None)
    )
    assert standing.due == (SOON if status is Status.DEFERRED else None)


async def test_a_group_is_settled_together(store: Store, integration_id: UUID) -> None:
    """A group of mixed results is recorded in one go, each answered in its place."""
    claims = [await claimed(store, await accepted(store, integration_id)) for _ in range(4)]
    statuses = [Status.SENT, Status.DEFERRED, Status.FAILED, Status.HELD]
    group = [a_settlement(claim, status, wake_at=SOON) for claim, status in zip(claims, statuses, strict=True)]
    group[2] = replace(group[2], claim=7)

    assert await store.statement(messages.settle, group) == [True, True, False, True]
    found = await store.read(messages.statuses, [claim.id for claim in claims])
    assert [found[claim.id] for claim in claims] == [Status.SENT, Status.DEFERRED, Status.SENDING, Status.HELD]


@pytest.mark.parametrize("status", sorted(MOVES[Status.SENDING] - {Status.QUEUED}))
async def test_an_old_claim_settles_nothing(store: Store, integration_id: UUID, status: Status) -> None:
    """Once a message was claimed anew, no result of the older claim changes it, not even that it was sent."""
    session = uuid4()
    message = await accepted(store, integration_id)
    old = await claimed(store, message, session)
    await store.statement(messages.claim, [message.id], session, doubtful=[message.id])

    assert await store.statement(messages.settle, [a_settlement(old, status, wake_at=SOON)]) == [False]
    assert await status_of(store, message.id) is Status.SENDING


async def test_a_success_that_was_overtaken_is_on_record(store: Store, integration_id: UUID) -> None:
    """A send that another claim overtook is kept as an attempt: the reader sees where the duplicate came from."""
    session = uuid4()
    message = await accepted(store, integration_id)
    old = await claimed(store, message, session)
    await store.statement(messages.claim, [message.id], session, doubtful=[message.id])
    overtaken = a_settlement(old, attempt=an_attempt(outcome="sent"))
    await store.statement(messages.settle, [overtaken])

    [attempt] = await store.read(messages.attempts_of, message.id)
    assert attempt.outcome == "sent"


async def orphaned(store: Store, integration_id: UUID, kind: Kind) -> Claimed:
    """A message that was claimed by a session which was then declared dead, and swept."""
    session = uuid4()
    await store.transaction(sessions.open_session, session, host="here", pid=1, at=NOW)
    claim = await claimed(store, await accepted(store, integration_id, kind=kind), session)
    assert await store.transaction(sessions.declare_dead, session, 0, at=NOW)
    await store.transaction(sweeping.recover, now=NOW, limit=10)
    return claim


@pytest.mark.parametrize(("kind", "after"), [(Kind.FORM, Status.QUEUED), (Kind.ACD, Status.UNCERTAIN)])
async def test_a_late_success_wins(store: Store, integration_id: UUID, kind: Kind, after: Status) -> None:
    """A session that was given up too early may still tell that the message was sent, and then it is."""
    claim = await orphaned(store, integration_id, kind)
    assert await status_of(store, claim.id) is after

    assert await store.statement(messages.settle, [a_settlement(claim, reply="dot: 250")]) == [True]
    standing = await standing_of(store, claim.id)
    assert (standing.status, standing.reason, standing.possible_duplicate) == (Status.SENT, None, False)


@pytest.mark.parametrize("status", [Status.DEFERRED, Status.HELD, Status.FAILED, Status.UNCERTAIN])
async def test_any_other_late_result_loses(store: Store, integration_id: UUID, status: Status) -> None:
    """After the sweep took a claim back, only a success of it still counts."""
    claim = await orphaned(store, integration_id, Kind.FORM)

    assert await store.statement(messages.settle, [a_settlement(claim, status, wake_at=SOON)]) == [False]
    assert await status_of(store, claim.id) is Status.QUEUED


async def test_a_late_success_after_a_redrive_changes_nothing(store: Store, integration_id: UUID) -> None:
    """A person's re-drive begins a new life, which a late result of the old one cannot end."""
    claim = await orphaned(store, integration_id, Kind.ACD)
    await store.transaction(messages.redrive_all, [claim.id], at=NOW)

    assert await store.statement(messages.settle, [a_settlement(claim)]) == [False]
    assert await status_of(store, claim.id) is Status.QUEUED


async def test_settling_twice_is_told_and_harmless(store: Store, integration_id: UUID) -> None:
    """A settlement repeated because its answer was lost finds nothing to do, and leaves no attempt behind."""
    claim = await claimed(store, await accepted(store, integration_id))
    settlement = a_settlement(claim, attempt=an_attempt(outcome="sent"))
    await store.statement(messages.settle, [settlement])

    assert await store.statement(messages.settle, [settlement]) == [False]
    assert await store.read(messages.attempts_of, claim.id) == []
    assert await status_of(store, claim.id) is Status.SENT


async def test_a_success_at_the_first_try_needs_no_attempt_row(store: Store, integration_id: UUID) -> None:
    """The reply of a first-try success stands with the message."""
    claim = await claimed(store, await accepted(store, integration_id))
    sent = a_settlement(claim, reply="dot: 250 ok", attempt=an_attempt(outcome="sent"))
    await store.statement(messages.settle, [sent])

    assert await store.read(messages.attempts_of, claim.id) == []
    assert (await standing_of(store, claim.id)).reply == "dot: 250 ok"


async def test_every_other_try_is_on_record(store: Store, integration_id: UUID) -> None:
    """A message that was deferred and then sent shows both tries, in order, as they were."""
    message = await accepted(store, integration_id)
    tries = [an_attempt(), an_attempt(number=2, outcome="sent", blame=None, command="dot", code=250, reply="250 ok")]
    first = await claimed(store, message)
    deferred = a_settlement(first, Status.DEFERRED, wake_at=NOW, attempt=tries[0], session=uuid4())
    await store.statement(messages.settle, [deferred])
    await store.transaction(sweeping.wake, now=NOW, limit=10)
    second = await claimed(store, message)
    assert (second.claim, second.attempts) == (2, 1)
    await store.statement(messages.settle, [a_settlement(second, attempt=tries[1])])

    assert await store.read(messages.attempts_of, message.id) == tries


@pytest.mark.parametrize("status", [Status.SENT, Status.FAILED])
async def test_the_last_attempt_tells_how_it_went(store: Store, integration_id: UUID, status: Status) -> None:
    """Where a message stands is told with the version of TLS it was said over, and how long that took."""
    claim = await claimed(store, await accepted(store, integration_id))
    attempt = an_attempt(ended_at=NOW + timedelta(milliseconds=1500), tls="TLSv1.3")
    await store.statement(messages.settle, [a_settlement(claim, status, attempt=attempt)])

    standing = await standing_of(store, claim.id)
    assert (standing.tls, standing.took) == ("TLSv1.3", 1500)
    recorded = await store.read(messages.attempts_of, claim.id)
    assert [one.tls for one in recorded] == ([] if status is Status.SENT else ["TLSv1.3"])


async def test_what_was_held_is_on_record_and_costs_nothing(store: Store, integration_id: UUID) -> None:
    """The reason of the gate stands among the attempts, and the next one is still the first."""
    message = await accepted(store, integration_id)
    kept = an_attempt(number=0, outcome="held", blame=None, command="gate", code=None, reply="it is disabled")
    first = a_settlement(await claimed(store, message), Status.HELD, attempts=0, attempt=kept)
    await store.statement(messages.settle, [first])
    await store.transaction(sweeping.release, integration_id, now=NOW, limit=10)
    second = await claimed(store, message)
    assert second.attempts == 0
    await store.statement(messages.settle, [a_settlement(second, attempt=an_attempt(outcome="sent"))])

    assert await store.read(messages.attempts_of, message.id) == [kept]
    assert (await standing_of(store, message.id)).attempts == 1


async def test_a_message_that_was_answered_says_so(store: Store, integration_id: UUID) -> None:
    """Whether its client was told that it failed stands with the message."""
    claim = await claimed(store, await accepted(store, integration_id))
    await store.statement(messages.settle, [a_settlement(claim, Status.FAILED)])
    assert not (await standing_of(store, claim.id)).answered
    await store.statement(messages.answered_one, claim.id)

    assert (await standing_of(store, claim.id)).answered


async def test_a_bad_reply_is_a_bad_row(store: Store, integration_id: UUID) -> None:
    """A settlement that cannot be stored is told as such, and its message stays claimed."""
    claim = await claimed(store, await accepted(store, integration_id))
    with pytest.raises(BadRow):
        await store.statement(messages.settle, [a_settlement(claim, reply="\udcff")])

    assert await status_of(store, claim.id) is Status.SENDING


# --- tombstones -------------------------------------------------------------------------------------------------------


async def test_what_is_buried_can_never_be_accepted(store: Store, integration_id: UUID) -> None:
    """A tombstone takes the id: a commit that comes late is refused, and nobody sees the tombstone."""
    message = a_message(integration_id)

    assert await store.transaction(messages.bury, [(message.id, message.kind)], NOW) == {message.id: False}
    with pytest.raises(BadRow):
        await store.statement(messages.accept, [message])
    assert await store.read(messages.standing, message.id) is None
    assert await store.read(every_standing) == []


async def test_what_was_committed_is_told_so(store: Store, integration_id: UUID) -> None:
    """A tombstone that finds the message committed tells it and changes nothing, also after the message ended."""
    queued, sent = [await accepted(store, integration_id) for _ in range(2)]
    await store.statement(messages.settle, [a_settlement(await claimed(store, sent))])
    lost = new_message_id()
    group = [(queued.id, Kind.FORM), (lost, Kind.FORM), (sent.id, Kind.FORM)]

    told = await store.transaction(messages.bury, group, NOW)
    assert told == {queued.id: True, lost: False, sent.id: True}
    assert await status_of(store, queued.id) is Status.QUEUED
    assert await status_of(store, sent.id) is Status.SENT


async def test_burying_twice_tells_the_same(store: Store) -> None:
    """A burial whose answer was lost can be repeated."""
    lost = new_message_id()
    await store.transaction(messages.bury, [(lost, Kind.FORM)], NOW)

    assert await store.transaction(messages.bury, [(lost, Kind.FORM)], NOW) == {lost: False}


async def test_an_empty_burial_does_nothing(store: Store) -> None:
    """An empty group is no mistake."""
    assert await store.transaction(messages.bury, [], NOW) == {}


async def test_what_was_answered_1_is_taken_back(store: Store, integration_id: UUID) -> None:
    """A message that nobody has claimed yet becomes a tombstone with nothing personal in it; one that never was, too."""
    queued, held = [await accepted(store, integration_id, status=status) for status in (Status.QUEUED, Status.HELD)]
    never = new_message_id()
    group = [(queued.id, Kind.FORM), (held.id, Kind.FORM), (never, Kind.FORM)]

    assert await store.transaction(messages.revoke, group, NOW) == set()
    assert await store.transaction(messages.revoke, group, NOW) == set()
    assert await store.statement(messages.claim, [queued.id, held.id], uuid4()) == {}
    assert await store.read(every_standing) == []
    assert await store.read(everything_said) == ([], [None, None, None])
    with pytest.raises(BadRow):
        await store.statement(messages.accept, [replace(queued, id=never)])


async def test_what_a_worker_has_cannot_be_taken_back(store: Store, integration_id: UUID) -> None:
    """A message that was claimed before, or has ended, stays what it is, and that is told."""
    sending, sent = [await accepted(store, integration_id) for _ in range(2)]
    await claimed(store, sending)
    await store.statement(messages.settle, [a_settlement(await claimed(store, sent))])
    group = [(sending.id, Kind.FORM), (sent.id, Kind.FORM)]

    assert await store.transaction(messages.revoke, group, NOW) == {sending.id, sent.id}
    assert await status_of(store, sending.id) is Status.SENDING
    assert await status_of(store, sent.id) is Status.SENT


def everything_said(tx: Connection) -> tuple[list[bytes], list[str | None]]:
    """Every content and every recipient there is."""
    bodies = tx.execute(sa.select(schema.contents.c.body)).scalars()
    return list(bodies), list(tx.execute(sa.select(schema.messages.c.recipient)).scalars())


# --- dead letters -----------------------------------------------------------------------------------------------------


async def ended(store: Store, integration_id: UUID, status: Status) -> Claimed:
    """A message that came to this end."""
    claim = await claimed(store, await accepted(store, integration_id))
    await store.statement(messages.settle, [a_settlement(claim, status, reason="because", blamed=1)])
    return claim


@pytest.mark.parametrize("status", sorted(DEAD_LETTERS))
async def test_a_dead_letter_gets_fresh_attempts(store: Store, integration_id: UUID, status: Status) -> None:
    """A re-driven dead letter is queued with no attempts counted, and its claim numbers go on."""
    old = await ended(store, integration_id, status)

    redriven = await store.transaction(messages.redrive_all, [old.id], at=NOW)
    assert redriven == [Revived(old.id, Kind.FORM, integration_id)]
    standing = await standing_of(store, old.id)
    assert (standing.status, standing.reason, standing.ended_at) == (Status.QUEUED, None, None)
    new = (await store.statement(messages.claim, [old.id], uuid4()))[old.id]
    assert (new.attempts, new.blamed, new.expires_at) == (0, 0, NOW + KINDS[Kind.FORM].expires_after)
    assert new.claim > old.claim


async def test_only_a_dead_letter_can_be_redriven(store: Store, integration_id: UUID) -> None:
    """What was sent, what is under way, what is held and what does not exist cannot be re-driven."""
    queued = await accepted(store, integration_id)
    held = await accepted(store, integration_id, status=Status.HELD)
    sent = await ended(store, integration_id, Status.SENT)

    assert await store.transaction(messages.redrive_all, [queued.id, held.id, sent.id, uuid4()], at=NOW) == []


async def test_what_was_answered_as_failed_is_never_redriven(store: Store, integration_id: UUID) -> None:
    """A client that was told 1 may have sent again: its message can be copied, but not re-driven."""
    failed = await ended(store, integration_id, Status.FAILED)

    assert await store.statement(messages.answered_one, failed.id)
    assert await store.transaction(messages.redrive_all, [failed.id], at=NOW) == []


@pytest.mark.parametrize("status", [Status.SENT, Status.UNCERTAIN])
async def test_only_a_final_failure_is_answered_one(store: Store, integration_id: UUID, status: Status) -> None:
    """What was, or may have been, delivered is not answered as failed."""
    claim = await ended(store, integration_id, status)

    assert not await store.statement(messages.answered_one, claim.id)


# --- looking ----------------------------------------------------------------------------------------------------------


async def test_statuses_are_told_of_what_exists(store: Store, integration_id: UUID) -> None:
    """Many statuses are asked for at once; unknown ids are left out."""
    queued = await accepted(store, integration_id)
    failed = await ended(store, integration_id, Status.FAILED)

    found = await store.read(messages.statuses, [queued.id, failed.id, uuid4()])
    assert found == {queued.id: Status.QUEUED, failed.id: Status.FAILED}


async def test_a_lane_is_known_once_marked(store: Store, integration_id: UUID) -> None:
    """Marking a lane tells every worker, and only of this lane."""
    await store.statement(integrations.mark_lane, integration_id, Lane.FORM)

    [row] = await store.read(integrations.all_rows)
    assert (bool(row.agent_lane), bool(row.form_lane), bool(row.campaign_lane)) == (False, True, False)
