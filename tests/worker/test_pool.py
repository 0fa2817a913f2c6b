"""Connections are kept as long as they are good for something, and no message pays for one that is not."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from mailroom.integration import Integration, IntendedState, ReportedState
from mailroom.outcome import Blame, Deferred, Rejected, Sent
from tests.smtp_server import HangUp, ScriptedSmtp, Stall, scripted_smtp
from worker.opening import Timeouts
from worker.pool import Pool
from worker.smtp import Connection

WIRE = b"Subject: hello\r\n\r\nText\r\n"
TIMEOUTS = Timeouts(connect=5, command=5, data=5, progress=5, dot=5, reset=5, quit=0.3)


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def server() -> AsyncIterator[ScriptedSmtp]:
    async with scripted_smtp() as server:
        yield server


@pytest.fixture
async def pool(server: ScriptedSmtp, clock: Clock) -> AsyncIterator[Pool]:
    pool = Pool("worker.test", TIMEOUTS, clock=clock)
    yield pool
    await pool.aclose()


def an_integration(server: ScriptedSmtp, number: int = 1, generation: int = 1) -> Integration:
    return Integration(
        id=UUID(int=number),
        name="main",
        account=server.account(),
        from_address="forms@company.com",
        from_name=None,
        default_mailbox=None,
        intended_state=IntendedState.ENABLED,
        reported_state=ReportedState.ACTIVE,
        cause=None,
        since=datetime(2026, 1, 1, tzinfo=UTC),
        generation=generation,
        max_connections=2,
        ehlo_size=None,
        failures=0,
        test_waiting=False,
    )


async def acquired(pool: Pool, integration: Integration) -> Connection:
    connection = await pool.acquire(integration)
    assert isinstance(connection, Connection)
    return connection


async def send_one(pool: Pool, integration: Integration, to: str = "a@example.com") -> object:
    connection = await acquired(pool, integration)
    outcome = await connection.send("forms@company.com", to, WIRE, lambda: True)
    pool.release(connection)
    return outcome


async def test_a_connection_is_used_again(pool: Pool, server: ScriptedSmtp) -> None:
    """Messages that follow each other share a connection, without a word between them."""
    for _ in range(3):
        await send_one(pool, an_integration(server))

    assert (server.connections, len(server.inbox)) == (1, 3)
    assert "RSET" not in server.verbs


async def test_two_at_once_have_two_connections(pool: Pool, server: ScriptedSmtp) -> None:
    """A connection in use is nobody else's."""
    first = await acquired(pool, an_integration(server))
    second = await acquired(pool, an_integration(server))

    assert first is not second
    assert server.connections == 2


async def test_integrations_do_not_share(pool: Pool, server: ScriptedSmtp) -> None:
    """Each integration logs in as itself."""
    await send_one(pool, an_integration(server, 1))
    await send_one(pool, an_integration(server, 2))

    assert server.connections == 2


async def test_a_new_generation_has_new_connections(pool: Pool, server: ScriptedSmtp) -> None:
    """After a reset or a change of configuration nothing is sent over a connection from before."""
    await send_one(pool, an_integration(server, generation=1))
    await send_one(pool, an_integration(server, generation=2))

    assert server.connections == 2


async def test_a_new_password_has_new_connections(pool: Pool, server: ScriptedSmtp) -> None:
    """An account that changed is another account."""
    await send_one(pool, an_integration(server))
    integration = an_integration(server)
    await send_one(pool, replace(integration, account=replace(integration.account, host="localhost")))

    assert server.connections == 2


@pytest.mark.parametrize(("idle", "connections", "resets"), [(4, 1, 0), (6, 1, 1), (31, 2, 0)])
async def test_snd_8_idle_connections_are_asked_and_then_dropped(
    pool: Pool, server: ScriptedSmtp, clock: Clock, idle: float, connections: int, resets: int
) -> None:
    """After 5 s of silence a connection is asked first, after 30 s it is not trusted at all."""
    await send_one(pool, an_integration(server))
    clock.now += idle
    outcome = await send_one(pool, an_integration(server))

    assert isinstance(outcome, Sent)
    assert server.connections == connections
    assert server.verbs.count("RSET") == resets


async def test_snd_8_a_hundred_messages_wear_a_connection_out(pool: Pool, server: ScriptedSmtp) -> None:
    """The hundred and first message has a new connection."""
    for _ in range(101):
        await send_one(pool, an_integration(server))

    assert (server.connections, len(server.inbox)) == (2, 101)


async def test_snd_8_a_connection_lives_five_minutes(pool: Pool, server: ScriptedSmtp, clock: Clock) -> None:
    """However busy it is, a connection is not kept longer than 300 s."""
    for _ in range(62):
        await send_one(pool, an_integration(server))
        clock.now += 5

    assert server.connections == 2


