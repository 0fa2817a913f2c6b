"""docker-compose.yml, started without containers: its own commands, environments, health checks and files.

What containers would give each process is given here by other means: folders for volumes, addresses of the loopback
network for containers, a DNS server for Docker's. Nothing else of the compose file is replaced.
"""

import asyncio
import contextlib
import io
import ipaddress
import itertools
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import yaml

from tests.services import LOOPBACK, Postgres, RabbitMQ, free_port, missing_services

ROOT = Path(__file__).parents[2]
COMPOSE: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())

#: `docker compose up --scale worker=4`
SCALE = {"worker": 4}
SUBMISSIONS = 500
CLIENTS = 20
#: Every so many submissions one has a file too large for a row: it must reach the worker through the shared volume.
WITH_FILE = 100
LARGE_FILE = b"A line of text.\n" * 100_000

ONE_SHOT_SECONDS = 30.0
HEALTHY_SECONDS = 30.0
SUBMIT_SECONDS = 60.0
ARRIVE_SECONDS = 60.0
#: A worker drains for a minute at most.
STOP_SECONDS = 75.0

#: Programs that the images have under these names, and where they are here.
PROGRAMS = {
    "python": [sys.executable],
    # What the console script does, which is installed only where the project is.
    "mailroom": [sys.executable, "-m", "cli"],
    "haproxy": ["haproxy"],
    "bash": ["bash"],
}
#: Files that the Dockerfile puts into the image.
IMAGE_FILES = {"/opt/mailroom/prepare.py": str(ROOT / "deploy" / "prepare.py")}


@dataclass(slots=True)
class Running:
    """One process of a service: a container there."""

    name: str
    process: asyncio.subprocess.Process
    printed: Path
    health: Sequence[str]
    environment: Mapping[str, str]
    told: bool = False

    def stop(self) -> None:
        """Tell it to stop, once, as a container engine does."""
        if not self.told and self.process.returncode is None:
            # haproxy's image sets STOPSIGNAL SIGUSR1.
            self.process.send_signal(signal.SIGUSR1 if self.name.startswith("proxy") else signal.SIGTERM)
        self.told = True

    def last_words(self) -> str:
        """The end of what it printed."""
        return f"{self.name} printed last:\n{self.printed.read_text(errors='replace')[-3000:]}"

    async def healthy(self) -> None:
        """Return once the service's own health check passes."""
        said = ""
        try:
            async with asyncio.timeout(HEALTHY_SECONDS):
                while True:
                    assert self.process.returncode is None, f"{self.name} ended\n{self.last_words()}"
                    code, said = await run(self.health, self.environment)
                    if code == 0:
                        return
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(
                f"{self.name} was not healthy in time: {shlex.join(self.health)}: {said}\n{self.last_words()}"
            ) from None

    async def ended(self, seconds: float) -> int:
        """Its exit code, once it has ended."""
        try:
            async with asyncio.timeout(seconds):
                return await self.process.wait()
        except TimeoutError:
            raise AssertionError(f"{self.name} did not end in time\n{self.last_words()}") from None


async def run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a command to its end; its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode(errors="replace").strip()


class Names(asyncio.DatagramProtocol):
    """Docker's DNS: all addresses of a service under its name (RFC 1035), and no other type of record."""

    def __init__(self, addresses: Mapping[str, Sequence[str]]) -> None:
        self._addresses = addresses

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        end = data.index(b"\0", 12) + 5
        labels, kind = data[12 : end - 4], struct.unpack(">H", data[end - 4 : end - 2])[0]
        name = b".".join(part for part in _labels(labels)).decode()
        found = self._addresses.get(name, ()) if kind == 1 else ()
        answers = b"".join(
            b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + ipaddress.IPv4Address(one).packed for one in found
        )
        header = data[:2] + struct.pack(">HHHHH", 0x8180, 1, len(found), 0, 0)
        self._transport.sendto(header + data[12:end] + answers, addr)


