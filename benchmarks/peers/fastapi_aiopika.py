"""Forms to mails with FastAPI, uvicorn, aio-pika and aiosmtplib.

Web: `uvicorn --workers 2 fastapi_aiopika:web`; worker: `python fastapi_aiopika.py`.
It is told everything by AMQP_URL, QUEUE, SMTP_PORT and FILES, the folder that both share.
"""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path
from typing import Any

import aio_pika
import aiosmtplib
import msgpack
import uvloop
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile

AMQP_URL, QUEUE = os.environ["AMQP_URL"], os.environ["QUEUE"]
FILES, SMTP_PORT = Path(os.environ["FILES"]), int(os.environ["SMTP_PORT"])
MAILBOX = "support@company.test"
FIELDS = ("firstName", "lastName", "fromAddress", "subject", "text")

#: Bytes of a file that still travel in the message; larger ones would crowd the broker's memory.
LARGEST_IN_MESSAGE = 1 << 20

#: Connections to the SMTP server, and messages taken from the broker for them: twice as many, so that none waits;
#: 64 were not faster.
CONNECTIONS, PREFETCH = 8, 16


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One connection to the broker, whose channel confirms, for as long as the process serves."""
    async with await aio_pika.connect_robust(AMQP_URL) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.declare_queue(QUEUE, durable=True)
        app.state.exchange = channel.default_exchange
        print("ready", flush=True)
        yield


web = FastAPI(lifespan=lifespan)


@web.post("/genesys/2/email/support")
async def submit(request: Request) -> JSONResponse:
    """Take a form in; answers once its message is confirmed."""
    interaction = str(uuid.uuid4())
    async with request.form() as form:
        uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile) and value.filename]
        submission = {
            "id": interaction,
            "fields": {name: form.get(name, "") for name in FIELDS},
            "files": [await _kept(upload) for upload in uploads],
        }
    message = aio_pika.Message(msgpack.packb(submission), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
    await request.app.state.exchange.publish(message, routing_key=QUEUE)
    return JSONResponse({"statusCode": 0, "interactionId": interaction})


async def _kept(upload: UploadFile) -> dict[str, Any]:
    """What a message says about a file: its content, or where it was saved."""
    about = {"name": upload.filename, "type": upload.content_type or "application/octet-stream"}
    if (upload.size or 0) <= LARGEST_IN_MESSAGE:
        return about | {"content": await upload.read()}
    path = FILES / str(uuid.uuid4())
    await asyncio.to_thread(_save, upload, path)
    return about | {"path": str(path)}


def _save(upload: UploadFile, path: Path) -> None:
    with path.open("wb") as file:
        while piece := upload.file.read(1 << 18):
            file.write(piece)


class Sender:
    """Kept connections to the SMTP server, each used by one mail at a time."""

    def __init__(self) -> None:
        self._idle: asyncio.LifoQueue[aiosmtplib.SMTP] = asyncio.LifoQueue()
        for _ in range(CONNECTIONS):
            self._idle.put_nowait(aiosmtplib.SMTP(hostname="127.0.0.1", port=SMTP_PORT, use_tls=False, start_tls=False))

    async def send(self, mail: EmailMessage) -> None:
        """Send it over a connection that was kept, or is made again."""
        client = await self._idle.get()
        try:
            if not client.is_connected:
                await client.connect()
            await client.send_message(mail)
        finally:
            self._idle.put_nowait(client)


async def deliver(message: aio_pika.abc.AbstractIncomingMessage, sender: Sender) -> None:
    """Send a form as a mail, and acknowledge its message then; what was saved for it goes too."""
    async with message.process(requeue=True):
        submission = msgpack.unpackb(message.body)
        paths = [Path(file["path"]) for file in submission["files"] if "path" in file]
        # Reading and encoding large files takes long enough to be in the others' way.
        mail = await asyncio.to_thread(_mail, submission) if paths else _mail(submission)
        await sender.send(mail)
        for path in paths:
            path.unlink(missing_ok=True)


def _mail(submission: dict[str, Any]) -> EmailMessage:
    fields = submission["fields"]
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "forms@company.test", MAILBOX, fields["subject"]
    mail["Reply-To"], mail["Message-ID"] = fields["fromAddress"], f"<{submission['id']}@company.test>"
    mail["Date"] = formatdate()
    mail.set_content("\n".join(f"{name}: {value}" for name, value in fields.items()))
    for file in submission["files"]:
        main, _, sub = file["type"].partition("/")
        content = file["content"] if "content" in file else Path(file["path"]).read_bytes()
        mail.add_attachment(content, maintype=main, subtype=sub, filename=file["name"])
    return mail


async def work() -> None:
    """Deliver until told to stop; what is on its way then is finished, or it would be sent twice."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    sender = Sender()
    delivering: set[asyncio.Task[None]] = set()

    async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        task = asyncio.create_task(deliver(message, sender))
        delivering.add(task)
        task.add_done_callback(delivering.discard)

    async with await aio_pika.connect_robust(AMQP_URL) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.declare_queue(QUEUE, durable=True)
        tag = await queue.consume(take)
        print("ready", flush=True)
        await over.wait()
        await queue.cancel(tag)
        await asyncio.gather(*delivering, return_exceptions=True)


if __name__ == "__main__":
    uvloop.run(work())
