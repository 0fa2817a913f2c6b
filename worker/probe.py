"""Live tests of integrations: taken by one worker, run over the code of real mail, answered in the database."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never
from uuid import UUID

from mailroom.destinations import ANYWHERE, Destinations
from mailroom.gate import Closed, Enforcement, gate
from mailroom.integration import CAUSE_OF, Cause, Integration
from mailroom.logs import get_logger
from mailroom.message import Content, Kind
from mailroom.mime import UnsafeMessage, compose_off_loop, message_id_of
from mailroom.outcome import Blame, Deferred, Held, Rejected, Reply, Sent, Uncertain
from mailroom.queue.port import Queue
from mailroom.store import connection_tests
from mailroom.store.connection_tests import ConnectionTest, Letter, Posted
from mailroom.store.port import BadRow, CommitUnknown, Store, StoreUnavailable
from mailroom.watch import IntegrationWatch
from worker import smtp
from worker.opening import Timeouts
from worker.session import Session

log = get_logger(__name__)

#: How often the snapshot is looked at for waiting tests, in seconds.
LOOK_SECONDS = 0.2

#: Seconds between two tries to tell the database.
AGAIN_SECONDS = 1.0

#: For so long after it was asked for a test is given to another worker when the one that ran it died.
TRIED_FOR = timedelta(seconds=150)

#: No test takes so long, its letter included, whatever its worker says.
LONGEST_TEST = timedelta(minutes=30)


#: What is told of a test that a defect of ours ended: nobody may wait for one that will never be answered.
_DEFECT = smtp.TestResult(
    failure=Deferred(Reply("connect", None, "a defect of Mailroom"), Blame.CONNECTION),
    transcript=("the test was ended by a defect of Mailroom; the worker's log says which",),
    ehlo_size=None,
)


class Probe:
    """Runs the tests that wait, each integration's one at a time."""

    def __init__(
        self,
        store: Store,
        queue: Queue,
        watch: IntegrationWatch,
        session: Session,
        local_hostname: str,
        timeouts: Timeouts,
        destinations: Destinations = ANYWHERE,
    ) -> None:
        self._store = store
        self._queue = queue
        self._watch = watch
        self._session = session
        self._local_hostname = local_hostname
        self._timeouts = timeouts
        self._destinations = destinations
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
            result = await self._result_of(test, integration)
            if result is not None:
                await self._conclude(test, integration, result)
        except asyncio.CancelledError:
            await self._give_back(test)
            raise

    async def _result_of(self, test: ConnectionTest, integration: Integration) -> smtp.TestResult | None:
        """How it went, whatever went wrong: a test that does not end keeps all later ones waiting. None: not ours now."""
        if not await self._refreshed(integration):
            return None
        try:
            return await self._tested(test, self._watch.get(integration.id) or integration)
        except Exception:
            log.exception("connection test failed by our own fault", integration=integration.name)
            return _DEFECT

    async def _refreshed(self, integration: Integration) -> bool:
        """Have a snapshot no older than the configuration this test is about; False when our session ended over it."""
        session = self._session.id
        while True:
            try:
                await self._watch.refresh()
            except (StoreUnavailable, BadRow) as error:
                log.warning("connection test waits", integration=integration.name, error=str(error))
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                return True
            if self._session.id != session:
                log.warning("connection test left to the sweep", integration=integration.name)
                return False

    async def _taken(self, integration: Integration) -> ConnectionTest | None:
        while True:
            try:
                return await self._store.transaction(
                    connection_tests.take_test, integration.id, self._session.id, now=self._watch.now()
                )
            except CommitUnknown:
                await asyncio.sleep(AGAIN_SECONDS)
            except (StoreUnavailable, BadRow) as error:
                log.warning("connection test not taken", integration=integration.name, error=str(error))
                return None

    async def _tested(self, test: ConnectionTest, integration: Integration) -> smtp.TestResult:
        letter = None if test.letter is None else await self._written(test, test.letter, integration)
        result = await smtp.test_connection(
            integration.account,
            self._local_hostname,
            self._timeouts,
            destinations=self._destinations,
            letter=letter if isinstance(letter, smtp.TestLetter) else None,
        )
        if isinstance(letter, Held | Rejected) and result.failure is None:
            said = letter.reason if isinstance(letter, Held) else letter.reply.text
            transcript = (*result.transcript, f"no letter was sent: {said}")
            return replace(result, posted=letter, transcript=transcript)
        return result

    async def _written(
        self, test: ConnectionTest, letter: Letter, integration: Integration
    ) -> smtp.TestLetter | Held | Rejected:
        """The letter as it goes out, composed as real mail is; an integration that may not send gets none."""
        held = self._held(integration.id)
        if held is not None:
            return held
        content = Content(
            to=letter.recipient,
            subject=letter.subject,
            text=letter.text,
            html=letter.html,
            from_address=letter.sender,
            from_name=letter.sender_name,
        )
        try:
            wire = await compose_off_loop(
                test.id, content, integration.from_address, integration.from_name, test.requested_at, ()
            )
        except UnsafeMessage as error:
            return Rejected(Reply("compose", None, str(error)), Blame.US)
        return smtp.TestLetter(
            envelope_from=integration.from_address or letter.sender,
            recipient=letter.recipient,
            wire=wire,
            before_mail=lambda: self._held(integration.id),
            before_dot=self._session.is_fresh,
        )

    def _held(self, integration_id: UUID) -> Held | None:
        """What the gate says to a letter now: nobody waits for one, so ERROR is never overlooked."""
        integration = self._watch.get(integration_id)
        if integration is None or not self._watch.is_fresh:
            return Held("the state of the integration is not known at the moment")
        verdict = gate(
            Kind.AGENTLESS,
            integration.intended_state,
            integration.reported_state,
            integration.cause,
            self._watch.now(),
            Enforcement(),
        )
        return Held(verdict.reason) if isinstance(verdict, Closed) else None

    async def _conclude(self, test: ConnectionTest, integration: Integration, result: smtp.TestResult) -> None:
        """Record how it went, however long the database is away: an answer that is lost would become an ERROR."""
        transcript, size = "\n".join(result.transcript), result.ehlo_size
        while True:
            try:
                state = await self._store.transaction(
                    connection_tests.conclude_test,
                    test,
                    cause=cause_of(result.failure),
                    transcript=transcript,
                    ehlo_size=size,
                    who=f"worker {self._session.id}",
                    now=self._watch.now(),
                    posted=posted_of(test, result),
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
            await self._store.transaction(connection_tests.give_back_test, test)
        except (StoreUnavailable, CommitUnknown) as error:
            log.warning("connection test left to the sweep", error=str(error))


def cause_of(failure: Deferred | None) -> Cause | None:
    """What an administrator is told of a test that failed; every failure but the four kinds is "cannot connect"."""
    return None if failure is None else CAUSE_OF.get(failure.blame, Cause.CANNOT_CONNECT)


def posted_of(test: ConnectionTest, result: smtp.TestResult) -> Posted | None:
    """What is recorded of a letter: nothing where there was none to send, or where the integration may not send."""
    match result.posted:
        case None | Held():
            return None
        case Sent():
            sender = test.letter.sender if test.letter is not None else ""
            return Posted(message_id_of(test.id, sender))
        case Deferred() | Rejected() | Uncertain():
            return Posted(None)
        case _:
            assert_never(result.posted)


async def hand_on(store: Store, now: datetime) -> None:
    """Let others take up the tests of workers that are no more; what nobody can end ends in ERROR rather than never."""
    await store.transaction(connection_tests.reopen_orphaned, asked_since=now - TRIED_FOR)
    abandoned = await store.read(
        connection_tests.abandoned_tests, asked_before=now - TRIED_FOR, taken_before=now - LONGEST_TEST
    )
    for test in abandoned:
        await store.transaction(connection_tests.conclude_abandoned, test, now=now)