def _labels(encoded: bytes) -> list[bytes]:
    parts = []
    while encoded[0]:
        parts.append(encoded[1 : encoded[0] + 1])
        encoded = encoded[encoded[0] + 1 :]
    return parts


class Ports:
    """Free ports, kept from everybody else until the service they are meant for is about to listen there."""

    def __init__(self) -> None:
        self._kept: defaultdict[str, list[socket.socket]] = defaultdict(list)

    def take(self, service: str, *addresses: str) -> int:
        """A port that is free at each of the addresses."""
        while True:
            try:
                return self.keep(service, free_port(), *addresses)
            except OSError:
                continue

    def keep(self, service: str, port: int, *addresses: str) -> int:
        """Keep this port; raises OSError when somebody has it."""
        with contextlib.ExitStack() as stack:
            kept = [stack.enter_context(socket.socket()) for _ in addresses]
            for one, address in zip(kept, addresses, strict=True):
                one.bind((address, port))
            stack.pop_all()
        self._kept[service] += kept
        return port

    def release(self, service: str) -> None:
        """Let the service have its ports."""
        for one in self._kept.pop(service, []):
            one.close()

    def close(self) -> None:
        """Keep nothing any more."""
        for service in list(self._kept):
            self.release(service)


@dataclass(slots=True)
class Deployment:
    """The services of the compose file on this machine."""

    folder: Path
    postgres: Postgres
    rabbitmq: RabbitMQ
    running: dict[str, list[Running]] = field(default_factory=dict)
    #: Where a port inside a service's containers is here, for each container.
    places: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    ports: Ports = field(default_factory=Ports)
    dns_port: int = 0

    def __post_init__(self) -> None:
        # The proxy finds all gateways at one port and different addresses, as with containers; 127.0.0.0/8 is all ours.
        addresses = [f"127.0.0.{2 + number}" for number in range(replicas("gateway"))]
        api, admin = self.ports.take("gateway", *addresses), self.ports.take("gateway", *addresses)
        self.places["gateway"] = [{"8080": f"{one}:{api}", "8081": f"{one}:{admin}"} for one in addresses]
        self.places["worker"] = [self._places("worker", "8082") for _ in range(replicas("worker"))]
        self.places["mailbox"] = [self._places("mailbox", "1025", "8081")]
        self.places["proxy"] = [self._places("proxy", "8080", "8082")]
        for port in (self.rabbitmq.port, self.rabbitmq._distribution_port, self.rabbitmq._epmd_port):
            self.ports.keep("rabbitmq", port, LOOPBACK)

    def _places(self, service: str, *ports: str) -> dict[str, str]:
        return {port: f"{LOOPBACK}:{self.ports.take(service, LOOPBACK)}" for port in ports}

    @property
    def url(self) -> str:
        """Where submissions go."""
        return f"http://{self.places['proxy'][0]['8080']}"

    @property
    def pages_url(self) -> str:
        """Where people sign in."""
        return f"http://{self.places['proxy'][0]['8082']}"

    async def add_administrator(self, password: str) -> None:
        """As a person does it: with the command, in a gateway's container."""
        file = self.folder / "password"
        file.write_text(password)
        command = [*PROGRAMS["mailroom"], "users", "add", "jane", "--role", "admin", "--password-file", str(file)]
        code, said = await run(command, self.running["gateway"][-1].environment)
        assert code == 0, said

    @property
    def mailbox_url(self) -> str:
        """Where the letters are shown."""
        return f"http://{self.places['mailbox'][0]['8081']}"

    async def up(self) -> None:
        """Start every service when what it depends on is as far as it says."""
        services = COMPOSE["services"]
        order = TopologicalSorter({name: service.get("depends_on", {}) for name, service in services.items()})
        for name in order.static_order():
            for other, how in services[name].get("depends_on", {}).items():
                await self._is_so(other, how["condition"])
            await self._start(name)
        for running in itertools.chain.from_iterable(self.running.values()):
            if running.health:
                await running.healthy()

    async def _is_so(self, service: str, condition: str) -> None:
        for running in self.running[service]:
            match condition:
                case "service_completed_successfully":
                    assert await running.ended(ONE_SHOT_SECONDS) == 0, running.last_words()
                case "service_healthy":
                    await running.healthy()
                case _:
                    assert condition == "service_started"

    async def _start(self, name: str) -> None:
        self.ports.release(name)
        match name:
            case "postgres":
                # The server of the test run; its health is its fixture's.
                self.running[name] = []
            case "rabbitmq":
                await self._start_broker()
            case _:
                self.running[name] = [await self._start_one(name, number) for number in range(replicas(name))]

    async def _start_broker(self) -> None:
        """A node with the configuration that was prepared for it."""
        self._configure_broker()
        await asyncio.to_thread(self.rabbitmq.start)
        self.running["rabbitmq"] = []

    def _configure_broker(self) -> None:
        """Add the file that the compose file names to the test's own ports and folders."""
        named = COMPOSE["services"]["rabbitmq"]["environment"]["RABBITMQ_CONFIG_FILE"]
        with (self.rabbitmq._folder / "rabbitmq.conf").open("a") as configuration:
            configuration.write(Path(self._here("rabbitmq", 0, named)).read_text())

    async def _start_one(self, name: str, number: int) -> Running:
        service = COMPOSE["services"][name]
        environment = {
            "PATH": os.defpath + ":/usr/sbin",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            **{key: self._here(name, number, value) for key, value in service.get("environment", {}).items()},
        }
        printed = self.folder / f"{name}-{number + 1}.printed"
        with printed.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *self._command(name, number, service["command"]),
                env=environment,
                cwd=self.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
            )
        health = service.get("healthcheck", {}).get("test", [])
        assert health[:1] in ([], ["CMD"])
        return Running(f"{name}-{number + 1}", process, printed, self._command(name, number, health[1:]), environment)

    def _command(self, name: str, number: int, command: Sequence[str]) -> list[str]:
        if not command:
            return []
        return [*PROGRAMS[command[0]], *(self._here(name, number, part) for part in command[1:])]

    def _here(self, name: str, number: int, text: str) -> str:
        """The text with the container's files and addresses replaced by those of this machine."""
        for target, place in {**IMAGE_FILES, **self._mounts(name)}.items():
            text = text.replace(target, place)
        text = text.replace("postgres:5432/mailroom", self.postgres.url("deployed").rpartition("@")[2])
        text = text.replace("rabbitmq:5672", f"{LOOPBACK}:{self.rabbitmq.port}")
        return re.sub(r"(?:0\.0\.0\.0|127\.0\.0\.1)([:/])(\d+)", lambda found: self._place(name, number, found), text)

    def _place(self, name: str, number: int, found: re.Match[str]) -> str:
        places = self.places.get(name, [{}] * (number + 1))
        return places[number].get(found[2], found[0].replace("/", ":")).replace(":", found[1])

    def _mounts(self, name: str) -> dict[str, str]:
        """Where the service's volumes are here."""
        mounts = {}
        for volume in COMPOSE["services"][name].get("volumes", []):
            source, target = volume.split(":")[:2]
            if source.startswith("./"):
                mounts[target] = str(self._bind(source))
            else:
                (self.folder / "volumes" / source).mkdir(parents=True, exist_ok=True)
                mounts[target] = str(self.folder / "volumes" / source)
        if name == "prepare":
            # It is told the folder that its volumes are mounted in.
            mounts = {"/srv/mailroom": str(self._prepared(mounts))}
        return mounts

    def _prepared(self, mounts: Mapping[str, str]) -> Path:
        folder = self.folder / "prepared"
        folder.mkdir(exist_ok=True)
        for target, place in mounts.items():
            link = folder / Path(target).name
            if not link.exists():
                link.symlink_to(place)
        return folder

    def _bind(self, source: str) -> Path:
        """The project's file, with containers' addresses replaced by ours."""
        api, admin = (self.places["gateway"][0][port].rpartition(":")[2] for port in ("8080", "8081"))
        replaced = {
            "./deploy/mailroom.toml": {
                'host = "mailbox"': f'host = "{LOOPBACK}"',
                "port = 1025": f"port = {self.places['mailbox'][0]['1025'].rpartition(':')[2]}",
                COMPOSE["networks"]["front"]["ipam"]["config"][0]["subnet"]: "127.0.0.0/8",
            },
            "./deploy/haproxy.cfg": {
                "127.0.0.11:53": f"{LOOPBACK}:{self.dns_port}",
                "bind :8080": f"bind {self.places['proxy'][0]['8080']}",
                "bind :8082": f"bind {self.places['proxy'][0]['8082']}",
                "gateway:8080": f"gateway:{api}",
                "gateway:8081": f"gateway:{admin}",
            },
        }
        copy = self.folder / Path(source).name
        # Written once: a process may be reading it.
        if not copy.exists():
            text = (ROOT / source).read_text()
            for there, here in replaced[source].items():
                assert there in text, f"{source} does not say {there}"
                text = text.replace(there, here)
            copy.write_text(text)
        return copy

    async def down(self) -> dict[str, int]:
        """Stop everything as `docker compose down` does: each by its signal; the exit codes."""
        running = [one for some in self.running.values() for one in some]
        for one in running:
            one.stop()
        return {one.name: await one.ended(STOP_SECONDS) for one in running}

    def kill(self) -> None:
        """Leave nothing running, however the test went."""
        for one in itertools.chain.from_iterable(self.running.values()):
            if one.process.returncode is None:
                one.process.kill()


