"""What the PostgreSQL store promises when its server, its network or its data fail."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID, uuid4

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.message import Kind, Status
from mailroom.store import credentials, domains, messages, platform, sweeping
from mailroom.store.credentials import NewCredential
from mailroom.store.domains import Direction
from mailroom.store.messages import NewMessage
from mailroom.store.platform import CredentialChange
from mailroom.store.port import BadRow, CommitUnknown, StoreUnavailable
from mailroom.store.postgresql import PostgresqlStore
from mailroom.vault import Vault
from tests.builders import NOW, a_message, accepted, created, migrated
from tests.fault_proxy import FaultProxy, Mode
from tests.services import Postgres

#: An integration's id; whether it exists is not asked at accept.
NOBODY = uuid4()

VAULT = Vault(["a key for tests"])

#: What a black hole may cost at most: connecting, asking, and hanging up. Far above what it should be.
BUDGET_SECONDS = 20


@pytest.fixture
def url(postgres: Postgres) -> str:
    """A database with our tables."""
    return postgres.new_database(migrated)


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresqlStore]:
    """A store on it."""
    store = PostgresqlStore(url, connections=4)
    yield store
    await store.aclose()


@pytest.fixture
async def proxy(postgres: Postgres) -> AsyncIterator[FaultProxy]:
    """What can fail between a store and the server."""
    async with FaultProxy(postgres.port) as proxy:
        yield proxy


@pytest.fixture
async def far(url: str, proxy: FaultProxy, postgres: Postgres) -> AsyncIterator[PostgresqlStore]:
    """A store on the same database, through the proxy, with little patience and one connection, which is open."""
    store = PostgresqlStore(
        url.replace(str(postgres.port), str(proxy.port)), connections=1, connect_timeout=1, command_timeout=1
    )
    await store.read(ask)
    yield store
    await store.aclose()


def ask(tx: Connection) -> int:
    """The shortest question."""
    return int(tx.execute(sa.text("SELECT 1")).scalar_one())


def backend(tx: Connection) -> int:
    """Which of the server's processes answers."""
    return int(tx.execute(sa.select(sa.func.pg_backend_pid())).scalar_one())


def accept_and_wait(tx: Connection, message: NewMessage) -> None:
    """Accept, and keep the transaction open until lock 7 is free."""
    messages.accept(tx, [message])
    tx.execute(sa.select(sa.func.pg_advisory_xact_lock(7)))


async def until_waiting(connection: asyncpg.Connection, count: int) -> None:
    """Return once so many of the server's processes wait for a lock."""
    async with asyncio.timeout(20):
        while True:
            waiting = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if waiting == count:
                return
            await asyncio.sleep(0.02)


# --- transactions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lock_free", "committed"), [(True, True), (False, False)])
async def test_a_burial_waits_for_an_accept_under_way(
    url: str, store: PostgresqlStore, *, lock_free: bool, committed: bool
) -> None:
    """A commit that is still under way when its tombstone is written decides what the tombstone finds."""
    message = a_message(NOBODY)
    observer = await asyncpg.connect(url)
    await observer.execute("SELECT pg_advisory_lock(7)")
    accepting = asyncio.create_task(store.transaction(accept_and_wait, message))
    await until_waiting(observer, 1)
    burying = asyncio.create_task(store.transaction(messages.bury, [(message.id, Kind.FORM)], NOW))
    await until_waiting(observer, 2)
    if lock_free:
        await observer.execute("SELECT pg_advisory_unlock(7)")
    else:
        await observer.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'advisory'")
    [outcome] = await asyncio.gather(accepting, return_exceptions=True)
    told = await burying
    await observer.close()

    assert told == {message.id: committed}
    assert (outcome is None) is committed


