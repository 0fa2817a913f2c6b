"""How a request is known again when it comes twice: by its Idempotency-Key, else by who says what, within a minute.

The vendor's clients repeat a POST up to ten times when its connection drops, at once and without any key.
"""

import hashlib
from datetime import timedelta

import msgspec

from gateway.cloud.calls import Call
from gateway.cloud.errors import Code, Problem, Refusal, invalid
from mailroom.store.requests import Repeatable

#: For so long after it last came the same request under no key is the same request.
WITHOUT_A_KEY = timedelta(seconds=60)
#: For so long a key means one request.
WITH_A_KEY = timedelta(hours=24)

LONGEST_KEY = 255

_encode = msgspec.json.Encoder(order="sorted").encode


def repeatable(call: Call) -> Repeatable:
    """What makes this call the same as another one of its client. Raises Refusal for a key that is none."""
    said = hashlib.sha256(call.endpoint.encode("utf-8", "replace") + b"\n" + _encode(call.body)).hexdigest()
    if call.key is None:
        return Repeatable(f"{call.client.id} said {said}", said, WITHOUT_A_KEY)
    if not 1 <= len(call.key) <= LONGEST_KEY or not (call.key.isascii() and call.key.isprintable()):
        raise invalid([Problem("Idempotency-Key", f"is no key; use 1 to {LONGEST_KEY} printable ASCII characters")])
    return Repeatable(f"{call.client.id} key {call.key}", said, WITH_A_KEY)


def key_taken(call: Call) -> Refusal:
    """Another request came under this key."""
    told = f"The Idempotency-Key {call.key!r} was used for another request; use a new one for each."
    return Refusal(409, Code.KEY_USED_DIFFERENTLY, told)
