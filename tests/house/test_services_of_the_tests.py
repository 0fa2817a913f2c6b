"""The services that tests lean on: if these fail, look here before anywhere else."""

import asyncio
import contextlib
import smtplib
from collections.abc import AsyncIterator

import aio_pika
import asyncpg
import pytest

from tests.fault_proxy import FaultProxy, Mode
from tests.services import LOOPBACK, Postgres, RabbitMQ, Sink


async def _two_rows(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE numbers (number int); INSERT INTO numbers VALUES (1), (2)")
    await connection.close()


async def _count(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM numbers"))
    finally:
        await connection.close()


async def test_each_database_is_a_fresh_copy(postgres: Postgres) -> None:
    """A test's database holds what its preparation made, and nothing of another test."""
    first = await asyncio.to_thread(postgres.new_database, _two_rows)
    connection = await asyncpg.connect(first)
    await connection.execute("INSERT INTO numbers VALUES (3)")
    await connection.close()

    assert await _count(await asyncio.to_thread(postgres.new_database, _two_rows)) == 2


async def test_a_database_survives_a_crash(postgres: Postgres) -> None:
    """What was committed before a crash of the server is there after the next start."""
    url = postgres.new_database(_two_rows)
    postgres.crash()
    assert not postgres.running
    postgres.start()

    assert await _count(url) == 2


async def test_each_virtual_host_has_its_own_queues(rabbitmq: RabbitMQ) -> None:
    """A test sees its own queues, with what they hold."""
    url = rabbitmq.new_vhost()
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("letters", durable=True, arguments={"x-queue-type": "quorum"})
        await channel.default_exchange.publish(aio_pika.Message(b"one"), queue.name)

    assert "letters" in rabbitmq.list_queues(url)
    assert rabbitmq.list_queues(rabbitmq.new_vhost()) == {}


async def test_the_broker_stops_and_comes_back(rabbitmq: RabbitMQ) -> None:
    """A stopped broker refuses connections until it is started, with its queues."""
    url = rabbitmq.new_vhost()
    async with await aio_pika.connect(url) as connection:
        await (await connection.channel()).declare_queue("letters", durable=True)
    rabbitmq.stop_app()
    with pytest.raises(ConnectionError):
        await aio_pika.connect(url)
    rabbitmq.start_app()

    assert list(rabbitmq.list_queues(url)) == ["letters"]


async def test_the_broker_survives_being_killed(rabbitmq: RabbitMQ) -> None:
    """A killed broker comes back with its durable queues."""
    url = rabbitmq.new_vhost()
    async with await aio_pika.connect(url) as connection:
        await (await connection.channel()).declare_queue("letters", durable=True)
        rabbitmq.restart()

    assert list(rabbitmq.list_queues(url)) == ["letters"]


async def test_an_operator_closes_every_connection(rabbitmq: RabbitMQ) -> None:
    """A client hears that its connection was closed."""
    connection = await aio_pika.connect(rabbitmq.new_vhost())
    closed = asyncio.Event()
    connection.close_callbacks.add(lambda *_: closed.set())
    await asyncio.to_thread(rabbitmq.close_all_connections)

    await asyncio.wait_for(closed.wait(), 30)


def test_the_sink_keeps_envelopes(smtp_sink: Sink) -> None:
    """Every mail taken is there with its sender and its recipients."""
    smtp_sink.start()
    with smtplib.SMTP(LOOPBACK, smtp_sink.port) as client:
        client.sendmail("from@company.test", ["a@person.test", "b@person.test"], "Subject: Hello\r\n\r\nText\r\n")

    [delivery] = smtp_sink.deliveries()
    assert (delivery.sender, delivery.recipients) == ("from@company.test", ("a@person.test", "b@person.test"))
    assert delivery.message == "Subject: Hello\n\nText\n"
    assert smtp_sink.count() == 1


def test_the_sink_fails_as_told(smtp_sink: Sink) -> None:
    """The sink refuses the command that it was told to refuse, and works again after a start without it."""
    smtp_sink.start("-f", "RCPT")
    with smtplib.SMTP(LOOPBACK, smtp_sink.port) as client, pytest.raises(smtplib.SMTPRecipientsRefused):
        client.sendmail("from@company.test", ["a@person.test"], "Subject: Hello\r\n\r\n")
    smtp_sink.start_counting()
    with smtplib.SMTP(LOOPBACK, smtp_sink.port) as client:
        client.sendmail("from@company.test", ["a@person.test"], "Subject: Hello\r\n\r\n")

    assert smtp_sink.count() == 1


async def test_a_lost_commit_is_a_commit(postgres: Postgres) -> None:
    """The proxy can lose the answer to a commit: the client is cut off, and the row is there."""
    url = postgres.new_database(_two_rows)
    async with FaultProxy(postgres.port) as proxy:
        connection = await asyncpg.connect(postgres.url(url.rpartition("/")[2], port=proxy.port))
        trap = proxy.lose_answer(b"COMMIT\0", then=Mode.REFUSE)
        with pytest.raises((ConnectionError, asyncpg.PostgresConnectionError)):
            await connection.execute("BEGIN; INSERT INTO numbers VALUES (3); COMMIT")
        await trap.wait()
        with pytest.raises(ConnectionError):
            await asyncpg.connect(postgres.url(url.rpartition("/")[2], port=proxy.port))

    assert await _count(url) == 3


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """A server that answers what it hears; its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1024):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(answer, LOOPBACK, 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_a_hole_swallows_until_it_closes(echo: int) -> None:
    """In a hole nothing comes through; what was sent arrives when it closes."""
    async with FaultProxy(echo) as proxy:
        reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
        await proxy.set_mode(Mode.HOLE)
        writer.write(b"hello")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(5), 0.2)
        await proxy.set_mode(Mode.OK)

        assert await reader.readexactly(5) == b"hello"
        writer.close()


async def test_a_cut_ends_open_connections(echo: int) -> None:
    """A cut resets what is open; a new connection works."""
    async with FaultProxy(echo) as proxy:
        reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        proxy.cut()
        with pytest.raises(ConnectionError):
            assert await reader.read(1) == b"x"
        reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
        writer.write(b"again")

        assert await reader.readexactly(5) == b"again"
        writer.close()


async def test_an_answer_is_lost_after_so_many_bytes(echo: int) -> None:
    """The client gets the bytes up to the limit, then nothing but the end."""
    async with FaultProxy(echo) as proxy:
        trap = proxy.lose_answer_after(3)
        reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
        writer.write(b"abc")
        assert await reader.readexactly(3) == b"abc"
        writer.write(b"d")
        with pytest.raises(ConnectionError):
            assert await reader.readexactly(1) == b"x"
        await trap.wait()
