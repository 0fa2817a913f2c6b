"""What a person types into the one box of the search, taken apart."""

from dataclasses import dataclass
from uuid import UUID

from mailroom import terms

#: More than these are a mistake of the clipboard.
MOST_CHARACTERS = 1000
MOST_WORDS = 40


class UnclearSearch(Exception):
    """What was typed cannot be searched for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The parts of what was typed: an id alone, or at most one address, one domain, and words of the subject."""

    message_id: UUID | None = None
    address: str | None = None
    domain: str | None = None
    words: tuple[str, ...] = ()


def read(text: str) -> Asked:
    """An id (also as `<id>` or a Message-ID); else an address, `@domain` and words, in any order. Raises UnclearSearch."""
    found = _id_in(text)
    if found is not None:
        return Asked(message_id=found)
    parts = [part.strip("<>,;\"'()") for part in text.split()] if len(text) <= MOST_CHARACTERS else []
    domains = [part[1:] for part in parts if part.startswith("@") and part[1:]]
    addresses = [part.removeprefix("mailto:") for part in parts if "@" in part[1:]]
    words = tuple(sorted(terms.words(" ".join(part for part in parts if "@" not in part))))
    if len(domains) > 1 or len(addresses) > 1:
        raise UnclearSearch("search for one address and one domain at a time")
    if len(words) > MOST_WORDS or len(text) > MOST_CHARACTERS:
        raise UnclearSearch(f"search for at most {MOST_WORDS} words")
    if text.strip() and not (domains or addresses or words):
        raise UnclearSearch(f"{text!r} has no word, address or id to search for")
    return Asked(address=next(iter(addresses), None), domain=next(iter(domains), None), words=words)


def message_id(text: str | None) -> UUID | None:
    """The id of a message. Raises UnclearSearch."""
    if text is None:
        return None
    found = _id_in(text)
    if found is None:
        raise UnclearSearch(f"{text!r} is no id of a message")
    return found


def _id_in(text: str) -> UUID | None:
    bare = text.strip().removeprefix("<").removesuffix(">").partition("@")[0]
    try:
        return UUID(bare)
    except ValueError:
        return None
