"""The pages of form services: what each option is and why, and a form that is submitted for real."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import quote
from uuid import UUID

import pytest

from mailroom.message import Status
from mailroom.roles import Role
from tests.gateway.admin.visitor import Entrance, Visitor, entrance_of
from tests.journeys.office import FORM, Office
from tests.services import free_port
from tests.smtp_server import scripted_smtp

KEY = "a key that no page may show"


@asynccontextmanager
async def at_work(office: Office, port: int = 2525) -> AsyncIterator[Entrance]:
    """Pages that know where their own gateway takes forms, with a service that asks for a key."""
    await office.add_integration(port)
    keyed = replace(office.settings.email, api_keys=(KEY,), mailbox="billing@company.test")
    office.settings = replace(office.settings, services={"billing": keyed})
    listen = f"127.0.0.1:{free_port()}"
    async with office.gateway(listen=listen) as gateway, entrance_of(gateway, office.store) as entrance:
        yield entrance


async def test_a_service_tells_its_options(office: Office) -> None:
    """Each with its value and where that comes from; of keys only how many there are."""
    async with at_work(office) as entrance, entrance.person(Role.VIEWER) as viewer:
        listed, seen = await viewer.get("/forms"), await viewer.get("/forms/billing")

    assert "billing@company.test" in listed.words
    assert "billing@company.test" in seen.words
    assert KEY not in listed.text + seen.text
    assert "Your role may not submit it." in seen.words


@pytest.mark.parametrize("service", ["support", "billing"])
async def test_a_form_is_submitted_for_real(office: Office, service: str) -> None:
    """It is accepted as from anybody, with the service's own key, and arrives."""
    async with scripted_smtp() as smtp, at_work(office, smtp.port) as entrance, office.worker():
        await office.active()
        async with entrance.person(Role.OPERATOR) as operator:
            seen = await operator.post(f"/forms/{service}", FORM | {"subject": "tried <b>here</b>"})
            assert "Accepted." in seen.words
            message_id = seen.text.split('<a href="/messages/')[1][:36]
            page = await operator.get(f"/messages/{message_id}")
        await office.becomes(UUID(message_id), Status.SENT)

    assert page.status == 200
    assert len(smtp.inbox) == 1
    assert KEY not in seen.text


async def test_what_the_form_is_told_is_shown(office: Office) -> None:
    """A submission that can never succeed is answered as clients are; what was typed stays, and is text."""
    async with at_work(office) as entrance, entrance.person() as admin:
        evil = FORM | {"fromAddress": "<script>alert(1)</script>", "subject": "\"'><img src=x>"}
        seen = await admin.post("/forms/support", evil)

    assert seen.status == 200
    assert "It answered HTTP 400." in seen.words
    assert "<script>alert" not in seen.text
    assert "<img" not in seen.text
    assert "&lt;script&gt;alert(1)" in seen.text


async def test_a_gateway_that_does_not_answer_itself_is_told(office: Office, admin: Visitor) -> None:
    """The page says so, and does not fail."""
    office.settings = replace(office.settings, listen="127.0.0.1:1")
    async with (
        office.gateway() as gateway,
        entrance_of(gateway, office.store) as entrance,
        entrance.browser() as visitor,
    ):
        await visitor.sign_in("the admin")
        seen = await visitor.post("/forms/support", FORM)

    assert seen.status == 200
    assert "This gateway did not answer itself." in seen.words


@pytest.mark.parametrize("service", ["no", "a/b", "<script>", "\u202e", "*", "%00"])
async def test_there_is_no_such_service(office: Office, service: str) -> None:
    """Where only what is named exists, anything else is told, and is nothing to submit to."""
    office.settings = replace(office.settings, any_service=False, services={"billing": office.settings.email})
    async with office.gateway() as gateway, entrance_of(gateway, office.store) as entrance, entrance.person() as admin:
        seen = [
            await admin.get(f"/forms/{quote(service, safe='')}"),
            await admin.post(f"/forms/{quote(service, safe='')}", FORM),
        ]

    assert {one.status for one in seen} == {404}
    assert "<script>" not in "".join(one.text for one in seen).replace('<script src="', "")
