"""Who may see and do what on the pages: every page has a row here, and every role is tried on every page."""

from uuid import uuid4

import pytest
from aiohttp import web

from gateway.admin.pages import OPEN_PATHS, PAGES
from mailroom.roles import Role
from tests.gateway.admin.visitor import Entrance, Visitor
from tests.journeys.office import Office

EVERYBODY = frozenset(Role)
LOOKERS = frozenset({Role.ADMIN, Role.OPERATOR, Role.VIEWER})
READERS = frozenset({Role.ADMIN, Role.OPERATOR, Role.VIEWER, Role.AGENT})
OPERATORS = frozenset({Role.ADMIN, Role.OPERATOR})
ADMINS = frozenset({Role.ADMIN})

MATRIX = {
    ("GET", "/"): EVERYBODY,
    ("GET", "/live"): LOOKERS,
    ("GET", "/integrations"): LOOKERS,
    ("GET", "/integrations/live"): LOOKERS,
    ("GET", "/integrations/new"): ADMINS,
    ("POST", "/integrations/new"): ADMINS,
    ("GET", "/integrations/{id}"): LOOKERS,
    ("GET", "/integrations/{id}/live"): LOOKERS,
    ("POST", "/integrations/{id}/test"): OPERATORS,
    ("GET", "/integrations/{id}/reset"): OPERATORS,
    ("POST", "/integrations/{id}/reset"): OPERATORS,
    ("GET", "/integrations/{id}/disable"): OPERATORS,
    ("POST", "/integrations/{id}/disable"): OPERATORS,
    ("GET", "/integrations/{id}/edit"): ADMINS,
    ("POST", "/integrations/{id}/edit"): ADMINS,
    ("GET", "/integrations/{id}/delete"): ADMINS,
    ("POST", "/integrations/{id}/delete"): ADMINS,
    ("GET", "/messages"): READERS,
    ("GET", "/messages/{id}"): READERS,
    ("GET", "/messages/{id}/live"): READERS,
    ("GET", "/messages/{id}/html"): READERS,
    ("GET", "/messages/{id}/files/{number}"): READERS,
    ("GET", "/messages/{id}/wire"): READERS,
    ("POST", "/messages/{id}/redrive"): OPERATORS,
    ("GET", "/messages/{id}/copy"): OPERATORS,
    ("POST", "/messages/{id}/copy"): OPERATORS,
    ("GET", "/messages/{id}/dismiss"): OPERATORS,
    ("POST", "/messages/{id}/dismiss"): OPERATORS,
    ("GET", "/dead-letters"): READERS,
    ("GET", "/dead-letters/live"): READERS,
    ("GET", "/dead-letters/{integration}/{fingerprint}"): READERS,
    ("GET", "/dead-letters/{integration}/{fingerprint}/live"): READERS,
    ("GET", "/dead-letters/{integration}/{fingerprint}/affected.csv"): READERS,
    ("POST", "/dead-letters/{integration}/{fingerprint}/redrive"): OPERATORS,
    ("POST", "/dead-letters/{integration}/{fingerprint}/stop"): OPERATORS,
    ("POST", "/dead-letters/{integration}/{fingerprint}/dismiss"): OPERATORS,
    ("GET", "/forms"): LOOKERS,
    ("GET", "/forms/{service}"): LOOKERS,
    ("POST", "/forms/{service}"): OPERATORS,
    ("GET", "/explain"): READERS,
    ("GET", "/audit"): LOOKERS,
    ("GET", "/people"): ADMINS,
    ("POST", "/people"): ADMINS,
    ("GET", "/people/{id}"): ADMINS,
    ("POST", "/people/{id}/password"): ADMINS,
    ("POST", "/people/{id}/sign-out"): ADMINS,
    ("POST", "/people/{id}/disable"): ADMINS,
    ("GET", "/account"): EVERYBODY,
    ("POST", "/account/password"): EVERYBODY,
    ("POST", "/account/sign-out"): EVERYBODY,
    ("POST", "/sign-out"): EVERYBODY,
}

#: Whoever signs out sees no further page.
LAST = ("POST", "/sign-out")


def filled(path: str) -> str:
    """The path with something in place of each name; nothing of it exists."""
    names = {
        "{id}": str(uuid4()),
        "{integration}": str(uuid4()),
        "{fingerprint}": "0" * 32,
        "{number}": "1",
        "{service}": "no",
    }
    for name, value in names.items():
        path = path.replace(name, value)
    return path


def test_every_page_has_a_row() -> None:
    """A page that is in no row could be seen by anybody."""
    assert {(page.method, page.path) for page in PAGES} == set(MATRIX)


@pytest.mark.parametrize("role", Role)
async def test_a_role_may_do_what_its_rows_say(entrance: Entrance, role: Role) -> None:
    """Each role is let in where the matrix says so, and is refused everywhere else."""
    told: dict[tuple[str, str], int] = {}
    async with entrance.person(role) as visitor:
        for method, path in sorted(MATRIX, key=lambda page: page == LAST):
            told[method, path] = await tried(visitor, method, filled(path))

    refused = {page for page, status in told.items() if status == 403}
    assert refused == {page for page, roles in MATRIX.items() if role not in roles}
    assert not {page for page, status in told.items() if status >= 500}


async def tried(visitor: Visitor, method: str, path: str) -> int:
    """The status of a page; of one that goes on for ever, once it has begun."""
    if method == "POST":
        return (await visitor.post(path)).status
    async with visitor.session.get(f"http://{visitor.address}{path}", allow_redirects=False) as answer:
        return answer.status


async def test_without_signing_in_there_is_nothing(entrance: Entrance) -> None:
    """Every page leads to the sign-in, every form and every stream is refused."""
    async with entrance.browser() as visitor:
        seen = {
            (method, path): await visitor.request(method, filled(path), headers={"Accept": accept})
            for method, path in MATRIX
            for accept in ["text/html, text/event-stream" if path.endswith("live") else "text/html"]
        }

    pages = {page: one for page, one in seen.items() if one.status == 303}
    assert all(one.headers["Location"].startswith("/sign-in") for one in pages.values())
    assert {page for page in seen if page not in pages} == {
        (method, path) for method, path in MATRIX if method == "POST" or path.endswith("live")
    }
    assert {one.status for page, one in seen.items() if page not in pages} == {401}


async def test_what_is_served_to_anybody_is_listed(office: Office) -> None:
    """Every route of the admin port is a page with a row, or one of the few that are meant for anybody."""
    async with office.gateway() as gateway:
        app, _ = gateway.pages()

    routes = {route.resource.canonical for route in app.router.routes() if isinstance(route.resource, web.Resource)}
    assert routes == {page.path for page in PAGES} | OPEN_PATHS


@pytest.mark.parametrize("role", Role)
async def test_everybody_has_a_first_page(entrance: Entrance, role: Role) -> None:
    """Whoever signs in comes to a page that they may see, and its links lead to such pages only."""
    async with entrance.person(role) as visitor:
        first = await visitor.get("/")
        while first.status == 303:
            first = await visitor.get(first.headers["Location"])
        navigation = first.text[first.text.index("<nav") : first.text.index("</nav>")]
        links = [part.split('"')[0] for part in navigation.split('href="')[1:]]
        statuses = {link: (await visitor.get(link)).status for link in links}

    assert first.status == 200
    assert set(statuses.values()) <= {200, 303}, statuses
