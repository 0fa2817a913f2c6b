"""The same on a cluster of three brokers, of which one at a time is gone."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator

from tests.faults.clients import Clients
from tests.faults.faults import Fault, Inflicting, at_smtp, signalled_at
from tests.faults.system import System
from tests.services import LOOPBACK, RabbitMQ


@contextlib.contextmanager
def three_nodes() -> Iterator[list[RabbitMQ]]:
    """One cluster; ended on leaving."""
    first = RabbitMQ()
    nodes = [first]
    try:
        first.start()
        for _ in range(2):
            node = RabbitMQ(beside=first)
            nodes.append(node)
            node.start()
            node.join(first)
        yield nodes
    finally:
        # The first one has the epmd of all of them.
        for node in reversed(nodes):
            node.close()


def url_of(nodes: list[RabbitMQ]) -> str:
    """All three hosts, and a virtual host of its own."""
    vhost = nodes[0].new_vhost().rpartition("/")[2]
    hosts = ",".join(f"{LOOPBACK}:{node.port}" for node in nodes)
    return f"amqp://guest:guest@{hosts}/{vhost}"


def killed(node: RabbitMQ) -> Callable[[System, Clients], Inflicting]:
    """One node is gone at once, and comes back."""

    @contextlib.asynccontextmanager
    async def inflict(_: System, __: Clients) -> AsyncIterator[None]:
        await asyncio.to_thread(node.kill)
        try:
            yield
        finally:
            await asyncio.to_thread(node.start)

    return inflict


def every(nodes: list[RabbitMQ]) -> list[Fault[System]]:
    """Each node in turn, and a worker."""
    return [
        *(Fault[System](f"node {number} of 3 killed", killed(node), 10) for number, node in enumerate(nodes, 1)),
        Fault("worker SIGKILL before MAIL", signalled_at(at_smtp("MAIL"), "worker", signal.SIGKILL), 1),
    ]
