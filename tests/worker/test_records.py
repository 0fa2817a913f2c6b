"""What is kept of an attempt, and of what the gate did not let begin."""

from datetime import timedelta

import pytest

from mailroom.outcome import Blame, Deferred, Held, Outcome, Rejected, Reply, Sent, Uncertain
from mailroom.store.messages import Attempt
from tests.builders import NOW
from worker.deliver import Tried, as_record

LATER = NOW + timedelta(milliseconds=1234, microseconds=567)
REPLY = Reply("RCPT", 550, "5.1.1 no such user", "5.1.1")


def recorded(outcome: Outcome, tls: str | None = None) -> Attempt | None:
    """What is kept of the third attempt."""
    return as_record(Tried(outcome, tls=tls), 3, NOW, LATER)


@pytest.mark.parametrize(
    "outcome", [Sent(REPLY), Deferred(REPLY, Blame.US), Rejected(REPLY, Blame.US), Uncertain(REPLY)]
)
def test_an_attempt_is_kept_with_what_was_said(outcome: Sent | Deferred | Rejected | Uncertain) -> None:
    """Number, moments, blame, command, code, words and the version of TLS; and from these how long it took."""
    attempt = recorded(outcome, "TLSv1.3")

    assert attempt == Attempt(
        number=3, started_at=NOW, ended_at=LATER, outcome=type(outcome).__name__.lower(),
        blame=Blame.US if isinstance(outcome, Deferred | Rejected) else None, command="RCPT", code=550,
        reply="RCPT: 550 5.1.1 no such user", tls="TLSv1.3",
    )  # fmt: skip
    assert attempt.took == 1234


def test_what_was_held_is_kept_with_the_reason() -> None:
    """A timeline shows why it was held, as no attempt: nothing was tried, so nothing took any time."""
    attempt = recorded(Held("the integration is disabled"))

    assert attempt == Attempt(
        number=3, started_at=NOW, ended_at=LATER, outcome="held", command="gate", reply="the integration is disabled"
    )
    assert attempt.took is None


def test_not_knowing_is_not_kept() -> None:
    """While nobody knows what the gate would say there is nothing to tell of the message."""
    assert recorded(Deferred(Reply("gate", None, "not known at the moment"), Blame.US)) is None


def test_a_clock_that_went_back_is_no_time() -> None:
    """An attempt that ends before it began took no time at all."""
    assert Attempt(number=1, started_at=LATER, ended_at=NOW, outcome="sent").took == 0
