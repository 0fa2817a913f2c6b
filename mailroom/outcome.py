"""What one attempt came to. Returned and matched on, never raised."""

from dataclasses import dataclass
from enum import StrEnum


class Blame(StrEnum):
    """Whom a refusal or failure is about; only the account, host and connection can ever change an integration."""

    RECIPIENT = "recipient"
    MESSAGE = "message"
    CREDENTIALS = "credentials"
    HOST = "host"
    CONNECTION = "connection"
    TIMEOUT = "timeout"
    THROTTLE = "throttle"
    PROVIDER = "provider"
    US = "us"


#: Failures that count against a message's limit of attempts; all others cost it only time.
ABOUT_THE_MESSAGE = frozenset({Blame.RECIPIENT, Blame.MESSAGE})


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered, or what happened instead, and the command it answered.

    `command` is one of connect, TLS, EHLO, AUTH, MAIL, RCPT, DATA (the command itself), dot (after the final dot).
    `code` is None when no reply came. `text` is trimmed to 512 printable characters.
    """

    command: str
    code: int | None
    text: str
    enhanced: str | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """The server took responsibility: 250 to the final dot."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now; trying again may help."""

    reply: Reply
    blame: Blame


@dataclass(frozen=True, slots=True)
class Rejected:
    """Never; trying again cannot help."""

    reply: Reply
    blame: Blame


@dataclass(frozen=True, slots=True)
class Held:
    """Not tried, because the integration may not send; costs the message nothing."""

    reason: str


@dataclass(frozen=True, slots=True)
class Uncertain:
    """The answer to the final dot was lost: the server may have the message."""

    reply: Reply


Outcome = Sent | Deferred | Rejected | Held | Uncertain
