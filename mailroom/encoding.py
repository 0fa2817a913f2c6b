"""How much larger bytes are on the wire than in a file: base64 in lines of 76 characters and CRLF (RFC 2045 section 6.8)."""

#: 57 bytes take 78 on the wire.
LINE_OF_BYTES = 57
LINE_ON_WIRE = 78


def on_the_wire(size: int) -> int:
    """Bytes that so many take on the wire."""
    return -(-size * LINE_ON_WIRE // LINE_OF_BYTES)


def before_encoding(room: int) -> int:
    """How many bytes can be sent in so many on the wire."""
    return room * LINE_OF_BYTES // LINE_ON_WIRE
