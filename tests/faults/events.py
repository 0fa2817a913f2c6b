"""What the observers of a fault run write down: each for itself, one JSON object a line."""

from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec


class Submitted(msgspec.Struct, frozen=True, kw_only=True, tag="submitted"):
    """A client's request and what came of it. `number` names it in its subject; times are seconds of this machine."""

    number: int
    at: float
    seconds: float
    #: 0 or 1 as answered, None when no answer of ours came.
    said: int | None
    id: str | None
    digest: str
    #: What came instead of an answer.
    instead: str | None = None
    #: Whether its client went away in the middle, and so wanted no answer.
    aborted: bool = False


class Copied(msgspec.Struct, frozen=True, kw_only=True, tag="copied"):
    """A message whose final dot came to the mail server. `said` is what it answered, None when nothing."""

    number: int
    id: str
    at: float
    mail_at: float
    recipient: str
    digest: str
    said: int | None


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """Where an accepted message stands at the end, by the form API; `marked` is told of those that came twice."""

    id: str
    status: str
    said: int
    marked: bool = False


class Happened(msgspec.Struct, frozen=True, kw_only=True, tag="happened"):
    """A fault: what it was, from when until when, and what it excuses or forbids."""

    name: str
    since: float
    until: float
    #: Whether it can come between a completed message and the record of it.
    cuts_records: bool = False
    #: Whether it left nobody who could answer.
    mute: bool = False
    #: Since and until when nothing may begin to be sent.
    closed: tuple[float, float] | None = None
    #: Why it could not be inflicted or undone; then the run says nothing about it.
    undone: str | None = None


Event = Submitted | Copied | Ended | Happened
AnyEvent = TypeVar("AnyEvent", Submitted, Copied, Ended, Happened)


class Notebook:
    """One observer's file. What was written stays, however the run ends."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, event: Event) -> None:
        """Add a line."""
        self._file.write(msgspec.json.encode(event) + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()


def read(path: Path, kind: type[AnyEvent]) -> list[AnyEvent]:
    """What one observer wrote."""
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=kind) for line in path.read_bytes().splitlines()]
