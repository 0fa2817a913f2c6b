"""`python -m benchmarks overload`: what a gateway does when three times as much comes as it can take.

Goodput against the peak, how long those wait who are taken in and those who are turned away, whether health and the
platform API still answer, and how much memory it takes. At the peak as many connections ask without a pause as one API
may have in hand, less a few, so that nobody is turned away. Three times that are so many people that they would send
three times as much, were each answered at once: everybody pauses between two forms, as people do who fill them in. The
storm is for comparison: as many connections as are let in, which never pause, and come back at once when turned away.
"""

import http.client
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.deployment import Deployment, Process, deployment

SECONDS = 10
#: Connections that are enough to keep a gateway busy, and the milliseconds between two forms of one that keeps a rate.
BUSY = 128
BETWEEN_MS = 300
TIMES = 3
STORM = 2000

FORM = "firstName=Jane&lastName=Doe&fromAddress=jane%40customer.test&subject=A+question&text=Where+is+my+parcel%3F"
_FORM_HEADERS = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(slots=True)
class Probe:
    """Somebody who asks again and again, one thing after the other, and looks at the clock."""

    port: int
    method: str
    path: str
    body: str | None = None
    took: dict[str, list[float]] = field(default_factory=dict)

    def ask(self) -> None:
        """Ask once."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        begun = time.perf_counter()
        try:
            connection.request(self.method, self.path, self.body, _FORM_HEADERS if self.body else {})
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        self.took.setdefault(self._class(answer.status, said), []).append((time.perf_counter() - begun) * 1000)

    def _class(self, status: int, said: bytes) -> str:
        if self.body is None:
            return str(status)
        return "taken in" if json.loads(said)["statusCode"] == 0 else "turned away"


@contextmanager
def asking(probes: list[Probe]) -> Iterator[None]:
    """Every probe asks for as long as this lasts."""
    over = threading.Event()

    def go_on(probe: Probe) -> None:
        while not over.wait(0.02):
            probe.ask()

    threads = [threading.Thread(target=go_on, args=(probe,)) for probe in probes]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def load(port: int, connections: int, between_ms: int) -> tuple[float, str]:
    """Forms from so many connections; how many answers a second there were, and what one in a hundred took longer than."""
    script = Path(__file__).with_name("overload.lua")
    url = f"http://127.0.0.1:{port}/genesys/2/email/support"
    command = [
        "wrk",
        "-t1",
        "--latency",
        "--timeout",
        "10s",
        f"-c{connections}",
        f"-d{SECONDS}s",
        "-s",
        str(script),
        url,
    ]
    environment = {"BETWEEN_MS": str(between_ms), "PATH": os.defpath}
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    told = {words[0]: words[1] for line in printed.splitlines() if len(words := line.split()) > 1}
    return float(told["Requests/sec:"]), told["99%"]


def p99(took: list[float]) -> float:
    """The time that one in a hundred takes longer than; 0 without any."""
    return sorted(took)[int(len(took) * 0.99)] if took else 0.0


def rss(process: Process) -> float:
    """Megabytes in memory."""
    lines = Path(f"/proc/{process.popen.pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024


def measure(made: Deployment, gateway: Process, connections: int, between_ms: int) -> tuple[float, float]:
    """Print what such a load gets; how many a second were taken in, and how long one in a hundred of them took."""
    forms = [Probe(made.listen_port, "POST", "/genesys/2/email/support", FORM) for _ in range(4)]
    health = Probe(gateway.figures_port, "GET", "/readyz")
    platform = Probe(made.listen_port, "GET", "/api/v2/integrations")
    before = gateway.figures()
    with asking([*forms, health, platform]):
        answered, slowest = load(made.listen_port, connections, between_ms)
    after = gateway.figures()

    def grown(name: str) -> float:
        return (after[name] - before[name]) / SECONDS

    accepted, away = grown("mailroom_accepted_total"), grown("mailroom_turned_away_forms_total")
    taken = [one for probe in forms for one in probe.took.get("taken in", [])]
    refused = [one for probe in forms for one in probe.took.get("turned away", [])]
    print(f"  {connections} connections: {answered:.0f} answers a second, p99 {slowest}")
    print(f"    taken in {accepted:.0f} a second, p99 {p99(taken):.0f} ms of {len(taken)} asked")
    print(f"    turned away {away:.0f} a second, p99 {p99(refused):.0f} ms of {len(refused)} asked")
    for name, probe in (("/readyz", health), ("the platform API", platform)):
        told = ", ".join(f"{status}: {len(took)}, p99 {p99(took):.0f} ms" for status, took in probe.took.items())
        print(f"    {name} {told}")
    print(f"    memory {rss(gateway):.0f} MB")
    return accepted, p99(taken)


def main(_: list[str]) -> int:
    """Measure and print."""
    with deployment() as made:
        gateway, worker = made.gateway(), made.worker()
        time.sleep(2)  # noqa: TID251 - the live test of the integration; nothing else runs in this process
        worker.stop()
        print("at its peak")
        peak, at_peak = measure(made, gateway, BUSY, 0)
        print(f"{TIMES} times that")
        goodput, overloaded = measure(made, gateway, int(TIMES * peak * BETWEEN_MS / 1000), BETWEEN_MS)
        print("a storm")
        stormed, _p99 = measure(made, gateway, STORM, 0)
        print(f"goodput {goodput / peak:.0%} of the peak, in a storm {stormed / peak:.0%}")
        print(f"p99 of those taken in {overloaded / at_peak:.1f} times as long")
    return 0
