"""Passwords of people: argon2id, never on the event loop. The only importer of argon2."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

#: ASVS 6.2.1: eight are the least, fifteen what is good for a password that somebody chose.
SHORTEST_PASSWORD = 15
#: Enough for any sentence, and little to compute with.
LONGEST_PASSWORD = 256

#: The library's own parameters: those of RFC 9106 section 4 for little memory (64 MiB).
_hasher = PasswordHasher()

#: Each takes 64 MiB while it is computed, so few at once.
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="passwords")

#: Passwords that may wait to be verified, or whoever floods the sign-in makes all others wait for minutes.
MOST_WAITING = 20
_waiting = 0


class BadPassword(Exception):
    """This cannot be anybody's password."""


class Busy(Exception):
    """Too many passwords are being verified; trying again in a few seconds may help."""


async def hashed(password: str) -> str:
    """What is kept of a password. Raises BadPassword."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise BadPassword(
            f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters, and this one {len(password)}; "
            "choose another, a sentence for example"
        )
    try:
        return await asyncio.get_running_loop().run_in_executor(_threads, _hasher.hash, password)
    except UnicodeEncodeError:
        # From None: the error has the password in it.
        raise BadPassword("the password is not text in this terminal's encoding; write it in UTF-8") from None


async def is_password(password: str, kept: str) -> bool:
    """Whether this is the password of which that was kept. Raises Busy."""
    global _waiting  # noqa: PLW0603 - it counts what waits for the threads above, of which there is one pool too
    if _waiting >= MOST_WAITING:
        raise Busy
    _waiting += 1
    try:
        # Also what is too long to be anybody's takes its time: how long it takes tells nothing.
        given = password[:LONGEST_PASSWORD]
        is_right = await asyncio.get_running_loop().run_in_executor(_threads, _verified, kept, given)
        return is_right and given == password
    finally:
        _waiting -= 1


def _verified(kept: str, password: str) -> bool:
    try:
        return _hasher.verify(kept, password)
    except (VerificationError, InvalidHashError, UnicodeEncodeError):
        return False
