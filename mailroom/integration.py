"""An integration: one SMTP account mail leaves through, and the states it can be in."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from mailroom.outcome import Blame


class IntendedState(StrEnum):
    """What the admin wants."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"


class ReportedState(StrEnum):
    """What is so. Only ACTIVE may send."""

    ACTIVE = "ACTIVE"
    ACTIVATING = "ACTIVATING"
    INACTIVE = "INACTIVE"
    ERROR = "ERROR"


#: Every move the reported state may make. ERROR is sticky: a person's reset, by way of a live test, is the only way out.
STATE_MOVES: Mapping[ReportedState, frozenset[ReportedState]] = MappingProxyType(
    {
        ReportedState.INACTIVE: frozenset({ReportedState.ACTIVATING}),
        ReportedState.ACTIVATING: frozenset({ReportedState.ACTIVE, ReportedState.ERROR, ReportedState.INACTIVE}),
        ReportedState.ACTIVE: frozenset({ReportedState.ERROR, ReportedState.INACTIVE, ReportedState.ACTIVATING}),
        ReportedState.ERROR: frozenset({ReportedState.ACTIVATING, ReportedState.INACTIVE}),
    }
)


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


def may_send(integration: Integration) -> bool:
    """Whether an integration's backlog is worth taking up; the gate still decides on every message."""
    return integration.intended_state is IntendedState.ENABLED and integration.reported_state is ReportedState.ACTIVE
