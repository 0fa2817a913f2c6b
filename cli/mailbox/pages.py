"""The pages of the development mailbox: the letters it got, one letter, its files and its source.

Everything on them was written by strangers. It is shown as text; the HTML of a letter is shown in a frame that may do
nothing at all, and every response says so to the browser.
"""

import asyncio
import base64
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, unquote, urlencode

import jinja2
from aiohttp import web

from cli.mailbox.letters import Letter, Letters, Page
from cli.mailbox.opened import File, Opened, open_letter

PER_PAGE = 50
MOST_PER_PAGE = 500
#: Bytes of images that are put into a letter's HTML; further ones stay in the list of files.
MOST_INLINE = 8 * 1024 * 1024

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
_OUR_PAGE = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; frame-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_THEIR_HTML = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
_THEIR_BYTES = "sandbox; default-src 'none'; frame-ancestors 'none'"

_INLINE_IMAGE = re.compile(r"""cid:([^"'\s<>)]+)""", re.IGNORECASE)
_IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


def add_routes(app: web.Application, letters: Letters, prefix: str = "", smtp_address: str = "") -> None:
    """Serve the mailbox below the prefix; `smtp_address` (host:port) tells an empty mailbox's reader where to send."""
    pages = Pages(letters, smtp_address)
    app.add_routes(
        [
            web.get(f"{prefix}/", pages.list),
            web.get(f"{prefix}/letters.json", pages.list_as_json),
            web.get(f"{prefix}/letters/{{id}}", pages.letter),
            web.get(f"{prefix}/letters/{{id}}/html", pages.html),
            web.get(f"{prefix}/letters/{{id}}/source", pages.source),
            web.get(f"{prefix}/letters/{{id}}/files/{{number}}", pages.file),
            web.post(f"{prefix}/letters/clear", pages.clear),
            web.delete(f"{prefix}/letters", pages.delete),
            web.get(f"{prefix}/static/mailbox.css", pages.stylesheet),
        ]
    )
    if prefix:
        app.router.add_get(prefix, _to_the_list)


