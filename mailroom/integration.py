"""An integration: one SMTP account mail leaves through, and the states it can be in."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from mailroom.outcome import Blame

#: The most connections that an integration may be given: they are dealt out to the workers one by one.
MOST_CONNECTIONS = 1000
#: The most messages that a limit of the day may be; the databases keep it in 32 bits.
MOST_PER_DAY = 1_000_000_000


class IntendedState(StrEnum):
    """What the admin wants."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"
    #: It stays for the history of its messages; nothing leads back.
    DELETED = "DELETED"


class ReportedState(StrEnum):
    """What is so. Only ACTIVE may send."""

    ACTIVE = "ACTIVE"
    ACTIVATING = "ACTIVATING"
    INACTIVE = "INACTIVE"
    #: Switched off, while what is just being sent is finished.
    DEACTIVATING = "DEACTIVATING"
    ERROR = "ERROR"


class Mover(StrEnum):
    """Who may move the reported state: somebody through page, API or command; a worker; the sweep of one of them."""

    PERSON = "person"
    WORKER = "worker"
    SWEEP = "sweep"


class Move(StrEnum):
    """The moves of the reported state, by name."""

    RESET = "reset"
    CHANGE = "change"
    SUCCEED = "succeed"
    FAIL = "fail"
    BREAK = "break"
    WIND_DOWN = "wind_down"
    SWITCH_OFF = "switch_off"
    SETTLE = "settle"


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveRules:
    """One move: between which states, whose it is, and why it is made."""

    sources: frozenset[ReportedState]
    target: ReportedState
    by: frozenset[Mover]
    #: The action that its audit row names, unless whoever makes it says another.
    noted_as: str
    why: str


#: The states of an integration that people want ENABLED.
SWITCHED_ON = frozenset({ReportedState.ACTIVATING, ReportedState.ACTIVE, ReportedState.ERROR})

#: The states that a new integration may have: ENABLED it is tested first, DISABLED it waits to be configured.
BEGINNINGS = (ReportedState.ACTIVATING, ReportedState.INACTIVE)

#: Every move the reported state may make; code, tests and the picture in docs/architecture.md read this table. ERROR is
#: sticky: only a person leads out of it, and to ACTIVE only by way of a live test.
STATE_MOVES: Mapping[Move, MoveRules] = MappingProxyType(
    {
        Move.RESET: MoveRules(
            sources=frozenset(ReportedState),
            target=ReportedState.ACTIVATING,
            by=frozenset({Mover.PERSON}),
            noted_as="reset",
            why="it shall send again; its live test decides",
        ),
        Move.CHANGE: MoveRules(
            sources=SWITCHED_ON,
            target=ReportedState.ACTIVATING,
            by=frozenset({Mover.PERSON}),
            noted_as="retested",
            why="how it connects was changed; its live test decides",
        ),
        Move.SUCCEED: MoveRules(
            sources=frozenset({ReportedState.ACTIVATING}),
            target=ReportedState.ACTIVE,
            by=frozenset({Mover.WORKER}),
            noted_as="tested",
            why="the live test passed",
        ),
        Move.FAIL: MoveRules(
            sources=frozenset({ReportedState.ACTIVATING}),
            target=ReportedState.ERROR,
            by=frozenset({Mover.WORKER, Mover.SWEEP}),
            noted_as="tested",
            why="the live test failed, or its worker died",
        ),
        Move.BREAK: MoveRules(
            sources=frozenset({ReportedState.ACTIVE}),
            target=ReportedState.ERROR,
            by=frozenset({Mover.WORKER}),
            noted_as="error",
            why="too many failures of account, host or connection in a row",
        ),
        Move.WIND_DOWN: MoveRules(
            sources=SWITCHED_ON,
            target=ReportedState.DEACTIVATING,
            by=frozenset({Mover.PERSON}),
            noted_as="disabled",
            why="it was disabled or deleted while something was being sent",
        ),
        Move.SWITCH_OFF: MoveRules(
            sources=SWITCHED_ON,
            target=ReportedState.INACTIVE,
            by=frozenset({Mover.PERSON}),
            noted_as="disabled",
            why="it was disabled or deleted, and nothing was being sent",
        ),
        Move.SETTLE: MoveRules(
            sources=frozenset({ReportedState.DEACTIVATING}),
            target=ReportedState.INACTIVE,
            by=frozenset({Mover.SWEEP}),
            noted_as="settled",
            why="what was being sent when it was switched off has ended",
        ),
    }
)


def ways_from(state: ReportedState) -> frozenset[ReportedState]:
    """Every other state that some move leads to from this one."""
    return frozenset(rules.target for rules in STATE_MOVES.values() if state in rules.sources) - {state}


class Cause(StrEnum):
    """Why an integration is in ERROR: the four things an administrator is told."""

    HOST_INVALID = "host_invalid"
    TIMED_OUT = "timed_out"
    AUTHENTICATION_REFUSED = "authentication_refused"
    CANNOT_CONNECT = "cannot_connect"


#: The only blames that can ever set ERROR, and the cause each is told as.
CAUSE_OF: Mapping[Blame, Cause] = MappingProxyType(
    {
        Blame.HOST: Cause.HOST_INVALID,
        Blame.TIMEOUT: Cause.TIMED_OUT,
        Blame.CREDENTIALS: Cause.AUTHENTICATION_REFUSED,
        Blame.CONNECTION: Cause.CANNOT_CONNECT,
    }
)

IN_PLAIN_WORDS: Mapping[Cause, str] = MappingProxyType(
    {
        Cause.HOST_INVALID: "the SMTP host is not valid: its name could not be resolved",
        Cause.TIMED_OUT: "the connection to the SMTP server timed out",
        Cause.AUTHENTICATION_REFUSED: "the SMTP server refused the user name or password",
        Cause.CANNOT_CONNECT: "no connection to the SMTP server could be made",
    }
)


class Security(StrEnum):
    """How the connection is protected; never "if available"."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Where and as whom an integration connects. `password` is clear text and lives in memory only."""

    host: str
    port: int
    security: Security
    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"Account({self.username or 'anonymous'} at {self.host}:{self.port}, {self.security})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """One integration as a snapshot saw it; all a process needs to decide and to connect."""

    id: UUID
    name: str
    account: Account
    from_address: str
    from_name: str | None
    default_mailbox: str | None
    intended_state: IntendedState
    reported_state: ReportedState
    cause: Cause | None
    since: datetime
    #: Raised by every reset or change of configuration; blame from an attempt begun under an older one changes nothing.
    generation: int
    max_connections: int
    #: SIZE of the server's last EHLO in bytes (RFC 1870); None when it never said.
    ehlo_size: int | None
    #: Consecutive failures that may set ERROR, as counted for all workers together.
    failures: int
    #: A connection test waits for a worker.
    test_waiting: bool
    #: Limits for all workers together; None = none.
    per_second: float | None = None
    per_day: int | None = None
    #: Since when it is ACTIVE again, and since when a first message is known to have passed (the slow start).
    released_at: datetime | None = None
    proven_at: datetime | None = None
    #: Messages a second that a server which asked us to slow down left, and when that was last lowered.
    pace: float | None = None
    paced_at: datetime | None = None


def may_send(integration: Integration) -> bool:
    """Whether an integration's backlog is worth taking up; the gate still decides on every message."""
    return integration.intended_state is IntendedState.ENABLED and integration.reported_state is ReportedState.ACTIVE
