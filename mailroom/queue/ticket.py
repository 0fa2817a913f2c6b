"""A ticket: ids of messages that are ready to be claimed, and when it was written."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from mailroom.message import Lane

#: More ids than this go on another ticket.
MAX_IDS = 32

_VERSION = 1
_ID_BYTES = 16


class UnreadableTicket(Exception):
    """These bytes are no ticket that this version can read."""


@dataclass(frozen=True, slots=True)
class Address:
    """Which queue: one integration's lane."""

    lane: Lane
    integration_id: UUID

    @property
    def queue(self) -> str:
        """The queue's name at the broker."""
        return f"mailroom.{self.lane}.{self.integration_id}"


@dataclass(frozen=True, slots=True)
class Ticket:
    """At most MAX_IDS message ids of one queue, and when they were written on it."""

    ids: tuple[UUID, ...]
    written_at: datetime


class _Wire(msgspec.Struct, array_like=True):
    """How a ticket travels: version, seconds since 1970, the ids one behind the other. New members go to the end."""

    version: int
    written_at: float
    ids: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Wire)


def encode_ticket(ticket: Ticket) -> bytes:
    """The bytes of a ticket."""
    ids = b"".join(id_.bytes for id_ in ticket.ids)
    return _encoder.encode(_Wire(_VERSION, ticket.written_at.timestamp(), ids))


def decode_ticket(data: bytes) -> Ticket:
    """The ticket in these bytes; members that a newer writer added at the end are ignored. Raises UnreadableTicket."""
    try:
        wire = _decoder.decode(data)
        written_at = datetime.fromtimestamp(wire.written_at, UTC)
    except (msgspec.DecodeError, OverflowError, ValueError, OSError) as error:
        raise UnreadableTicket(str(error)) from error
    if wire.version != _VERSION:
        raise UnreadableTicket(f"ticket version {wire.version}; this Mailroom reads {_VERSION}")
    if not wire.ids or len(wire.ids) % _ID_BYTES or len(wire.ids) > MAX_IDS * _ID_BYTES:
        raise UnreadableTicket(f"{len(wire.ids)} bytes of ids")
    ids = tuple(UUID(bytes=wire.ids[at : at + _ID_BYTES]) for at in range(0, len(wire.ids), _ID_BYTES))
    return Ticket(ids, written_at)


def chunks(ids: Iterable[UUID]) -> list[tuple[UUID, ...]]:
    """The ids in pieces that each fit on a ticket."""
    everything = tuple(ids)
    return [everything[at : at + MAX_IDS] for at in range(0, len(everything), MAX_IDS)]
