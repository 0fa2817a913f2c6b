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

#: Seconds between two tries to tell the database.
AGAIN_SECONDS = 1.0

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

    async def aclose(self) -> None:
        """Give back what is being tested: another worker takes it up."""
        for task in self._running.values():
            task.cancel()
        while self._running:
            await asyncio.wait(self._running.values())

    async def _take_and_run(self, integration: Integration) -> None:
        test = await self._taken(integration)
        if test is None:
            return
        try:
            # The snapshot may be older than the configuration this test is about.
            await self._watch.refresh()
            result = await self._tested(self._watch.get(integration.id) or integration)
            await self._conclude(test, integration, result)
        except StoreUnavailable as error:
            log.warning("connection test given back", integration=integration.name, error=str(error))
            await self._give_back(test)
        except asyncio.CancelledError:
            await self._give_back(test)
            raise

    async def _taken(self, integration: Integration) -> ConnectionTest | None:
        while True:
            try:
                return await self._store.transaction(
                    integrations.take_test, integration.id, self._session.id, now=datetime.now(UTC)
                )
            except CommitUnknown:
                await asyncio.sleep(AGAIN_SECONDS)
            except (StoreUnavailable, BadRow) as error:
                log.warning("connection test not taken", integration=integration.name, error=str(error))
                return None

    async def _tested(self, integration: Integration) -> smtp.TestResult:
        return await smtp.test_connection(integration.account, self._local_hostname, self._timeouts)

    async def _conclude(self, test: ConnectionTest, integration: Integration, result: smtp.TestResult) -> None:
        """Record how it went, however long the database is away: an answer that is lost would become an ERROR."""
        transcript, size = "\n".join(result.transcript), result.ehlo_size
        while True:
            try:
                state = await self._store.transaction(
                    integrations.conclude_test,
                    test,
                    cause=cause_of(result.failure),
                    transcript=transcript,
                    ehlo_size=size,
                    who=f"worker {self._session.id}",
                    now=datetime.now(UTC),
                )
            except (StoreUnavailable, CommitUnknown) as error:
                log.warning("connection test not recorded yet", integration=integration.name, error=str(error))
                await asyncio.sleep(AGAIN_SECONDS)
            except BadRow as error:
                # Whatever the server said that cannot be stored, whether it let us in can.
                log.error("connection test recorded without its words", integration=integration.name, error=str(error))
                transcript, size = "what the server said cannot be stored", None
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                break
        log.info("connection tested", integration=integration.name, state=state, passed=result.failure is None)
        await self._queue.nudge()
        self._watch.nudge()

    async def _give_back(self, test: ConnectionTest) -> None:
        try:
            await self._store.transaction(integrations.give_back_test, test)
        except (StoreUnavailable, CommitUnknown) as error:
            log.warning("connection test left to the sweep", error=str(error))


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
