"""How a command reaches Mailroom: the deployment's database and broker, or the one process that is `mailroom up`."""

import contextlib
import os
import pwd
from pathlib import Path
from typing import Any

from cli.desk import SOCKET, NobodyThere, ask
from mailroom.operating.operations import LOOKS, SEALS, perform
from mailroom.operating.operator import Operator
from mailroom.provisioning import attachment_store
from mailroom.queue.opening import open_queue
from mailroom.settings import Settings
from mailroom.store.opening import check_schema, open_store
from mailroom.vault import Vault


class NotRunning(Exception):
    """The command needs a running Mailroom, and there is none."""


async def request(settings: Settings, operation: str, args: dict[str, Any]) -> Any:
    """Have this done, wherever it can be; the result is made of what JSON has."""
    if not settings.database_url.startswith("sqlite:"):
        return await _directly(settings, operation, args)
    try:
        return await ask(settings.data_dir, operation, args, actor())
    except NobodyThere as nobody:
        if operation in LOOKS and _database_of(settings).exists():
            return await _directly(settings, operation, args)
        raise NotRunning(
            f"`mailroom up` is not running here (nobody answers at {settings.data_dir / SOCKET}); start it, or set "
            "MAILROOM_DATABASE_URL and MAILROOM_QUEUE_URL to a deployment's"
        ) from nobody


async def _directly(settings: Settings, operation: str, args: dict[str, Any]) -> Any:
    async with contextlib.AsyncExitStack() as stack:
        store = open_store(settings.database_url, connections=1)
        stack.push_async_callback(store.aclose)
        queue = open_queue(settings.queue_url)
        stack.push_async_callback(queue.aclose)
        await store.read(check_schema)
        # Making a vault of a passphrase takes a moment, so only where one is needed.
        vault = Vault(settings.secret_keys) if operation in SEALS and settings.secret_keys else None
        operator = Operator(
            store=store,
            queue=queue,
            who=actor(),
            settings=settings,
            attachments=attachment_store(settings),
            vault=vault,
        )
        return await perform(operator, operation, args)


def actor() -> str:
    """Who the audit says it was: the operating system's user."""
    try:
        return f"cli {pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli {os.getuid()}"


def _database_of(settings: Settings) -> Path:
    return Path(settings.database_url.removeprefix("sqlite:///"))
