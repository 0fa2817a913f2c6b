"""The vault: secrets at rest (stored SMTP passwords). The only importer of cryptography."""

import base64
import binascii
import hmac
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

FERNET_KEY_BYTES = 32

#: Fixed, because every process must come from the same passphrase to the same key with nothing else to look at.
SALT = b"mailroom.vault.1"

#: A passphrase may be one a person thought of, so each guess must cost: RFC 7914 section 2, interactive use (16 MiB,
#: some 50 ms). It is paid once per passphrase at start. HKDF would suit only keys that are random already.
SCRYPT_COST = 2**14


class CannotDecrypt(Exception):
    """None of the given keys opens this: it was sealed with another one, or it has been changed."""


class Vault:
    """Seals with the first key, opens with any: rotate by putting a new key in front and resealing."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ValueError("a vault needs at least one key")
        self._keys = tuple(_fernet_key(key) for key in keys)
        self._fernet = MultiFernet([Fernet(key) for key in self._keys])

    def derived(self, purpose: str) -> tuple[str, ...]:
        """A key for another purpose from each of ours, in their order; none tells anything about ours."""
        return tuple(hmac.digest(key, f"mailroom {purpose}".encode(), "sha256").hex() for key in self._keys)

    def seal(self, text: str) -> str:
        """The text, encrypted and signed, as ASCII."""
        return self._fernet.encrypt(text.encode()).decode("ascii")

    def open(self, sealed: str) -> str:
        """The text that was sealed; raises CannotDecrypt."""
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise _not_ours() from None

    def reseal(self, sealed: str) -> str:
        """The same text sealed with the first key, so that older keys can go; raises CannotDecrypt."""
        try:
            return self._fernet.rotate(sealed.encode()).decode("ascii")
        except InvalidToken:
            raise _not_ours() from None


def new_key() -> str:
    """A random key, good for MAILROOM_SECRET_KEY."""
    return Fernet.generate_key().decode("ascii")


def _not_ours() -> CannotDecrypt:
    return CannotDecrypt(
        "no key of MAILROOM_SECRET_KEY opens this stored secret; add the key it was stored with, after the current one "
        "and a comma, or enter the secret again"
    )


def _fernet_key(key: str) -> bytes:
    """The key itself when it is one, else one derived from the passphrase."""
    try:
        if len(base64.b64decode(key, altchars=b"-_", validate=True)) == FERNET_KEY_BYTES:
            return key.encode()
    except (binascii.Error, ValueError):
        pass  # not base64, so a passphrase
    scrypt = Scrypt(salt=SALT, length=FERNET_KEY_BYTES, n=SCRYPT_COST, r=8, p=1)
    return base64.urlsafe_b64encode(scrypt.derive(key.encode()))
