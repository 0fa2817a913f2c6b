"""Whether a million forms that wait delay an agent's reply."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import aiohttp

from benchmarks.deployment import Deployment, deployment
from benchmarks.scale import rows
from benchmarks.scale.far import far
from benchmarks.scale.measuring import Meter, concluded, pause, percentiles, resident, show
from mailroom.roles import Role
from mailroom.store import clients
from mailroom.store.opening import open_store
from tests import filling

NUMBER = 1_000_000

#: Milliseconds of each reply of the mail server: a message takes it four of them.
DELAY = 100

#: Seconds between two replies of agents, for so many seconds, to so many conversations.
BETWEEN, SECONDS, CONVERSATIONS = 0.2, 60, 50

#: Seconds in which 95 of 100 replies shall be with the mail server.
PROMISED = 2.0

_FORM = {
    "firstName": "Jane", "lastName": "Doe", "fromAddress": "jane@customer.test", "subject": "A question",
    "text": "Where is my parcel?",
}  # fmt: skip


def main(number: int = NUMBER) -> int:
    """Measure and print."""
    with deployment() as made, far(made.sink.port, DELAY) as server:
        made.change_config(f"port = {made.sink.port}", f"port = {server.port}")
        gateway, worker = made.gateway(), made.worker()
        pause(3)
        worker.stop()
        url = made.environment["MAILROOM_DATABASE_URL"]
        integration_id = asyncio.run(filling.integration_named(url, "main"))
        conversations = asyncio.run(submitted(made, CONVERSATIONS))
        begun = time.monotonic()
        asyncio.run(waiting(made, integration_id, number))
        print(f"{number:,} forms wait; made in {time.monotonic() - begun:.0f} s", flush=True)
        worker = made.worker()
        pause(5)
        pids = {"PostgreSQL": made.postgres.pid, "RabbitMQ": made.rabbitmq.pid, "gateway": gateway.popen.pid,
                "worker": worker.popen.pid}  # fmt: skip
        figures = replied(made, url, conversations, pids)
        figures |= {f"MB of the {name}": resident(pids[name]) for name in ("gateway", "worker")}
        figures |= asyncio.run(rows.queries(url, integration_id))
    show(["", f"{number:,} wait"], figures.items())
    slow, lost = figures["accepted to 250: p95 s"], figures["replies not sent"]
    words = f"95 of 100 replies were with the mail server {slow:.2f} s after they were accepted, {lost:.0f} were not"
    return concluded("backlog", figures, good=slow <= PROMISED and not lost, words=words)


async def waiting(made: Deployment, integration_id: UUID, number: int) -> None:
    """Let so many forms wait, with their tickets."""
    url = made.environment["MAILROOM_DATABASE_URL"]
    ids = await filling.add_waiting(url, integration_id, number)
    await filling.add_tickets(url, made.environment["MAILROOM_QUEUE_URL"], integration_id, ids)
    await filling.tidied(url, filling.EVER)


async def submitted(made: Deployment, number: int) -> list[str]:
    """The ids of so many forms, which are the conversations that agents answer in."""
    place = f"http://127.0.0.1:{made.listen_port}/genesys/2/email/support"
    async with aiohttp.ClientSession() as session:
        ids = []
        for _ in range(number):
            async with session.post(place, data=_FORM) as answer:
                ids.append(str((await answer.json())["interactionId"]))
        return ids


# --- the agents -------------------------------------------------------------------------------------------------------


def replied(made: Deployment, url: str, conversations: Sequence[str], pids: Mapping[str, int]) -> dict[str, float]:
    """Have agents reply, and tell how long that took whom."""
    meter, delivered = Meter(pids), made.sink.count()
    answers = asyncio.run(_reply(made, conversations))
    took, spent, busy = meter.seconds, meter.spent(), meter.busy()
    number = made.sink.count() - delivered
    pause(5)
    ended = asyncio.run(filling.asked(url, _ENDED))
    good = [one for status, one in answers if status == 200]
    figures: dict[str, float] = {"replies": len(answers), "replies not sent": len(answers) - len(ended)}
    figures |= {f"the request: {name} s": value for name, value in percentiles(good).items()}
    figures |= {f"accepted to 250: {name} s": value for name, value in
                percentiles([float(row["took"]) for row in ended]).items()}  # fmt: skip
    figures |= {"delivered a second": number / took, "part of the cores busy": busy}
    return figures | {f"{name}: part of a core": seconds / took for name, seconds in spent.items()}


#: One reply has one recipient, so it is one message.
_ENDED = """
    SELECT extract(epoch FROM ended_at - accepted_at) AS took FROM messages WHERE kind = 'acd' AND status = 'sent'
"""


async def _reply(made: Deployment, conversations: Sequence[str]) -> list[tuple[int, float]]:
    """Reply again and again, whether or not the last one was answered; status and seconds of each."""
    base = f"http://127.0.0.1:{made.listen_port}"
    async with aiohttp.ClientSession(base, headers=await _authorized(made, base)) as session:

        async def reply(number: int) -> tuple[int, float]:
            body: dict[str, Any] = {"to": [{"email": "jane@customer.test"}], "textBody": f"It is on its way: {number}."}
            begun = time.monotonic()
            place = f"/api/v2/conversations/emails/{conversations[number % len(conversations)]}/messages"
            async with session.post(place, json=body) as answer:
                await answer.read()
                return answer.status, time.monotonic() - begun

        replies = []
        for number in range(int(SECONDS / BETWEEN)):
            replies.append(asyncio.create_task(reply(number)))
            await asyncio.sleep(BETWEEN)
        return await asyncio.gather(*replies)


async def _authorized(made: Deployment, base: str) -> dict[str, str]:
    store = open_store(made.environment["MAILROOM_DATABASE_URL"])
    try:
        client = await store.transaction(clients.create, "agents", Role.AGENT, who="benchmark", now=datetime.now(UTC))
    finally:
        await store.aclose()
    headers = {"Authorization": aiohttp.encode_basic_auth(str(client.id), client.secret)}
    async with (
        aiohttp.ClientSession(base, headers=headers) as session,
        session.post("/oauth/token", data={"grant_type": "client_credentials"}) as answer,
    ):
        return {"Authorization": f"Bearer {(await answer.json())['access_token']}"}