async def test_what_fails_in_a_transaction_leaves_nothing(store: PostgresqlStore) -> None:
    """A transaction that ends in an error of its own is undone, and its connection is as good as new."""
    message = a_message(NOBODY)

    def accept_then_divide(tx: Connection) -> None:
        messages.accept(tx, [message])
        tx.execute(sa.text("SELECT 1 / 0"))

    with pytest.raises(BadRow):
        await store.transaction(accept_then_divide)

    assert await store.read(messages.standing, message.id) is None
    await store.statement(messages.accept, [message])
    assert await store.read(messages.standing, message.id)


async def test_statements_and_transactions_share_connections(url: str) -> None:
    """A statement commits by itself, also on the connection that a transaction had before, and the other way round."""
    store = PostgresqlStore(url, connections=1)
    observer = await asyncpg.connect(url)
    for _ in range(2):
        await store.transaction(ask)
        await store.statement(messages.accept, [a_message(NOBODY)])
    seen = await observer.fetchval("SELECT count(*) FROM live")
    await observer.close()
    await store.aclose()

    assert seen == 2


async def test_only_one_sweeps(store: PostgresqlStore) -> None:
    """While one process sweeps, every other finds nothing to do."""
    integration_id = await created(store)
    await accepted(store, integration_id, status=Status.HELD)
    locked, go_on = asyncio.Event(), asyncio.Event()

    async def hold(connection: asyncpg.Connection) -> None:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", sweeping._SWEEP_LOCK)
            locked.set()
            await go_on.wait()

    other = await asyncpg.connect(store._questions.url.set(drivername="postgresql").render_as_string())
    sweeper = asyncio.create_task(hold(other))
    await locked.wait()
    meanwhile = await store.transaction(sweeping.release, integration_id, now=NOW, limit=10)
    nobody = await store.transaction(sweeping.expire, now=NOW.replace(year=2030), limit=10)
    go_on.set()
    await sweeper
    await other.close()

    assert (meanwhile, nobody.total()) == ([], 0)
    assert len(await store.transaction(sweeping.release, integration_id, now=NOW, limit=10)) == 1


# --- data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [{"subject": "a\0b"}, {"size": 2**70}, {"recipient": None, "subject": 7}])
async def test_data_that_cannot_be_stored_is_a_bad_row(store: PostgresqlStore, bad: dict[str, object]) -> None:
    """What the server refuses or the driver cannot encode is the row's fault, and keeps its group out."""
    good = a_message(NOBODY)
    with pytest.raises(BadRow):
        await store.statement(messages.accept, [good, a_message(NOBODY, **bad)])

    assert await store.read(messages.standing, good.id) is None


async def test_a_refusal_that_is_not_about_data_may_pass(store: PostgresqlStore) -> None:
    """What the server will not do now (here: write while read-only) is told as unavailable, not as a bad row."""

    def write_read_only(tx: Connection) -> None:
        tx.execute(sa.text("SET TRANSACTION READ ONLY"))
        messages.accept(tx, [a_message(NOBODY)])

    with pytest.raises(StoreUnavailable):
        await store.transaction(write_read_only)


# --- server and network -----------------------------------------------------------------------------------------------


async def test_sto_1_a_stopped_server_is_unavailable_until_it_is_back(
    postgres: Postgres, store: PostgresqlStore
) -> None:
    """While the server is stopped nothing is done; once it is back, the pool heals by itself without a failed try."""
    await asyncio.gather(*(store.read(ask) for _ in range(4)))
    await asyncio.to_thread(postgres.stop)
    with pytest.raises(StoreUnavailable):
        await store.statement(messages.accept, [a_message(NOBODY)])
    with pytest.raises(StoreUnavailable):
        await store.read(ask)
    await asyncio.to_thread(postgres.start)

    assert await asyncio.gather(*(store.read(ask) for _ in range(8))) == [1] * 8


async def test_sto_1_a_restart_between_two_questions_is_not_noticed(postgres: Postgres, store: PostgresqlStore) -> None:
    """Connections that died while they lay in the pool cost no error."""
    await asyncio.gather(*(store.read(ask) for _ in range(4)))
    await asyncio.to_thread(postgres.restart)

    message = a_message(NOBODY)
    await store.statement(messages.accept, [message])
    assert await store.read(messages.standing, message.id)


