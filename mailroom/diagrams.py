"""`python -m mailroom.diagrams`: the state diagrams of docs/architecture.md, drawn from the tables the code reads."""

import sys
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import TypeVar

from mailroom.integration import STATE_MOVES, ReportedState
from mailroom.message import MOVES, Status

State = TypeVar("State", bound=StrEnum)


def message_states() -> str:
    """Every move of a message; one nobody may know of begins, and ends, as refused: its tombstone."""
    return _drawn((Status.QUEUED, Status.HELD, Status.REFUSED), MOVES)


def integration_states() -> str:
    """Every move of an integration's reported state."""
    return _drawn((ReportedState.ACTIVATING,), STATE_MOVES)


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
