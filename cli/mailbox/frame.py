"""What stands around the mailbox's pages: their own layout, or that of whoever takes them in."""

import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import jinja2
from aiohttp import hdrs, web
from markupsafe import Markup

from mailroom.downloads import readable_size
from mailroom.serving import from_our_page

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_HERE = Path(__file__).parent

_ALWAYS: Mapping[str, str] = MappingProxyType(
    {
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
        "Cross-Origin-Resource-Policy": "same-origin",
        # Not "no-referrer": with it the browser would not say where our own form came from (Origin: null).
        "Referrer-Policy": "same-origin",
    }
)
OUR_PAGE = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; frame-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)


def told(policy: str = OUR_PAGE) -> dict[str, str]:
    """What a browser is told with an answer of ours."""
    return {**_ALWAYS, "Content-Security-Policy": policy}


class Problem(Exception):
    """What was asked for cannot be had; the text says so to a person."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Shell(Protocol):
    """The layout the pages stand in, and its door."""

    def guard(self, handler: Handler) -> Handler:
        """The handler for those who may have its answer."""

    def page(self, request: web.Request, *, title: str, main: Markup, stylesheet: str, status: int) -> web.Response:
        """A whole page; `stylesheet` is where the look of its main part is."""

    def hidden(self, request: web.Request) -> Markup:
        """The hidden fields that each form of ours must bring along."""


class OwnShell:
    """The mailbox alone: a plain layout, for everybody who can reach it."""

    def __init__(self) -> None:
        self._layout = _templates().get_template("base.html")

    def guard(self, handler: Handler) -> Handler:
        """For everybody."""
        return handler

    def page(self, request: web.Request, *, title: str, main: Markup, stylesheet: str, status: int) -> web.Response:
        """In the plain layout, whose own look is beside that of the main part."""
        folder = stylesheet.rpartition("/")[0]
        text = self._layout.render(title=title, main=main, stylesheet=stylesheet, folder=folder)
        return web.Response(
            body=text.encode("utf-8", "replace"),
            status=status,
            content_type="text/html",
            charset="utf-8",
            headers=told(),
        )

    def hidden(self, request: web.Request) -> Markup:
        """None: whether a form is ours is seen from where it comes from."""
        return Markup()


class Frame:
    """Puts main parts into the shell. Links in them are relative, so the mailbox works below any path."""

    def __init__(self, shell: Shell, prefix: str, **known: Any) -> None:
        self._shell = shell
        self._prefix = prefix
        self._templates = _templates()
        self._templates.filters["size"] = readable_size
        self._known = known

    def answering(self, handler: Handler) -> Handler:
        """The handler behind the shell's door, with its problems as pages."""

        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except Problem as problem:
                return self.page(request, "problem.html", "Mailbox", status=problem.status, sentence=str(problem))

        return self._shell.guard(answer)

    def page(
        self, request: web.Request, template: str, title: str, *, status: int = 200, **values: Any
    ) -> web.Response:
        """A page with this main part."""
        root = self._way_to_the_list(request)
        main = self._templates.get_template(template).render(
            root=root, hidden=self._shell.hidden(request), **self._known, **values
        )
        return self._shell.page(
            request, title=title, main=Markup(main), stylesheet=f"{root}static/letters.css", status=status  # noqa: S704 - our template escaped it
        )  # fmt: skip

    def see_other(self, request: web.Request, page: str = "") -> web.Response:
        """To another page of ours, after something was done."""
        where = f"{self._way_to_the_list(request)}{page}"
        return web.Response(status=303, headers={**told(), hdrs.LOCATION: where})

    def refuse_other_sites(self, request: web.Request) -> None:
        """Raise Problem unless a page of ours, or a program, sent this."""
        if not from_our_page(request.headers, request.host):
            raise Problem(403, "Only a page of this mailbox may do that.")

    def _way_to_the_list(self, request: web.Request) -> str:
        """The relative link from this page to the first."""
        below = request.rel_url.raw_path.removeprefix(self._prefix)
        return "../" * (below.count("/") - 1) or "./"


def stylesheet(name: str) -> Handler:
    """Answers one of our stylesheets."""
    content = (_HERE / "static" / name).read_bytes()

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=content, content_type="text/css", charset="utf-8", headers=told())

    return answer


def number(text: str | None, otherwise: int) -> int:
    """A small number from a URL, or the other one: a wrong page number is no reason for an error page."""
    return int(text) if text and re.fullmatch("[0-9]{1,9}", text) else otherwise


def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