async def test_an_envelope_left_open_is_reset_first(pool: Pool, server: ScriptedSmtp) -> None:
    """A refused recipient of one message is none of the next one's."""
    server.script("RCPT", "550 5.1.1 no such user", address="nobody@")
    refused = await send_one(pool, an_integration(server), to="nobody@example.com")
    outcome = await send_one(pool, an_integration(server))

    assert isinstance(refused, Rejected)
    assert isinstance(outcome, Sent)
    assert server.connections == 1
    assert server.inbox[0].rcpt_to == ("a@example.com",)


@pytest.mark.parametrize(("idle", "noticed_at"), [(1, "MAIL"), (10, "RSET")])
async def test_snd_8_a_server_that_closed_while_idle_costs_no_message(
    pool: Pool, server: ScriptedSmtp, clock: Clock, idle: float, noticed_at: str
) -> None:
    """Whether it is noticed by asking or at MAIL, the message goes out over a new connection."""
    await send_one(pool, an_integration(server))
    server.script(noticed_at, HangUp(), times=1)
    clock.now += idle
    outcome = await send_one(pool, an_integration(server))

    assert isinstance(outcome, Sent)
    assert len(server.inbox) == 2


async def test_a_server_that_cannot_be_reached_is_an_outcome(pool: Pool, server: ScriptedSmtp) -> None:
    """No connection is not an exception but what became of the attempt."""
    server.script("connect", "554 5.7.1 go away")
    outcome = await pool.acquire(an_integration(server))

    assert isinstance(outcome, Deferred)
    assert outcome.blame is Blame.CONNECTION


async def test_a_broken_connection_is_not_kept(pool: Pool, server: ScriptedSmtp) -> None:
    """What broke in use is never handed out again."""
    connection = await acquired(pool, an_integration(server))
    connection.close()
    pool.release(connection)

    assert await acquired(pool, an_integration(server)) is not connection


async def test_a_discarded_connection_is_closed(pool: Pool, server: ScriptedSmtp) -> None:
    """Discarding closes at once, without goodbye."""
    connection = await acquired(pool, an_integration(server))
    pool.discard(connection)

    assert connection.broken
    assert "QUIT" not in server.verbs


async def test_housekeeping_lets_idle_connections_go(server: ScriptedSmtp, clock: Clock) -> None:
    """Connections that nobody asks for are closed by time alone, with a goodbye; young ones stay."""
    pool = Pool("worker.test", TIMEOUTS, clock=clock)
    old, young = await acquired(pool, an_integration(server)), await acquired(pool, an_integration(server))
    pool.release(old)
    clock.now += 20
    pool.release(young)
    clock.now += 11
    pool.close_stale(clock.now)
    kept = await acquired(pool, an_integration(server))
    await pool.aclose()

    assert kept is young
    assert old.broken
    assert server.verbs.count("QUIT") == 1


async def test_a_server_that_does_not_say_goodbye_is_not_waited_for(server: ScriptedSmtp, clock: Clock) -> None:
    """QUIT has its own short limit, and its answer matters to nobody."""
    server.script("QUIT", Stall())
    pool = Pool("worker.test", TIMEOUTS, clock=clock)
    outcome = await send_one(pool, an_integration(server))
    await pool.aclose()

    assert isinstance(outcome, Sent)


async def test_whatever_is_open_is_counted(pool: Pool, server: ScriptedSmtp) -> None:
    """Connections in use, idle and taking leave are there for the server, and so they are for us."""
    first, second = await acquired(pool, an_integration(server)), await acquired(pool, an_integration(server))
    pool.release(first)
    both = pool.count(UUID(int=1))
    pool.trim(UUID(int=1), 1)
    leaving = pool.count(UUID(int=1))
    pool.discard(second)

    assert (both, leaving, pool.count(UUID(int=1)), pool.count(UUID(int=2))) == (2, 2, 1, 0)


async def test_a_pool_gives_up_what_is_idle_first(pool: Pool, server: ScriptedSmtp) -> None:
    """Told to have fewer, it lets idle connections go, the oldest first, and none that is in use."""
    integration = an_integration(server)
    one, two, three = [await acquired(pool, integration) for _ in range(3)]
    pool.release(one)
    pool.release(two)
    pool.trim(integration.id, 2)
    again = await acquired(pool, integration)
    pool.trim(integration.id, 0)

    assert again is two
    assert not three.broken


async def test_a_new_connection_waits_for_one_that_takes_leave(server: ScriptedSmtp, clock: Clock) -> None:
    """Where no more connections are allowed, the one that is just saying goodbye is gone before the next one opens."""
    pool = Pool("worker.test", TIMEOUTS, clock=clock, most=lambda _: 1)
    for _ in range(101):
        await send_one(pool, an_integration(server))
    await pool.aclose()

    assert (server.connections, server.most_at_once) == (2, 1)


async def test_what_was_taken_away_can_be_given_back(pool: Pool, server: ScriptedSmtp) -> None:
    """Who still sends while the pool closes loses the connection, and giving it back then is no mistake."""
    connection = await acquired(pool, an_integration(server))
    await pool.aclose()
    pool.release(connection)

    assert connection.broken
