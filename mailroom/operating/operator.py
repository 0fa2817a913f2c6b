"""Who asks, and what there is to ask."""

from dataclasses import dataclass, field
from datetime import datetime

from mailroom.attachments import AttachmentStore
from mailroom.queue.port import Queue
from mailroom.settings import Settings
from mailroom.store.clock import told
from mailroom.store.port import Store
from mailroom.vault import Vault

#: Seconds a live test may wait for a worker and its answer.
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Who asks, and what there is to ask."""

    store: Store
    queue: Queue
    who: str
    patience: float = PATIENCE_SECONDS
    #: What this process was told at its start.
    settings: Settings = field(default_factory=Settings)
    #: Where the files of messages are; none where they are not looked at.
    attachments: AttachmentStore | None = None
    #: Seals passwords; none where the process was not given the key.
    vault: Vault | None = None

    async def now(self) -> datetime:
        """The time of day as the database has it: workers decide by what is written here. Raises StoreUnavailable."""
        return await self.store.read(told)
