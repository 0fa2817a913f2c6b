"""How long stopping takes, in code, compose file and documents: nobody is killed before its time is up (OPS-7)."""

import re
from pathlib import Path

import pytest
import yaml

from gateway import intake, process, supervisor
from mailroom.queue import rabbitmq
from worker.app import DRAIN_SECONDS

ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
DEPLOYING = (ROOT / "docs/deploying.md").read_text()

#: What one last question to a database or broker that does not answer may take (STORE: 3 s to connect, 10 s to answer).
LAST_COMMITS = 13.0
LAST_WORDS = rabbitmq.PUBLISH_SECONDS

GATEWAY = (
    process.FAREWELL_SECONDS
    + process.FINISH_SECONDS
    + process.PAGES_FINISH_SECONDS
    + LAST_COMMITS
    + intake.LAST_PAYMENT_SECONDS
    + LAST_WORDS
)
WORKER = DRAIN_SECONDS + LAST_COMMITS + LAST_WORDS

#: What whoever stops them must give them.
GIVEN = [int(found) for found in re.findall(r"(?:TimeoutStopSec=|terminationGracePeriodSeconds: )(\d+)", DEPLOYING)]


def test_ops_7_a_gateway_is_done_before_its_supervisor_kills_it() -> None:
    """All that a stopping gateway may wait for fits into what its supervisor gives it."""
    assert GATEWAY < supervisor.STOP_SECONDS


@pytest.mark.parametrize("seconds", [supervisor.STOP_SECONDS, WORKER, GATEWAY])
def test_ops_7_whoever_stops_them_waits_longer(seconds: float) -> None:
    """What is documented for systemd and Kubernetes, and written in the compose file, is longer than any stop takes."""
    graces = {int(service["stop_grace_period"].removesuffix("s")) for service in SERVICES.values()
              if "stop_grace_period" in service}  # fmt: skip

    assert len(GIVEN) == 2
    assert min(*GIVEN, *graces) >= seconds + 5


@pytest.mark.parametrize(
    "told",
    [
        f"goes on for {process.FAREWELL_SECONDS:.0f} s",
        f"requests in progress have {process.FINISH_SECONDS:.0f} s",
        f"longer than {supervisor.STOP_SECONDS:.0f} s is killed",
        f"messages in hand have {DRAIN_SECONDS:.0f} s",
        f"finishes what it has begun within {DRAIN_SECONDS:.0f} seconds",
        f"stop_grace_period: {SERVICES['worker']['stop_grace_period']}",
    ],
)
def test_ops_7_the_document_has_the_numbers_of_the_code(told: str) -> None:
    """What an operator reads about stopping is what the code does."""
    assert told in DEPLOYING
