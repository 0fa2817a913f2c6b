"""How a content is kept in a row: MessagePack with a version byte before it."""

import msgspec

from mailroom.message import Content

_VERSION = b"\x01"
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Content)


class UnreadableContent(Exception):
    """A stored content cannot be read: it was written by a newer Mailroom, or damaged."""


class NewerContent(UnreadableContent):
    """It was written by a newer Mailroom, whose workers can read it."""


def encode_content(content: Content) -> bytes:
    """The bytes of a content, ready for its row."""
    return _VERSION + _encoder.encode(content)


def decode_content(body: bytes) -> Content:
    """The content in these bytes; members that a newer writer added are ignored. Raises UnreadableContent."""
    if body[:1] > _VERSION:
        raise NewerContent(f"the content has version {body[:1].hex()}, this Mailroom reads 01")
    if body[:1] != _VERSION:
        raise UnreadableContent(f"the content has version {body[:1].hex() or 'none'}, this Mailroom reads 01")
    try:
        return _decoder.decode(memoryview(body)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableContent(f"the content is damaged: {error}") from error
