"""Mailroom's design and nothing else: what the same libraries do when nobody checks, explains, records or protects.

Forms are committed in groups before the answer, tickets of ids go through a quorum queue with confirms, a worker claims
in groups and settles in groups under the claim's number. There is no validation, gate, retry, sweep, log, figure or page.
`python -m benchmarks.peers.bare web` or `worker`; the environment says where everything is.
"""

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl
from uuid import UUID, uuid4

import aio_pika
import aiosmtplib
import asyncpg
import msgspec
import pybase64
from aiohttp import web
from multipart import (  # type: ignore[import-untyped]  # it has annotations, but no py.typed
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from mailroom.attachments import AttachmentStore, Upload

ENVIRONMENT = os.environ
PORT = int(ENVIRONMENT.get("PORT", "8080"))
#: Mailroom's own: files go the same way.
FILES = AttachmentStore(Path(ENVIRONMENT.get("FILES", ".")))
QUEUE = ENVIRONMENT.get("QUEUE", "bare")
#: To the SMTP server, of each worker.
CONNECTIONS = int(ENVIRONMENT.get("CONNECTIONS", "8"))

SENDER, RECIPIENT = "forms@company.test", "support@company.test"

#: Larger files go to the folder as they come; others from so many bytes on go there with those of other forms.
IN_MEMORY, BUNDLED_FROM = 1024 * 1024, 32 * 1024

#: Ids in one ticket, messages in one statement.
TICKET_IDS, GROUP = 32, 200

#: Tickets a worker has in hand, and results that may wait to be settled.
PREFETCH, UNSETTLED = 16, 500

TABLES = """
    CREATE TABLE IF NOT EXISTS messages (
        id uuid PRIMARY KEY, sender text, subject text, accepted_at timestamptz NOT NULL, status text,
        ended_at timestamptz, reply text, took int, attempts smallint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 80);
    CREATE TABLE IF NOT EXISTS contents (message_id uuid PRIMARY KEY, body bytea NOT NULL);
    CREATE TABLE IF NOT EXISTS live (
        id uuid PRIMARY KEY, status text NOT NULL, claim int NOT NULL DEFAULT 0, session uuid
    ) WITH (fillfactor = 50);
"""
ACCEPT = """
    WITH given AS (SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[]) AS g (id, sender, subject, body)),
    said AS (INSERT INTO contents SELECT id, body FROM given),
    kept AS (INSERT INTO messages (id, sender, subject, accepted_at) SELECT id, sender, subject, now() FROM given)
    INSERT INTO live (id, status) SELECT id, 'queued' FROM given
"""
CLAIM = """
    WITH taken AS (
        UPDATE live SET status = 'sending', claim = claim + 1, session = $2
        WHERE id = ANY($1::uuid[]) AND status = 'queued' RETURNING id, claim
    )
    SELECT id, claim, body FROM taken JOIN contents ON message_id = id
"""
SETTLE = """
    WITH given AS (SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[], $4::int[]) AS g (id, claim, reply, took)),
    ended AS (DELETE FROM live USING given WHERE live.id = given.id AND live.claim = given.claim RETURNING live.id)
    UPDATE messages SET status = 'sent', ended_at = now(), reply = given.reply, took = given.took, attempts = 1
    FROM given JOIN ended ON ended.id = given.id WHERE messages.id = given.id
"""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Groups(Generic[Item, Result]):
    """Whatever arrives while one flush is in flight makes up the next."""

    def __init__(self, flush: Callable[[list[Item]], Awaitable[Sequence[Result]]], most: int) -> None:
        self._flush = flush
        self._most = most
        self._line: list[tuple[Item, asyncio.Future[Result]]] = []
        self._flying: asyncio.Task[None] | None = None

    def put(self, item: Item) -> "asyncio.Future[Result]":
        """Join the line."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._line.append((item, future))
        if self._flying is None:
            self._flying = asyncio.create_task(self._fly())
        return future

    async def _fly(self) -> None:
        while self._line:
            group, self._line = self._line[: self._most], self._line[self._most :]
            results = await self._flush([item for item, _ in group])
            for (_, future), result in zip(group, results, strict=True):
                if not future.done():
                    future.set_result(result)
        self._flying = None


class File(msgspec.Struct, array_like=True):
    """A file of a form: its bytes, or where they lie."""

    name: str
    type: str
    data: bytes = b""
    key: str = ""
    at: int = 0
    size: int | None = None


class Form(msgspec.Struct, array_like=True):
    """What somebody sent."""

    fields: dict[str, str]
    files: list[File]


async def connect() -> "asyncpg.Pool[Any]":
    """The database; statements are planned for full tables, and leave nothing to reset on their connection."""

    async def keep(_: object) -> None:
        pass

    return await asyncpg.create_pool(
        ENVIRONMENT["DATABASE_URL"], min_size=2, max_size=4, server_settings={"enable_seqscan": "off"}, reset=keep
    )


# --- web --------------------------------------------------------------------------------------------------------------


class Intake:
    """Takes forms in."""

    def __init__(self) -> None:
        self._pool: Any = None
        self._channel: Any = None
        self._bundled: Groups[bytes, tuple[str, int]] = Groups(self._keep, GROUP)
        self._accepted: Groups[tuple[UUID, Form], None] = Groups(self._insert, GROUP)
        self._tickets: Groups[UUID, None] = Groups(self._publish, GROUP)

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """Database and broker for as long as it serves."""
        async with await connect() as self._pool, await aio_pika.connect(ENVIRONMENT["AMQP_URL"]) as connection:
            self._channel = await connection.channel(publisher_confirms=True)
            await declare(self._channel)
            yield

    async def submit(self, request: web.Request) -> web.Response:
        """One form, from its bytes to its answer."""
        form = await read_form(request)
        for file in form.files:
            if len(file.data) >= BUNDLED_FROM:
                file.key, file.at = await self._bundled.put(file.data)
                file.size, file.data = len(file.data), b""
        message_id = new_id()
        await self._accepted.put((message_id, form))
        self._tickets.put(message_id)
        return web.Response(
            body=msgspec.json.encode({"statusCode": 0, "interactionId": str(message_id)}),
            content_type="application/json",
        )

    async def _keep(self, group: list[bytes]) -> Sequence[tuple[str, int]]:
        key = await FILES.keep(group)
        return [(key, sum(map(len, group[:number]))) for number in range(len(group))]

    async def _insert(self, group: list[tuple[UUID, Form]]) -> Sequence[None]:
        await self._pool.execute(
            ACCEPT,
            [message_id for message_id, _ in group],
            [form.fields.get("fromAddress", "") for _, form in group],
            [form.fields.get("subject", "") for _, form in group],
            [msgspec.msgpack.encode(form) for _, form in group],
        )
        return [None] * len(group)

    async def _publish(self, ids: list[UUID]) -> Sequence[None]:
        await asyncio.gather(
            *(
                self._channel.default_exchange.publish(
                    aio_pika.Message(
                        b"".join(one.bytes for one in ids[at : at + TICKET_IDS]),
                        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    ),
                    routing_key=QUEUE,
                )
                for at in range(0, len(ids), TICKET_IDS)
            )
        )
        return [None] * len(ids)


async def declare(channel: Any) -> Any:
    """The queue, as durable as Mailroom's."""
    return await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})