class Pages:
    """The handlers. Links in them are relative, so the mailbox works below any path."""

    def __init__(self, letters: Letters, smtp_address: str = "") -> None:
        self._letters = letters
        self._smtp_address = smtp_address
        self._stylesheet = (_HERE / "static" / "mailbox.css").read_bytes()
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["size"] = readable_size

    async def list(self, request: web.Request) -> web.Response:
        """The letters, newest first."""
        search = request.query.get("search", "")
        page = self._letters.list(_number(request.query.get("page"), 1), PER_PAGE, search)
        return self._page(
            "list.html",
            root="./",
            page=page,
            search=search,
            kept=len(self._letters),
            newer=_page_link(page, -1, search),
            older=_page_link(page, +1, search),
        )

    async def list_as_json(self, request: web.Request) -> web.Response:
        """The same list for programs."""
        per_page = min(max(1, _number(request.query.get("per_page"), PER_PAGE)), MOST_PER_PAGE)
        page = self._letters.list(_number(request.query.get("page"), 1), per_page, request.query.get("search", ""))
        shown = [_as_json(letter) for letter in page.letters]
        answer = {"letters": shown, "page": page.number, "pages": page.pages, "total": page.total}
        return web.json_response(answer, headers=_headers(_OUR_PAGE))

    async def letter(self, request: web.Request) -> web.Response:
        """One letter to read."""
        letter, source = await self._wanted(request)
        opened = await asyncio.to_thread(open_letter, source)
        return self._page("letter.html", root="../", letter=letter, opened=opened)

    async def html(self, request: web.Request) -> web.Response:
        """The letter's HTML as its sender wrote it, for a browser that lets it do nothing."""
        _, source = await self._wanted(request)
        page = await asyncio.to_thread(_html_with_images, source)
        if page is None:
            raise self._gone(request, "This letter has no HTML.")
        return _utf8(page, _THEIR_HTML)

    async def source(self, request: web.Request) -> web.Response:
        """The letter as it came."""
        _, source = await self._wanted(request)
        headers = _headers(_THEIR_BYTES)
        return web.Response(body=source, content_type="text/plain", charset="utf-8", headers=headers)

    async def file(self, request: web.Request) -> web.Response:
        """An attachment, always as a download of bytes without a type."""
        _, source = await self._wanted(request)
        opened = await asyncio.to_thread(open_letter, source)
        number = _number(request.match_info["number"], 0)
        if not 1 <= number <= len(opened.files):
            raise self._gone(request, "This letter has no such file.")
        file = opened.files[number - 1]
        headers = _headers(_THEIR_BYTES) | {"Content-Disposition": attachment_named(file.name)}
        return web.Response(body=file.content, content_type="application/octet-stream", headers=headers)

    async def clear(self, request: web.Request) -> web.Response:
        """Drop every letter, for the form on the page."""
        self._refuse_other_sites(request)
        await self._letters.clear()
        raise web.HTTPSeeOther("../", headers=_headers(_OUR_PAGE))

    async def delete(self, request: web.Request) -> web.Response:
        """Drop every letter, for programs."""
        self._refuse_other_sites(request)
        await self._letters.clear()
        return web.Response(status=204, headers=_headers(_OUR_PAGE))

    async def stylesheet(self, request: web.Request) -> web.Response:
        """Our own look."""
        return web.Response(
            body=self._stylesheet, content_type="text/css", charset="utf-8", headers=_headers(_THEIR_BYTES)
        )

    async def _wanted(self, request: web.Request) -> tuple[Letter, bytes]:
        letter = self._letters.get(request.match_info["id"])
        source = await self._letters.source(letter.id) if letter else None
        if letter is None or source is None:
            raise self._gone(request, "This letter is no longer here, or never was.")
        return letter, source

    def _refuse_other_sites(self, request: web.Request) -> None:
        if not from_our_page(request.headers, request.host):
            raise self._problem(web.HTTPForbidden, request, "Only a page of this mailbox may do that.")

    def _gone(self, request: web.Request, sentence: str) -> web.HTTPException:
        return self._problem(web.HTTPNotFound, request, sentence)

    def _problem(self, kind: type[web.HTTPException], request: web.Request, sentence: str) -> web.HTTPException:
        text = self._templates.get_template("problem.html").render(
            root=_way_to_the_list(request.rel_url.raw_path), sentence=sentence
        )
        return kind(text=text, content_type="text/html", headers=_headers(_OUR_PAGE))

    def _page(self, template: str, **values: Any) -> web.Response:
        text = self._templates.get_template(template).render(smtp_address=self._smtp_address, **values)
        return _utf8(text, _OUR_PAGE)


async def _to_the_list(request: web.Request) -> web.Response:
    raise web.HTTPFound(request.path + "/", headers=_headers(_OUR_PAGE))


def _way_to_the_list(path: str) -> str:
    """The relative link from a page of the mailbox to its first."""
    _, below, rest = path.rpartition("/letters/")
    return "../" * (rest.count("/") + 1) if below else "./"


def from_our_page(headers: Mapping[str, str], host: str) -> bool:
    """Whether a request to change something comes from our own page, or from no page at all (a program)."""
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("Origin")
    return origin is None or origin.partition("://")[2] == host


def attachment_named(name: str) -> str:
    """Content-Disposition of a download (RFC 6266): the name in ASCII for old clients, and as it is (RFC 8187)."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r'[^ -~]|["\\%]', "_", plain).strip() or "attachment"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"


def readable_size(size: int) -> str:
    """Bytes as a person says them: 512 B, 3.4 KB, 12 MB."""
    amount = float(size)
    for unit in ("B", "KB", "MB"):
        if amount < 1000:  # noqa: PLR2004 - kilo
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 10 else f"{amount:.1f} {unit}"  # noqa: PLR2004 - two digits
        amount /= 1000
    return f"{amount:.1f} GB"


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


def _number(text: str | None, otherwise: int) -> int:
    """A small number from a URL, or the other one: a wrong page number is no reason for an error page."""
    return int(text) if text and re.fullmatch("[0-9]{1,9}", text) else otherwise


def _page_link(page: Page, step: int, search: str) -> str | None:
    number = page.number + step
    if not 1 <= number <= page.pages:
        return None
    return "?" + urlencode({"page": number} | ({"search": search} if search else {}), errors="replace")


def _headers(policy: str) -> dict[str, str]:
    return {**_ALWAYS, "Content-Security-Policy": policy}


def _utf8(text: str, policy: str) -> web.Response:
    body = text.encode("utf-8", "replace")
    return web.Response(body=body, content_type="text/html", charset="utf-8", headers=_headers(policy))
