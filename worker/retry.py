"""What becomes of a message after an attempt: pure; the caller brings the time and the dice."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from mailroom.kinds import KINDS, WhenRefused, WhenUncertain
from mailroom.message import Kind, Status
from mailroom.outcome import ABOUT_THE_MESSAGE, Deferred, Held, Outcome, Rejected, Sent, Uncertain
from mailroom.settings import RetrySettings

#: Delays are shortened by up to this share, so that what failed together does not come back together (OVL-6).
JITTER = 0.2

#: Classes of reasons, shown to the public: never the server's words.
INTEGRATION_ERROR = "integration.error"
EXPIRED = "expired"
ATTEMPTS_EXHAUSTED = "attempts.exhausted"
UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True)
class Finish:
    """It was sent; nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again at this time. `possible_duplicate` marks a message the server may have already."""

    at: datetime
    possible_duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait until the integration may send again."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A dead letter: `status` is failed, expired or uncertain; `reason` is its class, safe to show to anybody."""

    status: Status
    reason: str


Step = Finish | Retry | Hold | GiveUp


def counts_as_attempt(outcome: Outcome) -> bool:
    """Whether the outcome uses up one of the message's attempts; all others cost it only time."""
    return isinstance(outcome, Deferred | Rejected) and outcome.blame in ABOUT_THE_MESSAGE


class RetryPolicy:
    """When a message is tried again, and when it is given up."""

    def __init__(self, settings: RetrySettings) -> None:
        self._first = settings.first_delay
        self._longest = settings.longest_delay
        self._max_attempts = settings.max_attempts

    def delay_after(self, attempt: int, jitter: float) -> timedelta:
        """How long to wait after this attempt (from 1): doubling, never longer than the longest delay.

        `jitter` is a number in [0, 1) from the caller's dice; it takes away up to a fifth.
        """
        # 2**40 times any first delay is beyond every longest one; the cap keeps the power small.
        delay = min(self._first * 2.0 ** min(max(attempt, 1) - 1, 40), self._longest)
        return timedelta(seconds=delay * (1 - JITTER * jitter))

    def next_step(  # noqa: PLR0911  # one return per row of the table
        self,
        outcome: Outcome,
        *,
        kind: Kind,
        attempts_blamed: int,
        attempts: int,
        already_uncertain: bool,
        now: datetime,
        expires_at: datetime,
        jitter: float,
    ) -> Step:
        """What to do with the message now.

        `attempts` is the number of this attempt, from 1. `attempts_blamed` is how many attempts, this one included,
        failed for the recipient's or the message's sake (`counts_as_attempt`). `already_uncertain`: an earlier one was.
        """
        if isinstance(outcome, Sent):
            return Finish()
        again_at = min(now + self.delay_after(attempts, jitter), expires_at)
        match outcome:
            case Rejected():
                return GiveUp(Status.FAILED, f"rejected.{outcome.blame}")
            case Uncertain():
                return self._after_doubt(kind, again_at, expired=now >= expires_at, already_uncertain=already_uncertain)
            case Held() if KINDS[kind].when_refused is WhenRefused.FAIL:
                return GiveUp(Status.FAILED, INTEGRATION_ERROR)
            case Held() | Deferred() if now >= expires_at:
                return GiveUp(Status.EXPIRED, EXPIRED)
            case Held():
                return Hold()
            case Deferred() if counts_as_attempt(outcome) and attempts_blamed >= self._max_attempts:
                return GiveUp(Status.FAILED, ATTEMPTS_EXHAUSTED)
            case Deferred():
                return Retry(again_at, possible_duplicate=already_uncertain)
            case _:
                assert_never(outcome)

    def _after_doubt(self, kind: Kind, again_at: datetime, *, expired: bool, already_uncertain: bool) -> Retry | GiveUp:
        """Only one kind may be sent twice, and only once more; whatever else is in doubt waits for a person."""
        once_more = KINDS[kind].when_uncertain is WhenUncertain.TRY_ONCE_MORE
        if once_more and not already_uncertain and not expired:
            return Retry(again_at, possible_duplicate=True)
        return GiveUp(Status.UNCERTAIN, UNCERTAIN)
