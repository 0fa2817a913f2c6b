"""What is told about a decision is what the rule that takes it says."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from mailroom.encoding import before_encoding, on_the_wire
from mailroom.explain import Accepted, Decision, Known, Recipient, Service, Verdict, explain
from mailroom.gate import Enforcement
from mailroom.integration import Account, Cause, Integration, IntendedState, ReportedState, Security
from mailroom.message import Kind, Status
from mailroom.settings import BY_DEFAULT, EmailOptions, RetrySettings

NOW = datetime(2026, 1, 6, 12, tzinfo=UTC)
BROKEN = {"reported_state": ReportedState.ERROR, "cause": Cause.TIMED_OUT}


def an_integration(**changes: Any) -> Integration:
    """One that may send, without any limit."""
    usual: dict[str, Any] = {
        "id": UUID(int=1), "name": "main", "account": Account(host="smtp.test", port=587, security=Security.STARTTLS),
        "from_address": "forms@company.test", "from_name": None, "default_mailbox": None,
        "intended_state": IntendedState.ENABLED, "reported_state": ReportedState.ACTIVE, "cause": None, "since": NOW,
        "generation": 1, "max_connections": 8, "ehlo_size": None, "failures": 0, "test_waiting": False,
    }  # fmt: skip
    return Integration(**(usual | changes))


def an_accepted(**changes: Any) -> Accepted:
    """A message that waits."""
    usual: dict[str, Any] = {
        "status": Status.QUEUED, "expires_at": NOW + timedelta(days=3), "due": None, "attempts": 0,
        "possible_duplicate": False, "answered": False,
    }  # fmt: skip
    return Accepted(**(usual | changes))


def a_service(**options: Any) -> Service:
    """A service that exists."""
    return Service(name="support", options=EmailOptions(**options), origin=BY_DEFAULT)


def told(integration: Integration | None = None, /, **changes: Any) -> dict[str, Decision]:
    """The decisions about a form, by topic; without an integration it has one that may send."""
    usual: dict[str, Any] = {
        "kind": Kind.FORM, "now": NOW, "enforcement": Enforcement(), "retry": RetrySettings(),
        "recipient": Recipient(address="a@company.test", chosen_by="it says so"), "leaves_through": "the integration",
        "integration": integration or an_integration(),
    }  # fmt: skip
    return {one.topic: one for one in explain(Known(**(usual | changes)))}


def test_what_nothing_stops_passes() -> None:
    """Every decision about a form that would be sent at once passes or only tells, in the order they are taken."""
    found = told(service=a_service())

    assert list(found) == ["service", "recipient", "integration", "size", "gate", "limits", "lane", "expiry", "next try",
                           "lost answer"]  # fmt: skip
    assert {one.verdict for one in found.values()} == {Verdict.PASSES, Verdict.TELLS}


@pytest.mark.parametrize(
    ("changes", "topic", "words"),
    [
        ({"service": Service(name="x", options=None, origin=BY_DEFAULT)}, "service", "404"),
        ({"recipient": Recipient(address=None, chosen_by="no mailbox")}, "recipient", "no mailbox"),
        ({"integration": None}, "integration", "does not exist"),
        ({"integration": an_integration(from_address="")}, "integration", "no sender address"),
        ({"integration": an_integration(ehlo_size=10_000), "size": 50_000}, "size", "takes 10000: the answer is 400"),
        ({"integration": an_integration(**BROKEN), "service": a_service()}, "gate", "timed out: the answer is 1"),
        ({"integration": an_integration(**BROKEN), "kind": Kind.AGENTLESS}, "gate", "the answer is 400"),
    ],
)
def test_nothing_is_told_after_what_stops(changes: dict[str, Any], topic: str, words: str) -> None:
    """The decision that stops a submission is the last one, and says what its client is answered."""
    found = list(told(**changes).values())

    assert (found[-1].topic, found[-1].verdict) == (topic, Verdict.STOPS)
    assert words in found[-1].why


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({"service": a_service(when_inactive="hold")}, Verdict.WAITS, "accepted and held"),
        ({"accepted": an_accepted()}, Verdict.WAITS, "it is held until"),
        ({"accepted": an_accepted(), "kind": Kind.CAMPAIGN}, Verdict.WAITS, "it is held until"),
        ({"accepted": an_accepted(), "kind": Kind.AGENTLESS}, Verdict.STOPS, "it fails with integration.error"),
        ({"accepted": an_accepted(), "kind": Kind.ACD}, Verdict.PASSES, "not enforced yet"),
        (
            {"accepted": an_accepted(), "kind": Kind.ACD, "enforcement": Enforcement(acd_from=NOW)},
            Verdict.STOPS, "it fails with integration.error",
        ),
    ],
)  # fmt: skip
def test_an_error_does_to_each_kind_what_the_gate_says(changes: dict[str, Any], verdict: Verdict, words: str) -> None:
    """While its integration is in ERROR a message is held, fails or is let pass, as its kind and the date have it."""
    gate = told(an_integration(**BROKEN), **changes)["gate"]

    assert gate.verdict is verdict
    assert words in gate.why


@pytest.mark.parametrize(
    ("integration", "changes", "verdict", "words"),
    [
        ({}, {}, Verdict.PASSES, "Nothing limits"),
        ({"per_second": 2.0}, {"ahead": 119}, Verdict.WAITS, "about 60 s"),
        ({"per_day": 100}, {"used_today": 100}, Verdict.WAITS, "Of its 100 messages a day 100 are used. "),
        ({"per_day": 100}, {"used_today": 100}, Verdict.WAITS, "about 12 hours"),
        ({"released_at": NOW}, {}, Verdict.WAITS, "sends one message"),
        ({"pace": 0.5, "paced_at": NOW}, {"ahead": 9}, Verdict.WAITS, "At the moment it sends 0.5 a second"),
    ],
)
def test_what_limits_it_is_told_with_the_wait(
    integration: dict[str, Any], changes: dict[str, Any], verdict: Verdict, words: str
) -> None:
    """Limits, what is used of them, what slows it down, and about how long that takes."""
    limits = told(an_integration(**integration), **changes)["limits"]

    assert limits.verdict is verdict
    assert words in limits.why


@pytest.mark.parametrize(
    ("accepted", "verdict", "words"),
    [
        ({"status": Status.FAILED}, Verdict.PASSES, "can be re-driven."),
        ({"status": Status.UNCERTAIN, "possible_duplicate": True}, Verdict.PASSES, "may arrive twice"),
        ({"status": Status.FAILED, "answered": True}, Verdict.STOPS, "its client was told so"),
        ({"status": Status.SENT}, Verdict.TELLS, "it is sent"),
        ({"status": Status.QUEUED}, Verdict.TELLS, "it is queued"),
    ],
)
def test_whether_it_can_be_re_driven(accepted: dict[str, Any], verdict: Verdict, words: str) -> None:
    """Dead letters can, unless their client was told; of what has ended nothing else is left to decide."""
    found = told(accepted=an_accepted(**accepted))

    assert found["re-drive"].verdict is verdict
    assert words in found["re-drive"].why
    assert ("gate" in found) == (accepted["status"] is Status.QUEUED)


@pytest.mark.parametrize(
    ("changes", "topic", "words"),
    [
        ({}, "expiry", "5 days after it was accepted"),
        ({"accepted": an_accepted()}, "expiry", "in 3 days"),
        ({"accepted": an_accepted(expires_at=NOW)}, "expiry", "Its time is over"),
        ({}, "next try", "after 5 minutes"),
        (
            {"accepted": an_accepted(status=Status.DEFERRED, due=NOW + timedelta(minutes=7))},
            "next try", "again in 7 minutes",
        ),
        ({}, "lost answer", "tried once more"),
        ({"accepted": an_accepted(possible_duplicate=True)}, "lost answer", "it becomes uncertain"),
        ({"kind": Kind.CAMPAIGN}, "lost answer", "it becomes uncertain"),
        ({"kind": Kind.ACD}, "lane", "the lane agent, which it shares with agentless"),
    ],
)  # fmt: skip
def test_what_would_happen_is_told(changes: dict[str, Any], topic: str, words: str) -> None:
    """When it expires, when it is tried again, what a lost answer does, and where it waits."""
    assert words in told(**changes)[topic].why


@pytest.mark.parametrize("size", [0, 1, 56, 57, 58, 1000, 10**9])
def test_what_fits_before_encoding_fits_on_the_wire(size: int) -> None:
    """There and back no byte is promised that there is no room for."""
    assert before_encoding(on_the_wire(size)) >= size
    assert on_the_wire(before_encoding(size)) <= size
