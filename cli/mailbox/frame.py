"""What stands around the mailbox's pages: their own layout, or that of whoever takes them in."""

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from ipaddress import ip_address
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


_ANOTHER_NAME = (
    "The mailbox is not shown under this name. Open it by its address, http://127.0.0.1:…, or start it with --name and "
    "the name."
)
#: Nobody can have a name below these (RFC 6761, RFC 9476 and ICANN's resolution on .internal).
_NOBODYS = (".localhost", ".test", ".internal")


def leads_nowhere_else(host: str, names: Collection[str]) -> bool:
    """Whether the Host of a request is an address, or a name that no stranger can have led here.

    A page of evil.example whose name is answered with 127.0.0.1 is, to the browser, of one origin with ours (DNS
    rebinding): it could read every letter.
    """
    name = re.sub(r":\d+$", "", host).strip("[]").rstrip(".").lower()
    return name in names or "." not in name or name.endswith(_NOBODYS) or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


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
    """The mailbox alone: a plain layout, for everybody who can reach it, under its address or one of these names."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._layout = _templates().get_template("base.html")
        self._names = frozenset(name.lower() for name in names)

    def guard(self, handler: Handler) -> Handler:
        """For everybody, but no page elsewhere whose name was made to lead here."""

        async def answer(request: web.Request) -> web.StreamResponse:
            host = request.headers.get(hdrs.HOST)
            if host is None or leads_nowhere_else(host, self._names):
                return await handler(request)
            return web.Response(status=403, text=_ANOTHER_NAME, headers=told())

        return answer

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