async def test_a_lost_answer_is_an_unknown_commit(
    store: PostgresqlStore, far: PostgresqlStore, proxy: FaultProxy
) -> None:
    """When the answer to a statement is lost, that is what is told, and here it was committed; the store works on."""
    message = a_message(NOBODY)
    proxy.lose_answer(b"INSERT 0 1")
    with pytest.raises(CommitUnknown):
        await far.statement(messages.accept, [message])

    assert await store.transaction(messages.bury, [(message.id, Kind.FORM)], NOW) == {message.id: True}
    assert await far.read(ask) == 1


async def test_a_lost_answer_to_a_commit_is_an_unknown_commit(
    store: PostgresqlStore, far: PostgresqlStore, proxy: FaultProxy
) -> None:
    """The same for a transaction: its commit was done, and nobody could know."""
    message = a_message(NOBODY)
    proxy.lose_answer(b"COMMIT\0")
    with pytest.raises(CommitUnknown):
        await far.transaction(messages.accept, [message])

    assert await store.read(messages.standing, message.id)


async def test_a_transaction_cut_before_its_commit_did_nothing(
    store: PostgresqlStore, far: PostgresqlStore, proxy: FaultProxy
) -> None:
    """As long as no commit was asked for there is no doubt: nothing was done."""
    message = a_message(NOBODY)
    proxy.lose_answer(b"INSERT 0 1")
    with pytest.raises(StoreUnavailable):
        await far.transaction(messages.accept, [message])

    assert await store.read(messages.standing, message.id) is None


async def test_a_lost_read_is_unavailable(far: PostgresqlStore, proxy: FaultProxy) -> None:
    """A question whose answer was lost leaves no doubt about anything: it is asked again."""
    proxy.lose_answer(b"SELECT 1\0")
    with pytest.raises(StoreUnavailable):
        await far.read(ask)

    assert await far.read(ask) == 1


async def test_sto_1_a_black_hole_is_an_unknown_commit_in_time(far: PostgresqlStore, proxy: FaultProxy) -> None:
    """A network that swallows everything is an error within the budget, and forgotten when it is over."""
    await far.statement(messages.accept, [a_message(NOBODY)])
    await proxy.set_mode(Mode.HOLE)
    async with asyncio.timeout(BUDGET_SECONDS):
        with pytest.raises(CommitUnknown):
            await far.statement(messages.accept, [a_message(NOBODY)])
    async with asyncio.timeout(BUDGET_SECONDS):
        with pytest.raises(StoreUnavailable):
            await far.read(ask)
    await proxy.set_mode(Mode.OK)

    assert await far.read(ask) == 1


async def test_sto_1_a_pooler_in_transaction_mode_is_named(url: str) -> None:
    """A prepared statement that is gone, as behind such a pooler, is told with what to do about it."""
    store = PostgresqlStore(url, connections=1)
    await store.read(ask)
    await store.read(lambda tx: tx.exec_driver_sql("DEALLOCATE ALL"))
    with pytest.raises(StoreUnavailable, match="session mode"):
        await store.read(ask)
    await store.aclose()


async def test_statements_never_read_whole_tables(store: PostgresqlStore) -> None:
    """What finds its rows by key is planned so, on every connection of its pool; questions are planned as they come."""

    def planned(tx: Connection) -> str:
        return str(tx.execute(sa.text("SHOW enable_seqscan")).scalar_one())

    assert await asyncio.gather(*(store.statement(planned) for _ in range(4))) == ["off"] * 4
    assert await asyncio.gather(*(store.read(planned) for _ in range(4))) == ["on"] * 4


