"""A query only for development: the mailbox of `mailroom up` is not always where it was at the last start."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.store import integrations
from mailroom.store.schema import integrations as table


def move_integration(tx: Connection, name: str, *, from_address: str, host: str, port: int, now: datetime) -> bool:
    """Let an integration of this sender and host use this port, by way of a reset; False when it does already."""
    moved = tx.execute(
        sa.update(table)
        .where(table.c.name == name, table.c.from_address == from_address, table.c.host == host, table.c.port != port)
        .values(port=port)
    )
    if moved.rowcount != 1:
        return False
    integrations.reset(tx, name, who="mailroom up", why=f"the mailbox moved to port {port}", now=now)
    return True