def replicas(service: str) -> int:
    """How many containers of the service there are."""
    return int(SCALE.get(service, COMPOSE["services"][service].get("deploy", {}).get("replicas", 1)))


@pytest.fixture
async def deployment(postgres: Postgres, tmp_path: Path) -> AsyncIterator[Deployment]:
    """The deployment, ready to be brought up, with an empty database and a broker that nobody started yet."""
    missing = missing_services({"rabbitmq"}) + ([] if shutil.which("haproxy", path="/usr/sbin") else ["haproxy"])
    assert not missing, f"not installed: {missing}; tests/install-services.sh installs them"
    postgres.run_sql("DROP DATABASE IF EXISTS deployed")
    postgres.run_sql("CREATE DATABASE deployed TEMPLATE template0")
    rabbitmq = RabbitMQ()
    deployment = Deployment(tmp_path, postgres, rabbitmq)
    hosts = {"gateway": [place["8080"].partition(":")[0] for place in deployment.places["gateway"]]}
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Names(hosts), local_addr=(LOOPBACK, 0)
    )
    deployment.dns_port = transport.get_extra_info("sockname")[1]
    try:
        yield deployment
    finally:
        deployment.kill()
        for one in itertools.chain.from_iterable(deployment.running.values()):
            await one.process.wait()
        transport.close()
        deployment.ports.close()
        await asyncio.to_thread(rabbitmq.close)
        postgres.run_sql("DROP DATABASE deployed WITH (FORCE)")


