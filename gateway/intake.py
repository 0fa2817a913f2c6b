"""Accepting: a message is committed before its client is answered, and the answer is always the truth.

A commit whose result was lost is settled by a tombstone under the same id: either the message is there already, or it can
never be. Where the database does not say so in time the client is told 1, and the tombstone is owed; what turns out to have
been committed all the same is then taken back before it is delivered.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from mailroom.attachments import AttachmentStore
from mailroom.batch import Batch, FlushLost, LineClosed, LineFull
from mailroom.kinds import KINDS
from mailroom.logs import get_logger
from mailroom.message import Status
from mailroom.queue.ticket import Address
from mailroom.store import messages
from mailroom.store.messages import NewMessage
from mailroom.store.port import BadRow, CommitUnknown, Store, StoreUnavailable
from mailroom.tally import Tally, What
from mailroom.tickets import TicketWriter
from mailroom.time_limit import TimeLimit

log = get_logger(__name__)

#: Seconds a request waits for its commit, and then for its tombstone. Together under the 3 s after which the widgets
#: give up.
COMMIT_SECONDS = 2.0
TOMBSTONE_SECONDS = 0.7

#: Messages in one INSERT, and messages that may wait for theirs; more are answered 1 at once.
MOST_IN_GROUP = 200
MOST_WAITING = 2000

#: Answers in doubt that may be owed at once. Who owes more takes in nothing until the database has settled some.
MOST_OWED = 10_000

#: A commit has the database for itself for so many seconds: what comes meanwhile makes up the next, which then serves
#: more. One that takes longer holds up nobody.
ALONE_SECONDS = 0.05

#: A commit that takes longer than this is none, and after so many in a row that failed the next will too. After so many
#: seconds without a try nobody knows, and somebody has to try.
STILL_SECONDS = 3.0
FAILED_IN_A_ROW = 3
KNOWN_SECONDS = 5.0

#: Tombstones written in one transaction.
PAID_AT_ONCE = 1000

#: Seconds between two tries to write the tombstones that are owed, and for how long a process that stops goes on trying:
#: what it owes is known to nobody else.
OWED_SECONDS = 0.5
LAST_PAYMENT_SECONDS = 13.0


class NotAccepted(Exception):
    """The message was not taken in; trying again may help. `certain`: it never will be, so its files can go."""

    def __init__(self, *, certain: bool) -> None:
        super().__init__()
        self.certain = certain


class Intake:
    """Commits messages in groups and tickets them."""

    def __init__(
        self,
        store: Store,
        tickets: TicketWriter,
        attachments: AttachmentStore,
        tally: Tally,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._clock = clock
        #: When each commit in flight began; how many in a row failed, and when the last one did.
        self._committing: dict[int, float] = {}
        self._failed, self._failed_at = 0, float("-inf")
        self._tickets = tickets
        self._attachments = attachments
        self._tally = tally
        self.line: Batch[NewMessage, None] = Batch(
            self._commit,
            max_items=MOST_IN_GROUP,
            max_waiting=MOST_WAITING,
            data_error=BadRow,
            size_of=lambda message: len(message.body),
            beside=ALONE_SECONDS,
        )
        self._time_limit = TimeLimit(COMMIT_SECONDS)
        #: Answered 1 although the commit may have happened: their tombstones are owed. Nobody is in here while its
        #: request still waits: it may yet be answered 0.
        self._owed: dict[UUID, NewMessage] = {}
        self.accepted = 0
        self.contradicted = 0

    @property
    def owed(self) -> int:
        """How many tombstones are owed."""
        return len(self._owed)

    def idle(self) -> str | None:
        """Why nothing is committed although something should be: reads may go on meanwhile. None when all is well."""
        now = self._clock()
        if now - min(self._committing.values(), default=now) > STILL_SECONDS:
            return "the database does not commit"
        if self._failed >= FAILED_IN_A_ROW and now - self._failed_at < KNOWN_SECONDS:
            return "the database refuses to commit"
        return None

    async def accept(self, message: NewMessage) -> None:
        """Return once the message is committed; it is ticketed soon. Raises NotAccepted."""
        if len(self._owed) >= MOST_OWED:
            raise NotAccepted(certain=True)
        if not await self._is_committed(message):
            raise NotAccepted(certain=message.id not in self._owed)
        self.accepted += 1
        self._tally.count(
            What.ACCEPTED, message.accepted_at, kind=message.kind, service=message.service,
            integration_id=message.integration_id,
        )  # fmt: skip
        if message.status is Status.QUEUED:
            self._tickets.write(Address(KINDS[message.kind].lane, message.integration_id), message.id)

    async def _is_committed(self, message: NewMessage) -> bool:
        try:
            await self._time_limit.on(self.line.put(message))
        except (LineFull, LineClosed, StoreUnavailable) as error:
            log.warning("message not accepted", message_id=str(message.id), error=str(error) or type(error).__name__)
            return False
        except BadRow as error:
            log.error("message refused by the database", message_id=str(message.id), error=str(error))
            return False
        except (CommitUnknown, FlushLost, TimeoutError):
            return await self._settle_doubt(message)
        return True

    async def _settle_doubt(self, message: NewMessage) -> bool:
        """Find out what became of a commit, or make sure that nothing does."""
        settled = False
        try:
            async with asyncio.timeout(TOMBSTONE_SECONDS):
                group = [(message.id, message.kind)]
                committed = await self._store.transaction(messages.bury, group, datetime.now(UTC))
            settled = True
        except (StoreUnavailable, CommitUnknown, BadRow, TimeoutError) as error:
            log.warning("tombstone owed", message_id=str(message.id), error=str(error) or type(error).__name__)
            return False
        finally:
            if not settled:
                # Its body may be megabytes; what its tombstone needs is not.
                self._owed[message.id] = replace(message, body=b"")
        return committed[message.id]

    async def pay_owed(self) -> None:
        """Write owed tombstones as soon as the database is back, for as long as the process runs."""
        while True:
            await asyncio.sleep(OWED_SECONDS)
            if self._owed:
                await self.pay_once()

    async def pay_once(self) -> None:
        """Try to write every tombstone that is owed."""
        owed = list(self._owed.values())
        for start in range(0, len(owed), PAID_AT_ONCE):
            if not await self._pay(owed[start : start + PAID_AT_ONCE]):
                return

    async def _pay(self, owed: Sequence[NewMessage]) -> bool:
        group = [(message.id, message.kind) for message in owed]
        try:
            too_late = await self._store.transaction(messages.revoke, group, datetime.now(UTC))
        except (StoreUnavailable, CommitUnknown, BadRow) as error:
            log.warning("tombstones still owed", count=len(self._owed), error=str(error))
            return False
        for message in owed:
            if self._owed.pop(message.id, None) is None:
                continue  # who stops pays beside the loop: the other one has counted it
            if message.id in too_late:
                self.contradicted += 1
                log.error("answered 1, but a worker had it already", message_id=str(message.id))
            else:
                await self._discard_files(message)
        return True

    async def _discard_files(self, message: NewMessage) -> None:
        try:
            for key in message.files:
                await self._attachments.delete(key)
        except OSError as error:
            log.error("files of a refused message not deleted", message_id=str(message.id), error=str(error))

    async def aclose(self) -> None:
        """Commit what waits, and pay what is owed if the database is back in time."""
        await self.line.aclose()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_PAYMENT_SECONDS):
                await self._pay_all()
        if self._owed:
            log.error("stopped with tombstones owed: answered 1, and may be delivered", count=self.owed)

    async def _pay_all(self) -> None:
        while self._owed:
            await self.pay_once()
            if self._owed:
                await asyncio.sleep(OWED_SECONDS)

    async def _commit(self, group: Sequence[NewMessage]) -> list[None]:
        # Any number that no other flight has at the same time.
        flight = id(group)
        self._committing[flight] = self._clock()
        try:
            done = await self._store.statement(messages.accept, group)
        except BadRow:
            self._failed = 0
            raise
        except BaseException:
            self._failed, self._failed_at = self._failed + 1, self._clock()
            raise
        finally:
            del self._committing[flight]
        self._failed = 0
        return done
