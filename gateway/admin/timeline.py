"""What happened to one message, in the order of time: a rule over what was recorded."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway.admin.wording import because
from mailroom.integration import ReportedState
from mailroom.message import DEAD_LETTERS, Status
from mailroom.store.messages import Attempt, Standing

_OUTCOMES = {
    "sent": "Sent",
    "deferred": "Deferred",
    "rejected": "Refused by the server",
    "uncertain": "Uncertain: the answer was lost",
    "held": "Held at the gate",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a timeline."""

    at: datetime
    what: str
    #: A class of the page: good, warn, bad, or nothing.
    tone: str = ""
    details: tuple[str, ...] = ()
    took: timedelta | None = None


def timeline(
    standing: Standing, attempts: Sequence[Attempt], actions: Iterable[Any], moves: Sequence[Any]
) -> list[Event]:
    """Accepted, each attempt, what people did with it, how its integration moved meanwhile, and how it stands.

    `actions` and `moves` are audit rows about the message and about its integration.
    """
    events = [
        Event(
            at=standing.accepted_at,
            what="Accepted",
            details=(f"through the service {standing.service}",) if standing.service else (),
        ),
        *_found(moves, standing),
        *(_attempted(one) for one in attempts),
        *(_acted(one) for one in actions),
        *_moved(moves, standing),
        *_ended(standing, attempts),
    ]
    return sorted(events, key=lambda event: event.at)


def _attempted(one: Attempt) -> Event:
    number = "" if one.outcome == "held" else f"Attempt {one.number}: "
    said = [f"answer to {one.command}" + (f": {one.code}" if one.code else "")] if one.command else []
    details = [*said, one.reply or "", f"blames the {one.blame}" if one.blame else "", _protected(one.tls, one.outcome)]
    return Event(
        at=one.ended_at, what=f"{number}{_OUTCOMES.get(one.outcome, one.outcome)}", tone=_tone(one.outcome),
        details=tuple(filter(None, details)), took=None if one.outcome == "held" else one.ended_at - one.started_at,
    )  # fmt: skip


def _protected(tls: str | None, outcome: str) -> str:
    if tls:
        return f"over {tls}"
    return {"held": "", "sent": "not encrypted"}.get(outcome, "not encrypted, or no connection")


def _tone(outcome: str) -> str:
    return {"sent": "good", "deferred": "warn", "held": "warn"}.get(outcome, "bad")


def _acted(row: Any) -> Event:
    told = " ".join(part for part in (row.before, row.after) if part)
    return Event(at=row.at, what=f"{row.action} by {row.who}", details=tuple(filter(None, (told, row.why))))


def _found(rows: Iterable[Any], standing: Standing) -> Iterator[Event]:
    """A message that is accepted for an integration that may not send waits without a try that would tell of it."""
    before = [row for row in rows if row.at < standing.accepted_at and row.after in set(ReportedState)]
    newest = max(before, key=lambda row: row.at, default=None)
    if newest is not None and newest.after != ReportedState.ACTIVE:
        why = (newest.why,) if newest.why else ()
        yield Event(
            at=standing.accepted_at, what=f"Its integration was {newest.after} already", tone="warn", details=why
        )


def _moved(rows: Iterable[Any], standing: Standing) -> Iterator[Event]:
    """Only what happened while the message was on its way is about it."""
    for row in rows:
        meanwhile = standing.accepted_at <= row.at and (standing.ended_at is None or row.at <= standing.ended_at)
        if meanwhile and row.after and row.before != row.after:
            details = (f"{row.action} by {row.who}", row.why or "")
            what = f"Its integration: {row.before or 'new'} to {row.after}"
            yield Event(at=row.at, what=what, details=tuple(filter(None, details)))


def _ended(standing: Standing, attempts: Sequence[Attempt]) -> Iterator[Event]:
    if standing.ended_at is None:
        return
    if standing.status is Status.SENT:
        if not any(one.outcome == "sent" for one in attempts):
            took = None if standing.took is None else timedelta(milliseconds=standing.took)
            details = (standing.reply or "", _protected(standing.tls, "sent"))
            yield Event(
                at=standing.ended_at, what=f"Attempt {standing.attempts}: Sent", tone="good",
                details=tuple(filter(None, details)), took=took,
            )  # fmt: skip
        return
    if standing.status in DEAD_LETTERS:
        why = (because(standing.reason),)
        yield Event(at=standing.ended_at, what=f"A dead letter: {standing.status}", tone="bad", details=why)
