"""The gate's table: which kind may leave through an integration in which state."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from mailroom.gate import Closed, Enforcement, Open, gate
from mailroom.integration import IN_PLAIN_WORDS, Cause, IntendedState, ReportedState
from mailroom.message import Kind

DATE = datetime(2026, 1, 6, tzinfo=UTC)
BEFORE, AFTER = DATE - timedelta(seconds=1), DATE + timedelta(days=100)
FROM_THE_DATE, NEVER = Enforcement(acd_from=DATE), Enforcement()


@pytest.mark.parametrize(
    ("kind", "intended", "reported", "now"),
    list(itertools.product(Kind, IntendedState, ReportedState, [BEFORE, DATE, AFTER])),
)
def test_only_active_and_enabled_may_send(
    kind: Kind, intended: IntendedState, reported: ReportedState, now: datetime
) -> None:
    """Open means ENABLED and ACTIVE, for every kind, at any time; but for agents' replies before their date."""
    answer = gate(kind, intended, reported, None, now, FROM_THE_DATE)

    enabled = intended is IntendedState.ENABLED
    overlooked = kind is Kind.ACD and reported is ReportedState.ERROR and now is BEFORE
    assert isinstance(answer, Open) is (enabled and (reported is ReportedState.ACTIVE or overlooked))


@pytest.mark.parametrize("kind", list(Kind))
def test_without_a_date_only_agents_replies_pass_an_error(kind: Kind) -> None:
    """Where enforcement has no date, ERROR never stops an agent's reply, and stops every other kind."""
    answer = gate(kind, IntendedState.ENABLED, ReportedState.ERROR, Cause.TIMED_OUT, AFTER, NEVER)

    assert isinstance(answer, Open) is (kind is Kind.ACD)


@pytest.mark.parametrize("cause", list(Cause))
def test_an_overlooked_error_is_warned_about(cause: Cause) -> None:
    """What passes only for its date comes with the reason for which it will be refused."""
    answer = gate(Kind.ACD, IntendedState.ENABLED, ReportedState.ERROR, cause, BEFORE, FROM_THE_DATE)

    assert answer == Open(warning=f"the integration is in error: {IN_PLAIN_WORDS[cause]}")


@pytest.mark.parametrize(
    ("intended", "reported", "cause", "reason"),
    [
        (IntendedState.DISABLED, ReportedState.ACTIVE, None, "the integration is disabled"),
        (IntendedState.DISABLED, ReportedState.ERROR, Cause.TIMED_OUT, "the integration is disabled"),
        (
            IntendedState.ENABLED,
            ReportedState.ACTIVATING,
            None,
            "the integration is being tested and not active yet",
        ),
        (IntendedState.ENABLED, ReportedState.INACTIVE, None, "the integration is inactive"),
        (
            IntendedState.DISABLED,
            ReportedState.DEACTIVATING,
            None,
            "the integration is being disabled: only what is already on its way is finished",
        ),
        (
            IntendedState.ENABLED,
            ReportedState.DEACTIVATING,
            None,
            "the integration is being disabled: only what is already on its way is finished",
        ),
        (IntendedState.DELETED, ReportedState.DEACTIVATING, None, "the integration was deleted"),
        (IntendedState.DELETED, ReportedState.INACTIVE, None, "the integration was deleted"),
        (IntendedState.ENABLED, ReportedState.ERROR, None, "the integration is in error: cause unknown"),
        (
            IntendedState.ENABLED,
            ReportedState.ERROR,
            Cause.AUTHENTICATION_REFUSED,
            "the integration is in error: the SMTP server refused the user name or password",
        ),
    ],
)
def test_a_closed_gate_says_why(
    intended: IntendedState, reported: ReportedState, cause: Cause | None, reason: str
) -> None:
    """The reason is there to be read, in words for a person."""
    assert gate(Kind.FORM, intended, reported, cause, AFTER, NEVER) == Closed(reason)


def test_an_open_gate_needs_no_words() -> None:
    """Nothing is warned about where nothing is wrong."""
    assert gate(Kind.ACD, IntendedState.ENABLED, ReportedState.ACTIVE, None, BEFORE, FROM_THE_DATE) == Open()
