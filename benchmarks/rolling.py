"""`python -m benchmarks rolling [ROUNDS]`: two gateways behind HAProxy and two workers, each restarted in turn under load.

Counts what went wrong: requests without an answer of ours, and mail that was lost or came twice. Then starts gateway and
worker before, between and after their database and broker, in all six orders, and says when they were ready.
"""

import http.client
import itertools
import json
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from benchmarks.deployment import Deployment, Process, deployment
from tests.services import free_port

ROUNDS = 3
CLIENTS = 8
#: Seconds that a client waits between two forms, so that machine and load leave each other room.
BETWEEN = 0.02
DRAIN_SECONDS = 120
_CONFIG = Path(__file__).parents[1] / "deploy" / "haproxy.cfg"
_HEADERS = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(slots=True)
class Client:
    """A web page that submits one form after the other over a connection that it keeps."""

    port: int
    answers: Counter[str] = field(default_factory=Counter)

    def submit(self, over: threading.Event) -> None:
        """Until it is over."""
        body = urlencode(
            {"firstName": "Jane", "lastName": "Doe", "fromAddress": "jane@customer.test", "subject": "A question",
             "text": "Where is my parcel?"}
        )  # fmt: skip
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        while not over.wait(BETWEEN):
            try:
                connection.request("POST", "/genesys/2/email/support", body, _HEADERS)
                answer = connection.getresponse()
                said = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.answers[f"no answer: {type(error).__name__}"] += 1
                connection.close()
            else:
                self.answers[f"{answer.status}, statusCode {said.get('statusCode')}"] += 1


@contextmanager
def haproxy(ports: list[int], pages: int) -> Iterator[int]:
    """The proxy of the compose file before gateways at these ports; gives its own."""
    listen = free_port()
    text = re.sub(r" resolvers docker resolve-prefer ipv4 init-addr none", "", _CONFIG.read_text())
    servers = "\n".join(f"    server gateway{number} 127.0.0.1:{port}" for number, port in enumerate(ports))
    text = text.replace("    server-template gateway 16 gateway:8080", servers)
    text = text.replace("    server-template gateway 16 gateway:8081", f"    server gateway 127.0.0.1:{pages}")
    text = text.replace("bind :8080", f"bind 127.0.0.1:{listen}").replace("bind :8082", f"bind 127.0.0.1:{free_port()}")
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as config:
        config.write(text)
        config.flush()
        process = subprocess.Popen(
            [shutil.which("haproxy", path="/usr/sbin:/usr/bin") or "haproxy", "-f", config.name],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield listen
        finally:
            process.kill()
            process.wait()


@contextmanager
def submitting(port: int) -> Iterator[list[Client]]:
    """Clients that submit for as long as this lasts."""
    over, clients = threading.Event(), [Client(port) for _ in range(CLIENTS)]
    threads = [threading.Thread(target=client.submit, args=(over,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        over.set()
        for thread in threads:
            thread.join()


def gateway(made: Deployment, port: int) -> Process:
    """A gateway of its own port."""
    admin = free_port()
    own = {"MAILROOM_LISTEN": f"127.0.0.1:{port}", "MAILROOM_ADMIN_LISTEN": f"127.0.0.1:{admin}"}
    return made.process("gateway", own, admin)


def restarts(rounds: int) -> int:
    """Restart each in turn; how much went wrong."""
    with deployment() as made:
        ports = [free_port(), free_port()]
        gateways = [gateway(made, port) for port in ports]
        workers = [made.worker(), made.worker()]
        pause(3)
        with haproxy(ports, gateways[0].figures_port) as port:
            pause(2)
            codes: list[int] = []
            with submitting(port) as clients:
                for _ in range(rounds):
                    for turn in range(2):
                        for some in (gateways, workers):
                            old = some[turn]
                            old.stop()
                            codes.append(old.popen.returncode)
                            some[turn] = gateway(made, ports[turn]) if some is gateways else made.worker()
                        pause(2)
            answers = sum((client.answers for client in clients), Counter[str]())
        accepted = answers["200, statusCode 0"]
        deadline = time.monotonic() + DRAIN_SECONDS
        while made.sink.count() < accepted and time.monotonic() < deadline:
            pause(0.1)
        pause(2)
        sent = made.sink.count()
    print(f"{rounds} rounds: {2 * rounds} restarts of gateways and as many of workers, exit codes {set(codes)}")
    for answer, number in sorted(answers.items()):
        print(f"  {answer:<40}{number:>8}")
    print(f"  sent {sent} of {accepted} accepted: lost {max(0, accepted - sent)}, too many {max(0, sent - accepted)}")
    return sum(number for answer, number in answers.items() if not answer.startswith("200,")) + abs(sent - accepted)


def orders() -> int:
    """Start in every order; how many were not ready in time."""
    late = 0
    for order in itertools.permutations(("processes", "database", "broker")):
        with deployment() as made:
            made.postgres.stop()
            made.rabbitmq.stop_app()
            starts = {
                "processes": lambda made=made: [made.process(*one) for one in kinds(made)],
                "database": made.postgres.start,
                "broker": made.rabbitmq.start_app,
            }
            for name in order:
                starts[name]()
            begun = time.monotonic()
            while not all(one.ready() for one in made.processes) and time.monotonic() - begun < 60:
                pause(0.05)
            took = time.monotonic() - begun
            late += took > 10
            print(f"  {', '.join(order):<32}ready {took:.1f} s after the last")
    return late


def kinds(made: Deployment) -> list[tuple[str, dict[str, str], int, bool]]:
    """A gateway and a worker that nobody waits for."""
    ports = [free_port(), free_port()]
    return [
        ("gateway", {"MAILROOM_ADMIN_LISTEN": f"127.0.0.1:{ports[0]}"}, ports[0], False),
        ("worker", {"MAILROOM_HEALTH_LISTEN": f"127.0.0.1:{ports[1]}"}, ports[1], False),
    ]


def pause(seconds: float) -> None:
    """Let the others work; nothing else runs in this thread."""
    time.sleep(seconds)  # noqa: TID251 - there is no event loop here


def main(arguments: list[str]) -> int:
    """Measure and print; 0 when nothing went wrong."""
    wrong = restarts(int(arguments[0]) if arguments else ROUNDS)
    print("start orders")
    return 1 if wrong + orders() else 0
