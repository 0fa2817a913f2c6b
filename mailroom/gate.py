"""The gate: may this integration send this kind now? The one rule every path to SMTP passes, twice."""

from dataclasses import dataclass
from datetime import datetime

from mailroom.integration import IN_PLAIN_WORDS, Cause, IntendedState, ReportedState
from mailroom.kinds import KINDS
from mailroom.message import Kind


@dataclass(frozen=True, slots=True)
class Open:
    """It may send. `warning` says why it would be refused were its enforcement date not still to come."""

    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """It may not send, and why, in words for a person."""

    reason: str


@dataclass(frozen=True, slots=True)
class Enforcement:
    """From when ERROR also refuses kinds whose enforcement can wait; None = never."""

    acd_from: datetime | None = None


def gate(
    kind: Kind,
    intended: IntendedState,
    reported: ReportedState,
    cause: Cause | None,
    now: datetime,
    enforcement: Enforcement,
) -> Open | Closed:
    """Open only for an ENABLED and ACTIVE integration; ERROR alone is overlooked for acd before its enforcement date."""
    match intended:
        case IntendedState.ENABLED:
            return _enabled(kind, reported, cause, now, enforcement)
        case IntendedState.DISABLED if reported is ReportedState.DEACTIVATING:
            return Closed(_BEING_DISABLED)
        case IntendedState.DISABLED:
            return Closed("the integration is disabled")
        case IntendedState.DELETED:
            return Closed("the integration was deleted")


_OPEN = Open()
_BEING_DISABLED = "the integration is being disabled: only what is already on its way is finished"


def _enabled(
    kind: Kind, reported: ReportedState, cause: Cause | None, now: datetime, enforcement: Enforcement
) -> Open | Closed:
    match reported:
        case ReportedState.ACTIVE:
            return _OPEN
        case ReportedState.ACTIVATING:
            return Closed("the integration is being tested and not active yet")
        case ReportedState.INACTIVE:
            return Closed("the integration is inactive")
        case ReportedState.DEACTIVATING:
            return Closed(_BEING_DISABLED)
        case ReportedState.ERROR:
            reason = f"the integration is in error: {IN_PLAIN_WORDS[cause] if cause else 'cause unknown'}"
            enforced = enforcement.acd_from is not None and now >= enforcement.acd_from
            if KINDS[kind].enforcement_can_wait and not enforced:
                return Open(warning=reason)
            return Closed(reason)