class Crowd:
    """Web pages that submit forms, all through the proxy, each from an address of its own."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = f"{url}/genesys/2/email/support"
        self._numbers = iter(range(SUBMISSIONS))
        self.accepted = 0
        self.half_done = asyncio.Event()

    async def submit_all(self) -> None:
        """Return once every form is accepted, each once."""
        async with asyncio.timeout(SUBMIT_SECONDS), asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(self._client())

    async def _client(self) -> None:
        for number in self._numbers:
            # Nothing was taken in when the answer is 1: the same form is submitted again, as a widget's user would.
            while not await self._accepts(number):
                await asyncio.sleep(0.2)
            self.accepted += 1
            if self.accepted == SUBMISSIONS // 2:
                self.half_done.set()

    async def _accepts(self, number: int) -> bool:
        # The default limit is 60 a minute for each client; the proxy's header tells them apart.
        headers = {"X-Forwarded-For": f"198.51.{number // 250}.{number % 250}"}
        async with self._session.post(self._url, data=_form(number), headers=headers) as answer:
            body = await answer.json()
            assert answer.status == 200, body
        return bool(body["statusCode"] == 0)


def _form(number: int) -> aiohttp.FormData:
    form = aiohttp.FormData(quote_fields=False)
    for name, value in {
        "firstName": "Jane",
        "lastName": "Doe",
        "fromAddress": "jane@customer.test",
        "subject": f"Form {number}",
        "text": "Where is my parcel?",
    }.items():
        form.add_field(name, value)
    if number % WITH_FILE == 0:
        form.add_field("files", io.BytesIO(LARGE_FILE), filename="lines.txt", content_type="text/plain")
    return form


async def _visited(session: aiohttp.ClientSession, deployment: Deployment) -> dict[str, int]:
    """Sign in through the proxy and look at the pages, one gateway answering after the other; the status of each."""
    await deployment.add_administrator("correct horse battery staple")
    fields = {"name": "jane", "password": "correct horse battery staple"}
    async with session.post(f"{deployment.pages_url}/sign-in", data=fields, allow_redirects=False) as answer:
        assert answer.status == 303, await answer.text()
    statuses = {}
    for path in ("/", "/integrations", "/messages?text=Form", "/dead-letters", "/audit", "/account", "/metrics"):
        async with session.get(f"{deployment.pages_url}{path}", allow_redirects=False) as answer:
            statuses[path] = answer.status
    return statuses


async def _letters(session: aiohttp.ClientSession, url: str) -> list[dict[str, Any]]:
    """All letters in the mailbox."""
    letters: list[dict[str, Any]] = []
    for page in itertools.count(1):
        async with session.get(f"{url}/letters.json", params={"per_page": 500, "page": page}) as answer:
            body = await answer.json()
        letters += body["letters"]
        if page >= body["pages"]:
            return letters
    raise AssertionError


async def _all_arrived(session: aiohttp.ClientSession, deployment: Deployment) -> list[dict[str, Any]]:
    """The letters, once there are as many as were submitted and no more come."""
    letters: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(ARRIVE_SECONDS):
            while len(letters) < SUBMISSIONS:
                await asyncio.sleep(0.3)
                letters = await _letters(session, deployment.mailbox_url)
    except TimeoutError:
        words = "\n".join(one.last_words() for one in deployment.running["worker"])
        raise AssertionError(f"only {len(letters)} of {SUBMISSIONS} arrived\n{words}") from None
    await asyncio.sleep(1)
    return await _letters(session, deployment.mailbox_url)


@pytest.mark.timeout(240)
async def test_ops_1_the_deployment_delivers_while_a_gateway_and_a_worker_stop(deployment: Deployment) -> None:
    """What docker-compose.yml starts becomes healthy and delivers each of 500 forms once.

    Meanwhile a worker and a gateway are stopped; no client gets an answer that is none. Its pages are seen through the
    proxy by whoever is signed in, its figures are not.
    """
    await deployment.up()
    timeout, jar = aiohttp.ClientTimeout(total=30), aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=jar) as session, asyncio.TaskGroup() as group:
        crowd = Crowd(session, deployment.url)
        submitting = group.create_task(crowd.submit_all())
        await asyncio.wait({submitting, group.create_task(crowd.half_done.wait())}, return_when=asyncio.FIRST_COMPLETED)
        for service in ("worker", "gateway"):
            deployment.running[service][0].stop()
        await submitting
        letters = await _all_arrived(session, deployment)
        pages = await _visited(session, deployment)
    exit_codes = await deployment.down()

    assert len(deployment.running["gateway"]) >= 2
    assert len(deployment.running["worker"]) == 4
    assert Counter(letter["subject"] for letter in letters) == {f"Form {number}": 1 for number in range(SUBMISSIONS)}
    large = [letter for letter in letters if letter["size"] > len(LARGE_FILE)]
    assert len(large) == SUBMISSIONS // WITH_FILE
    assert pages.pop("/metrics") == 404
    assert set(pages.values()) == {200}, pages
    assert set(exit_codes.values()) == {0}, exit_codes
