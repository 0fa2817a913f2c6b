"""Why what happens to a message happens: every decision that would be taken about it now, by the rules that take it.

Pure; the caller brings the time and everything that is known.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from mailroom import pace
from mailroom.encoding import on_the_wire
from mailroom.gate import Closed, Enforcement, Open, gate
from mailroom.integration import Integration
from mailroom.kinds import KINDS, WhenRefused, WhenUncertain
from mailroom.message import DEAD_LETTERS, ENDED, Kind, Status
from mailroom.settings import EmailOptions, Origin, RetrySettings

#: What a mail has beside its content, roughly: headers, boundaries, the block under the text.
_AROUND = 8192

#: A wait that is not worth telling.
_AT_ONCE_SECONDS = 2.0


class Verdict(StrEnum):
    """What a decision means for the message."""

    PASSES = "passes"
    WAITS = "waits"
    STOPS = "stops"
    #: It decides nothing now; it says what would happen.
    TELLS = "tells"


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision: what about, what it comes to, and why, in a sentence or two."""

    topic: str
    verdict: Verdict
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The form service that is asked for; `options` is None when there is none of this name."""

    name: str
    options: EmailOptions | None
    #: Where the option that names the integration comes from.
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """Where the mail goes, and what said so; `address` is None when nothing does, or it may not be named."""

    address: str | None
    chosen_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What is so of a message that was taken in."""

    status: Status
    expires_at: datetime | None
    due: datetime | None
    attempts: int
    possible_duplicate: bool
    #: Whether its client was told that it failed.
    answered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """All that is known of a message, or of what would become one."""

    kind: Kind
    now: datetime
    enforcement: Enforcement
    retry: RetrySettings
    recipient: Recipient
    #: The name that leads to the integration, and the integration as it is; None when there is none.
    leaves_through: str
    integration: Integration | None
    #: How many messages are queued for the integration, and how many count for today.
    ahead: int = 0
    used_today: int = 0
    #: Bytes of its text and files.
    size: int = 0
    service: Service | None = None
    #: None = it was not taken in: this is about a submission.
    accepted: Accepted | None = None


def explain(known: Known) -> list[Decision]:
    """Every decision in the order in which they are taken; after one that stops there is nothing more to decide."""
    decisions: list[Decision] = []
    for decision in _decisions(known):
        decisions.append(decision)
        if decision.verdict is Verdict.STOPS and known.accepted is None:
            break
    return decisions


def _decisions(known: Known) -> Iterator[Decision]:
    if known.accepted is not None:
        yield _standing(known.accepted)
    if known.service is not None:
        yield _service(known.service)
    yield _recipient(known.recipient)
    yield _integration(known)
    if known.accepted is not None and known.accepted.status in ENDED:
        yield _redrive(known.accepted)
        return
    if known.integration is None:
        return
    yield _size(known, known.integration)
    yield _gate(known, known.integration)
    yield _limits(known, known.integration)
    yield Decision("lane", Verdict.TELLS, _lane(known))
    yield _expiry(known)
    yield _next_try(known)
    yield _doubt(known)
    if known.accepted is not None:
        yield _redrive(known.accepted)


# --- where it goes ----------------------------------------------------------------------------------------------------


def _standing(accepted: Accepted) -> Decision:
    times = "once" if accepted.attempts == 1 else f"{accepted.attempts} times"
    tried = f"it was tried {times}" if accepted.attempts else "it was not tried yet"
    doubt = ", and the server may have it already" if accepted.possible_duplicate else ""
    return Decision("status", Verdict.TELLS, f"It is {accepted.status}; {tried}{doubt}.")


def _service(service: Service) -> Decision:
    if service.options is None:
        why = f"There is no service {service.name!r}, and any_service is off: the answer is 404."
        return Decision("service", Verdict.STOPS, why)
    keys = f" One of its {len(service.options.api_keys)} API keys is needed." if service.options.api_keys else ""
    return Decision("service", Verdict.PASSES, f"The service {service.name!r} exists.{keys}")