def new_id() -> UUID:
    """Ids that sort by time, so that rows lie one behind the other."""
    return UUID(int=time.time_ns() // 1_000_000 << 80 | uuid4().int & (1 << 80) - 1)


async def read_form(request: web.Request) -> Form:
    """The whole form; its large files are synced in the folder."""
    media_type, parameters = parse_options_header(request.headers.get("Content-Type", ""))
    if media_type != "multipart/form-data":
        return Form(dict(parse_qsl((await request.read()).decode())), [])
    async with contextlib.AsyncExitStack() as uploads:
        return await read_parts(request, PushMultipartParser(parameters["boundary"]), uploads)


async def read_parts(request: web.Request, parser: PushMultipartParser, uploads: contextlib.AsyncExitStack) -> Form:
    """All parts of a multipart form."""
    form, part, data = Form({}, []), None, bytearray()
    upload: Upload | None = None
    while chunk := await request.content.readany():
        for event in parser.parse(chunk):
            if isinstance(event, MultipartSegment):
                part, data, upload = event, bytearray(), None
            elif event is not None and upload is not None:
                await upload.write(event)
            elif event is not None:
                data += event
                if part is not None and part.filename and len(data) > IN_MEMORY:
                    upload = await uploads.enter_async_context(FILES.upload())
                    await upload.write(data)
                    data = bytearray()
            elif part is not None and part.filename:
                if upload is not None:
                    await upload.finish()
                form.files.append(File(part.filename, part.content_type, bytes(data), upload.key if upload else ""))
            elif part is not None:
                form.fields[part.name] = data.decode()
    parser.close()
    return form


def serve() -> None:
    """One of the web processes that share the port."""
    intake = Intake()
    app = web.Application(client_max_size=64 * IN_MEMORY)
    app.cleanup_ctx.append(intake.running)
    app.router.add_post("/genesys/2/email/{service}", intake.submit)
    web.run_app(app, host="127.0.0.1", port=PORT, reuse_port=True, access_log=None, print=lambda _: None)


# --- worker -----------------------------------------------------------------------------------------------------------


class Claimed(msgspec.Struct):
    """A message that is ours to send."""

    id: UUID
    claim: int
    body: bytes


class Delivery:
    """Takes tickets, sends mail."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool
        self._session = uuid4()
        self._waiting: asyncio.Queue[tuple[UUID, asyncio.Future[None]]] = asyncio.Queue()
        self._claims: Groups[UUID, Claimed | None] = Groups(self._claim, GROUP)
        self._settles: Groups[tuple[Claimed, str, int], None] = Groups(self._settle, GROUP)
        self._unsettled = asyncio.Semaphore(UNSETTLED)

    async def take(self, ticket: Any) -> None:
        """Have every message of a ticket claimed, then acknowledge it."""
        loop = asyncio.get_running_loop()
        claimed = []
        for at in range(0, len(ticket.body), 16):
            claimed.append(loop.create_future())
            self._waiting.put_nowait((UUID(bytes=ticket.body[at : at + 16]), claimed[-1]))
        await asyncio.gather(*claimed)
        await ticket.ack()

    async def send_all(self) -> None:
        """Send one after the other over a connection that is kept."""
        client = aiosmtplib.SMTP(
            hostname="127.0.0.1", port=int(ENVIRONMENT["SMTP_PORT"]), use_tls=False, start_tls=False
        )
        await client.connect()
        while True:
            message_id, claimed = await self._waiting.get()
            message = await self._claims.put(message_id)
            claimed.set_result(None)
            if message is not None:
                await self._send(client, message)

    async def _send(self, client: aiosmtplib.SMTP, message: Claimed) -> None:
        begun = time.monotonic()
        wire = await compose(message)
        await client.mail(SENDER)
        await client.rcpt(RECIPIENT)
        reply = await client.data(wire)
        await self._unsettled.acquire()
        settled = self._settles.put((message, reply.message, int((time.monotonic() - begun) * 1000)))
        settled.add_done_callback(lambda _: self._unsettled.release())

    async def _claim(self, ids: list[UUID]) -> Sequence[Claimed | None]:
        rows = {row["id"]: Claimed(*row) for row in await self._pool.fetch(CLAIM, ids, self._session)}
        return [rows.get(one) for one in ids]

    async def _settle(self, group: list[tuple[Claimed, str, int]]) -> Sequence[None]:
        await self._pool.execute(
            SETTLE,
            [message.id for message, _, _ in group],
            [message.claim for message, _, _ in group],
            [reply for _, reply, _ in group],
            [took for _, _, took in group],
        )
        return [None] * len(group)


async def compose(message: Claimed) -> bytes:
    """The mail; one with large files is put together in a thread."""
    form = msgspec.msgpack.decode(message.body, type=Form)
    for file in form.files:
        if file.key:
            file.data = bytes(await FILES.read(file.key, file.at, file.size))
    if any(len(file.data) > IN_MEMORY for file in form.files):
        return await asyncio.to_thread(mime, message.id, form)
    return mime(message.id, form)


def mime(message_id: UUID, form: Form) -> bytes:
    """Simple MIME: text in base64 where it is not ASCII, files in base64."""
    subject = re.sub("[\r\n]+", " ", form.fields.get("subject", ""))
    if not subject.isascii():
        subject = f"=?utf-8?b?{pybase64.b64encode_as_string(subject.encode())}?="
    head = (
        f"From: {SENDER}\r\nTo: {RECIPIENT}\r\nReply-To: {form.fields.get('fromAddress', '')}\r\nSubject: {subject}\r\n"
        f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S +0000', time.gmtime())}\r\n"
        f"Message-ID: <{message_id}@company.test>\r\nMIME-Version: 1.0\r\n"
    ).encode()
    lines = "".join(f"{name}: {value}\r\n" for name, value in form.fields.items()).encode()
    text = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (
        (b"7bit", lines) if lines.isascii() else (b"base64", wrapped(lines))
    )
    if not form.files:
        return head + text
    pieces = [head, b'Content-Type: multipart/mixed; boundary="=_%b"\r\n\r\n' % message_id.hex.encode()]
    for part in (text, *map(attachment, form.files)):
        pieces += [b"--=_", message_id.hex.encode(), b"\r\n", part, b"\r\n"]
    return b"".join([*pieces, b"--=_", message_id.hex.encode(), b"--\r\n"])


def attachment(file: File) -> bytes:
    """One file as a part."""
    return (
        f'Content-Type: {file.type}\r\nContent-Disposition: attachment; filename="{file.name}"\r\n'
        "Content-Transfer-Encoding: base64\r\n\r\n"
    ).encode() + wrapped(file.data)


def wrapped(data: bytes) -> bytes:
    """Base64 in lines."""
    return pybase64.encodebytes(data).replace(b"\n", b"\r\n")


async def work() -> None:
    """Send until told to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with await connect() as pool, await aio_pika.connect(ENVIRONMENT["AMQP_URL"]) as connection:
        delivery = Delivery(pool)
        senders = [asyncio.create_task(delivery.send_all()) for _ in range(CONNECTIONS)]
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        await (await declare(channel)).consume(delivery.take)
        print("ready", flush=True)
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait([stopping, *senders], return_when=asyncio.FIRST_COMPLETED)
        for sender in senders:
            if sender.done():
                sender.result()
            sender.cancel()


async def create_tables() -> None:
    """Give an empty database its tables."""
    connection = await asyncpg.connect(ENVIRONMENT["DATABASE_URL"])
    await connection.execute(TABLES)
    await connection.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["web"]:
        serve()
    else:
        asyncio.run({"worker": work, "tables": create_tables}[sys.argv[1]]())
