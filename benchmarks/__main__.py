"""`make bench`: intake, drain and end to end of urlencoded forms, with wrk against smtp-sink; prints a table.

`python -m benchmarks search` measures the search instead (benchmarks/search.py), `python -m benchmarks intake` what slow
peers and uploads cost (benchmarks/intake.py), `overload` what three times too much does, `rolling` what restarts do.
"""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import intake, overload, rolling, search
from benchmarks.deployment import Deployment, Process, deployment

#: Seconds of load in each measurement, and the connections that bring it.
SECONDS = 8
CONNECTIONS = 64

#: Seconds that everything accepted may take to be delivered.
DRAIN_SECONDS = 180

#: Figures that are statements or publishes, and what they are called in the table.
COSTS = {
    "mailroom_accept_statements_total": "grouped INSERTs per 1,000",
    "mailroom_tickets_published_total": "publishes per 1,000",
    "mailroom_claim_statements_total": "grouped claims per 1,000",
    "mailroom_settle_statements_total": "grouped settles per 1,000",
}


def load(port: int) -> str:
    """What wrk prints about its load."""
    url = f"http://127.0.0.1:{port}/genesys/2/email/support"
    script = Path(__file__).with_name("form.lua")
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", "-s", str(script), url]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def show(name: str, value: float, unit: str = "") -> None:
    """One line of the table."""
    print(f"  {name:<42}{value:>10.2f} {unit}")


def wait_delivered(made: Deployment, count: float) -> None:
    """Return once the sink has so many mails."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while made.sink.count() < count and time.monotonic() < deadline:
        time.sleep(0.05)  # noqa: TID251 - nothing else runs in this process


def grown(process: Process, before: dict[str, float]) -> dict[str, float]:
    """What was done since then."""
    return {name: value - before.get(name, 0) for name, value in process.figures().items()}


def show_costs(figures: dict[str, float], messages: float) -> None:
    """Statements and publishes per 1,000 messages."""
    for name, title in COSTS.items():
        if figures.get(name):
            show(title, figures[name] / messages * 1000)


def intake_then_drain(made: Deployment) -> None:
    """The gateway alone, then one worker alone."""
    gateway = made.gateway()
    worker = made.worker()
    time.sleep(2)  # noqa: TID251 - the live test of the integration
    worker.stop()
    before, cpu = gateway.figures(), gateway.cpu_seconds()
    printed = load(made.listen_port)
    did = grown(gateway, before)
    accepted = did["mailroom_accepted_total"]
    print("intake, no worker")
    show("accepted per second", accepted / SECONDS)
    show("CPU of the gateway", (gateway.cpu_seconds() - cpu) / accepted * 1000, "ms per message")
    print("  latency " + ", ".join(" ".join(found) for found in re.findall(r"(50|99)%\s+(\S+)", printed)))
    show_costs(did, accepted)
    worker = made.worker()
    begun = time.monotonic()
    wait_delivered(made, accepted)
    print("drain, one worker of 8 connections")
    show("delivered per second", made.sink.count() / (time.monotonic() - begun))
    show("CPU of the worker", worker.cpu_seconds() / accepted * 1000, "ms per message")
    show_costs(worker.figures(), accepted)


def end_to_end(made: Deployment) -> None:
    """Both at once, on the same cores."""
    gateway, _ = made.gateway(), made.worker()
    time.sleep(2)  # noqa: TID251 - the live test of the integration
    before, begun = gateway.figures(), time.monotonic()
    load(made.listen_port)
    accepted = grown(gateway, before)["mailroom_accepted_total"]
    wait_delivered(made, accepted)
    print("end to end, one gateway and one worker")
    show("accepted per second", accepted / SECONDS)
    show("delivered per second, to the last one", made.sink.count() / (time.monotonic() - begun))


def main() -> int:
    """Measure and print."""
    others = {"search": search.main, "intake": intake.main, "overload": overload.main, "rolling": rolling.main}
    if sys.argv[1:2] and sys.argv[1] in others:
        return others[sys.argv[1]](sys.argv[2:])
    if shutil.which("wrk") is None:
        sys.stderr.write("make bench needs wrk: as root, apt-get install wrk\n")
        return 1
    for measure in (intake_then_drain, end_to_end):
        with deployment() as made:
            measure(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
