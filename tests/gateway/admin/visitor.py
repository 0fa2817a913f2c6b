"""How tests visit the pages: as a person with a browser's cookies, over HTTP."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from typing import Any
from uuid import UUID

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from gateway.admin.console import Console
from gateway.admin.door import SIGN_IN_COOKIE, Page, add_page
from gateway.app import Gateway
from mailroom.passwords import hashed
from mailroom.roles import Role
from mailroom.serving import serving
from mailroom.store import sign_ins, users
from mailroom.store.port import Store

PASSWORD = "correct horse battery staple"

#: What is kept of the passwords of these tests: computed once.
_KEPT: dict[str, str] = {}

_CSRF = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


@dataclass(frozen=True, slots=True)
class Seen:
    """A page as a browser gets it."""

    status: int
    text: str
    headers: CIMultiDictProxy[str]

    @property
    def words(self) -> str:
        """Its text without its markup."""
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", self.text)).split())


@dataclass(slots=True)
class Visitor:
    """One browser at one address of the pages."""

    address: str
    session: aiohttp.ClientSession

    async def sign_in(self, name: str, password: str = PASSWORD, **more: str) -> Seen:
        """Fill in the form of the sign-in."""
        return await self.send("/sign-in", {"name": name, "password": password, **more})

    async def get(self, path: str, **headers: str) -> Seen:
        """Load a page; redirections are not followed."""
        return await self.request("GET", path, headers=headers)

    async def post(self, path: str, fields: Mapping[str, str] | None = None, *, at: str = "/account") -> Seen:
        """Submit a form with the token that the page `at` has."""
        token = _CSRF.search((await self.get(at)).text)
        assert token is not None, f"{at} has no form"
        return await self.send(path, {"csrf": token[1], **(fields or {})})

    async def send(self, path: str, fields: Mapping[str, str], **headers: str) -> Seen:
        """Submit a form exactly so."""
        return await self.request("POST", path, data=dict(fields), headers=headers)

    async def request(self, method: str, path: str, **more: Any) -> Seen:
        """Send anything."""
        async with self.session.request(
            method, f"http://{self.address}{path}", allow_redirects=False, **more
        ) as answer:
            return Seen(answer.status, (await answer.read()).decode("utf-8", "replace"), answer.headers)


@dataclass(slots=True)
class Entrance:
    """The pages of a gateway, being served."""

    address: str
    store: Store
    console: Console

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[Visitor]:
        """A browser that nobody has used."""
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            yield Visitor(self.address, session)

    @asynccontextmanager
    async def person(self, role: Role = Role.ADMIN, name: str | None = None) -> AsyncIterator[Visitor]:
        """Somebody of this role who is signed in, without having typed the password: computing with it takes long."""
        user_id = await self.add_user(name or f"the {role}", role)
        async with self.browser() as visitor:
            token = await self.store.transaction(
                sign_ins.begin, user_id, address="127.0.0.1", browser="a browser", now=datetime.now(UTC)
            )
            visitor.session.cookie_jar.update_cookies({SIGN_IN_COOKIE: token}, URL(f"http://{self.address}/"))
            yield visitor

    async def add_user(self, name: str, role: Role = Role.ADMIN, password: str = PASSWORD) -> UUID:
        """Let somebody in; their id."""
        if password not in _KEPT:
            _KEPT[password] = await hashed(password)
        return await self.store.transaction(
            users.create, name, role, _KEPT[password], who="test", now=datetime.now(UTC)
        )


@asynccontextmanager
async def entrance_of(gateway: Gateway, store: Store, *more: Page) -> AsyncIterator[Entrance]:
    """Serve the pages of this gateway, and some of the test's own, on a free port."""
    pages, console = gateway.pages()
    for page in more:
        add_page(pages, console, page)
    async with serving(pages, "127.0.0.1:0", shutdown_seconds=2) as address:
        yield Entrance(address, store, console)
