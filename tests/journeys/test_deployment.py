"""Journeys of a deployment: gateway, worker and commands as processes, given nothing but our variables."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.journeys.office import FORM
from tests.processes import Running, becomes, letters, mailroom, running
from tests.services import Postgres, RabbitMQ, free_port, listening_at


@dataclass(frozen=True, slots=True)
class Deployment:
    """Its folder, and what its processes are told."""

    folder: Path
    variables: dict[str, str]
    smtp: str
    pages: str

    def process(
        self, *arguments: str, module: str = "cli", **variables: str
    ) -> contextlib.AbstractContextManager[Running]:
        """One of its processes, while inside."""
        return running(self.folder, {**self.variables, **variables}, *arguments, module=module)

    @contextlib.asynccontextmanager
    async def mailbox(self) -> AsyncIterator[Running]:
        """Its development mailbox, taking mail: a live test before that would end in ERROR."""
        with self.process("mailbox", "--smtp", self.smtp, "--pages", self.pages) as mailbox:
            await mailbox.prints("Taking mail")
            yield mailbox

    @property
    def ready(self) -> str:
        """Where its gateway tells whether it can work."""
        return f"http://{self.variables['MAILROOM_LISTEN']}/readyz"

    @property
    def worker_ready(self) -> str:
        """Where its worker does."""
        return f"http://{self.variables['MAILROOM_HEALTH_LISTEN']}/readyz"

    async def active(self) -> None:
        """Return once its integration may send."""
        async with asyncio.timeout(30):
            while "ACTIVE " not in (await mailroom(self.folder, self.variables, "integrations", "list")).stdout:
                await asyncio.sleep(0.1)

    async def post(self) -> dict[str, object]:
        """Submit a form; the answer."""
        url = f"http://{self.variables['MAILROOM_LISTEN']}/genesys/2/email/support"
        async with aiohttp.ClientSession() as session, session.post(url, data=FORM) as answer:
            return dict(await answer.json())


async def shared_by(port: int, processes: int) -> None:
    """Return once so many listen at this port."""
    async with asyncio.timeout(60):
        while listening_at(port) != processes:
            await asyncio.sleep(0.05)


@pytest.fixture
def deployment(postgres: Postgres, rabbitmq: RabbitMQ, tmp_path: Path) -> Deployment:
    """A deployment with an empty database."""
    smtp, pages = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    (tmp_path / "company.toml").write_text(
        "[email]\nany_service = true\nrate_limit = false\n"
        f'[integrations.main]\nhost = "127.0.0.1"\nport = {smtp.rpartition(":")[2]}\nsecurity = "none"\n'
        'from = "forms@company.test"\nmailbox = "support@company.test"\n'
    )
    variables = {
        "MAILROOM_CONFIG": str(tmp_path / "company.toml"),
        "MAILROOM_DATABASE_URL": postgres.new_database(),
        "MAILROOM_QUEUE_URL": rabbitmq.new_vhost(),
        "MAILROOM_SECRET_KEY": "a key for tests",
        "MAILROOM_LISTEN": f"127.0.0.1:{free_port()}",
        "MAILROOM_ADMIN_LISTEN": f"127.0.0.1:{free_port()}",
        "MAILROOM_HEALTH_LISTEN": f"127.0.0.1:{free_port()}",
    }
    return Deployment(tmp_path, variables, smtp, pages)


async def test_processes_deliver_and_stop(deployment: Deployment) -> None:
    """Migrated, gateway and worker deliver what they accept, and each exits with 0 when it is told to stop."""
    migrated = await mailroom(deployment.folder, deployment.variables, "migrate")
    again = await mailroom(deployment.folder, deployment.variables, "migrate")
    async with deployment.mailbox() as mailbox:
        with deployment.process("gateway") as gateway, deployment.process("worker") as worker:
            await becomes(deployment.ready, 200)
            await becomes(deployment.worker_ready, 200)
            await deployment.active()
            answer = await deployment.post()
            found = await letters(deployment.pages)
            listed = await mailroom(deployment.folder, deployment.variables, "messages", "list", "--json")
            tested = await mailroom(deployment.folder, deployment.variables, "integrations", "test", "main", "--json")
            codes = [await worker.stop(), await gateway.stop(), await mailbox.stop()]

    assert (migrated.returncode, again.returncode) == (0, 0)
    assert answer["statusCode"] == 0
    assert found[0]["to"] == ["support@company.test"]
    assert [one["id"] for one in json.loads(listed.stdout)] == [answer["interactionId"]]
    assert json.loads(tested.stdout)["passed"]
    assert codes == [0, 0, 0], worker.said + gateway.said + mailbox.said


async def test_ops_5_they_may_start_before_everything(
    deployment: Deployment, postgres: Postgres, rabbitmq: RabbitMQ
) -> None:
    """Started while database and broker are away and before the migration, they wait, answer 1, and work in the end."""
    postgres.stop()
    rabbitmq.stop_app()
    async with deployment.mailbox():
        with deployment.process(module="gateway") as gateway, deployment.process(module="worker") as worker:
            await becomes(deployment.ready, 503)
            await becomes(deployment.worker_ready, 503)
            early = await deployment.post()
            postgres.start()
            await gateway.says("run `mailroom migrate`")
            await worker.says("run `mailroom migrate`")
            rabbitmq.start_app()
            await mailroom(deployment.folder, deployment.variables, "migrate")
            await becomes(deployment.ready, 200)
            await becomes(deployment.worker_ready, 200)
            await deployment.active()
            late = await deployment.post()
            found = await letters(deployment.pages)
            codes = [await worker.stop(), await gateway.stop()]

    assert early["statusCode"] == 1
    assert (late["statusCode"], len(found)) == (0, 1)
    assert codes == [0, 0], worker.said + gateway.said


async def test_waiting_processes_can_be_stopped(deployment: Deployment) -> None:
    """A process that still waits for its tables exits with 0 when it is told to stop."""
    with deployment.process("gateway") as gateway, deployment.process("worker") as worker:
        await gateway.says("run `mailroom migrate`")
        await worker.says("run `mailroom migrate`")
        codes = [await worker.stop(), await gateway.stop()]

    assert codes == [0, 0], worker.said + gateway.said


async def test_ops_1_a_stopping_gateway_goes_on_for_a_while(deployment: Deployment) -> None:
    """Told to stop, a gateway says at once that it is not ready, and goes on answering until nobody asks any more."""
    await mailroom(deployment.folder, deployment.variables, "migrate")
    with deployment.process("gateway") as gateway:
        await becomes(deployment.ready, 200)
        gateway.process.send_signal(signal.SIGTERM)
        leaving = await becomes(deployment.ready, 503)
        answer = await deployment.post()
        code = await gateway.ended()

    assert leaving["reason"] == "the gateway is stopping"
    assert answer["statusCode"] in {0, 1}
    assert code == 0, gateway.said


async def test_several_processes_share_the_port(deployment: Deployment) -> None:
    """`gateway --processes 2` serves with two, starts one that was killed again, and ends both with itself."""
    await mailroom(deployment.folder, deployment.variables, "migrate")
    async with deployment.mailbox():
        with deployment.process("worker"), deployment.process("gateway", "--processes", "2") as gateway:
            await becomes(deployment.ready, 200)
            await deployment.active()
            children = gateway.children()
            os.kill(children[0], signal.SIGKILL)
            await gateway.says("is started again")
            async with asyncio.timeout(30):
                while len(set(gateway.children()) - {children[0]}) < 2:
                    await asyncio.sleep(0.05)
            metrics = f"http://{deployment.variables['MAILROOM_ADMIN_LISTEN']}/readyz"
            await becomes(metrics, 200)
            answers = [(await deployment.post())["statusCode"] for _ in range(6)]
            found = await letters(deployment.pages, answers.count(0))
            last = gateway.children()
            code = await gateway.stop()

    assert len(children) == 2
    assert 0 in answers
    assert len(found) == answers.count(0)
    assert code == 0, gateway.said
    assert not any(alive(pid) for pid in last)


async def test_a_process_that_starts_takes_nobody_from_those_that_work(
    deployment: Deployment, postgres: Postgres
) -> None:
    """A further process at a port opens it once it can take in: before that it would tell people to come again."""
    await mailroom(deployment.folder, deployment.variables, "migrate")
    port = int(deployment.variables["MAILROOM_LISTEN"].rpartition(":")[2])
    with deployment.process("gateway", "--processes", "2") as gateway:
        await shared_by(port, 2)
        _, further = gateway.children()
        postgres.stop()
        os.kill(further, signal.SIGKILL)
        await gateway.says("is started again")
        async with asyncio.timeout(60):
            while '"waiting_for":"database"' not in gateway.said.partition("is started again")[2]:
                await asyncio.sleep(0.05)
        without_database = listening_at(port)
        postgres.start()
        await shared_by(port, 2)

    assert without_database == 1


async def test_processes_do_not_outlive_their_supervisor(deployment: Deployment) -> None:
    """When the supervisor is killed, its processes stop by themselves."""
    await mailroom(deployment.folder, deployment.variables, "migrate")
    with deployment.process("gateway", "--processes", "2") as gateway:
        await becomes(deployment.ready, 200)
        children = gateway.children()
        gateway.process.kill()
        async with asyncio.timeout(30):
            while any(alive(pid) for pid in children):
                await asyncio.sleep(0.1)

    assert len(children) == 2


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended and was not waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_taken_port_ends_the_gateway(deployment: Deployment, processes: str) -> None:
    """A port that somebody else has ends the gateway with 1 and names the variable, however many processes it has."""
    with deployment.process("gateway"):
        await becomes(deployment.ready, 503)
        ended = await mailroom(deployment.folder, deployment.variables, "gateway", "--processes", processes)

    assert ended.returncode == 1
    assert "MAILROOM_LISTEN" in ended.stderr or "MAILROOM_ADMIN_LISTEN" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_a_taken_admin_port_ends_all_processes(deployment: Deployment) -> None:
    """What one of several processes cannot start with ends all of them, with its reason."""
    with deployment.process("mailbox", "--smtp", deployment.smtp) as mailbox:
        await mailbox.prints("Taking mail")
        ended = await mailroom(deployment.folder, deployment.variables, "gateway", "--processes", "2")

    assert ended.returncode == 1
    assert "MAILROOM_ADMIN_LISTEN" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_another_attachment_store_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    """A worker that would see other attachments than the gateway does not start."""
    await mailroom(deployment.folder, deployment.variables, "migrate")
    with deployment.process("gateway"):
        await becomes(deployment.ready, 200)
        elsewhere = {**deployment.variables, "MAILROOM_ATTACHMENTS_URL": f"file:{tmp_path}/elsewhere"}
        ended = await mailroom(deployment.folder, elsewhere, "worker")

    assert ended.returncode == 1
    assert "MAILROOM_ATTACHMENTS_URL" in ended.stderr


async def test_operators_are_told_to_migrate(deployment: Deployment) -> None:
    """On a database without tables an operator's command says what to run."""
    ended = await mailroom(deployment.folder, deployment.variables, "messages", "list")

    assert ended.returncode == 1
    assert "run `mailroom migrate`" in ended.stderr
