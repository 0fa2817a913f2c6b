"""What becomes of a message after each outcome."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.message import MOVES, Kind, Status
from mailroom.outcome import Blame, Deferred, Held, Outcome, Rejected, Reply, Sent, Uncertain
from mailroom.settings import RetrySettings
from worker.retry import Finish, GiveUp, Hold, Retry, RetryPolicy, Step, counts_as_attempt

NOW = datetime(2026, 1, 2, tzinfo=UTC)
REPLY = Reply("RCPT", 450, "later")
POLICY = RetryPolicy(RetrySettings())
IN_FIVE_MINUTES = NOW + timedelta(minutes=5)


def step(outcome: Outcome, kind: Kind = Kind.FORM, **changes: object) -> Step:
    values: dict[str, object] = {
        "kind": kind,
        "attempts_blamed": 1,
        "attempts": 1,
        "already_uncertain": False,
        "now": NOW,
        "expires_at": NOW + timedelta(days=5),
        "jitter": 0.0,
    }
    return POLICY.next_step(outcome, **(values | changes))  # type: ignore[arg-type]  # the test names them


ABOUT_RECIPIENT = Deferred(REPLY, Blame.RECIPIENT)
ABOUT_CONNECTION = Deferred(REPLY, Blame.CONNECTION)
LONG_AGO = NOW - timedelta(seconds=1)


@pytest.mark.parametrize(
    ("outcome", "changes", "expected"),
    [
        (Sent(REPLY), {}, Finish()),
        (Sent(REPLY), {"expires_at": LONG_AGO}, Finish()),
        (Rejected(REPLY, Blame.RECIPIENT), {}, GiveUp(Status.FAILED, "rejected.recipient")),
        (Rejected(REPLY, Blame.US), {}, GiveUp(Status.FAILED, "rejected.us")),
        (ABOUT_RECIPIENT, {}, Retry(IN_FIVE_MINUTES)),
        (ABOUT_RECIPIENT, {"attempts_blamed": 11, "attempts": 1}, Retry(IN_FIVE_MINUTES)),
        (ABOUT_RECIPIENT, {"attempts_blamed": 12}, GiveUp(Status.FAILED, "attempts.exhausted")),
        (ABOUT_CONNECTION, {"attempts_blamed": 12}, Retry(IN_FIVE_MINUTES)),
        (ABOUT_CONNECTION, {"attempts": 500}, Retry(NOW + timedelta(seconds=4000))),
        (ABOUT_CONNECTION, {"expires_at": NOW}, GiveUp(Status.EXPIRED, "expired")),
        (ABOUT_CONNECTION, {"expires_at": NOW + timedelta(minutes=1)}, Retry(NOW + timedelta(minutes=1))),
        (ABOUT_CONNECTION, {"already_uncertain": True}, Retry(IN_FIVE_MINUTES, possible_duplicate=True)),
        (Held("disabled"), {}, Hold()),
        (Held("disabled"), {"kind": Kind.CAMPAIGN}, Hold()),
        (Held("disabled"), {"kind": Kind.ACD}, GiveUp(Status.FAILED, "integration.error")),
        (Held("disabled"), {"kind": Kind.AGENTLESS}, GiveUp(Status.FAILED, "integration.error")),
        (Held("disabled"), {"expires_at": LONG_AGO}, GiveUp(Status.EXPIRED, "expired")),
        (Uncertain(REPLY), {}, Retry(IN_FIVE_MINUTES, possible_duplicate=True)),
        (Uncertain(REPLY), {"already_uncertain": True}, GiveUp(Status.UNCERTAIN, "uncertain")),
        (Uncertain(REPLY), {"expires_at": LONG_AGO}, GiveUp(Status.UNCERTAIN, "uncertain")),
        (Uncertain(REPLY), {"kind": Kind.ACD}, GiveUp(Status.UNCERTAIN, "uncertain")),
        (Uncertain(REPLY), {"kind": Kind.AGENTLESS}, GiveUp(Status.UNCERTAIN, "uncertain")),
        (Uncertain(REPLY), {"kind": Kind.CAMPAIGN}, GiveUp(Status.UNCERTAIN, "uncertain")),
    ],
)
def test_dlv_12_the_next_step(outcome: Outcome, changes: dict[str, object], expected: Step) -> None:
    """Each outcome leads where the table says, by kind, age and attempts."""
    assert step(outcome, **changes) == expected  # type: ignore[arg-type]  # one row of the table


@pytest.mark.parametrize("blame", Blame)
def test_only_recipient_and_message_use_up_attempts(blame: Blame) -> None:
    """What the account, the host or the connection does costs a message only time."""
    blamed = blame in {Blame.RECIPIENT, Blame.MESSAGE}

    assert counts_as_attempt(Deferred(REPLY, blame)) is blamed
    assert isinstance(step(Deferred(REPLY, blame), attempts_blamed=99), GiveUp) is blamed
    assert not counts_as_attempt(Uncertain(REPLY))


@pytest.mark.parametrize("kind", Kind)
def test_every_dead_letter_is_one_a_person_can_redrive(kind: Kind) -> None:
    """Whatever is given up goes to a status that a message in sending may move to, and that leads back to queued."""
    for outcome in (Rejected(REPLY, Blame.MESSAGE), Uncertain(REPLY), Held("x"), ABOUT_CONNECTION):
        given_up = step(outcome, kind, already_uncertain=True, expires_at=LONG_AGO)

        assert isinstance(given_up, GiveUp)
        assert given_up.status in MOVES[Status.SENDING]
        assert Status.QUEUED in MOVES[given_up.status]


def test_dlv_12_delays_double_up_to_the_longest() -> None:
    """5, 10, 20, 40 minutes, and then 67 for as long as it takes."""
    minutes = [POLICY.delay_after(attempt, 0).total_seconds() / 60 for attempt in range(1, 7)]

    assert [round(delay) for delay in minutes] == [5, 10, 20, 40, 67, 67]


@given(attempt=st.integers(1, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_delays_stay_in_their_bounds(attempt: int, jitter: float) -> None:
    """No dice and no number of attempts make a delay longer than the longest or shorter than 4 minutes."""
    assert timedelta(minutes=4) <= POLICY.delay_after(attempt, jitter) <= timedelta(seconds=4000)


def test_dlv_12_what_failed_together_does_not_come_back_together() -> None:
    """The dice spread the retries of one moment over at least a tenth of the delay."""
    delays = [POLICY.delay_after(9, tenth / 10) for tenth in range(10)]

    assert max(delays) - min(delays) >= 0.1 * max(delays)
    assert all(later < sooner for sooner, later in pairwise(delays))
