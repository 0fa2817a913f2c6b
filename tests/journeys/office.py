"""An office: gateways and workers in this process, on the database, broker and SMTP server a test gives them."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import aio_pika
import aiohttp
import asyncpg
import sqlalchemy as sa
from sqlalchemy import Connection, update

from gateway.app import Gateway
from mailroom.attachments import AttachmentStore
from mailroom.integration import Integration, ReportedState
from mailroom.kinds import KINDS
from mailroom.message import Content, Kind, Status, new_message_id
from mailroom.queue.opening import open_queue
from mailroom.queue.port import Queue
from mailroom.queue.ticket import Address, Ticket, chunks
from mailroom.serving import serving
from mailroom.settings import EmailOptions, RetrySettings, Settings, SmtpSettings
from mailroom.store import integrations, messages, schema
from mailroom.store.content import encode_content
from mailroom.store.integrations import NewIntegration
from mailroom.store.messages import Attempt, NewMessage, Standing
from mailroom.store.opening import open_store
from mailroom.store.port import Store
from mailroom.vault import Vault
from mailroom.watch import IntegrationWatch
from tests.fault_proxy import FaultProxy
from tests.services import Postgres, free_port
from tests.smtp_server import Received
from worker.app import Worker

#: What every submission of these tests says unless its test says otherwise.
FORM = {
    "firstName": "Jane",
    "lastName": "Doe",
    "fromAddress": "jane@customer.test",
    "subject": "A question",
    "text": "Where is my parcel?",
}

MAILBOX = "support@company.test"

VAULT = Vault(["a key for tests"])


@dataclass(slots=True)
class Office:
    """Where a journey takes place."""

    store: Store
    settings: Settings
    folder: Path
    database_url: str
    queue_url: str
    session: aiohttp.ClientSession
    shared_queue: Queue | None = None
    addresses: list[str] = field(default_factory=list)
    turn: int = 0

    @contextlib.asynccontextmanager
    async def gateway(self, **settings: Any) -> AsyncIterator[Gateway]:
        """A gateway of this office, serving while inside at `listen` or any free port, with a store and queue of its own."""
        store, queue = self.store_and_queue()
        gateway = Gateway(replace(self.settings, **settings), store, queue, self.attachments, VAULT)
        try:
            async with gateway.running(), serving(gateway.app, settings.get("listen", "127.0.0.1:0")) as address:
                await asyncio.wait_for(gateway.watch.fresh(), 15)
                self.addresses.append(address)
                try:
                    yield gateway
                finally:
                    self.addresses.remove(address)
        finally:
            await self.let_go(store, queue)

    @contextlib.asynccontextmanager
    async def worker(self, **settings: Any) -> AsyncIterator[Worker]:
        """A worker of this office, working while inside; it has a store and a queue of its own."""
        store, queue = self.store_and_queue()
        try:
            worker = Worker(replace(self.settings, **settings), store, queue, self.attachments, VAULT)
            async with worker.running(alone=False):
                yield worker
        finally:
            await self.let_go(store, queue)

    @contextlib.asynccontextmanager
    async def everything(self, smtp_port: int | None, **settings: Any) -> AsyncIterator[None]:
        """A gateway and a worker, and (with a port) an ACTIVE integration `main` that leaves through it."""
        if smtp_port is not None:
            await self.add_integration(smtp_port)
        async with self.gateway(**settings), self.worker(**settings):
            await self.active()
            yield

    def store_and_queue(self) -> tuple[Store, Queue]:
        """Their own where several processes can have them, else the one of this process."""
        if self.shared_queue is not None:
            return self.store, self.shared_queue
        return open_store(self.database_url), open_queue(self.queue_url)

    async def let_go(self, store: Store, queue: Queue) -> None:
        if queue is not self.shared_queue:
            await queue.aclose()
            await store.aclose()

    @property
    def attachments(self) -> AttachmentStore:
        """The one attachment store of all its processes."""
        return AttachmentStore(self.folder / "attachments")

    async def add_integration(self, port: int, name: str = "main", **changes: Any) -> None:
        """An integration that leaves through an SMTP server on this port; its live test awaits a worker."""
        new = NewIntegration(
            name=name, host="127.0.0.1", port=port, security="none", from_address="forms@company.test",
            from_name="Company", max_connections=8, default_mailbox=MAILBOX,
        )  # fmt: skip
        await self.store.transaction(
            integrations.create_absent, replace(new, **changes), who="test", now=datetime.now(UTC)
        )

    async def integration(self, name: str = "main") -> Integration:
        """An integration as it is now."""
        watch = IntegrationWatch(self.store, VAULT)
        await watch.refresh()
        found = watch.named(name)
        assert found is not None
        return found

    async def reconfigure(self, name: str = "main", *, heard: bool = True, **changes: Any) -> None:
        """Change an integration behind everybody's back, as a provider or a resolver does.

        `heard`: return once every gateway and worker that runs has had time to hear of it.
        """

        def change(tx: Connection) -> None:
            tx.execute(update(schema.integrations).where(schema.integrations.c.name == name).values(**changes))

        await self.store.transaction(change)
        if heard:
            await asyncio.sleep(0.7)

    async def transcript(self, name: str = "main") -> str:
        """What was said when its state was set."""
        row = await self.store.read(integrations.named, name)
        return str(row.transcript or "")

    async def reset(self, name: str = "main") -> None:
        """Reset the integration, as a person does."""
        await self.store.transaction(integrations.reset, name, who="test", why="a test says so", now=datetime.now(UTC))

    async def active(self, name: str = "main") -> None:
        """Return once the integration is ACTIVE, and every gateway and worker has had time to hear of it."""
        await self.state(ReportedState.ACTIVE, name)
        await asyncio.sleep(0.7)

    async def state(self, state: ReportedState, name: str = "main", seconds: float = 20) -> None:
        """Return once the integration is in this state."""
        async with asyncio.timeout(seconds):
            while (await self.integration(name)).reported_state is not state:
                await asyncio.sleep(0.05)

    async def submit(self, service: str = "support", **fields: Any) -> dict[str, Any]:
        """Post a form to one gateway after the other; the answer's body."""
        status, body = await self.post(service, {**FORM, **fields})
        assert status == 200, body
        return body

    async def post(
        self, service: str, data: Any, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Post anything; status and body of the answer."""
        self.turn += 1
        address = self.addresses[self.turn % len(self.addresses)]
        url = f"http://{address}/genesys/2/email/{service}"
        async with self.session.post(url, data=data, headers=headers) as answer:
            return answer.status, await answer.json()

    async def insisted(
        self, service: str, data: Callable[[], Any], headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Post what this makes, again as long as the answer says to try again (this machine is busy at times)."""
        async with asyncio.timeout(20):
            while (told := await self.post(service, data(), headers)) == (200, {"statusCode": 1}):
                await asyncio.sleep(0.2)
        return told

    async def queued(self, rows: Sequence[NewMessage]) -> None:
        """Accept these, all of one kind, with their tickets on the queue."""
        for start in range(0, len(rows), 200):
            await self.store.statement(messages.accept, rows[start : start + 200])
        address = Address(KINDS[rows[0].kind].lane, rows[0].integration_id)
        await self.ticketed(address, [row.id for row in rows])
        await self.store.statement(integrations.mark_lane, address.integration_id, address.lane)

    async def ticketed(self, address: Address, ids: Sequence[UUID]) -> None:
        """Put tickets for these on their queue."""
        store, queue = self.store_and_queue()
        try:
            for group in chunks(ids):
                await queue.publish(address, Ticket(group, datetime.now(UTC)))
        finally:
            await self.let_go(store, queue)

    async def accepted(self, service: str = "support", **fields: Any) -> UUID:
        """Submit a form, again when that may help (this machine is busy at times), until it is accepted; its id."""
        async with asyncio.timeout(20):
            while (body := await self.submit(service, **fields)) == {"statusCode": 1}:
                await asyncio.sleep(0.2)
        return self.id_of(body)

    def id_of(self, body: Mapping[str, Any]) -> UUID:
        """The id in an answer."""
        assert body["statusCode"] == 0, body
        return UUID(body["interactionId"])

    async def ask(self, path: str) -> tuple[int, dict[str, Any]]:
        """GET something; status and body of the answer."""
        async with self.session.get(f"http://{self.addresses[0]}{path}") as answer:
            return answer.status, await answer.json()

    def parsed(self, content: bytes) -> EmailMessage:
        """A mail as an independent reader sees it."""
        mail = message_from_bytes(content, policy=default)
        assert isinstance(mail, EmailMessage)
        return mail

    def copies(self, received: Iterable[Received], message_id: UUID) -> int:
        """How often a message's final dot came."""
        return sum(self.parsed(one.content)["Message-ID"].startswith(f"<{message_id}@") for one in received)

    async def delete_queue(self, name: str) -> None:
        """Take a queue with all its tickets from the broker."""
        connection = await aio_pika.connect(self.queue_url)
        async with connection:
            channel = await connection.channel()
            await channel.queue_delete(name)

    def stored_files(self) -> list[Path]:
        """What is in the attachment store."""
        return sorted(path for path in (self.folder / "attachments").rglob("*") if path.is_file())

    async def standing(self, message_id: UUID) -> Standing:
        """Where a message stands."""
        found = await self.store.read(messages.standing, message_id)
        assert found is not None, f"{message_id} does not exist"
        return found

    async def attempts(self, message_id: UUID) -> list[Attempt]:
        """Its recorded attempts."""
        return await self.store.read(messages.attempts_of, message_id)

    async def becomes(self, message_id: UUID, *statuses: Status, seconds: float = 30) -> Standing:
        """Return once the message has one of these statuses."""
        return await self.until(message_id, lambda found: found.status in statuses, seconds)

    async def until(self, message_id: UUID, so: Callable[[Standing], bool], seconds: float = 30) -> Standing:
        """Return once this is so of the message."""
        found = await self.standing(message_id)
        try:
            async with asyncio.timeout(seconds):
                while not so(found):
                    await asyncio.sleep(0.05)
                    found = await self.standing(message_id)
        except TimeoutError:
            raise AssertionError(f"after {seconds} s it still stands so: {found}") from None
        return found


@contextlib.asynccontextmanager
async def an_office(folder: Path, database_url: str, queue_url: str, **options: Any) -> AsyncIterator[Office]:
    """An office without gateways and workers yet; `options` are those of `[email]`."""
    email = EmailOptions(**{"rate_limit": None, **options})
    settings = Settings(
        email=email, any_service=True, retry=RetrySettings(first_delay=0.5, longest_delay=2), data_dir=folder,
        smtp=SmtpSettings(private_relays=("127.0.0.0/8:*",)),
    )  # fmt: skip
    store = open_store(database_url)
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
            queue = open_queue(queue_url) if queue_url == "memory:" else None
            yield Office(store, settings, folder, database_url, queue_url, session, queue)
    finally:
        await store.aclose()


def a_row(integration_id: UUID, subject: str = "a row", to: str = MAILBOX) -> NewMessage:
    """A form message ready to be accepted."""
    now = datetime.now(UTC)
    content = Content(to=to, subject=subject, text="Where is my parcel?", reply_to="jane@customer.test")
    return NewMessage(
        id=new_message_id(), kind=Kind.FORM, integration_id=integration_id, service="support", recipient=to,
        sender="jane@customer.test", subject=subject, accepted_at=now, expires_at=now + KINDS[Kind.FORM].expires_after,
        body=encode_content(content),
    )  # fmt: skip


@contextlib.asynccontextmanager
async def proxied(office: Office, postgres: Postgres) -> AsyncIterator[tuple[Office, FaultProxy]]:
    """The same office for a process that reaches the database only through a proxy that can fail."""
    url = urlsplit(office.database_url)
    assert url.port is not None
    async with FaultProxy(url.port) as proxy:
        through = url._replace(netloc=url.netloc.replace(f":{url.port}", f":{proxy.port}")).geturl()
        yield replace(office, database_url=through, addresses=[]), proxy


@contextlib.asynccontextmanager
async def standing_still(database_url: str) -> AsyncIterator[None]:
    """Nothing can be inserted into `live` meanwhile."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE live IN SHARE MODE")
            yield
    finally:
        await connection.close()


def unfinished(tx: Connection) -> int:
    """How many messages are unfinished."""
    return tx.execute(sa.select(sa.func.count()).select_from(schema.live)).scalar_one()


@contextlib.asynccontextmanager
async def worker_process(office: Office, *run: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker of this office as a process of its own, or what else Python is to run; killed on leaving if it still runs."""
    config = office.folder / "worker.toml"
    config.write_text('[smtp]\nprivate_relays = ["127.0.0.0/8:*"]\n')
    environment = {
        "MAILROOM_CONFIG": str(config),
        "MAILROOM_DATABASE_URL": office.database_url,
        "MAILROOM_QUEUE_URL": office.queue_url,
        "MAILROOM_SECRET_KEY": "a key for tests",
        "MAILROOM_ATTACHMENTS_URL": f"file://{office.folder}/attachments",
        "MAILROOM_HEALTH_LISTEN": f"127.0.0.1:{free_port()}",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, *(run or ("-m", "worker")), env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
