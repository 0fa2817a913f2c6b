"""The door of the pages: who is signed in, what they may see, which forms are ours, and what a browser is told.

Every page but the sign-in itself goes through `guarded`; a test walks all routes and holds them to it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from typing import Any
from urllib.parse import urlencode

from aiohttp import hdrs, web

from gateway.admin.console import TOLD, Console, NotFound, NotPossible, Visit, csrf_of
from gateway.admin.known_browsers import KNOWN_FOR
from gateway.admin.posted import posted
from mailroom.logs import get_logger
from mailroom.roles import Permission, may
from mailroom.serving import from_our_page, new_fault_id
from mailroom.store import sign_ins
from mailroom.store.integrations import UnknownIntegration
from mailroom.store.port import BadRow, CommitUnknown, StoreUnavailable
from mailroom.store.sign_ins import Person

log = get_logger(__name__)

#: The browser keeps a name that begins so only over TLS and only for this host (RFC 6265bis section 4.1.3.2); without
#: TLS, as on a laptop, it would not keep it at all.
ENCRYPTED = "__Host-"
SIGN_IN_COOKIE = "mailroom"
BROWSER_COOKIE = "mailroom-browser"

#: What our own pages may do: load from us, post to us, be framed by nobody. Nothing inline runs.
OUR_PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
    "frame-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
#: What strangers wrote and a frame of ours shows: it may do nothing at all.
THEIR_HTML = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
#: What strangers wrote and is downloaded.
THEIR_BYTES = "sandbox; default-src 'none'; frame-ancestors 'none'"

#: Where a program that is signed in may put the token of a form: no page of another site can send it (SEC-8).
CSRF_HEADER = "X-CSRF-Token"

_TWO_YEARS = 63072000

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Page:
    """One route of the pages; without a permission it is for whoever is signed in."""

    method: str
    path: str
    permission: Permission | None
    handler: Callable[[Visit], Awaitable[web.StreamResponse]]


def add_page(app: web.Application, console: Console, page: Page) -> None:
    """Serve a page to those who may have it."""
    app.router.add_route(page.method, page.path, guarded(console, page))


def guarded(console: Console, page: Page) -> _Handler:
    """A handler that lets nobody in who is not signed in or may not, and takes no form that is not ours."""

    async def handle(request: web.Request) -> web.StreamResponse:
        entered = await _entered(console, request)
        if entered is None:
            return _to_sign_in(console, request)
        person, token = entered
        visit = Visit(console=console, request=request, person=person, csrf=csrf_of(token), now=datetime.now(UTC))
        if page.permission is not None and not may(person.role, page.permission):
            return _told(visit, 403, "Not for your role", f"The role {person.role} may not do this.")
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD) and not await _is_ours(visit):
            return _told(visit, 403, "Nothing was done", "This did not come from a page of ours. Load it again.")
        return await _answered(visit, page)

    return handle


async def _answered(visit: Visit, page: Page) -> web.StreamResponse:
    try:
        return await page.handler(visit)
    except (NotFound, UnknownIntegration) as error:
        return _told(visit, 404, "Not found", str(error))
    except (StoreUnavailable, CommitUnknown) as error:
        log.warning("page not served", path=page.path, error=str(error))
        return _told(visit, 503, "The database does not answer", "Try again in a moment; what you did may not be done.")
    except BadRow as error:
        log.warning("page refused by the database", path=page.path, error=str(error))
        return _told(visit, 400, "That cannot be", "No database can hold what you typed. Correct it; nothing was done.")
    except (NotPossible, *TOLD) as error:
        return _told(visit, 409, "Not done", str(error))


def _told(visit: Visit, status: int, headline: str, sentence: str) -> web.Response:
    return visit.page("problem.html", status=status, headline=headline, sentence=sentence)


# --- who is it --------------------------------------------------------------------------------------------------------


def token_of(console: Console, request: web.Request) -> str | None:
    """What the browser shows of its sign-in."""
    return request.cookies.get(_cookie(console, request, SIGN_IN_COOKIE))


def browser_of(console: Console, request: web.Request) -> str:
    """What the browser shows of somebody's having signed in there before."""
    return request.cookies.get(_cookie(console, request, BROWSER_COOKIE), "")


async def _entered(console: Console, request: web.Request) -> tuple[Person, str] | None:
    token = token_of(console, request)
    if not token:
        return None
    now = datetime.now(UTC)
    found = await console.store.read(sign_ins.find, token, now=now)
    if found is None:
        return None
    person, is_to_be_noted = found
    if is_to_be_noted:
        await console.store.transaction(sign_ins.seen, person.hash, now=now)
    return person, token


def let_in(console: Console, request: web.Request, response: web.Response, token: str) -> None:
    """Have the browser show this token from now on."""
    _have_shown(console, request, response, SIGN_IN_COOKIE, token, sign_ins.LONGEST)