def _recipient(recipient: Recipient) -> Decision:
    if recipient.address is None:
        return Decision("recipient", Verdict.STOPS, f"It has no recipient: {recipient.chosen_by}.")
    return Decision("recipient", Verdict.PASSES, f"It goes to {recipient.address}: {recipient.chosen_by}.")


def _integration(known: Known) -> Decision:
    one = known.integration
    if one is None:
        return Decision("integration", Verdict.STOPS, f"It cannot leave: {known.leaves_through} does not exist.")
    if not one.from_address and known.kind is Kind.FORM:
        why = f"{known.leaves_through} has no sender address, so that forms are answered 1."
        return Decision("integration", Verdict.STOPS, why)
    why = f"It leaves through {known.leaves_through}, at {one.account.host}:{one.account.port}."
    return Decision("integration", Verdict.PASSES, why)


def _size(known: Known, integration: Integration) -> Decision:
    wire = _AROUND + on_the_wire(known.size)
    # 0 is a server without a limit of its own (RFC 1870 section 3).
    if not integration.ehlo_size:
        return Decision("size", Verdict.PASSES, f"About {wire} bytes; the server has announced no limit.")
    if wire <= integration.ehlo_size:
        return Decision("size", Verdict.PASSES, f"About {wire} bytes; the server takes {integration.ehlo_size}.")
    then = "the answer is 400" if known.accepted is None else "the server will refuse it"
    return Decision("size", Verdict.STOPS, f"About {wire} bytes, and the server takes {integration.ehlo_size}: {then}.")


# --- may it be sent, and when -----------------------------------------------------------------------------------------


def _gate(known: Known, integration: Integration) -> Decision:
    verdict = gate(
        known.kind, integration.intended_state, integration.reported_state, integration.cause, known.now,
        known.enforcement,
    )  # fmt: skip
    match verdict:
        case Open(warning=None):
            return Decision("gate", Verdict.PASSES, "The integration is ENABLED and ACTIVE.")
        case Open(warning=reason):
            why = f"Let pass although {reason}: for agents' replies ERROR is not enforced yet ([enforcement] acd)."
            return Decision("gate", Verdict.PASSES, why)
        case Closed(reason):
            return _refused(known, reason)
        case _:
            assert_never(verdict)


def _refused(known: Known, reason: str) -> Decision:
    """What happens to what the gate refuses."""
    fails = KINDS[known.kind].when_refused is WhenRefused.FAIL
    if known.accepted is not None:
        then = "it fails with integration.error" if fails else "it is held until the integration is ACTIVE again"
        return Decision("gate", Verdict.STOPS if fails else Verdict.WAITS, f"Refused, because {reason}: {then}.")
    if known.kind is not Kind.FORM:
        return Decision("gate", Verdict.STOPS, f"Refused, because {reason}: the answer is 400.")
    options = known.service.options if known.service is not None else None
    if options is not None and options.when_inactive == "hold":
        then = "it is accepted and held until the integration is ACTIVE again (when_inactive is hold)"
        return Decision("gate", Verdict.WAITS, f"Refused, because {reason}: {then}.")
    return Decision("gate", Verdict.STOPS, f"Refused, because {reason}: the answer is 1 (when_inactive is refuse).")


def _limits(known: Known, integration: Integration) -> Decision:
    told = list(_limits_in_words(known, integration))
    seconds = pace.drain_seconds(
        known.ahead + 1, integration, known.now, connections=integration.max_connections, used_today=known.used_today
    )
    if not told and seconds < _AT_ONCE_SECONDS:
        return Decision(
            "limits", Verdict.PASSES, "Nothing limits the integration, and next to nothing is queued for it."
        )
    waits = (
        f"{known.ahead} messages are queued for it; were this the last of them, it would wait about {_about(seconds)}."
    )
    verdict = Verdict.WAITS if seconds >= _AT_ONCE_SECONDS else Verdict.PASSES
    return Decision("limits", verdict, " ".join([*told, waits]))


