"""Signing in and out (SEC-7, SEC-11): the same time and words whether the name or the password is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from aiohttp import web

from gateway.admin.console import Console, Visit
from gateway.admin.door import browser_of, know_again, let_in, let_out, token_of, way_back
from gateway.admin.known_browsers import introduced, recognised
from gateway.admin.layout import span
from gateway.admin.posted import URLENCODED, posted
from gateway.admin.tries import begin_try
from gateway.admission import limited_as
from mailroom.logs import get_logger
from mailroom.passwords import Busy, hashed, is_password
from mailroom.serving import from_our_page
from mailroom.store import sign_ins, users
from mailroom.store.port import BadRow
from mailroom.store.sign_ins import Account

log = get_logger(__name__)

#: Longer names are nobody's.
LONGEST_NAME = 64
LONGEST_BROWSER = 160

WRONG = "The name or the password is wrong."
ELSEWHERE = "This did not come from this page. Load it again and sign in here."


@dataclass(slots=True)
class SignIn:
    """The pages that need nobody to be signed in."""

    console: Console
    #: What the password of a name that nobody has is held against, so that both take the same time.
    nobodys: str | None = field(default=None, repr=False)

    async def show(self, request: web.Request) -> web.Response:
        """The page to sign in at."""
        return await self._page(request, next=request.query.get("next", ""))

    async def sign_in(self, request: web.Request) -> web.Response:
        """Let somebody in whose name and password are right."""
        if not from_our_page(request.headers, request.host) or request.content_type != URLENCODED:
            return await self._page(request, problem=ELSEWHERE, status=403)
        form = await posted(request)
        name, password, after = (form.get(one, "") for one in ("name", "password", "next"))
        try:
            return await self._judged(request, name.strip(), password, after)
        except Busy:
            problem = "Too many people sign in at the moment. Try again in a few seconds."
            return await self._page(request, problem=problem, name=name, next=after, status=503)

    async def _judged(self, request: web.Request, name: str, password: str, after: str) -> web.Response:
        address = self.console.address_of(request)
        whos = self._counted_as(request, name, address)
        begun = await begin_try(self.console.store, whos)
        if isinstance(begun, datetime):
            wait = span(begun - datetime.now(UTC))
            problem = f"Too many tries failed. Wait {wait}, then try again."
            return await self._page(request, problem=problem, name=name, next=after, status=429)
        known = await self._account(name)
        try:
            is_right = await is_password(password, known.password_hash if known else await self._nobodys())
        except Busy:
            await self.console.store.transaction(sign_ins.take_back, begun)
            raise
        tried = _Try(address, whos, begun, way_back(after))
        entered = await self._let_in(request, known, tried) if known is not None and is_right else None
        if entered is None:
            await self._note_refusal(known, address)
            return await self._page(request, problem=WRONG, name=name, next=after, status=403)
        return entered

    def _counted_as(self, request: web.Request, name: str, address: str) -> Sequence[str]:
        """By what the failures of this try are counted: nobody who guesses elsewhere keeps out who is known here."""
        known = recognised(self._keys, name, browser_of(self.console, request))
        return [f"browser {known}"] if known else [_of_name(name), f"address {limited_as(address)}"]

    @property
    def _keys(self) -> tuple[str, ...]:
        return self.console.vault.derived("browsers")

    async def _account(self, name: str) -> Account | None:
        try:
            return await self.console.store.read(sign_ins.account, name) if 0 < len(name) <= LONGEST_NAME else None
        except BadRow:
            return None  # no database can hold such a name

    async def _nobodys(self) -> str:
        if self.nobodys is None:
            self.nobodys = await hashed("a password that nobody has, of the usual length")
        return self.nobodys

    async def _note_refusal(self, known: Account | None, address: str) -> None:
        log.warning("sign-in refused", address=address, known_name=known is not None)
        if known is not None:
            await self.console.store.transaction(
                users.note, known.user_id, "sign-in refused", who=f"user {known.name}", after=f"from {address}",
                now=datetime.now(UTC),
            )  # fmt: skip

    async def _let_in(self, request: web.Request, known: Account, tried: "_Try") -> web.Response | None:
        """Signed in; None when the password was changed, or the account disabled, while it was held against the old one."""
        browser = request.headers.get("User-Agent", "")[:LONGEST_BROWSER]
        old = token_of(self.console, request)
        now = datetime.now(UTC)

        def enter(tx: Any) -> str | None:
            if not sign_ins.is_still(tx, known):
                return None
            sign_ins.take_back(tx, tried.begun)
            sign_ins.forgive(tx, tried.whos[0])
            if old:
                # Whoever signs in anew gets a new token, and the old one, whoever's, is worth nothing (ASVS 7.2.4).
                sign_ins.end_shown(tx, sign_ins.hash_of(old))
            users.note(tx, known.user_id, "signed in", who=f"user {known.name}", after=f"from {tried.address}", now=now)
            return sign_ins.begin(tx, known.user_id, address=tried.address, browser=_printable(browser), now=now)

        token = await self.console.store.transaction(enter)
        if token is None:
            return None
        response = web.Response(status=303, headers={"Location": tried.after})
        let_in(self.console, request, response, token)
        if tried.whos[0] == _of_name(known.name):
            know_again(self.console, request, response, introduced(self._keys, known.name))
        return response

    async def _page(
        self, request: web.Request, *, problem: str = "", name: str = "", next: str = "", status: int = 200,  # noqa: A002 - the field's name
    ) -> web.Response:  # fmt: skip
        nobody = not await self.console.store.read(users.is_anybody)
        text = self.console.layout.render(
            "sign_in.html", problem=problem, name=name, after=next, nobody=nobody,
            in_the_clear=not self.console.is_encrypted(request) and not _is_local(request),
        )  # fmt: skip
        return web.Response(status=status, text=text, content_type="text/html", charset="utf-8")


@dataclass(frozen=True, slots=True)
class _Try:
    """A try to sign in: from where, by what its failures are counted and how that is taken back, and where it leads."""

    address: str
    whos: Sequence[str]
    begun: Sequence[UUID]
    after: str


async def sign_out(visit: Visit) -> web.Response:
    """End this sign-in, here and in the database."""
    now = datetime.now(UTC)

    def leave(tx: Any) -> None:
        sign_ins.end(tx, visit.person.user_id, visit.person.hash)
        users.note(tx, visit.person.user_id, "signed out", who=visit.who, now=now)

    await visit.console.store.transaction(leave)
    response = visit.see_other("/sign-in")
    let_out(visit.console, visit.request, response)
    return response


def _of_name(name: str) -> str:
    # PostgreSQL cannot hold every name; those that it cannot are nobody's.
    return f"user {name[:LONGEST_NAME]}".replace("\0", "")


def _is_local(request: web.Request) -> bool:
    return request.host.rpartition(":")[0].strip("[]") in {"127.0.0.1", "localhost", "::1"}


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)
