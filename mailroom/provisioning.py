"""What a process makes sure of before it works: tables, configured integrations, the one attachment store."""

import asyncio
import contextlib
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mailroom.attachments import AttachmentStore
from mailroom.logs import get_logger
from mailroom.queue.port import Queue, QueueUnavailable
from mailroom.settings import BadSettings, IntegrationSettings, Settings
from mailroom.store import integrations
from mailroom.store.facts import fact, stated
from mailroom.store.integrations import NewIntegration
from mailroom.store.opening import SchemaMismatch, check_schema
from mailroom.store.port import BadRow, CommitUnknown, Store, StoreUnavailable
from mailroom.vault import Vault

log = get_logger(__name__)

#: Seconds between two tries to find the database ready.
RETRY_SECONDS = 1.0

#: The fact in the database, and the file in the folder, that must say the same.
MARKER_FACT = "attachments_marker"
MARKER_FILE = ".marker"


class AttachmentsElsewhere(Exception):
    """The attachment store of this process cannot be used, or is not the one that this database's messages use."""


async def prepare(settings: Settings, store: Store, vault: Vault, attachments: AttachmentStore) -> None:
    """Return once everything is in place, waiting for database and tables as long as it takes.

    Raises AttachmentsElsewhere.
    """
    said = ""
    while True:
        try:
            await store.read(check_schema)
            await create_absent_integrations(settings, store, vault)
            await check_marker(store, attachments)
        except SchemaMismatch as error:
            waiting_for, reason = "tables", str(error)
        except (StoreUnavailable, CommitUnknown) as error:
            waiting_for, reason = "database", str(error)
        except BadRow as error:
            # Another process that starts now made the same row first; the next round finds it.
            waiting_for, reason = "another process", str(error)
        else:
            return
        if reason != said:
            log.warning("waiting", waiting_for=waiting_for, error=reason)
            said = reason
        await asyncio.sleep(RETRY_SECONDS)


async def check_queue(queue: Queue) -> None:
    """Look whether the broker is ours to use; one that is away may come later. Raises WrongTopology."""
    with contextlib.suppress(QueueUnavailable):
        await queue.connect()


async def create_absent_integrations(settings: Settings, store: Store, vault: Vault) -> None:
    """Create the configured integrations that the database does not have; those it has stay as they are."""
    known = {row.name for row in await store.read(integrations.all_rows)}
    for name, configured in settings.integrations.items():
        if name not in known and await store.transaction(
            integrations.create_absent, _sealed(name, configured, vault), who="settings", now=datetime.now(UTC)
        ):
            log.info("integration created", integration=name)


def _sealed(name: str, configured: IntegrationSettings, vault: Vault) -> NewIntegration:
    return NewIntegration(
        name=name,
        host=configured.host,
        port=configured.port,
        security=configured.security,
        username=configured.username,
        sealed_password=None if configured.password is None else vault.seal(configured.password),
        from_address=configured.from_address,
        from_name=configured.from_name,
        default_mailbox=configured.mailbox,
        max_connections=configured.max_connections,
        per_second=configured.per_second,
        per_day=configured.per_day,
    )


def attachment_store(settings: Settings) -> AttachmentStore:
    """The store that the settings name: MAILROOM_ATTACHMENTS_URL, or a folder in the data folder."""
    if settings.attachments_url is None:
        return AttachmentStore(settings.data_dir / "attachments")
    url = urlsplit(settings.attachments_url)
    if url.netloc not in ("", "localhost"):
        raise BadSettings(
            [f"MAILROOM_ATTACHMENTS_URL: names a host, {url.netloc}; write a path, like file:///srv/mailroom/files"]
        )
    return AttachmentStore(Path(unquote(url.path)))


async def check_marker(store: Store, attachments: AttachmentStore) -> None:
    """Make sure that this folder is the one this database's messages keep their files in.

    The first process leaves a random marker in both; everyone else must find the same in both. Raises
    AttachmentsElsewhere.
    """
    ours, just_made = await asyncio.to_thread(_marker, attachments.folder)
    known = await store.transaction(fact, MARKER_FACT, ours)
    if known == ours:
        return
    file = attachments.folder / MARKER_FILE
    if just_made:
        file.unlink(missing_ok=True)
    raise AttachmentsElsewhere(
        f"the attachment store {attachments.folder} is not the one that this database's messages use: the database "
        f"expects the marker {known}, and {file} {'did not exist' if just_made else f'says {ours}'}. Let every gateway "
        "and worker see the same folder (MAILROOM_ATTACHMENTS_URL). If its files are lost for good, write the marker "
        "that the database expects into that file"
    )


async def is_ours(store: Store, attachments: AttachmentStore) -> bool:
    """Whether this folder has this database's marker now: it may have been unmounted since the start."""
    known = await store.read(stated, MARKER_FACT)
    file = attachments.folder / MARKER_FILE
    try:
        return known is not None and (await asyncio.to_thread(file.read_text)).strip() == known
    except OSError:
        return False


def _marker(folder: Path) -> tuple[str, bool]:
    """The folder's marker, and whether it was only made now."""
    file = folder / MARKER_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists():
            return file.read_text().strip(), False
        return _make_marker(file)
    except OSError as error:
        raise AttachmentsElsewhere(
            f"the attachment store {folder} cannot be used: {error.strerror or error}; correct "
            "MAILROOM_ATTACHMENTS_URL or the folder's permissions"
        ) from error


def _make_marker(file: Path) -> tuple[str, bool]:
    """Write whole and link into place, so that of two processes that do this at once both read the same."""
    marker = secrets.token_hex(16)
    written = file.with_name(f"{file.name}.{marker}")
    with written.open("x") as opened:
        opened.write(f"{marker}\n")
        opened.flush()
        os.fsync(opened.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(written, file)
    written.unlink()
    found = file.read_text().strip()
    return found, found == marker
