"""The faults of a mailbox as JSON: for programs, and in a file that is there after the next start."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import msgspec

from cli.mailbox.faults import MOST_FAULTS, Fault, Faults, Standing, problems
from mailroom.logs import get_logger

_NAMES = frozenset(one.name for one in fields(Fault))

log = get_logger(__name__)


class BadFaults(Exception):
    """These are no faults; the text says all that is wrong with them."""


def as_json(standing: Iterable[Standing]) -> list[dict[str, Any]]:
    """What is set, with how often each struck."""
    return [{"id": one.id, **asdict(one.fault), "struck": one.struck} for one in standing]


def read_faults(body: bytes) -> list[Fault]:
    """The faults of `{"faults": [...]}`; `id` and `struck`, which we add ourselves, mean nothing. Raises BadFaults."""
    try:
        given = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadFaults(f"This is no JSON: {error}") from error
    listed = given.get("faults") if isinstance(given, dict) else None
    if not isinstance(listed, list) or len(listed) > MOST_FAULTS:
        raise BadFaults(f'Write {{"faults": [...]}} with at most {MOST_FAULTS} of them.')
    complaints: list[str] = []
    faults = [_fault(number, one, complaints) for number, one in enumerate(listed)]
    if complaints:
        raise BadFaults(" ".join(complaints))
    return [one for one in faults if one is not None]


def _fault(number: int, given: Any, complaints: list[str]) -> Fault | None:
    """One fault of a list, or None and why not."""
    unknown = sorted(given.keys() - _NAMES - {"id", "struck"}) if isinstance(given, dict) else []
    if unknown:
        complaints.append(f"faults[{number}]: there is no {', '.join(unknown)}.")
        return None
    try:
        fault = msgspec.convert(given, Fault)
    except msgspec.ValidationError as error:
        complaints.append(f"faults[{number}]: {error}.")
        return None
    complaints += [f"faults[{number}].{name} {problem}." for name, problem in problems(fault).items()]
    return fault


@contextlib.asynccontextmanager
async def keeping_faults(path: Path) -> AsyncIterator[Faults]:
    """The faults that the file remembers; whatever becomes of them is written to it before this ends.

    A file that cannot be read or written is said to the log, and the mailbox works on without it.
    """
    keeper = _Keeper(path)
    yield keeper.faults
    await keeper.settle()


class _Keeper:
    """Writes at once, but never twice at a time: however often faults strike, the disk has one write under way."""

    def __init__(self, path: Path) -> None:
        self.faults = Faults(_remembered(path), self._changed)
        self._path = path
        self._stale = False
        self._writing: asyncio.Task[None] | None = None

    async def settle(self) -> None:
        """Return once the file says what is so."""
        if self._writing is not None:
            await self._writing

    def _changed(self) -> None:
        self._stale = True
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while self._stale:
            self._stale = False
            await asyncio.to_thread(_write, self._path, msgspec.json.encode(as_json(self.faults.standing)))


def _remembered(path: Path) -> list[Standing]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        log.warning("faults not read", path=str(path), error=str(error))
        return []
    try:
        kept = msgspec.json.decode(content, type=list[dict[str, Any]])
        faults = read_faults(msgspec.json.encode({"faults": kept}))
        return [Standing(int(one["id"]), fault, int(one["struck"])) for one, fault in zip(kept, faults, strict=True)]
    except (msgspec.MsgspecError, BadFaults, KeyError, TypeError, ValueError) as error:
        log.warning("faults not understood, so none are set", path=str(path), error=str(error))
        return []


def _write(path: Path, content: bytes) -> None:
    """All or nothing: a killed process leaves the file of before."""
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        log.warning("faults not kept", path=str(path), error=str(error))
