"""A message: the one thing we promised to deliver to one recipient."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID


class Kind(StrEnum):
    """Why a message exists; decides its lane, its gate and what becomes of it in doubt."""

    FORM = "form"
    ACD = "acd"
    AGENTLESS = "agentless"
    CAMPAIGN = "campaign"


class Lane(StrEnum):
    """A queue of one integration for kinds of equal urgency, most urgent first."""

    AGENT = "agent"
    FORM = "form"
    CAMPAIGN = "campaign"


class Status(StrEnum):
    """Where a message stands."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    DEFERRED = "deferred"
    HELD = "held"
    UNCERTAIN = "uncertain"
    FAILED = "failed"
    EXPIRED = "expired"
    REFUSED = "refused"


#: Every move a message may make. Code, tests and the picture in docs/architecture.md read this table.
#: `uncertain` goes back to `queued` by the kind's policy or a person; the other dead letters only by a person.
#: A late `sent` of the last claim wins over whatever was made of it meanwhile: a message queued anew, a dead letter.
MOVES: Mapping[Status, frozenset[Status]] = MappingProxyType(
    {
        Status.QUEUED: frozenset({Status.SENDING, Status.SENT, Status.EXPIRED}),
        Status.SENDING: frozenset(
            {
                Status.SENT,
                Status.DEFERRED,
                Status.HELD,
                Status.UNCERTAIN,
                Status.FAILED,
                Status.EXPIRED,
                Status.QUEUED,
            }
        ),
        Status.DEFERRED: frozenset({Status.QUEUED, Status.EXPIRED, Status.SENT}),
        Status.HELD: frozenset({Status.QUEUED, Status.EXPIRED}),
        Status.UNCERTAIN: frozenset({Status.QUEUED, Status.SENT}),
        Status.FAILED: frozenset({Status.QUEUED, Status.SENT}),
        Status.EXPIRED: frozenset({Status.QUEUED, Status.SENT}),
        Status.SENT: frozenset(),
        Status.REFUSED: frozenset(),
    }
)

#: A message of one of these has no live row: nothing will happen to it unless a person acts.
ENDED = frozenset({Status.SENT, Status.UNCERTAIN, Status.FAILED, Status.EXPIRED, Status.REFUSED})

#: What a person may re-drive.
DEAD_LETTERS = frozenset({Status.UNCERTAIN, Status.FAILED, Status.EXPIRED})


@dataclass(frozen=True, slots=True)
class Correspondent:
    """Who writes or is written to: an address, and perhaps a name."""

    address: str
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file of a message: its cleaned name, our media type, and either its bytes or its key in the attachment store."""

    name: str
    media_type: str
    size: int
    content: bytes | None = None
    key: str | None = None
    #: Where its bytes begin in the file of that key, which is a bundle then; None where it has a file of its own.
    at: int | None = None
    #: What the HTML calls it by (`cid:`, RFC 2392) when it is shown inside of it.
    content_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What the recipient will read. Stored whole with the message and never changed.

    A letter to several people is one message for each: the copies share `letter_id`, and with it every header.
    """

    #: The recipient: where this copy goes, and the header To when `to_all` says nothing else.
    to: str
    subject: str
    text: str
    #: So many characters of the text are their author's own words; what follows is ours. None = all of it.
    words: int | None = None
    html: str | None = None
    from_name: str | None = None
    #: The header From; without one it is the integration's own address.
    from_address: str | None = None
    reply_to: str | None = None
    reply_to_name: str | None = None
    #: Extra header lines as (name, value); names are ours, values may hold any text.
    headers: tuple[tuple[str, str], ...] = ()
    #: What the client attached as key and value (`userData`), in the order given.
    attributes: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Attachment, ...] = ()
    letter_id: UUID | None = None
    #: Everybody in the headers To and Cc of a letter. Who gets a blind copy is in neither.
    to_all: tuple[Correspondent, ...] = ()
    cc: tuple[Correspondent, ...] = ()


def new_message_id(at: datetime | None = None) -> UUID:
    """A UUIDv7 (RFC 9562 section 5.7): ids sort by the time they were made (by default now), to the millisecond."""
    milliseconds = time.time_ns() // 1_000_000 if at is None else int(at.timestamp()) * 1000 + at.microsecond // 1000
    random_bits = int.from_bytes(os.urandom(10), "big")
    return UUID(int=(milliseconds & 0xFFFF_FFFF_FFFF) << 80 | random_bits & _RANDOM | _VERSION_7)


#: What is random of an id, and what says which kind of id it is: version 7 and variant 2.
_RANDOM = (1 << 80) - 1 & ~(0xF << 76) & ~(0x3 << 62)
_VERSION_7 = 0x7 << 76 | 0x2 << 62

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def first_id_at(moment: datetime) -> UUID:
    """The bound in time of ids: all that are made from this millisecond on are not less, all made before are."""
    milliseconds = (moment - _EPOCH) // timedelta(milliseconds=1)
    return UUID(int=min(max(milliseconds, 0), 0xFFFF_FFFF_FFFF) << 80)


def made_at(message_id: UUID) -> datetime:
    """When an id was made, to the millisecond."""
    return _EPOCH + timedelta(milliseconds=message_id.int >> 80)
