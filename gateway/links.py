"""Links that need no token: each is signed for one purpose and one subject, and holds until it expires."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

#: No other use of the same secret comes to the same keys.
_LABEL = b"mailroom.links.1"

_KEY_BYTES = 32
#: A link shows whoever gets it what his guesses at a passphrase can be held against, so each guess must cost, as it does
#: at the vault: RFC 7914 section 2, interactive use (16 MiB, some 50 ms). It is paid once per passphrase at start.
_SCRYPT_COST = 2**14

#: Characters of what is signed; far more than any id or name of ours has.
LONGEST_SUBJECT = 1000

_EXPIRES = re.compile(r"[1-9][0-9]{0,11}")
#: 32 bytes in base64url without padding.
_SIGNATURE = re.compile(r"[A-Za-z0-9_-]{43}")


class Links:
    """Signs with the first key, and holds what any of them signed: rotate by putting a new key in front."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ValueError("links need at least one key")
        self._keys = [hmac.digest(_secret(key), _LABEL, "sha256") for key in keys]

    def sign(self, purpose: str, subject: str, expires_at: datetime) -> str:
        """The query string of a link to this subject, for this purpose, until then; of the moment whole seconds count."""
        expires = str(int(expires_at.timestamp()))
        if len(subject) > LONGEST_SUBJECT or _EXPIRES.fullmatch(expires) is None:
            raise ValueError("no link can be signed for such a subject or moment")
        return f"expires={expires}&signature={_signature(self._keys[0], purpose, subject, expires)}"

    def holds(self, purpose: str, subject: str, query: Mapping[str, str], now: datetime) -> bool:
        """Whether the query was signed for this purpose and subject with a key of ours, and has not expired."""
        expires, signature = query.get("expires", ""), query.get("signature", "")
        if _EXPIRES.fullmatch(expires) is None or _SIGNATURE.fullmatch(signature) is None:
            return False
        if len(subject) > LONGEST_SUBJECT:
            return False
        # With every key, so that the time taken tells neither which one signed nor how much of it was right.
        is_ours = sum(hmac.compare_digest(_signature(key, purpose, subject, expires), signature) for key in self._keys)
        return bool(is_ours) and now.timestamp() < int(expires)


def _signature(key: bytes, purpose: str, subject: str, expires: str) -> str:
    # Each purpose has its own key, and the moment has only digits: no two links come to the same signed text.
    of_purpose = hmac.digest(key, purpose.encode(), "sha256")
    signed = f"{expires}\n{subject}".encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(hmac.digest(of_purpose, signed, "sha256")).rstrip(b"=").decode("ascii")


def _secret(key: str) -> bytes:
    """The bytes of a random key, as `mailroom` makes them; of anything else, which may be a passphrase, costly ones."""
    try:
        decoded = base64.b64decode(key, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        decoded = b""  # not base64, so a passphrase
    if len(decoded) == _KEY_BYTES:
        return decoded
    return hashlib.scrypt(key.encode(), salt=_LABEL, n=_SCRYPT_COST, r=8, p=1, dklen=_KEY_BYTES)
