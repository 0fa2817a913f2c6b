"""Tries of a password, each counted as a failure before it is known to be none: guesses sent at once are counted too."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from gateway.admin.patience import WINDOW, may_try_at
from mailroom.store import sign_ins
from mailroom.store.port import Store


async def begin_try(store: Store, whos: Sequence[str]) -> list[UUID] | datetime:
    """Count a try of each of these; the ids by which it is taken back. Or, where one has to wait, until when."""

    def begin(tx: Any) -> list[UUID] | datetime:
        now = datetime.now(UTC)
        sign_ins.lock(tx, whos)
        moments = (may_try_at(sign_ins.failures(tx, who, since=now - WINDOW)) for who in whos)
        wait = max((moment for moment in moments if moment is not None), default=now)
        return wait if wait > now else sign_ins.note_failure(tx, whos, now=now)

    return await store.transaction(begin)
