"""E-mail addresses: the only door to email-validator.

The part before the @ is judged here, by a grammar narrower than RFC 5321: dot-atoms only. Quoted parts, comments, lists
and display names have no place in it, and `%` and `!` (routing through a third host) are left out. The domain is
judged by the library, without DNS; its answers are kept, because it takes 0.1 ms for each and domains repeat.
"""

import functools
import re

from email_validator import EmailNotValidError, validate_email

#: Characters of a whole address: RFC 5321 section 4.5.3.1.3, less the angle brackets.
LONGEST_ADDRESS = 254
#: RFC 5321 section 4.5.3.1.1.
LONGEST_LOCAL_PART = 64

_ATOM = r"[A-Za-z0-9#$&'*+/=?^_`{|}~-]+"
_LOCAL_PART = re.compile(rf"{_ATOM}(?:\.{_ATOM})*", re.ASCII)


def check_address(text: str) -> str | None:
    """The address as it may go byte for byte into the envelope, or None when it is none.

    The domain is in lower case, an international one as its A-labels (`xn--...`). A local part outside ASCII is
    refused: it could only leave through servers with SMTPUTF8. `.test` is allowed, for trying things out.
    """
    if len(text) > LONGEST_ADDRESS:
        # Before anything is remembered of it.
        return None
    local_part, _, domain = text.rpartition("@")
    if len(local_part) > LONGEST_LOCAL_PART or _LOCAL_PART.fullmatch(local_part) is None:
        return None
    if "=?" in local_part:
        # Atoms that some reader of the header takes for an encoded word (RFC 2047), and so for another address.
        return None
    ascii_domain = _ascii_domain(domain)
    if ascii_domain is None:
        return None
    address = f"{local_part}@{ascii_domain}"
    return address if len(address) <= LONGEST_ADDRESS else None


@functools.lru_cache(maxsize=4096)
def _ascii_domain(domain: str) -> str | None:
    try:
        # test_environment lets `.test` pass and nothing else that matters without DNS.
        checked = validate_email(f"a@{domain}", strict=True, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        return None
    return checked.ascii_domain
