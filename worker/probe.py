"""Live tests of integrations: taken by one worker, run over the code of real mail, answered in the database."""

import asyncio
from datetime import UTC, datetime, timedelta

from mailroom.integration import CAUSE_OF, Cause, Integration
from mailroom.logs import get_logger
from mailroom.outcome import Deferred
from mailroom.queue.port import Queue
from mailroom.store import integrations
from mailroom.store.integrations import ConnectionTest
from mailroom.store.port import BadRow, CommitUnknown, Store, StoreUnavailable
from mailroom.watch import IntegrationWatch
from worker import smtp
from worker.session import Session

log = get_logger(__name__)

#: How often the snapshot is looked at for waiting tests, in seconds.
LOOK_SECONDS = 0.2

#: A test that was taken and not ended for so long had a worker that died.
ABANDONED_AFTER = timedelta(seconds=150)


class Probe:
    """Runs the tests that wait, each integration's one at a time."""

    def __init__(
        self,
        store: Store,
        queue: Queue,
        watch: IntegrationWatch,
        session: Session,
        local_hostname: str,
        timeouts: smtp.Timeouts,
    ) -> None:
        self._store = store
        self._queue = queue
        self._watch = watch
        self._session = session
        self._local_hostname = local_hostname
        self._timeouts = timeouts
        self._running: dict[Integration, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Take waiting tests for as long as the process runs."""
        while True:
            for integration in self._watch.all.values():
                if integration.test_waiting and not any(one.id == integration.id for one in self._running):
                    self._start(integration)
            await asyncio.sleep(LOOK_SECONDS)

    def _start(self, integration: Integration) -> None:
        task = asyncio.get_running_loop().create_task(self._take_and_run(integration))
        self._running[integration] = task
        task.add_done_callback(lambda _: self._running.pop(integration))

    async def _take_and_run(self, integration: Integration) -> None:
        try:
            test = await self._store.transaction(
                integrations.take_test, integration.id, self._session.id, now=datetime.now(UTC)
            )
            if test is None:
                return
            # The snapshot may be older than the configuration this test is about.
            await self._watch.refresh()
            await self._run_test(test, self._watch.get(integration.id) or integration)
        except (StoreUnavailable, CommitUnknown, BadRow) as error:
            log.warning("connection test not recorded", integration=integration.name, error=str(error))

    async def _run_test(self, test: ConnectionTest, integration: Integration) -> None:
        result = await smtp.test_connection(integration.account, self._local_hostname, self._timeouts)
        state = await self._store.transaction(
            integrations.conclude_test,
            test,
            cause=cause_of(result.failure),
            transcript="\n".join(result.transcript),
            ehlo_size=result.ehlo_size,
            who=f"worker {self._session.id}",
            now=datetime.now(UTC),
        )
        log.info("connection tested", integration=integration.name, state=state, passed=result.failure is None)
        await self._queue.nudge()
        self._watch.nudge()


def cause_of(failure: Deferred | None) -> Cause | None:
    """What an administrator is told of a test that failed; every failure but the four kinds is "cannot connect"."""
    return None if failure is None else CAUSE_OF.get(failure.blame, Cause.CANNOT_CONNECT)


async def end_abandoned(store: Store, now: datetime) -> None:
    """Let tests whose worker died end in ERROR rather than never."""
    for test in await store.read(integrations.abandoned_tests, taken_before=now - ABANDONED_AFTER):
        await store.transaction(
            integrations.conclude_test,
            test,
            cause=Cause.TIMED_OUT,
            transcript="the worker that ran this test died before it ended",
            ehlo_size=None,
            who="sweep",
            now=now,
        )
