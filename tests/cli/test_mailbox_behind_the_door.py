"""The development mailbox among the pages: for those who are signed in and may use it, and for forms of ours only."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from cli.console_shell import ConsoleShell
from cli.mailbox.faults import Faults
from cli.mailbox.letters import Letter, Letters
from cli.mailbox.pages import add_routes
from mailroom.roles import Permission, Role, may
from mailroom.serving import serving
from tests.gateway.admin.visitor import Entrance, Visitor
from tests.journeys.office import an_office

EVIL = "<script>alert(1)</script>"


@dataclass(slots=True)
class Mailbox:
    """A mailbox among the pages, with one letter in it."""

    entrance: Entrance
    letters: Letters
    letter: Letter
    routes: list[tuple[str, str]]


@pytest.fixture
async def mailbox(tmp_path: Path, sqlite_file: Path) -> AsyncIterator[Mailbox]:
    """The pages of `mailroom up`."""
    async with (
        an_office(tmp_path, f"sqlite:///{sqlite_file}", "memory:") as office,
        office.gateway() as gateway,
    ):
        pages, console = gateway.pages(mailbox=True)
        letters = Letters(tmp_path / "mailbox")
        mail = f"Subject: {EVIL}\r\nContent-Type: text/html\r\n\r\n{EVIL}\r\n"
        letter = await letters.store("a@example.org", ["b@example.org"], mail.encode())
        before = len(pages.router.routes())
        add_routes(pages, letters, prefix="/mailbox", faults=Faults(), shell=ConsoleShell(console))
        routes = [
            (route.method, route.resource.canonical.replace("{id}", letter.id).replace("{number}", "1"))
            for route in list(pages.router.routes())[before:]
            if isinstance(route.resource, web.Resource)
        ]
        async with serving(pages, "127.0.0.1:0", shutdown_seconds=2) as address:
            yield Mailbox(Entrance(address, office.store, console), letters, letter, routes)


async def test_strangers_see_nothing_of_it(mailbox: Mailbox) -> None:
    """Every address of it leads to the sign-in, or is refused."""
    async with mailbox.entrance.browser() as stranger:
        told = {route: (await stranger.request(*route)).status for route in mailbox.routes}

    assert len(told) >= 17
    assert set(told.values()) <= {303, 401}
    assert len(mailbox.letters) == 1


@pytest.mark.parametrize("role", Role)
async def test_it_is_for_those_who_may_use_it(mailbox: Mailbox, role: Role) -> None:
    """Others are refused everywhere; nobody changes anything without a form of ours."""
    changing = {"POST", "PUT", "DELETE"}
    async with mailbox.entrance.person(role) as visitor:
        told = {route: (await visitor.request(*route)).status for route in mailbox.routes}

    refused = {route for route, status in told.items() if status == 403}
    expected = {route for route in told if route[0] in changing} if may(role, Permission.MAILBOX_USE) else set(told)
    assert refused == expected
    assert len(mailbox.letters) == 1


async def test_our_forms_work(mailbox: Mailbox) -> None:
    """With the token of the page a form empties it, and so does a program that shows it in a header."""
    async with mailbox.entrance.person(Role.OPERATOR) as operator:
        done = await operator.post("/mailbox/letters/clear", at="/mailbox/")
        token = (await operator.get("/account")).text.split('name="csrf" value="')[1][:64]
        await mailbox.letters.store("a@example.org", ["b@example.org"], b"Subject: x\r\n\r\nx\r\n")
        crossed = await operator.request(
            "DELETE", "/mailbox/letters", headers={"X-CSRF-Token": token, "Sec-Fetch-Site": "cross-site"}
        )
        kept = len(mailbox.letters)
        by_program = await operator.request("DELETE", "/mailbox/letters", headers={"X-CSRF-Token": token})

    assert (done.status, crossed.status, kept, by_program.status) == (303, 403, 1, 204)
    assert len(mailbox.letters) == 0


async def html_of(visitor: Visitor, mailbox: Mailbox, what: str) -> str:
    """What a browser is told of a part of the letter."""
    seen = await visitor.get(f"/mailbox/letters/{mailbox.letter.id}/{what}")
    assert seen.status == 200
    return seen.headers["Content-Security-Policy"]


async def test_a_letter_does_no_harm_beside_our_pages(mailbox: Mailbox) -> None:
    """Its HTML and its source, which are served by the same host as our pages, may do nothing there."""
    async with mailbox.entrance.person(Role.OPERATOR) as operator:
        policies = [await html_of(operator, mailbox, what) for what in ("html", "source")]
        page = await operator.get(f"/mailbox/letters/{mailbox.letter.id}")

    assert [policy.split("; ")[:2] for policy in policies] == [["sandbox", "default-src 'none'"]] * 2
    assert all("allow-" not in policy and "script-src" not in policy for policy in policies)
    assert EVIL not in page.text
