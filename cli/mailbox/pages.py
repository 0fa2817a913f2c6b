"""The pages of the development mailbox: the letters it got, one letter, its files and its source.

Everything on them was written by strangers. It is shown as text; the HTML of a letter is shown in a frame that may do
nothing at all, and every response says so to the browser.
"""

import asyncio
import base64
import re
from typing import Any
from urllib.parse import unquote, urlencode

from aiohttp import web

from cli.mailbox.fault_pages import FaultPages
from cli.mailbox.faults import Faults
from cli.mailbox.frame import Frame, OwnShell, Problem, Shell, number, stylesheet, told
from cli.mailbox.letters import Letter, Letters, Page
from cli.mailbox.opened import File, Opened, open_letter
from mailroom.downloads import attachment_named

PER_PAGE = 50
MOST_PER_PAGE = 500
#: Bytes of images that are put into a letter's HTML; further ones stay in the list of files.
MOST_INLINE = 8 * 1024 * 1024

_THEIR_HTML = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
_THEIR_BYTES = "sandbox; default-src 'none'; frame-ancestors 'none'"

_INLINE_IMAGE = re.compile(r"""cid:([^"'\s<>)]+)""", re.IGNORECASE)
_IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


def add_routes(
    app: web.Application,
    letters: Letters,
    prefix: str = "",
    smtp_address: str = "",
    *,
    faults: Faults | None = None,
    shell: Shell | None = None,
) -> None:
    """Serve the mailbox below the prefix: in its own layout for everybody, or in a shell and behind its door.

    `smtp_address` (host:port) tells an empty mailbox's reader where to send; `faults` are those its server meets.
    """
    faults = faults or Faults()
    frame = Frame(shell or OwnShell(), prefix, faults=faults)
    pages = Pages(letters, frame, smtp_address)
    panel = FaultPages(faults, frame)
    for method, path, handler in (
        ("GET", "/", pages.list),
        ("GET", "/letters.json", pages.list_as_json),
        ("GET", "/letters/{id}", pages.letter),
        ("GET", "/letters/{id}/html", pages.html),
        ("GET", "/letters/{id}/source", pages.source),
        ("GET", "/letters/{id}/files/{number}", pages.file),
        ("POST", "/letters/clear", pages.clear),
        ("DELETE", "/letters", pages.delete),
        ("GET", "/faults", panel.show),
        ("POST", "/faults", panel.add),
        ("POST", "/faults/clear", panel.clear),
        ("POST", "/faults/{id}/remove", panel.remove),
        ("GET", "/faults.json", panel.list_as_json),
        ("PUT", "/faults.json", panel.replace),
        ("DELETE", "/faults.json", panel.delete),
        ("GET", "/static/mailbox.css", stylesheet("mailbox.css")),
        ("GET", "/static/letters.css", stylesheet("letters.css")),
    ):
        app.router.add_route(method, f"{prefix}{path}", frame.answering(handler))
    if prefix:
        app.router.add_get(prefix, frame.answering(_to_the_list))