async def test_sto_1_stranded_connections_cost_one_answer_together(
    url: str, proxy: FaultProxy, postgres: Postgres
) -> None:
    """When every connection has gone silent, one answer is waited for in vain; then the pool is made anew."""
    store = PostgresqlStore(
        url.replace(str(postgres.port), str(proxy.port)), connections=8, connect_timeout=3, command_timeout=1
    )
    await asyncio.gather(*(store.read(lambda tx: tx.execute(sa.text("SELECT pg_sleep(0.1)"))) for _ in range(4)))
    await asyncio.gather(*(store.statement(lambda tx: tx.execute(sa.text("SELECT pg_sleep(0.1)"))) for _ in range(4)))
    proxy.strand()
    with pytest.raises(CommitUnknown):
        await store.statement(messages.accept, [a_message(NOBODY)])
    for _ in range(4):
        await store.statement(messages.accept, [a_message(NOBODY)])
    answers = await asyncio.gather(*(store.read(ask) for _ in range(4)))
    await store.aclose()

    assert answers == [1] * 4


async def test_a_slow_statement_does_not_poison_its_connection(url: str) -> None:
    """A statement that outlasts its time is given up together with its connection; the next one is served at once."""
    store = PostgresqlStore(url, connections=1, command_timeout=0.5)
    first = await store.read(backend)
    with pytest.raises(StoreUnavailable):
        await store.read(lambda tx: tx.execute(sa.text("SELECT pg_sleep(30)")))

    assert await store.read(backend) != first
    await store.aclose()


async def test_a_slow_question_costs_only_its_own_connection(url: str) -> None:
    """While other connections are answered, a question that outlasts its time makes none of them be made anew."""
    store = PostgresqlStore(url, connections=2, command_timeout=0.5)
    first = await store.statement(backend)
    slow = asyncio.create_task(store.read(lambda tx: tx.execute(sa.text("SELECT pg_sleep(30)"))))
    while not slow.done():
        await store.statement(backend)
        await asyncio.sleep(0.01)
    with pytest.raises(StoreUnavailable):
        await slow

    assert await store.statement(backend) == first
    await store.aclose()


async def test_whoever_is_cancelled_is_cancelled(store: PostgresqlStore) -> None:
    """A real cancellation is no error of the database, and leaves the pool whole."""
    tasks = [asyncio.create_task(store.read(lambda tx: tx.execute(sa.text("SELECT pg_sleep(30)")))) for _ in range(4)]
    await asyncio.sleep(0.3)
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 4
    assert await asyncio.gather(*(store.read(ask) for _ in range(4))) == [1] * 4


async def test_sto_1_an_exhausted_pool_is_unavailable(url: str) -> None:
    """Whoever gets no connection in time is told so; nothing was done."""
    store = PostgresqlStore(url, connections=1, connect_timeout=0.3)
    busy = asyncio.create_task(store.read(lambda tx: tx.execute(sa.text("SELECT pg_sleep(1.5)"))))
    await asyncio.sleep(0.2)
    with pytest.raises(StoreUnavailable):
        await store.transaction(messages.accept, [a_message(NOBODY)])
    await busy
    await store.aclose()


@pytest.mark.parametrize("query", ["sslmode=disable", "ssl=disable"])
async def test_the_usual_name_of_the_tls_mode_is_understood(url: str, query: str) -> None:
    """`sslmode` in the URL, as every other program takes it, works too."""
    store = PostgresqlStore(f"{url}?{query}")

    assert await store.read(ask) == 1
    await store.aclose()


Change = Callable[[PostgresqlStore, UUID, UUID], Awaitable[object]]


async def changing_a_credential(store: PostgresqlStore, integration_id: UUID, credential_id: UUID) -> None:
    """Another password for whoever logs in with it."""
    new = NewCredential(name="account", password="new")
    await store.transaction(credentials.put, credential_id, new, VAULT, who="jane", now=NOW)


async def pointing_a_domain(store: PostgresqlStore, integration_id: UUID, credential_id: UUID) -> None:
    """To an integration that is about to go."""
    point = domains.point
    await store.transaction(point, Direction.OUTBOUND, "company.test", integration_id, who="jane", now=NOW)


