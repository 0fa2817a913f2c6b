"""What each kind of message is entitled to: one row per kind, read by gate, retry policy, sweep and docs."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

from mailroom.message import Kind, Lane


class WhenRefused(StrEnum):
    """What becomes of an accepted message whose integration may not send."""

    HOLD = "hold"
    FAIL = "fail"


class WhenUncertain(StrEnum):
    """What becomes of a message that the server may or may not have."""

    TRY_ONCE_MORE = "try_once_more"
    DEAD_LETTER = "dead_letter"


@dataclass(frozen=True, slots=True, kw_only=True)
class KindRules:
    """The entitlements of one kind."""

    lane: Lane
    when_refused: WhenRefused
    when_uncertain: WhenUncertain
    expires_after: timedelta
    #: Whether the enforcement date (`[enforcement] <kind>`) can still let ERROR pass for this kind.
    enforcement_can_wait: bool = False


KINDS: Mapping[Kind, KindRules] = MappingProxyType(
    {
        Kind.FORM: KindRules(
            lane=Lane.FORM,
            when_refused=WhenRefused.HOLD,
            when_uncertain=WhenUncertain.TRY_ONCE_MORE,
            expires_after=timedelta(days=5),
        ),
        Kind.ACD: KindRules(
            lane=Lane.AGENT,
            when_refused=WhenRefused.FAIL,
            when_uncertain=WhenUncertain.DEAD_LETTER,
            expires_after=timedelta(hours=4),
            enforcement_can_wait=True,
        ),
        Kind.AGENTLESS: KindRules(
            lane=Lane.AGENT,
            when_refused=WhenRefused.FAIL,
            when_uncertain=WhenUncertain.DEAD_LETTER,
            expires_after=timedelta(hours=24),
        ),
        Kind.CAMPAIGN: KindRules(
            lane=Lane.CAMPAIGN,
            when_refused=WhenRefused.HOLD,
            when_uncertain=WhenUncertain.DEAD_LETTER,
            expires_after=timedelta(days=1),
        ),
    }
)
