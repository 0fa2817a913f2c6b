"""A short fault run: one fault of each kind. `make faults` has all of them, for longer."""

import signal
from pathlib import Path

import pytest

from tests.faults.campaign import Campaign, carry_out
from tests.faults.checker import table
from tests.faults.faults import BROKER, DATABASE, MAIL, PROCESSES, STATE
from tests.faults.system import a_system
from tests.services import Postgres, RabbitMQ

WANTED = {
    "broker: connections cut",
    "database restarted (immediate)",
    "database: answers of commits lost",
    f"gateway {signal.SIGKILL.name} after the commit, before the answer",
    f"worker {signal.SIGKILL.name} after the dot, before its answer",
    "mail server: smtp-sink -q .",
    "account refused",
}


@pytest.mark.timeout(300)
async def test_every_promise_is_kept_under_faults(postgres: Postgres, rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    """Nothing answered 0 is lost, nothing answered 1 is delivered, and what comes twice has its reason and its mark."""
    faults = [one for one in (*BROKER, *DATABASE, *PROCESSES, *MAIL, *STATE) if one.name in WANTED]
    told: list[str] = []
    async with a_system(tmp_path, postgres, rabbitmq) as system:
        verdict = await carry_out(Campaign(faults=faults, per_second=15.0, tell=told.append), system)

    assert len(verdict.during) == len(WANTED), told
    assert verdict.accepted > 100
    assert verdict.holds, "\n".join([*told, table(verdict)])
