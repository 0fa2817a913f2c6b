"""Journeys through faults: a broker, a database or an answer that is not there. Answered 0 arrives, answered 1 never does."""

import asyncio
from dataclasses import replace

from mailroom.message import Status
from tests.fault_proxy import Mode
from tests.journeys.office import Office, a_row, proxied, standing_still, unfinished
from tests.services import Postgres, RabbitMQ, Sink
from tests.smtp_server import Stall, scripted_smtp

#: What only the statement that commits a message contains.
ACCEPT = b"INSERT INTO contents"


async def test_dlv_1_the_broker_is_away(office: Office, rabbitmq: RabbitMQ, smtp_sink: Sink) -> None:
    """While the broker is away forms are still accepted, and they arrive, each once, when it is back."""
    smtp_sink.start()
    await office.add_integration(smtp_sink.port)
    async with office.gateway() as gateway, office.worker():
        await office.active()
        first = await office.accepted()
        await office.becomes(first, Status.SENT)
        await asyncio.to_thread(rabbitmq.stop_app)
        ids = [await office.accepted() for _ in range(20)]
        assert gateway.unready() is None
        await asyncio.to_thread(rabbitmq.start_app)
        for one in ids:
            await office.becomes(one, Status.SENT, seconds=90)

    assert smtp_sink.count() == 21


async def test_sto_1_the_database_is_away(office: Office, postgres: Postgres, smtp_sink: Sink) -> None:
    """Without its database a gateway answers 1 and says it is not ready; it accepts again once the database is back."""
    smtp_sink.start()
    await office.add_integration(smtp_sink.port)
    async with office.gateway() as gateway, office.worker():
        await office.active()
        await asyncio.to_thread(postgres.stop)
        answers = [await office.submit() for _ in range(3)]
        await asyncio.sleep(1.2)
        unready = gateway.unready()
        answers.append(await office.submit())
        await asyncio.to_thread(postgres.start)
        await office.active()
        message_id = await office.accepted()
        await office.becomes(message_id, Status.SENT)

    assert answers == [{"statusCode": 1}] * 4
    assert unready == "the database does not answer"
    assert smtp_sink.count() == 1


async def test_dlv_2_the_answer_to_a_commit_is_lost(office: Office, postgres: Postgres, smtp_sink: Sink) -> None:
    """A commit whose answer is lost is found out by its tombstone: it was done, so the answer is 0 and it arrives once."""
    smtp_sink.start()
    await office.add_integration(smtp_sink.port)
    async with proxied(office, postgres) as (far, proxy), far.gateway(), office.worker():
        await office.active()
        far_away = await far.accepted()
        await office.becomes(far_away, Status.SENT)
        trap = proxy.lose_answer(b"INSERT 0 1\x00")
        message_id = far.id_of(await far.submit())
        await trap.wait()
        await office.becomes(message_id, Status.SENT)

    assert smtp_sink.count() == 2


async def test_dlv_2_a_commit_is_lost_on_its_way(office: Office, postgres: Postgres, smtp_sink: Sink) -> None:
    """A commit that never reached the database is answered 1, and its tombstone keeps it from ever being delivered."""
    smtp_sink.start()
    await office.add_integration(smtp_sink.port)
    async with proxied(office, postgres) as (far, proxy), far.gateway(), office.worker():
        await office.active()
        trap = proxy.lose_request(ACCEPT)
        answer = await far.submit()
        await trap.wait()
        message_id = await far.accepted()
        await office.becomes(message_id, Status.SENT)

    assert answer == {"statusCode": 1}
    assert smtp_sink.count() == 1


async def test_dlv_2_a_tombstone_is_owed(office: Office, postgres: Postgres, smtp_sink: Sink) -> None:
    """When the database stays away the answer is 1; the tombstone is written first when it is back, and nothing arrives."""
    smtp_sink.start()
    await office.add_integration(smtp_sink.port)
    async with proxied(office, postgres) as (far, proxy), far.gateway() as gateway, office.worker():
        await office.active()
        proxy.lose_request(ACCEPT, then=Mode.HOLE)
        answer = await far.submit()
        owed = gateway.intake.owed
        await proxy.set_mode(Mode.OK)
        async with asyncio.timeout(30):
            while gateway.intake.owed:
                await asyncio.sleep(0.1)
        await office.active()
        message_id = await far.accepted()
        await office.becomes(message_id, Status.SENT)

    assert answer == {"statusCode": 1}
    assert owed == 1
    assert gateway.intake.contradicted == 0
    assert smtp_sink.count() == 1


async def test_dlv_13_a_silent_server_stalls_nobody_elses_mail(office: Office) -> None:
    """While one provider keeps every connection to it waiting, mail through another goes out, at its first try."""
    async with scripted_smtp() as silent, scripted_smtp() as well:
        await office.add_integration(silent.port, "silent")
        await office.add_integration(well.port)
        async with office.worker():
            for name in ("silent", "main"):
                await office.active(name)
            silent.script("MAIL", Stall())
            waiting, going = [
                [a_row((await office.integration(name)).id) for _ in range(60)] for name in ("silent", "main")
            ]
            await office.queued(waiting)
            await silent.reached("MAIL")
            await office.queued(going)
            standings = [await office.becomes(row.id, Status.SENT) for row in going]
            still = [(await office.standing(row.id)).status for row in waiting]
            silent.forget("MAIL")
            silent.hang_up()

    assert [standing.attempts for standing in standings] == [1] * 60
    assert set(still) <= {Status.SENDING, Status.QUEUED}


async def test_a_poisoned_row_fails_alone(office: Office, smtp_sink: Sink) -> None:
    """Of a hundred submissions in one group one is refused by the database; it alone is answered 1."""
    smtp_sink.start()
    await office.add_integration(smtp_sink.port)
    async with office.gateway() as gateway, office.worker():
        await office.active()
        integration = await office.integration()
        good = [a_row(integration.id) for _ in range(100)]
        poisoned = replace(good[50], subject="a NUL \x00 that no text of PostgreSQL may hold")
        rows = [*good[:50], poisoned, *good[51:]]
        results = await asyncio.gather(*(gateway.intake.accept(row) for row in rows), return_exceptions=True)
        for row in (row for row in rows if row is not poisoned):
            await office.becomes(row.id, Status.SENT)

    assert [index for index, result in enumerate(results) if result is not None] == [50]
    assert smtp_sink.count() == 99


async def test_dlv_2_a_commit_outlives_its_request(office: Office, postgres: Postgres, smtp_sink: Sink) -> None:
    """A database that stands still for longer than a request may take, and then commits it, delivers nothing answered 1."""
    smtp_sink.start()
    await office.add_integration(smtp_sink.port)
    async with office.gateway() as gateway, office.worker():
        await office.active()
        async with standing_still(office.database_url):
            answers = await asyncio.gather(*(office.submit() for _ in range(300)))
        async with asyncio.timeout(30):
            while gateway.intake.owed:
                await asyncio.sleep(0.1)
        message_id = await office.accepted()
        await office.becomes(message_id, Status.SENT)

    assert answers == [{"statusCode": 1}] * 300
    assert gateway.intake.contradicted == 0
    assert await office.store.read(unfinished) == 0
    assert smtp_sink.count() == 1
