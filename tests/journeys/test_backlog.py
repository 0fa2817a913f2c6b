"""Very much that waits delays nobody who is more urgent, and a server that never answers delays nobody else's mail."""

import asyncio
import socket
from typing import Any

import sqlalchemy as sa

from mailroom.integration import ReportedState
from mailroom.message import Status
from mailroom.store import schema
from tests import filling
from tests.gateway.cloud.caller import caller_of
from tests.journeys.office import Office, a_row
from tests.smtp_server import Say, ScriptedSmtp, scripted_smtp

BACKLOG = 20_000

#: Seconds of the mail server for each message, and how many it takes at once: so it takes twenty in a second.
PACE, AT_ONCE = 0.4, 8

CUSTOMER = "jane@customer.test"

#: What it takes in two seconds.
OVERTAKEN = int(2 / PACE) * AT_ONCE


async def forms_before(smtp: ScriptedSmtp, at: int) -> int:
    """How many forms the server took, from this one on, before it took an agent's letter."""
    async with asyncio.timeout(30):
        while not any(one.rcpt_to == (CUSTOMER,) for one in smtp.inbox[at:]):
            await asyncio.sleep(0.02)
    return [one.rcpt_to for one in smtp.inbox[at:]].index((CUSTOMER,))


async def test_a_backlog_of_forms_does_not_delay_agents(office: Office) -> None:
    """Twenty thousand forms wait at a slow server: of them it takes no more before an agent's letter than in 2 seconds."""
    async with scripted_smtp() as smtp, office.everything(smtp.port):
        form, caller = await office.accepted(), await caller_of(office)
        await office.becomes(form, Status.SENT)
        smtp.script("dot", Say("250 2.0.0 taken", seconds=PACE))
        integration_id = (await office.integration()).id
        waiting = await filling.add_waiting(office.database_url, integration_id, BACKLOG)
        await filling.add_tickets(office.database_url, office.queue_url, integration_id, waiting)
        overtaken = []
        for number in range(5):
            before = len(smtp.inbox)
            letter: dict[str, Any] = {"to": [{"email": CUSTOMER}], "textBody": f"It is on its way: {number}."}
            sent = await caller.call("POST", f"/conversations/emails/{form}/messages", letter)
            assert sent.status == 200
            overtaken.append(await forms_before(smtp, before))

    assert max(overtaken) <= OVERTAKEN
    assert len(smtp.inbox) < BACKLOG / 2


#: How many integrations there are, and messages for each; more for the one whose server does not answer.
INTEGRATIONS, EACH, UNANSWERED = 20, 5, 200


async def test_a_server_that_never_answers_delays_nobody_else(office: Office) -> None:
    """Two hundred messages for a server that takes connections and says nothing: what is for the others all goes out."""
    async with scripted_smtp() as smtp:
        with socket.create_server(("127.0.0.1", 0), backlog=128) as mute:
            names = [f"integration {number}" for number in range(INTEGRATIONS)]
            await office.add_integration(mute.getsockname()[1], name="mute")
            for name in names:
                await office.add_integration(smtp.port, name=name)
            await office.store.transaction(everything_active)
            unanswered = [a_row((await office.integration("mute")).id) for _ in range(UNANSWERED)]
            await office.queued(unanswered)
            rows = [a_row((await office.integration(name)).id) for name in names for _ in range(EACH)]
            for at in range(0, len(rows), EACH):
                await office.queued(rows[at : at + EACH])
            async with office.worker():
                for row in rows:
                    await office.becomes(row.id, Status.SENT)
                waiting = {(await office.standing(row.id)).status for row in unanswered}
                mute.close()

    assert len(smtp.inbox) == len(rows)
    assert waiting <= {Status.QUEUED, Status.SENDING}


def everything_active(tx: sa.Connection) -> None:
    """Every integration, without a live test."""
    tx.execute(sa.delete(schema.connection_tests))
    tx.execute(sa.update(schema.integrations).values(reported_state=ReportedState.ACTIVE))
