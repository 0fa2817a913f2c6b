"""The development mailbox among the pages of `mailroom up`: in their layout, and behind their door."""

from aiohttp import web
from markupsafe import Markup

from cli.mailbox.frame import Handler
from gateway.admin.console import Console, Visit
from gateway.admin.door import Page, guarded
from mailroom.roles import Permission

_VISIT = web.RequestKey("visit", Visit)


class ConsoleShell:
    """For those who are signed in and may use the mailbox."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def guard(self, handler: Handler) -> Handler:
        """The handler behind the door of the pages."""

        async def shown(visit: Visit) -> web.StreamResponse:
            visit.request[_VISIT] = visit
            return await handler(visit.request)

        return guarded(self._console, Page("*", "/mailbox", Permission.MAILBOX_USE, shown))

    def page(self, request: web.Request, *, title: str, main: Markup, stylesheet: str, status: int) -> web.Response:
        """A page in the layout of the others."""
        return request[_VISIT].page("shell.html", status=status, title=title, main=main, stylesheet=stylesheet)

    def hidden(self, request: web.Request) -> Markup:
        """The token that says that a form is ours."""
        return Markup('<input type="hidden" name="csrf" value="{}">').format(request[_VISIT].csrf)
