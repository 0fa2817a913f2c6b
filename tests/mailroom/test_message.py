"""Messages: their ids and what a copy of one cannot do."""

import dataclasses
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from mailroom.message import Content, first_id_at, made_at, new_message_id


def test_an_id_is_a_uuid_of_version_7() -> None:
    """Version and variant are those of RFC 9562 section 5.7."""
    message_id = new_message_id()

    assert message_id.version == 7
    assert message_id.variant == "specified in RFC 4122"


def test_an_id_holds_the_moment_it_was_made() -> None:
    """The first 48 bits are milliseconds since 1970, so that ids sort by age."""
    before = time.time_ns() // 1_000_000
    made = new_message_id().int >> 80
    after = time.time_ns() // 1_000_000

    assert before <= made <= after


def test_moments_bound_ids() -> None:
    """Of a moment to the millisecond, its ids are not less than its first one, and less than that of the next."""
    message_id = new_message_id()
    moment = made_at(message_id)

    assert first_id_at(moment) <= message_id < first_id_at(moment + timedelta(milliseconds=1))
    assert first_id_at(datetime(1, 1, 1, tzinfo=UTC)) == UUID(int=0)
    assert made_at(first_id_at(datetime.max.replace(tzinfo=UTC))).year == 9999


def test_ids_are_unique() -> None:
    """Ten thousand ids of one moment are ten thousand ids."""
    assert len({new_message_id() for _ in range(10_000)}) == 10_000


def test_content_never_changes() -> None:
    """What was promised to be delivered cannot be rewritten on its way."""
    content = Content(to="a@person.test", subject="Hello", text="Text")
    with pytest.raises(dataclasses.FrozenInstanceError):
        content.to = "b@person.test"  # type: ignore[misc]  # the point of the test
