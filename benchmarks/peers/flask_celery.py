"""Forms to mails with Flask, gunicorn, Celery on RabbitMQ, and smtplib.

Web: `gunicorn --config flask_gunicorn.py flask_celery:web`; worker: `celery --app flask_celery:tasks worker`.
It is told everything by AMQP_URL, QUEUE, SMTP_PORT and FILES, the folder that both share.
"""

import os
import smtplib
import uuid
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import worker_process_shutdown, worker_ready
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import FileStorage

QUEUE, FILES, SMTP_PORT = os.environ["QUEUE"], Path(os.environ["FILES"]), int(os.environ["SMTP_PORT"])
MAILBOX = "support@company.test"
FIELDS = ("firstName", "lastName", "fromAddress", "subject", "text")

#: Bytes of a file that still travel in the task; larger ones would crowd the broker's memory.
LARGEST_IN_TASK = 1 << 20

web = Flask(__name__)
tasks = Celery("forms", broker=os.environ["AMQP_URL"])
tasks.conf.update(
    task_default_queue=QUEUE,
    # MessagePack carries files as they are, where JSON would need base64.
    task_serializer="msgpack",
    accept_content=["msgpack"],
    # An answer is a promise: the broker has confirmed the persistent task, and keeps it until its mail is sent.
    broker_transport_options={"confirm_publish": True},
    task_default_delivery_mode="persistent",
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    # Nobody asks what became of a task.
    task_ignore_result=True,
    task_send_sent_event=False,
    worker_send_task_events=False,
    # As many connections as gunicorn has threads: publishing waits for its confirm.
    broker_pool_limit=16,
    # Eight for each of eight children, so that none waits for the broker: 6 % more mails than 1, as many as 32.
    worker_prefetch_multiplier=8,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
)


@web.post("/genesys/2/email/support")
def submit() -> ResponseReturnValue:
    """Take a form in; answers once its task is confirmed."""
    interaction = str(uuid.uuid4())
    fields = {name: request.form.get(name, "") for name in FIELDS}
    files = [_kept(upload) for _, upload in request.files.items(multi=True) if upload.filename]
    deliver.delay(interaction, fields, files)
    return jsonify(statusCode=0, interactionId=interaction)


def _kept(upload: FileStorage) -> dict[str, Any]:
    """What a task says about a file: its content, or where it was saved."""
    about = {"name": upload.filename, "type": upload.mimetype or "application/octet-stream"}
    size = upload.stream.seek(0, os.SEEK_END)
    upload.stream.seek(0)
    if size <= LARGEST_IN_TASK:
        return about | {"content": upload.stream.read()}
    path = FILES / str(uuid.uuid4())
    upload.save(path, buffer_size=1 << 18)
    return about | {"path": str(path)}


@tasks.task(autoretry_for=(OSError, smtplib.SMTPException), retry_backoff=True, max_retries=10)
def deliver(interaction: str, fields: dict[str, str], files: list[dict[str, Any]]) -> None:
    """Send a form as a mail; what was saved for it goes once it is sent."""
    _send(_mail(interaction, fields, files).as_bytes())
    for file in files:
        if "path" in file:
            Path(file["path"]).unlink(missing_ok=True)


def _mail(interaction: str, fields: dict[str, str], files: list[dict[str, Any]]) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "forms@company.test", MAILBOX, fields["subject"]
    mail["Reply-To"], mail["Message-ID"] = fields["fromAddress"], f"<{interaction}@company.test>"
    mail["Date"] = formatdate()
    mail.set_content("\n".join(f"{name}: {value}" for name, value in fields.items()))
    for file in files:
        main, _, sub = file["type"].partition("/")
        content = file["content"] if "content" in file else Path(file["path"]).read_bytes()
        mail.add_attachment(content, maintype=main, subtype=sub, filename=file["name"])
    return mail


#: The connection of this child, kept from one task to the next.
_kept_connection: list[smtplib.SMTP] = []


def _send(mail: bytes) -> None:
    """Over the kept connection; over a new one when the server has closed that."""
    if not _kept_connection:
        _kept_connection.append(smtplib.SMTP("127.0.0.1", SMTP_PORT, timeout=30))
    try:
        _kept_connection[0].sendmail("forms@company.test", [MAILBOX], mail)
    except (smtplib.SMTPServerDisconnected, OSError):
        _kept_connection.clear()
        raise


@worker_ready.connect
def _say(**_: Any) -> None:
    print("ready", flush=True)


@worker_process_shutdown.connect
def _hang_up(**_: Any) -> None:
    for connection in _kept_connection:
        connection.close()