@pytest.mark.parametrize("change", [changing_a_credential, pointing_a_domain])
async def test_changes_beside_each_other_wait_in_one_order(store: PostgresqlStore, change: Change) -> None:
    """Whoever changes an integration comes to its credential and its domains later: nobody has those and waits for it."""
    new = NewCredential(name="account", password="old")
    credential_id = await store.transaction(credentials.create, new, VAULT, who="jane", now=NOW)
    integration_id = await created(store, credential_id=credential_id)
    await store.transaction(
        domains.create, Direction.OUTBOUND, "company.test", integration_id=integration_id, who="jane", now=NOW
    )

    def delete_slowly(tx: Connection) -> None:
        tx.execute(sa.text("SELECT id FROM integrations FOR UPDATE")).all()
        tx.execute(sa.text("SELECT pg_sleep(1)"))
        # A deadlock would be found only after a second, and end either of the two.
        tx.execute(sa.text("SELECT 1 FROM credentials FOR UPDATE NOWAIT")).all()
        tx.execute(sa.text("SELECT 1 FROM domains FOR UPDATE NOWAIT")).all()

    deleting = asyncio.create_task(store.transaction(delete_slowly))
    await asyncio.sleep(0.3)
    await asyncio.gather(deleting, change(store, integration_id, credential_id))


async def test_two_who_change_a_credential_at_once_both_have_their_way(store: PostgresqlStore) -> None:
    """What one leaves as it is stays as the other one made it."""
    vault, begun = Vault(["a key for tests"]), asyncio.Event()
    new = NewCredential(name="c", username="u", password="p")
    one = await store.transaction(credentials.create, new, vault, who="test", now=NOW)

    def rename(tx: Connection) -> None:
        platform.change_credential(tx, one, CredentialChange(name="d"), vault, who="a", now=NOW)
        begun.set()
        tx.execute(sa.select(sa.func.pg_sleep(0.5)))

    renaming = asyncio.ensure_future(store.transaction(rename))
    await begun.wait()
    change = CredentialChange(username="v")
    await store.transaction(platform.change_credential, one, change, vault, who="b", now=NOW)
    await renaming

    row = await store.read(credentials.get, one)
    assert row is not None
    assert (row.name, row.username) == ("d", "v")


#: Not one of them can be a parameter of its type; each has somebody's words in it.
UNFIT = [
    ("canary \ud800", "text"),
    ("canary\x00", "text"),
    ("canary", "uuid"),
    ("canary", "bigint"),
    ("canary", "timestamptz"),
    ("canary", "jsonb"),
    ({"to": "canary"}, "text"),
    ("canary", "text::int"),
    ("canary", "text::timestamptz"),
    ("canary\n2", "text::uuid"),
]


@pytest.mark.parametrize(("value", "kind"), UNFIT, ids=ascii)
async def test_sec_14_what_the_database_refuses_is_told_without_the_value(
    store: PostgresqlStore, value: object, kind: str
) -> None:
    """An error goes into the log: it says what is wrong, and not with which words of whom."""

    def ask(tx: Connection) -> object:
        return tx.exec_driver_sql("SELECT $1::" + kind, (value,)).scalar()

    with pytest.raises(BadRow) as refused:
        await store.read(ask)

    assert str(refused.value)
    assert "canary" not in str(refused.value)


def accept_and_fail(tx: Connection, message: NewMessage) -> None:
    """Accept, and then have the transaction undone."""
    messages.accept(tx, [message])
    raise BadRow("changed our mind")


async def test_a_direct_statement_belongs_to_its_transaction(store: PostgresqlStore) -> None:
    """What goes to the driver as it is when it stands alone is undone with the transaction that it is part of."""
    undone, kept = a_message(NOBODY), a_message(NOBODY)
    with pytest.raises(BadRow):
        await store.transaction(accept_and_fail, undone)
    await store.statement(messages.accept, [kept])

    assert await store.read(messages.statuses, [undone.id, kept.id]) == {kept.id: Status.QUEUED}
