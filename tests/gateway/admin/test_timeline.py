"""What happened to a message, in the order of time: what was recorded, and what that reads like."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.admin.timeline import timeline
from mailroom.message import Kind, Status, new_message_id
from mailroom.store.messages import Standing
from tests.builders import NOW, an_attempt

EARLIER, BEFORE = NOW - timedelta(seconds=2), NOW - timedelta(seconds=1)
SOON, LATER = NOW + timedelta(seconds=10), NOW + timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the audit."""

    at: datetime
    before: str | None
    after: str | None
    action: str = "reset"
    who: str = "user jane"
    why: str | None = "it is mended"


def a_standing(**changes: Any) -> Standing:
    """A form that was sent at its first try, over TLS."""
    usual: dict[str, Any] = {
        "id": new_message_id(), "kind": Kind.FORM, "service": "support", "tenant": None, "integration_id": None,
        "recipient": "support@company.test", "sender": "jane@customer.test", "subject": "A question", "size": 200,
        "accepted_at": NOW, "status": Status.SENT, "due": None, "ended_at": LATER, "reason": None, "reply": "dot: 250 ok",
        "tls": "TLSv1.3", "took": 40, "attempts": 1, "possible_duplicate": False, "answered": False,
    }  # fmt: skip
    return Standing(**(usual | changes))


def test_a_message_that_was_sent_at_once() -> None:
    """It was accepted and sent: the words of the server, how it was protected, how long it took."""
    accepted, sent = timeline(a_standing(), [], [], [])

    assert (accepted.what, accepted.details) == ("Accepted", ("through the service support",))
    assert (sent.what, sent.details, sent.took) == (
        "Attempt 1: Sent", ("dot: 250 ok", "over TLSv1.3"), timedelta(milliseconds=40)
    )  # fmt: skip


def test_a_clear_text_is_told() -> None:
    """What was sent without TLS says so, and nothing else: there was a connection."""
    assert timeline(a_standing(tls=None), [], [], [])[-1].details == ("dot: 250 ok", "not encrypted")


@pytest.mark.parametrize(
    ("moves", "told"),
    [
        ([], []),
        ([Row(BEFORE, "ACTIVATING", "ACTIVE", why=None)], []),
        ([Row(BEFORE, "ACTIVE", "ERROR", why="the password was refused")], ["Its integration was ERROR already"]),
        ([Row(BEFORE, "ACTIVE", "INACTIVE")], ["Its integration was INACTIVE already"]),
        ([Row(EARLIER, "ACTIVE", "ERROR"), Row(BEFORE, "ACTIVATING", "ACTIVE", why=None)], []),
    ],
    ids=["nothing known", "it was active", "it was in error", "it was disabled", "it was mended before"],
)
def test_why_a_message_waits_from_the_start(moves: list[Row], told: list[str]) -> None:
    """A message that was accepted while nothing could be sent says so right after that, although nobody tried."""
    events = timeline(a_standing(status=Status.HELD, ended_at=None), [], [], list(reversed(moves)))

    assert [event.what for event in events[1:]] == told


def test_moves_of_its_integration_meanwhile() -> None:
    """While it waits its integration's moves are about it; those after its end are not."""
    moves = [
        Row(LATER + timedelta(seconds=1), "ACTIVE", "ERROR"), Row(SOON, "ERROR", "ACTIVATING"), Row(NOW, "ACTIVE", "ERROR"),
    ]  # fmt: skip
    held = an_attempt(outcome="held", blame=None, command=None, code=None, reply=None, number=0)
    events = timeline(a_standing(), [held], [Row(SOON, "queued", None, action="looked at", why=None)], moves)

    assert [event.what for event in events][-3:] == [
        "looked at by user jane", "Its integration: ERROR to ACTIVATING", "Attempt 1: Sent"
    ]  # fmt: skip
    assert "Held at the gate" in [event.what for event in events]


def test_a_dead_letter_ends_with_why() -> None:
    """What failed for good ends with that, after the attempt that made it so."""
    standing = a_standing(status=Status.FAILED, reason="rejected.recipient")
    events = timeline(standing, [an_attempt(outcome="rejected", code=550, ended_at=SOON)], [], [])

    assert [event.what for event in events] == [
        "Accepted", "Attempt 1: Refused by the server", "A dead letter: failed"
    ]  # fmt: skip
    assert "recipient" in events[-1].details[0]
