"""Very much that waits delays nobody who is more urgent."""

import asyncio
from typing import Any

from mailroom.message import Status
from tests import filling
from tests.gateway.cloud.caller import caller_of
from tests.journeys.office import Office
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
