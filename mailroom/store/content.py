"""How a content is kept in a row: MessagePack with a version byte before it."""

import msgspec

from mailroom.message import Content

#: The second has files that are parts of others (`Attachment.at`), which whoever does not know would take for the whole.
_PLAIN, _BUNDLED = b"\x01", b"\x02"
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Content)


class UnreadableContent(Exception):
    """A stored content cannot be read: it was written by a newer Mailroom, or damaged."""


class NewerContent(UnreadableContent):
    """It was written by a newer Mailroom, whose workers can read it."""


def encode_content(content: Content) -> bytes:
    """The bytes of a content, ready for its row."""
    version = _BUNDLED if any(file.at is not None for file in content.attachments) else _PLAIN
    return version + _encoder.encode(content)


def decode_content(body: bytes) -> Content:
    """The content in these bytes; members that a newer writer added are ignored. Raises UnreadableContent."""
    if body[:1] > _BUNDLED:
        raise NewerContent(f"the content has version {body[:1].hex()}, this Mailroom reads 01 and 02")
    if body[:1] not in (_PLAIN, _BUNDLED):
        raise UnreadableContent(f"the content has version {body[:1].hex() or 'none'}, this Mailroom reads 01 and 02")
    try:
        return _decoder.decode(memoryview(body)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableContent(f"the content is damaged: {error}") from error