def _limits_in_words(known: Known, integration: Integration) -> Iterator[str]:
    if integration.per_second is not None:
        yield f"It may send {integration.per_second:g} messages a second."
    if integration.per_day is not None:
        yield f"Of its {integration.per_day} messages a day {known.used_today} are used."
    if pace.awaits_proof(integration):
        yield "After its reset it sends one message, and more once that has passed."
    now_allowed = pace.rate_now(integration, known.now)
    # What a slow start or a server's wish leaves of it.
    unhindered = pace.rate_now(
        replace(integration, released_at=None, proven_at=None, pace=None, paced_at=None), known.now
    )
    if now_allowed is not None and now_allowed != unhindered:
        why = "a slow start, or because its server asked for less"
        yield f"At the moment it sends {now_allowed:.3g} a second, for {why}."


def _lane(known: Known) -> str:
    lane = KINDS[known.kind].lane
    others = ", ".join(kind for kind in Kind if KINDS[kind].lane is lane and kind is not known.kind)
    shared = f", which it shares with {others}" if others else ""
    return f"It waits in the lane {lane}{shared}. Lanes of agents are served first."


# --- what happens otherwise -------------------------------------------------------------------------------------------


def _expiry(known: Known) -> Decision:
    after = KINDS[known.kind].expires_after
    if known.accepted is None or known.accepted.expires_at is None:
        return Decision(
            "expiry", Verdict.TELLS, f"It would expire {_about(after.total_seconds())} after it was accepted."
        )
    left = (known.accepted.expires_at - known.now).total_seconds()
    if left <= 0:
        return Decision("expiry", Verdict.STOPS, "Its time is over: it expires at the next look.")
    return Decision("expiry", Verdict.TELLS, f"It expires in {_about(left)} if it is not sent until then.")


def _next_try(known: Known) -> Decision:
    accepted, retry = known.accepted, known.retry
    if accepted is not None and accepted.status is Status.DEFERRED and accepted.due is not None:
        left = max((accepted.due - known.now).total_seconds(), 0.0)
        return Decision("next try", Verdict.WAITS, f"It was deferred; it is tried again in {_about(left)}.")
    why = (
        f"What is deferred is tried again after {_about(retry.first_delay)}, then after twice as long each time, up to "
        f"{_about(retry.longest_delay)}; {retry.max_attempts} tries that fail for the recipient's or the message's sake "
        "end it."
    )
    return Decision("next try", Verdict.TELLS, why)


def _doubt(known: Known) -> Decision:
    once_more = KINDS[known.kind].when_uncertain is WhenUncertain.TRY_ONCE_MORE
    again = once_more and not (known.accepted is not None and known.accepted.possible_duplicate)
    then = "it is tried once more, marked as a possible duplicate" if again else "it becomes uncertain, for a person"
    return Decision("lost answer", Verdict.TELLS, f"When the answer to the final dot is lost, {then}.")


def _redrive(accepted: Accepted) -> Decision:
    if accepted.status not in DEAD_LETTERS:
        why = f"It cannot be re-driven: it is {accepted.status}, and no dead letter."
        return Decision("re-drive", Verdict.TELLS, why)
    if accepted.answered:
        why = (
            f"It is {accepted.status} and cannot be re-driven: its client was told so. Send it again as a new message."
        )
        return Decision("re-drive", Verdict.STOPS, why)
    risk = " It may arrive twice." if accepted.possible_duplicate else ""
    return Decision("re-drive", Verdict.PASSES, f"It is {accepted.status} and can be re-driven.{risk}")


def _about(seconds: float) -> str:
    """A time in the one unit that people would use."""
    if seconds >= pace.FURTHEST_ESTIMATE:
        return "more than a year"
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{round(timedelta(seconds=seconds) / timedelta(seconds=length))} {unit}"
    return f"{round(seconds)} s"