class Pages:
    """The handlers of letters."""

    def __init__(self, letters: Letters, frame: Frame, smtp_address: str) -> None:
        self._letters = letters
        self._frame = frame
        self._smtp_address = smtp_address

    async def list(self, request: web.Request) -> web.StreamResponse:
        """The letters, newest first."""
        search = request.query.get("search", "")
        page = self._letters.list(number(request.query.get("page"), 1), PER_PAGE, search)
        return self._frame.page(
            request,
            "list.html",
            f"“{search}” · Mailbox" if search else "Mailbox",
            page=page,
            search=search,
            kept=len(self._letters),
            newer=_page_link(page, -1, search),
            older=_page_link(page, +1, search),
            smtp_address=self._smtp_address,
        )

    async def list_as_json(self, request: web.Request) -> web.StreamResponse:
        """The same list for programs."""
        per_page = min(max(1, number(request.query.get("per_page"), PER_PAGE)), MOST_PER_PAGE)
        page = self._letters.list(number(request.query.get("page"), 1), per_page, request.query.get("search", ""))
        shown = [_as_json(letter) for letter in page.letters]
        answer = {"letters": shown, "page": page.number, "pages": page.pages, "total": page.total}
        return web.json_response(answer, headers=told())

    async def letter(self, request: web.Request) -> web.StreamResponse:
        """One letter to read."""
        letter, source = await self._wanted(request)
        opened = await asyncio.to_thread(open_letter, source)
        title = f"{letter.subject or '(no subject)'} · Mailbox"
        return self._frame.page(request, "letter.html", title, letter=letter, opened=opened)

    async def html(self, request: web.Request) -> web.StreamResponse:
        """The letter's HTML as its sender wrote it, for a browser that lets it do nothing."""
        _, source = await self._wanted(request)
        page = await asyncio.to_thread(_html_with_images, source)
        if page is None:
            raise Problem(404, "This letter has no HTML.")
        body = page.encode("utf-8", "replace")
        return web.Response(body=body, content_type="text/html", charset="utf-8", headers=told(_THEIR_HTML))

    async def source(self, request: web.Request) -> web.StreamResponse:
        """The letter as it came."""
        _, source = await self._wanted(request)
        return web.Response(body=source, content_type="text/plain", charset="utf-8", headers=told(_THEIR_BYTES))

    async def file(self, request: web.Request) -> web.StreamResponse:
        """An attachment, always as a download of bytes without a type."""
        _, source = await self._wanted(request)
        opened = await asyncio.to_thread(open_letter, source)
        wanted = number(request.match_info["number"], 0)
        if not 1 <= wanted <= len(opened.files):
            raise Problem(404, "This letter has no such file.")
        file = opened.files[wanted - 1]
        headers = told(_THEIR_BYTES) | {"Content-Disposition": attachment_named(file.name)}
        return web.Response(body=file.content, content_type="application/octet-stream", headers=headers)

    async def clear(self, request: web.Request) -> web.StreamResponse:
        """Drop every letter, for the form on the page."""
        self._frame.refuse_other_sites(request)
        await self._letters.clear()
        return self._frame.see_other(request)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Drop every letter, for programs."""
        self._frame.refuse_other_sites(request)
        await self._letters.clear()
        return web.Response(status=204, headers=told())

    async def _wanted(self, request: web.Request) -> tuple[Letter, bytes]:
        letter = self._letters.get(request.match_info["id"])
        source = await self._letters.source(letter.id) if letter else None
        if letter is None or source is None:
            raise Problem(404, "This letter is no longer here, or never was.")
        return letter, source


async def _to_the_list(request: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers=told() | {"Location": request.path + "/"})


def _html_with_images(source: bytes) -> str | None:
    """The letter's HTML with the images it brings along (RFC 2392) put in place, as far as they are small."""
    opened = open_letter(source)
    return None if opened.html is None else _with_images(opened.html, opened)


def _with_images(html: str, opened: Opened) -> str:
    images = {one.content_id: one for one in opened.files if one.content_id and one.media_type in _IMAGE_TYPES}
    left = MOST_INLINE

    def put_in(found: re.Match[str]) -> str:
        nonlocal left
        image = images.get(unquote(found[1]))
        if image is None or len(image.content) > left:
            return found[0]
        left -= len(image.content)
        return _data_url(image)

    return _INLINE_IMAGE.sub(put_in, html) if images else html


def _data_url(image: File) -> str:
    return f"data:{image.media_type};base64,{base64.b64encode(image.content).decode()}"


def _as_json(letter: Letter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "at": letter.at.isoformat(),
        "from": letter.sender,
        "to": letter.recipients,
        "subject": letter.subject,
        "author": letter.author,
        "size": letter.size,
    }


def _page_link(page: Page, step: int, search: str) -> str | None:
    number = page.number + step
    if not 1 <= number <= page.pages:
        return None
    return "?" + urlencode({"page": number} | ({"search": search} if search else {}), errors="replace")
