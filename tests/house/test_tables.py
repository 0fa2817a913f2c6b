"""The tables that code, pages and pictures read: complete, and free of contradictions."""

import re
from pathlib import Path

import pytest

import mailroom.store
from mailroom.integration import CAUSE_OF, IN_PLAIN_WORDS, STATE_MOVES, Cause, Move, Mover, ReportedState, ways_from
from mailroom.kinds import KINDS
from mailroom.message import DEAD_LETTERS, ENDED, MOVES, Kind, Lane, Status
from mailroom.outcome import ABOUT_THE_MESSAGE


def test_every_status_has_its_moves() -> None:
    """No status is missing from the table of moves."""
    assert set(MOVES) == set(Status)


def test_every_status_can_be_reached() -> None:
    """From queued a message can come to every status but refused, which is written as it is."""
    reached = {Status.QUEUED}
    for _ in Status:
        reached |= {target for status in reached for target in MOVES[status]}

    assert reached == set(Status) - {Status.REFUSED}


def test_unfinished_messages_can_always_end() -> None:
    """Every status that is not an end has a way out, and time alone can end it."""
    for status in set(Status) - ENDED:
        assert MOVES[status]
        assert status is Status.SENDING or Status.EXPIRED in MOVES[status]


def test_only_a_redrive_leaves_a_dead_letter() -> None:
    """A dead letter goes back to the queue, or turns out to have been sent; sent and refused are for ever."""
    assert DEAD_LETTERS < ENDED
    assert all(MOVES[status] <= {Status.QUEUED, Status.SENT} for status in DEAD_LETTERS)
    assert all(not MOVES[status] for status in ENDED - DEAD_LETTERS)


def test_only_a_sending_message_can_be_uncertain() -> None:
    """Doubt arises only while an attempt is under way."""
    assert {status for status in Status if Status.UNCERTAIN in MOVES[status]} == {Status.SENDING}


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_has_its_row(kind: Kind) -> None:
    """A kind without its entitlements could not pass gate, retry policy and sweep."""
    rules = KINDS[kind]

    assert rules.lane in Lane
    assert rules.expires_after.total_seconds() > 0


def test_every_lane_is_used() -> None:
    """No queue is declared that no kind travels in."""
    assert {rules.lane for rules in KINDS.values()} == set(Lane)


def test_only_agents_replies_can_wait_for_enforcement() -> None:
    """The enforcement date concerns agents' replies alone."""
    assert [kind for kind in Kind if KINDS[kind].enforcement_can_wait] == [Kind.ACD]


def test_every_move_of_an_integration_has_its_rules() -> None:
    """Each move starts somewhere, is somebody's to make, and says why it is made."""
    assert set(STATE_MOVES) == set(Move)
    assert all(rules.sources and rules.by and rules.noted_as and rules.why for rules in STATE_MOVES.values())


def test_only_a_test_makes_an_integration_active() -> None:
    """Every way to ACTIVE leads through ACTIVATING, and is a worker's to go."""
    to_active = [rules for rules in STATE_MOVES.values() if rules.target is ReportedState.ACTIVE]

    assert [(rules.sources, rules.by) for rules in to_active] == [
        (frozenset({ReportedState.ACTIVATING}), frozenset({Mover.WORKER}))
    ]


def test_an_error_is_sticky() -> None:
    """Only a person leads out of ERROR: to a live test, or to being switched off."""
    ways_out = [rules for rules in STATE_MOVES.values() if ReportedState.ERROR in rules.sources]

    assert {mover for rules in ways_out for mover in rules.by} == {Mover.PERSON}
    assert ways_from(ReportedState.ERROR) == {
        ReportedState.ACTIVATING, ReportedState.INACTIVE, ReportedState.DEACTIVATING,
    }  # fmt: skip


def test_nobody_but_a_person_switches_on_or_off() -> None:
    """What people want changes by people; workers and the sweep tell what is so."""
    wanted = {ReportedState.ACTIVATING, ReportedState.DEACTIVATING}

    assert all(rules.by == {Mover.PERSON} for rules in STATE_MOVES.values() if rules.target in wanted)


def test_one_place_moves_the_state() -> None:
    """No statement but the one that makes moves, and that which creates an integration, writes the reported state."""
    writing = re.compile(r"\.values\([^()]*reported_state|SET[^;\"]*reported_state")
    sources = Path(mailroom.store.__path__[0]).glob("*.py")

    assert {source.name for source in sources if writing.search(source.read_text())} == {"states.py"}


def test_every_cause_is_told_in_words() -> None:
    """An administrator reads words, for each of the four causes."""
    assert set(IN_PLAIN_WORDS) == set(Cause) == set(CAUSE_OF.values())


def test_recipients_and_messages_never_blame_an_integration() -> None:
    """What is said about a recipient or a message cannot set ERROR."""
    assert not ABOUT_THE_MESSAGE & CAUSE_OF.keys()
