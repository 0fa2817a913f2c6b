"""A content in its row."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.message import Attachment, Content, Correspondent
from mailroom.store.content import UnreadableContent, decode_content, encode_content
from tests.builders import a_content

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
pairs = st.lists(st.tuples(texts, texts), max_size=3).map(tuple)
attachments = st.builds(
    Attachment, name=texts, media_type=texts, size=st.integers(0, 2**40),
    content=st.none() | st.binary(max_size=40), key=st.none() | texts,
    at=st.none() | st.integers(0, 2**40), content_id=st.none() | texts,
)  # fmt: skip
people = st.lists(st.builds(Correspondent, texts, st.none() | texts), max_size=3).map(tuple)
contents = st.builds(
    Content, to=texts, subject=texts, text=texts, words=st.none() | st.integers(0, 2**31),
    html=st.none() | texts, from_name=st.none() | texts,
    from_address=st.none() | texts, reply_to=st.none() | texts, reply_to_name=st.none() | texts, headers=pairs,
    attributes=pairs, attachments=st.lists(attachments, max_size=3).map(tuple), letter_id=st.none() | st.uuids(),
    to_all=people, cc=people,
)  # fmt: skip


@given(content=contents)
def test_a_content_is_read_as_it_was_written(content: Content) -> None:
    """Every member survives, with files and any text."""
    assert decode_content(encode_content(content)) == content


@given(data=st.binary(max_size=80))
def test_any_bytes_are_a_content_or_unreadable(data: bytes) -> None:
    """Nothing that may stand in a row raises anything but UnreadableContent."""
    with pytest.raises(UnreadableContent):
        decode_content(data)
    with pytest.raises(UnreadableContent):
        decode_content(b"\x01" + data)


def test_ops_3_a_later_writer_may_add_members() -> None:
    """What a newer Mailroom wrote and this one does not know is ignored."""
    wire = {"to": "a@b.test", "subject": "s", "text": "t", "colour": "blue"}

    assert decode_content(b"\x01" + msgspec.msgpack.encode(wire)) == Content(to="a@b.test", subject="s", text="t")


@pytest.mark.parametrize("start", [b"", b"\x03", b"{"])
def test_ops_3_another_version_is_named(start: bytes) -> None:
    """A row of a version that this Mailroom cannot read says so, rather than being half understood."""
    with pytest.raises(UnreadableContent, match="version"):
        decode_content(start + encode_content(a_content())[1:] if start else b"")


def test_ops_3_parts_of_files_have_a_version_of_their_own() -> None:
    """Whoever does not know that a file may be a part of another would send the whole: of other people's letters."""
    file = Attachment(name="a", media_type="text/plain", size=5, key="f" * 32)
    whole, part = a_content(attachments=(file,)), a_content(attachments=(file, replace(file, at=0)))

    assert encode_content(whole)[:1] == b"\x01"
    assert encode_content(part)[:1] == b"\x02"
    assert decode_content(encode_content(part)) == part


def test_a_damaged_content_says_so() -> None:
    """A row that was cut off is not sent as if it were whole."""
    with pytest.raises(UnreadableContent, match="damaged"):
        decode_content(encode_content(a_content())[:-3])