def know_again(console: Console, request: web.Request, response: web.Response, shown: str) -> None:
    """Have the browser show this whenever somebody signs in there."""
    _have_shown(console, request, response, BROWSER_COOKIE, shown, KNOWN_FOR)


def _have_shown(
    console: Console, request: web.Request, response: web.Response, name: str, value: str, length: timedelta
) -> None:
    response.set_cookie(
        _cookie(console, request, name), value, httponly=True, secure=console.is_encrypted(request), samesite="Lax",
        path="/", max_age=int(length.total_seconds()),
    )  # fmt: skip


def let_out(console: Console, request: web.Request, response: web.Response) -> None:
    """Have the browser forget its token."""
    response.del_cookie(
        _cookie(console, request, SIGN_IN_COOKIE),
        httponly=True,
        secure=console.is_encrypted(request),
        samesite="Lax",
        path="/",
    )


def _cookie(console: Console, request: web.Request, name: str) -> str:
    return f"{ENCRYPTED}{name}" if console.is_encrypted(request) else name


def _to_sign_in(console: Console, request: web.Request) -> web.Response:
    """To the sign-in and back; what is not a page (a stream, a form) is only refused."""
    if request.method != hdrs.METH_GET or "text/event-stream" in request.headers.get(hdrs.ACCEPT, ""):
        text = console.layout.render("signed_out.html")
        return web.Response(status=401, text=text, content_type="text/html", charset="utf-8")
    back = "" if request.path == "/" else f"?{urlencode({'next': request.path_qs})}"
    return web.Response(status=303, headers={hdrs.LOCATION: f"/sign-in{back}"})


def way_back(given: str) -> str:
    """Where to go after signing in: a path of ours, whatever the link said (ASVS 1.3: no open redirects)."""
    # Browsers drop control characters, and take a backslash for a slash (url.spec.whatwg.org, URL parsing).
    is_ours = given.startswith("/") and not given.startswith("//") and "\\" not in given
    return given if is_ours and all(" " <= one != "\x7f" for one in given) else "/"


# --- is it ours -------------------------------------------------------------------------------------------------------


async def _is_ours(visit: Visit) -> bool:
    """Whether a form was sent by a page of this person's browser that we made (SEC-8)."""
    if not from_our_page(visit.request.headers, visit.request.host):
        return False
    given = visit.request.headers.get(CSRF_HEADER) or (await posted(visit.request)).get("csrf", "")
    return compare_digest(given.encode("utf-8", "replace"), visit.csrf.encode())


# --- what the browser is told -----------------------------------------------------------------------------------------


def told_to_browsers(console: Console) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """A signal that puts our headers on every answer that has not brought its own (SEC-9)."""

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        headers.pop(hdrs.SERVER, None)
        headers.setdefault("Content-Security-Policy", OUR_PAGE)
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("Referrer-Policy", "same-origin")
        headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
        headers.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
        headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
        if console.is_encrypted(request):
            headers.setdefault("Strict-Transport-Security", f"max-age={_TWO_YEARS}")

    return prepare


#: What a page says of what never comes to a handler of ours, or is no form: a headline and a sentence.
_IN_WORDS = {
    404: ("Not found", "There is nothing of this address."),
    405: ("Not possible here", "This address is not for that."),
    408: ("Too slow", "What was sent did not arrive in time. Send it again."),
    413: ("Too much", "What was sent is larger than anything that a form of ours can hold."),
}
_OTHERWISE = ("Not possible", "What was sent cannot be understood. Load the page again.")


def last_resort(console: Console) -> Any:
    """A middleware: whatever goes wrong ends in a page that says so, and never says how we are made (SEC-15)."""

    @web.middleware
    async def handle(request: web.Request, handler: _Handler) -> web.StreamResponse:
        response = await answered(request, handler)
        if request.writer.output_size and not response.prepared and request.transport is not None:
            # The beginning of another answer is out: what followed would be taken for a part of that, or for the answer
            # to the next request. An answer that breaks off is one that everybody knows to be incomplete.
            request.transport.abort()
        return response

    async def answered(request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            answer = _plain_problem(console, error.status, *_IN_WORDS.get(error.status, _OTHERWISE))
            if hdrs.ALLOW in error.headers:
                answer.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
            return answer
        except (StoreUnavailable, CommitUnknown) as error:
            log.warning("page not served", path=request.path, error=str(error))
            return _plain_problem(console, 503, "The database does not answer", "Try again in a moment.")
        except ConnectionError:
            raise
        except Exception:
            fault_id = new_fault_id()
            log.exception("page failed by our own fault", path=request.path, fault_id=fault_id)
            told = f"The log of the gateway says more, beside {fault_id}."
            return _plain_problem(console, 500, "This failed by our fault", told)

    return handle


def _plain_problem(console: Console, status: int, headline: str, sentence: str) -> web.Response:
    text = console.layout.render("plain_problem.html", headline=headline, sentence=sentence)
    return web.Response(status=status, text=text, content_type="text/html", charset="utf-8")
