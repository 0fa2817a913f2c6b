"""Whether one mail server of two hundred that does not answer delays the mail of the others."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import aiohttp

from benchmarks.deployment import Deployment, Process, deployment
from benchmarks.scale.measuring import Meter, concluded, pause, percentiles, resident, show
from tests import filling

NUMBER = 200

#: Forms a second, for so many seconds; one in ten is for the integration whose server will not answer.
RATE, SECONDS, ONE_IN = 100, 20, 10

#: Seconds in which all of them are to pass their live tests.
TESTED_SECONDS = 120

#: By how much longer may one in a hundred take beside it, as a factor and in seconds. Of two turns without it the longer
#: counts and of two with it the shorter: others on this machine make either longer, and nothing makes it shorter.
LONGER, ROOM = 1.3, 0.03

#: Seconds after which nothing hangs any more that was begun while it did not answer.
FORGOTTEN_SECONDS = 35

_ONE = """
[integrations.i{number}]
host = "127.0.0.1"
port = {port}
security = "none"
from = "forms{number}@company.test"

[email.s{number}]
integration = "i{number}"
"""
_SMTP = """
[smtp]
private_relays = ["127.0.0.0/8:*"]
"""

_FORM = {
    "firstName": "Jane", "lastName": "Doe", "fromAddress": "jane@customer.test", "subject": "A question",
    "text": "Where is my parcel?",
}  # fmt: skip


def main(number: int = NUMBER) -> int:
    """Measure and print."""
    with deployment() as made:
        added = "".join(_ONE.format(number=one, port=made.sink.port) for one in range(number))
        made.change_config("[integrations.main]", f"{_SMTP}{added}[integrations.main]")
        made.change_config("rate_limit = false", 'rate_limit = false\nwhen_inactive = "hold"')
        gateway, worker = made.gateway(), made.worker()
        _tested(made, number)
        turn(made, gateway, worker, number)
        found = {}
        for again in ("", ", again"):
            found[f"all answer{again}"] = turn(made, gateway, worker, number)
            with black_hole() as port:
                _move(made, port)
                found[f"one does not{again}"] = turn(made, gateway, worker, number)
                _move(made, made.sink.port)
            if not again:
                pause(FORGOTTEN_SECONDS)
    names = list(found["all answer"])
    show(["", *found], [[name, *(one[name] for one in found.values())] for name in names])
    p99 = [one["accepted to sent: p99 s"] for one in found.values()]
    without, beside = max(p99[0::2]), min(p99[1::2])
    words = f"one in a hundred of the others takes {beside:.3f} s beside it, {without:.3f} s without"
    return concluded("integrations", found, good=beside <= without * LONGER + ROOM, words=words)


def _move(made: Deployment, port: int) -> None:
    """The first of the integrations leaves through this port from now on."""
    asyncio.run(filling.asked(_url(made), "UPDATE integrations SET port = $1 WHERE name = 'i0'", port))
    pause(3)


def _url(made: Deployment) -> str:
    return made.environment["MAILROOM_DATABASE_URL"]


def _tested(made: Deployment, number: int) -> None:
    for _ in range(TESTED_SECONDS):
        pause(1)
        sql = "SELECT count(*) FROM integrations WHERE reported_state = 'ACTIVE'"
        if asyncio.run(filling.asked(_url(made), sql))[0][0] > number:
            return


@contextmanager
def black_hole() -> Iterator[int]:
    """A port where connections are made and nobody ever says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield listener.getsockname()[1]


def turn(made: Deployment, gateway: Process, worker: Process, number: int) -> dict[str, float]:
    """Mail for all of them; how long that of the others took, and what it cost."""
    meter = Meter({"gateway": gateway.popen.pid, "worker": worker.popen.pid, "PostgreSQL": made.postgres.pid})
    figures_before, transactions = [gateway.figures(), worker.figures()], _transactions(made)
    begun, delivered = datetime.now(UTC), made.sink.count()
    accepted = asyncio.run(_submit(made.listen_port, number))
    pause(2)
    spent, sent = meter.spent(), made.sink.count() - delivered
    figures_after, transactions = [gateway.figures(), worker.figures()], _transactions(made) - transactions
    took = [float(row["took"]) for row in asyncio.run(filling.asked(_url(made), _TOOK, begun))]
    figures: dict[str, float] = {"accepted": accepted, "sent of the others": len(took)}
    figures |= {f"accepted to sent: {name} s": value for name, value in percentiles(took).items()}
    for at, name, title in (
        (0, "mailroom_accept_statements_total", "accepts"), (0, "mailroom_tickets_published_total", "tickets"),
        (1, "mailroom_claim_statements_total", "claims"), (1, "mailroom_settle_statements_total", "settles"),
    ):  # fmt: skip
        figures[f"{title} per 1,000"] = (figures_after[at][name] - figures_before[at][name]) / accepted * 1000
    figures["transactions a message"] = transactions / accepted
    figures |= {f"ms of the {name} a message": seconds / max(sent, 1) * 1000 for name, seconds in spent.items()}
    return figures | {"MB of the gateway": resident(gateway.popen.pid), "MB of the worker": resident(worker.popen.pid)}


_TOOK = """
    SELECT extract(epoch FROM ended_at - accepted_at) AS took FROM messages AS m
    JOIN integrations AS i ON i.id = m.integration_id
    WHERE m.accepted_at >= $1 AND m.status = 'sent' AND i.name <> 'i0'
"""


def _transactions(made: Deployment) -> int:
    """All that the database has committed, whoever asked for it; it tells so a second late."""
    pause(1)
    sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
    return int(asyncio.run(filling.asked(_url(made), sql))[0][0])


async def _submit(port: int, number: int) -> int:
    """Forms for one service after the other at a steady rate; how many were accepted."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def submit(service: int) -> bool:
            async with session.post(f"/genesys/2/email/s{service}", data=_FORM) as answer:
                return bool((await answer.json())["statusCode"] == 0)

        loop, tasks = asyncio.get_running_loop(), []
        begun = loop.time()
        for turn_of in range(RATE * SECONDS):
            service = 0 if turn_of % ONE_IN == 0 else 1 + turn_of % (number - 1)
            tasks.append(loop.create_task(submit(service)))
            await asyncio.sleep(max(0.0, begun + (turn_of + 1) / RATE - loop.time()))
        return sum(await asyncio.gather(*tasks))
