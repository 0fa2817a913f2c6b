"""The life of messages as a walk: whatever happens in whatever order, some things are always so."""

import contextlib
import sqlite3
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from mailroom.message import DEAD_LETTERS, ENDED, MOVES, Kind, Status
from mailroom.store import messages, redrives, schema, sessions, sweeping
from mailroom.store.messages import Claimed, NewMessage
from tests.builders import NOW, a_message, a_settlement

INTEGRATION = UUID(int=7)

#: What a worker can have to tell.
TOLD = (Status.SENT, Status.SENT, Status.SENT, Status.DEFERRED, Status.HELD, Status.FAILED, Status.UNCERTAIN)


#: A database with our tables: making them takes longer than a walk.
EMPTY = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
schema.metadata.create_all(EMPTY)


class Life(RuleBasedStateMachine):
    """Clients, workers, a sweep and people, none of whom waits for another."""

    written: Bundle[NewMessage] = Bundle("written")
    taken: Bundle[Claimed] = Bundle("taken")

    def __init__(self) -> None:
        super().__init__()
        self.engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
        with EMPTY.connect() as made, self.engine.connect() as fresh:
            made.connection.dbapi_connection.backup(fresh.connection.dbapi_connection)  # type: ignore[union-attr]  # open
        self.now = NOW
        self.born = 0
        self.told: dict[tuple[UUID, int], Status] = {}
        self.stood: dict[UUID, Status] = {}
        self.claims: dict[UUID, int] = {}
        with self.engine.begin() as tx:
            row = {
                "id": INTEGRATION, "name": "main", "host": "smtp.company.test", "port": 587, "security": "none",
                "from_address": "forms@company.test", "max_connections": 5, "intended_state": "ENABLED",
                "reported_state": "ACTIVE", "since": NOW,
            }  # fmt: skip
            tx.execute(sa.insert(schema.integrations).values(row))
        self.workers = [self.come(), self.come()]

    def teardown(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    def new_id(self) -> UUID:
        """Ids in the order they are made, the same in every run."""
        self.born += 1
        return UUID(int=self.born)

    def come(self) -> UUID:
        """A worker begins."""
        session = self.new_id()
        with self.engine.begin() as tx:
            sessions.open_session(tx, session, host="here", pid=1, at=self.later())
        return session

    def later(self) -> datetime:
        """The next second."""
        self.now += timedelta(seconds=1)
        return self.now

    @rule(
        target=written,
        kind=st.sampled_from([Kind.FORM, Kind.ACD]),
        status=st.sampled_from([Status.QUEUED, Status.HELD]),
    )
    def accept(self, kind: Kind, status: Status) -> NewMessage:
        """A client is answered 0."""
        message = a_message(INTEGRATION, id=self.new_id(), kind=kind, status=status, accepted_at=self.later())
        with self.engine.begin() as tx:
            messages.accept(tx, [message])
        return message

    @rule(target=written)
    def bury_first(self) -> NewMessage:
        """A client is answered 1 before its commit arrives, which then cannot happen any more."""
        message = a_message(INTEGRATION, id=self.new_id(), accepted_at=self.later())
        with self.engine.begin() as tx:
            assert messages.bury(tx, [(message.id, message.kind)], self.now) == {message.id: False}
        with pytest.raises(sqlite3.IntegrityError), self.engine.begin() as tx:
            messages.accept(tx, [message])
        return message

    @rule(message=written)
    def revoke(self, message: NewMessage) -> None:
        """A client was answered 1 although the commit had happened: taken back, or too late."""
        before = self.stood[message.id]
        with self.engine.begin() as tx:
            too_late = messages.revoke(tx, [(message.id, message.kind)], self.later())
            (after,) = messages.statuses(tx, [message.id]).values()
        assert (after is Status.REFUSED) == (message.id not in too_late)
        assert after in (Status.REFUSED, before)

    def some(self, *statuses: Status) -> bool:
        """Whether some message stands so: what cannot happen yet need not be tried."""
        return any(status in statuses for status in self.stood.values())

    @initialize(target=written)
    def open_doors(self) -> Any:
        """Two forms and an agent's reply wait."""
        return multiple(*(self.accept(kind, Status.QUEUED) for kind in (Kind.FORM, Kind.FORM, Kind.ACD)))

    @precondition(lambda self: self.some(Status.QUEUED))
    @rule(target=taken, worker=st.integers(0, 1), tickets=st.sets(st.integers(0, 9), min_size=1))
    def claim(self, worker: int, tickets: set[int]) -> Any:
        """One of two workers reads tickets, stale ones too; of what workers died with it takes one by itself."""
        ids = sorted(self.stood)
        asked = {ids[ticket % len(ids)] for ticket in tickets} if ids else set()
        queued = {one for one in asked if self.stood[one] is Status.QUEUED}
        with self.engine.begin() as tx:
            suspects = messages.suspects(tx, asked)
            found = messages.claim(tx, sorted(asked), self.workers[worker], suspect=suspects[0] if suspects else None)
        assert set(found) == queued - set(suspects[1:])
        assert all(one.claim > self.claims[one.id] for one in found.values())
        return multiple(*found.values())

    @rule(one=taken, told=st.sampled_from(TOLD))
    def settle(self, one: Claimed, told: Status) -> None:
        """A worker tells how it went: once, the same twice, late, or after somebody else took the message."""
        told = self.told.setdefault((one.id, one.claim), told)
        newest = one.claim == self.claims[one.id]
        before = self.stood[one.id]
        wake_at = self.now + timedelta(seconds=5) if told is Status.DEFERRED else None
        with self.engine.begin() as tx:
            [stood] = messages.settle(tx, [a_settlement(one, told, at=self.later(), wake_at=wake_at)])
        assert stood <= newest
        if before is Status.SENDING and newest:
            assert stood
        if told is Status.SENT and newest:
            assert stood == (before is not Status.SENT)

    @rule(one=taken)
    def hand_back(self, one: Claimed) -> None:
        """A worker that is stopping gives back what it has not begun."""
        with self.engine.begin() as tx:
            messages.hand_back(tx, [one.id], one.session, at=self.later())

    @precondition(lambda self: self.some(Status.SENDING))
    @rule(worker=st.integers(0, 1))
    def die(self, worker: int) -> None:
        """A worker is declared dead and its claims are seen to; another one takes its place."""
        with self.engine.begin() as tx:
            sessions.declare_dead(tx, self.workers[worker], 0, at=self.later())
            sweeping.recover(tx, now=self.now, limit=100)
        self.workers[worker] = self.come()

    @rule(one=taken)
    def tell_late(self, one: Claimed) -> None:
        """A worker that was declared dead had sent it all the same, and says so when others have been at work."""
        if one.session in self.workers:
            self.die(self.workers.index(one.session))
            self.always()
        self.settle(one, Status.SENT)

    @precondition(lambda self: self.some(Status.DEFERRED, Status.QUEUED))
    @rule(seconds=st.sampled_from([10, 10, 10, 86400 * 6]))
    def sweep(self, seconds: int) -> None:
        """Time passes; what fell due is queued, what is too old ends."""
        self.now += timedelta(seconds=seconds)
        with self.engine.begin() as tx:
            sweeping.expire(tx, now=self.now, limit=100)
            sweeping.wake(tx, now=self.now, limit=100)

    @precondition(lambda self: self.some(Status.HELD))
    @rule()
    def release(self) -> None:
        """The integration may send again."""
        with self.engine.begin() as tx:
            sweeping.release(tx, INTEGRATION, now=self.later(), limit=100)

    @rule(message=written)
    def redrive(self, message: NewMessage) -> None:
        """A person gives a dead letter fresh attempts, and nothing else."""
        with contextlib.suppress(messages.NotADeadLetter), self.engine.begin() as tx:
            redrives.redrive_one(tx, message.id, who="jane", now=self.later())
            assert self.stood[message.id] in DEAD_LETTERS
            return
        assert self.stood[message.id] not in DEAD_LETTERS

    @invariant()
    def always(self) -> None:
        """One owner; ended or alive; what was sent stays sent; claim numbers only rise; statuses move by the table."""
        with self.engine.begin() as tx:
            alive = {row.id: row for row in tx.execute(sa.select(schema.live))}
            told = {row.id: row for row in tx.execute(sa.select(schema.messages))}
            listed = set(tx.execute(sa.select(schema.dead_letters.c.message_id)).scalars())
            with_content = set(tx.execute(sa.select(schema.contents.c.message_id)).scalars())
        assert {one for one, row in told.items() if row.status is None} == set(alive)
        stands = {one: Status(alive[one].status if one in alive else row.status) for one, row in told.items()}
        for one, row in alive.items():
            assert (row.session is not None) == (stands[one] is Status.SENDING)
            assert row.session is None or row.session in self.workers
        assert listed == {one for one, status in stands.items() if status in DEAD_LETTERS}
        assert with_content >= {one for one, status in stands.items() if status is not Status.REFUSED}
        for one, status in stands.items():
            before = self.stood.get(one, status)
            assert status is before or status in MOVES[before] or Status.REFUSED is status, (before, status)
            claim = alive[one].claim if one in alive else told[one].claims or 0
            if status is not Status.REFUSED:
                assert claim >= self.claims.get(one, 0)
            self.claims[one] = max(claim, self.claims.get(one, 0))
            if before in ENDED and status not in ENDED:
                assert before in DEAD_LETTERS
        self.stood = stands


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
