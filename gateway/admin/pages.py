"""Every page in one table, with the permission it asks for; and the application that serves them."""

from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.admin import audit, dead_letters, explaining, forms, integrations, messages, overview, people, search
from gateway.admin.console import Console
from gateway.admin.door import Page, add_page, last_resort, told_to_browsers
from gateway.admin.layout import Layout
from gateway.admin.pulse import Pulse
from gateway.admin.signing_in import SignIn, sign_out
from gateway.admin.statics import Statics
from gateway.admission import Proxies
from mailroom.roles import Permission
from mailroom.store.port import Store

_STATIC = Path(__file__).parent / "static"

_LOOK, _OPERATE, _EDIT = Permission.PAGES_VIEW, Permission.INTEGRATION_OPERATE, Permission.INTEGRATION_EDIT
_ADD, _DELETE, _PEOPLE = Permission.INTEGRATION_ADD, Permission.INTEGRATION_DELETE, Permission.PEOPLE_MANAGE

_READ, _REDRIVE = Permission.MESSAGES_VIEW, Permission.MESSAGES_REDRIVE

_MESSAGE = "/messages/{id}"
_GROUP = "/dead-letters/{integration}/{fingerprint}"
_ONE = "/integrations/{id}"
_PERSON = "/people/{id}"

#: Every page. None: for whoever is signed in. The test of roles has a row for each.
PAGES = (
    Page("GET", "/", None, overview.show),
    Page("GET", "/live", _LOOK, overview.watch),
    Page("GET", "/integrations", _LOOK, integrations.show_all),
    Page("GET", "/integrations/live", _LOOK, integrations.watch_all),
    Page("GET", "/integrations/new", _ADD, integrations.ask_new),
    Page("POST", "/integrations/new", _ADD, integrations.create),
    Page("GET", _ONE, _LOOK, integrations.show),
    Page("GET", f"{_ONE}/live", _LOOK, integrations.watch),
    Page("POST", f"{_ONE}/test", _OPERATE, integrations.try_it),
    Page("GET", f"{_ONE}/reset", _OPERATE, integrations.ask_reset),
    Page("POST", f"{_ONE}/reset", _OPERATE, integrations.reset),
    Page("GET", f"{_ONE}/disable", _OPERATE, integrations.ask_disable),
    Page("POST", f"{_ONE}/disable", _OPERATE, integrations.disable),
    Page("GET", f"{_ONE}/edit", _EDIT, integrations.ask_change),
    Page("POST", f"{_ONE}/edit", _EDIT, integrations.change),
    Page("GET", f"{_ONE}/delete", _DELETE, integrations.ask_delete),
    Page("POST", f"{_ONE}/delete", _DELETE, integrations.delete),
    Page("GET", "/messages", _READ, search.show),
    Page("GET", _MESSAGE, _READ, messages.show),
    Page("GET", f"{_MESSAGE}/live", _READ, messages.watch),
    Page("GET", f"{_MESSAGE}/html", _READ, messages.html),
    Page("GET", f"{_MESSAGE}/files/{{number}}", _READ, messages.file),
    Page("GET", f"{_MESSAGE}/wire", _READ, messages.wire),
    Page("POST", f"{_MESSAGE}/redrive", _REDRIVE, messages.redrive),
    Page("GET", f"{_MESSAGE}/copy", _REDRIVE, messages.ask_copy),
    Page("POST", f"{_MESSAGE}/copy", _REDRIVE, messages.copy),
    Page("GET", f"{_MESSAGE}/dismiss", _REDRIVE, messages.ask_dismiss),
    Page("POST", f"{_MESSAGE}/dismiss", _REDRIVE, messages.dismiss),
    Page("GET", "/dead-letters", _READ, dead_letters.show_all),
    Page("GET", "/dead-letters/live", _READ, dead_letters.watch_all),
    Page("GET", _GROUP, _READ, dead_letters.show),
    Page("GET", f"{_GROUP}/live", _READ, dead_letters.watch),
    Page("GET", f"{_GROUP}/affected.csv", _READ, dead_letters.affected),
    Page("POST", f"{_GROUP}/redrive", _REDRIVE, dead_letters.redrive),
    Page("POST", f"{_GROUP}/stop", _REDRIVE, dead_letters.stop),
    Page("POST", f"{_GROUP}/dismiss", _REDRIVE, dead_letters.dismiss),
    Page("GET", "/forms", _LOOK, forms.show_all),
    Page("GET", "/forms/{service}", _LOOK, forms.show),
    Page("POST", "/forms/{service}", _REDRIVE, forms.try_it),
    Page("GET", "/explain", _READ, explaining.show),
    Page("GET", "/audit", Permission.AUDIT_VIEW, audit.show),
    Page("GET", "/account", None, people.show_account),
    Page("POST", "/account/password", None, people.change_password),
    Page("POST", "/account/sign-out", None, people.sign_out_elsewhere),
    Page("POST", "/sign-out", None, sign_out),
    Page("GET", "/people", _PEOPLE, people.show_all),
    Page("POST", "/people", _PEOPLE, people.add),
    Page("GET", _PERSON, _PEOPLE, people.show),
    Page("POST", f"{_PERSON}/password", _PEOPLE, people.set_password),
    Page("POST", f"{_PERSON}/sign-out", _PEOPLE, people.sign_out),
    Page("POST", f"{_PERSON}/disable", _PEOPLE, people.disable),
)

#: What is served to anybody: the sign-in, what pages are made of, and (for who watches over processes) health and figures.
OPEN_PATHS = frozenset({"/sign-in", "/static/{version}/{name}", "/healthz", "/readyz", "/metrics"})


def open_console(app: web.Application, *, store: Store, proxies: Proxies, mailbox: bool, **parts: Any) -> Console:
    """Serve every page with this application; what they work with. `mailbox`: whether somebody adds that page too."""
    statics = Statics(_STATIC)
    console = Console(
        store=store, proxies=proxies, layout=Layout(statics.root, mailbox=mailbox),
        pulse=Pulse(store), **parts,
    )  # fmt: skip
    _add_pages(app, console, statics)
    return console


def _add_pages(app: web.Application, console: Console, statics: Statics) -> None:
    sign_in = SignIn(console)
    app.middlewares.append(last_resort(console))
    app.on_response_prepare.append(told_to_browsers(console))

    async def stop_streams(_: web.Application) -> None:
        console.streams.stopping.set()

    app.on_shutdown.append(stop_streams)
    app.router.add_get("/sign-in", sign_in.show)
    app.router.add_post("/sign-in", sign_in.sign_in)
    app.router.add_get("/static/{version}/{name}", statics.serve)
    for page in PAGES:
        add_page(app, console, page)
