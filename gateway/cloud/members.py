"""Reading the members of a body: each is checked as it is taken, and all that is wrong is told at once."""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, TypeVar

from gateway.cloud.errors import Problem, invalid
from gateway.text import clean_line, clean_text
from mailroom.addresses import check_address

Choice = TypeVar("Choice", bound=StrEnum)

#: Characters of a text in one line where nothing else is said.
LONGEST_LINE = 256

_WHOLE = re.compile(r"[+-]?\d{1,18}")


class Members:
    """The members of one object of a body. What is absent or null is None."""

    def __init__(self, value: Any, at: str = "", problems: list[Problem] | None = None) -> None:
        self.problems: list[Problem] = [] if problems is None else problems
        self._at = at
        if value is not None and not isinstance(value, dict):
            self.wrong("", "is no object; write it in braces")
        self.all: dict[str, Any] = value if isinstance(value, dict) else {}

    def wrong(self, name: str, sentence: str) -> None:
        """Remember what is wrong with a member."""
        self.problems.append(Problem(".".join(filter(None, (self._at, name))) or "body", sentence))

    def checked(self) -> None:
        """Raise Refusal when anything was wrong so far, in this object or within it."""
        if self.problems:
            raise invalid(self.problems)

    def has(self, name: str) -> bool:
        """Whether a member is there, be it null."""
        return name in self.all

    def within(self, name: str) -> "Members":
        """The members of a member."""
        return Members(self.all.get(name), ".".join(filter(None, (self._at, name))), self.problems)

    def each(self, name: str) -> list["Members"]:
        """The members of each object in a list."""
        found = self.all.get(name)
        if found is not None and not isinstance(found, list):
            self.wrong(name, "is no list")
        place = ".".join(filter(None, (self._at, name)))
        return [
            Members(one, f"{place}[{number}]", self.problems)
            for number, one in enumerate(found if isinstance(found, list) else ())
        ]

    def line(self, name: str, most: int = LONGEST_LINE) -> str | None:
        """A text in one line, without what could steer a terminal or end a header."""
        found = self._text(name, most)
        return None if found is None else clean_line(found)

    def text(self, name: str, most: int) -> str | None:
        """A text of several lines."""
        found = self._text(name, most)
        return None if found is None else clean_text(found)

    def secret(self, name: str, most: int = 1024) -> str | None:
        """A text exactly as it is; a wrong one is not repeated."""
        return self._text(name, most)

    def _text(self, name: str, most: int) -> str | None:
        found = self.all.get(name)
        if found is None:
            return None
        if not isinstance(found, str):
            self.wrong(name, "is no text")
            return None
        if len(found) > most:
            self.wrong(name, f"is longer than {most} characters")
            return None
        return found

    def whole(self, name: str, least: int, most: int) -> int | None:
        """A whole number; the vendor's clients may send it as text."""
        found = self.all.get(name)
        if isinstance(found, str) and _WHOLE.fullmatch(found.strip()):
            found = int(found)
        if found is None or found == "":
            return None
        if isinstance(found, bool) or not isinstance(found, int) or not least <= found <= most:
            self.wrong(name, f"is no whole number from {least} to {most}")
            return None
        return found

    def rate(self, name: str, least: float, most: float) -> float | None:
        """A number from `least` to `most`."""
        found = self.all.get(name)
        if found is None or found == "":
            return None
        if isinstance(found, bool) or not isinstance(found, int | float) or not least <= found <= most:
            self.wrong(name, f"is no number from {least:g} to {most:g}")
            return None
        return float(found)

    def flag(self, name: str) -> bool | None:
        """True or false."""
        found = self.all.get(name)
        if found is not None and not isinstance(found, bool):
            self.wrong(name, "is neither true nor false")
            return None
        return found

    def choice(self, name: str, choices: type[Choice]) -> Choice | None:
        """One of these words, however its letters are written."""
        found = self.all.get(name)
        if found is None or found == "":
            return None
        for one in choices:
            if isinstance(found, str) and one.lower() == found.lower():
                return one
        self.wrong(name, f"is none of {', '.join(choices)}")
        return None

    def address(self, name: str) -> str | None:
        """An e-mail address."""
        found = self.line(name)
        if found is None or self.all[name] == "":
            return None
        # One of nothing but spaces is no absent one: whoever wrote it wanted somebody to get the letter.
        address = check_address(found)
        if address is None:
            self.wrong(name, "is no e-mail address that mail can be sent with")
        return address

    def need(self, names: Iterable[str]) -> None:
        """Remember which of these are absent."""
        for name in names:
            if self.all.get(name) in (None, ""):
                self.wrong(name, "is missing")
