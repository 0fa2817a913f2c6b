"""`mailroom migrate`: bring a deployment's tables up to date."""

import asyncio
import time

from cli.commands import run
from cli.printing import lines
from mailroom.logs import LogStyle, configure_logs, get_logger
from mailroom.settings import BadSettings
from mailroom.settings_file import from_environment
from mailroom.store.migrating import migrate as migrate_tables
from mailroom.store.opening import open_store
from mailroom.store.port import CommitUnknown, StoreUnavailable

log = get_logger(__name__)

#: Seconds a migration waits for a database that is only just starting, and between two looks.
DATABASE_SECONDS = 60.0
LOOK_SECONDS = 1.0

#: Seconds one statement of a migration may take: it may have to rewrite a large table.
MIGRATION_SECONDS = 6 * 3600.0


def migrate() -> int:
    """Bring the database's tables up to this version; run it once for each version, before the processes."""
    configure_logs(LogStyle.CONSOLE)
    run(_migrate())
    lines(["The tables are those of this version."])
    return 0


async def _migrate() -> None:
    settings = from_environment()
    if settings.database_url.startswith("sqlite:"):
        raise BadSettings(
            ["MAILROOM_DATABASE_URL: is sqlite:, which `mailroom up` migrates by itself; set it to postgresql://…"]
        )
    store = open_store(settings.database_url, connections=1, command_seconds=MIGRATION_SECONDS)
    deadline = time.monotonic() + DATABASE_SECONDS
    try:
        while True:
            try:
                return await store.transaction(migrate_tables)
            except (StoreUnavailable, CommitUnknown) as error:
                if time.monotonic() >= deadline:
                    raise
                log.warning("waiting for the database", error=str(error))
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        await store.aclose()
