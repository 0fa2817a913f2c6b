"""What nobody foresaw ends in an answer that says nothing of how we are made, and in a log that is found from it (SEC-15)."""

import re
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from sqlalchemy.exc import ProgrammingError

from gateway.admin.console import Visit
from gateway.admin.door import Page
from gateway.app import always_json
from gateway.cloud.routes import platform_answers
from mailroom.serving import FAULT_ID, serving
from tests.gateway.admin.visitor import entrance_of
from tests.journeys.office import Office, an_office

CANARY = "canary"

FAULTS = [
    ZeroDivisionError(CANARY),
    KeyError(CANARY),
    ProgrammingError("SELECT canary FROM users", {"name": CANARY}, Exception(CANARY)),
    OSError(2, CANARY, f"/srv/{CANARY}"),
    UnicodeEncodeError("utf-8", CANARY, 0, 1, CANARY),
    RecursionError(CANARY),
]

every_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)

#: Whatever tells how we are made.
INSIDE = re.compile(rf"{CANARY}|Traceback|File \"|\.py\b|SELECT|sqlalchemy|aiohttp|Python/|Error\b")


@pytest.fixture
async def office(tmp_path: Path, sqlite_file: Path) -> AsyncIterator[Office]:
    """An office of one process: SQLite and the queue in memory."""
    async with an_office(tmp_path, f"sqlite:///{sqlite_file}", "memory:") as office:
        yield office


async def answered(path: str, fault: Exception) -> tuple[aiohttp.ClientResponse, str]:
    """What the gateway's own last resort answers when the handler of a path fails so."""

    async def fail(_: web.Request) -> web.Response:
        raise fault

    app = web.Application(middlewares=[always_json, platform_answers])
    app.router.add_get(path, fail)
    async with (
        serving(app, "127.0.0.1:0") as address,
        aiohttp.ClientSession() as session,
        session.get(f"http://{address}{path}") as answer,
    ):
        return answer, await answer.text()


@every_fault
async def test_sec_15_a_fault_at_the_form_is_told_without_its_words(
    logged: list[MutableMapping[str, Any]], fault: Exception
) -> None:
    """The client may come again; a header has the id under which the log has what happened."""
    answer, text = await answered("/genesys/2/email/x", fault)

    assert (answer.status, text) == (200, '{"statusCode":1}')
    assert not INSIDE.search(str(answer.headers))
    assert [event["fault_id"] for event in logged if event.get("exc_info")] == [answer.headers[FAULT_ID]]


@every_fault
async def test_sec_15_a_fault_of_the_platform_api_is_told_without_its_words(
    logged: list[MutableMapping[str, Any]], fault: Exception
) -> None:
    """The platform's error body has an id under which the log has what happened, and none of its words."""
    answer, text = await answered("/api/v2/fails", fault)

    assert (answer.status, answer.content_type) == (500, "application/json")
    assert not INSIDE.search(text + str(answer.headers))
    [event] = [event for event in logged if event.get("exc_info")]
    assert event["correlation_id"] in text


@every_fault
async def test_sec_15_a_fault_of_a_page_is_told_without_its_words(
    office: Office, logged: list[MutableMapping[str, Any]], fault: Exception
) -> None:
    """The page has an id under which the log has what happened, none of its words, and all of our headers."""

    async def fail(_: Visit) -> web.Response:
        raise fault

    async with (
        office.gateway() as gateway,
        entrance_of(gateway, office.store, Page("GET", "/fails", None, fail)) as entrance,
        entrance.person() as admin,
    ):
        seen = await admin.get("/fails")
    [event] = [event for event in logged if event.get("exc_info")]

    assert seen.status == 500
    assert event["fault_id"] in seen.words
    assert not INSIDE.search(seen.words)
    assert "default-src 'none'" in seen.headers["Content-Security-Policy"]
