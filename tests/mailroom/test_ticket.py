"""A ticket and its bytes."""

import contextlib
from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.message import Lane, new_message_id
from mailroom.queue.ticket import MAX_IDS, Address, Ticket, UnreadableTicket, chunks, decode_ticket, encode_ticket

WRITTEN_AT = datetime(2026, 1, 6, 12, 30, 15, 123456, tzinfo=UTC)
ids = st.lists(st.uuids(), min_size=1, max_size=MAX_IDS).map(tuple)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - zone added


@given(ids=ids, written_at=moments)
def test_a_ticket_is_read_as_it_was_written(ids: tuple[UUID, ...], written_at: datetime) -> None:
    """Ids, their order, and the time to the microsecond survive the way."""
    ticket = Ticket(ids, written_at)

    assert decode_ticket(encode_ticket(ticket)) == ticket


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_ticket_or_unreadable(data: bytes) -> None:
    """Nothing that may lie in a queue raises anything but UnreadableTicket."""
    with contextlib.suppress(UnreadableTicket):
        assert decode_ticket(data).ids


@given(at=st.integers(0, 100), value=st.integers(0, 255))
def test_a_damaged_ticket_is_a_ticket_or_unreadable(at: int, value: int) -> None:
    """The same, close to the truth."""
    data = bytearray(encode_ticket(Ticket((new_message_id(), new_message_id()), WRITTEN_AT)))
    data[at % len(data)] = value
    with contextlib.suppress(UnreadableTicket):
        assert decode_ticket(bytes(data)).ids


def test_ops_3_a_later_version_may_add_members() -> None:
    """What a newer writer put at the end is ignored."""
    id_ = uuid4()
    data = msgspec.msgpack.encode([1, WRITTEN_AT.timestamp(), id_.bytes, "more", {"and": "more"}])

    assert decode_ticket(data) == Ticket((id_,), WRITTEN_AT)


@pytest.mark.parametrize(
    "wire",
    [
        [2, 0.0, bytes(16)],
        [1, 0.0, b""],
        [1, 0.0, bytes(15)],
        [1, 0.0, bytes(16 * (MAX_IDS + 1))],
        [1, float("nan"), bytes(16)],
        [1, 1e300, bytes(16)],
        [1, 0.0],
        {"version": 1},
    ],
)
def test_what_is_no_ticket_is_unreadable(wire: object) -> None:
    """Another version, no ids, half an id, too many ids, no time: none of it is half understood."""
    with pytest.raises(UnreadableTicket):
        decode_ticket(msgspec.msgpack.encode(wire))


def test_brk_6_a_full_ticket_is_small() -> None:
    """A ticket of 32 ids fits in a packet with all that AMQP adds."""
    ticket = Ticket(tuple(new_message_id() for _ in range(MAX_IDS)), WRITTEN_AT)

    assert len(encode_ticket(ticket)) < 540


@given(count=st.integers(0, 200))
def test_ids_are_cut_to_tickets(count: int) -> None:
    """Pieces fit on a ticket each, none is empty, and together they are everything in order."""
    everything = tuple(UUID(int=number) for number in range(count))

    pieces = chunks(everything)
    assert tuple(id_ for piece in pieces for id_ in piece) == everything
    assert all(1 <= len(piece) <= MAX_IDS for piece in pieces)
    assert len(pieces) == -(-count // MAX_IDS)


def test_a_queue_is_named_by_lane_and_integration() -> None:
    """The name at the broker is documented, and made in one place."""
    integration_id = UUID("01890a5d-ac96-774b-bcce-b302099a8057")

    assert Address(Lane.AGENT, integration_id).queue == "mailroom.agent.01890a5d-ac96-774b-bcce-b302099a8057"
