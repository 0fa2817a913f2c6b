"""Browsers in which somebody has signed in before: strangers who guess at a name do not keep its owner out of those.

The scheme is OWASP's "device cookies": tries from such a browser are counted by themselves, and all others by name and
by address. Whoever steals one of these cookies may guess as often as anybody, and no more.
"""

import hmac
import secrets
from collections.abc import Sequence
from datetime import timedelta

#: For so long a browser is known after somebody has signed in there.
KNOWN_FOR = timedelta(days=180)

_NUMBER_DIGITS = 32


def introduced(keys: Sequence[str], name: str) -> str:
    """What a browser shows from now on when this name signs in there."""
    number = secrets.token_hex(_NUMBER_DIGITS // 2)
    return f"{number}.{_signed(keys[0], name, number)}"


def recognised(keys: Sequence[str], name: str, shown: str) -> str | None:
    """The number of a browser that was introduced to this name, with any of our keys; None for all others."""
    number, _, signature = shown.partition(".")
    given = signature.encode("utf-8", "replace")
    known = [hmac.compare_digest(_signed(key, name, number).encode(), given) for key in keys]
    # All numbers are of one length: no part of a name can be taken for a part of one.
    return number if any(known) and len(number) == _NUMBER_DIGITS else None


def _signed(key: str, name: str, number: str) -> str:
    return hmac.digest(key.encode(), f"{number} {name}".encode("utf-8", "replace"), "sha256").hex()
