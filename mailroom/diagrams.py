"""`python -m mailroom.diagrams`: the states in docs/architecture.md, drawn from the tables the code reads."""

import sys
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import TypeVar

from mailroom.integration import BEGINNINGS, STATE_MOVES, Mover, ReportedState, ways_from
from mailroom.message import MOVES, Status

State = TypeVar("State", bound=StrEnum)


def message_states() -> str:
    """Every move of a message; one nobody may know of begins, and ends, as refused: its tombstone."""
    return _drawn((Status.QUEUED, Status.HELD, Status.REFUSED), MOVES)


def integration_states() -> str:
    """Every move of an integration's reported state."""
    return _drawn(BEGINNINGS, {state: ways_from(state) for state in ReportedState})


def integration_moves() -> str:
    """The same moves as a table: whose each is, and why it is made."""
    rows = [
        (f"`{name}`", _named(ReportedState, rules.sources), rules.target, _named(Mover, rules.by), rules.why)
        for name, rules in STATE_MOVES.items()
    ]
    titles = ("move", "from", "to", "made by", "why")
    lines = [f"| {' | '.join(row)} |" for row in (titles, *rows)]
    return "\n".join((lines[0], "|---" * len(titles) + "|", *lines[1:]))


def _named(every: type[State], some: AbstractSet[State]) -> str:
    return "any" if some == set(every) else ", ".join(one for one in every if one in some)


def _drawn(beginnings: Iterable[State], moves: Mapping[State, AbstractSet[State]]) -> str:
    lines = [f"[*] --> {state}" for state in beginnings]
    for state, targets in moves.items():
        lines += [f"{state} --> {target}" for target in type(state) if target in targets]
        if not targets:
            lines.append(f"{state} --> [*]")
    return "\n".join(["stateDiagram-v2", *(f"    {line}" for line in lines)])


if __name__ == "__main__":
    for drawn in (message_states(), integration_states()):
        sys.stdout.write(f"```mermaid\n{drawn}\n```\n\n")
    sys.stdout.write(f"{integration_moves()}\n")
