"""How much faster more workers deliver, to a mail server that is far away."""

import asyncio
from collections.abc import Sequence

from benchmarks.deployment import Deployment, Process, deployment
from benchmarks.scale.far import far
from benchmarks.scale.measuring import Meter, concluded, pause, show
from tests import filling

NUMBERS = (1, 2, 4, 8)

#: Connections of each worker, milliseconds of each reply of the mail server, and messages that wait at the beginning.
SEATS, DELAY, BACKLOG = 8, 50, 20_000

#: Seconds until the workers have shared the connections and opened them, and of each measurement.
WARM, SECONDS = 8, 15

#: How many times as fast as one worker eight are to be, unless the machine is full: this part of its cores.
TIMES, FULL = 5.0, 0.9


def main(numbers: Sequence[int] = NUMBERS) -> int:
    """Measure and print."""
    with deployment() as made, far(made.sink.port, DELAY) as server:
        made.change_config(f"port = {made.sink.port}", f"port = {server.port}")
        _tested(made)
        asyncio.run(_filled(made))
        found = {number: measured(made, number, server.pid) for number in numbers}
    names = list(found[numbers[0]])
    show(["workers", *map(str, numbers)], [[name, *(found[number][name] for number in numbers)] for name in names])
    return _concluded(found)


def _tested(made: Deployment) -> None:
    """Nobody runs, and the integration is ACTIVE."""
    worker = made.worker()
    pause(3)
    worker.stop()


async def _filled(made: Deployment) -> None:
    url = made.environment["MAILROOM_DATABASE_URL"]
    integration_id = await filling.integration_named(url, "main")
    ids = await filling.add_waiting(url, integration_id, BACKLOG)
    await filling.add_tickets(url, made.environment["MAILROOM_QUEUE_URL"], integration_id, ids)
    await filling.tidied(url, filling.EVER)


def measured(made: Deployment, number: int, server: int) -> dict[str, float]:
    """What so many workers deliver in a second, and what a message costs whom."""
    url = made.environment["MAILROOM_DATABASE_URL"]
    asyncio.run(filling.asked(url, "UPDATE integrations SET max_connections = $1", number * SEATS))
    workers = [made.worker() for _ in range(number)]
    pause(WARM)
    pids = {"PostgreSQL": made.postgres.pid, "RabbitMQ": made.rabbitmq.pid, "sink": made.sink.pid, "proxy": server}
    meter, delivered = Meter(pids | {str(one.popen.pid): one.popen.pid for one in workers}), made.sink.count()
    pause(SECONDS)
    took, spent, busy, sent = meter.seconds, meter.spent(), meter.busy(), made.sink.count() - delivered
    _stopped(workers)
    by = {name: spent[name] for name in pids} | {"workers": sum(spent[str(one.popen.pid)] for one in workers)}
    figures = {"delivered a second": sent / took, "of them by each worker": sent / took / number}
    figures |= {"part of the cores busy": busy}
    return figures | {f"ms of the {name} a message": seconds / max(sent, 1) * 1000 for name, seconds in by.items()}


def _stopped(workers: Sequence[Process]) -> None:
    for worker in workers:
        worker.popen.terminate()
    for worker in workers:
        worker.popen.wait()


def _concluded(found: dict[int, dict[str, float]]) -> int:
    """More workers are as much faster as is promised, up to where the machine is full."""
    fewest = min(found)
    roomy = [number for number in found if found[number]["part of the cores busy"] < FULL] or [fewest]
    most = max(roomy)
    rates = {number: found[number]["delivered a second"] for number in (fewest, most)}
    times, promised = rates[most] / rates[fewest], most / fewest * TIMES / 8
    words = f"{most} workers deliver {times:.1f} times as much as {fewest}"
    full = "" if most == max(found) else ", and with more of them the machine is full"
    return concluded("workers", found, good=times >= promised, words=words + full)
