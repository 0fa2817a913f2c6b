"""A real browser that looks at our pages and objects to whatever goes wrong on them. The tests' one door to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    ViewportSize,
    async_playwright,
    expect,
)

from tests.services import CHROMIUM, LOOPBACK

#: Chromium asks its maker's servers for things, and as root it needs to be told to do without its sandbox.
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: Milliseconds for one step of a page on a busy machine.
_PATIENCE = 20_000
#: What changes by itself is looked at once a minute at least (gateway/admin/live.py), however busy the machine is.
expect.set_options(timeout=70_000)

DESKTOP = ViewportSize(width=1280, height=800)
PHONE = ViewportSize(width=360, height=740)

#: Tells the console of each violation of a page's Content-Security-Policy, those that Chromium keeps to itself included.
_TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", event =>
  console.error("POLICY " + event.effectiveDirective + " " + event.blockedURI));
"""

#: What axe calls a finding that keeps somebody from using the page.
_GRAVE = frozenset({"serious", "critical"})

#: The largest picture that the documents take, in bytes.
LARGEST_PICTURE = 150_000
PICTURES = Path(__file__).parents[2] / "docs" / "screenshots"


class Scripts(StrEnum):
    """Whether a browser runs them."""

    RUN = "run"
    OFF = "off"


class Kind(StrEnum):
    """What can go wrong on a page."""

    CONSOLE = "console"
    SCRIPT = "script"
    POLICY = "policy"
    REQUEST = "request"
    ELSEWHERE = "elsewhere"
    DIALOG = "dialog"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that went wrong on a page."""

    kind: Kind
    text: str


@dataclass
class Browsing:
    """The pages that one test opens, and everything that went wrong on them."""

    _browser: Browser
    troubles: list[Trouble] = field(default_factory=list)

    async def open(
        self,
        *,
        colours: Literal["light", "dark"] = "light",
        size: ViewportSize = DESKTOP,
        scripts: Scripts = Scripts.RUN,
    ) -> Page:
        """A page in a browser that nobody used before, in these colours and this size; UTC, en-GB, nothing moves."""
        context = await self._browser.new_context(
            viewport=size,
            color_scheme=colours,
            reduced_motion="reduce",
            locale="en-GB",
            timezone_id="UTC",
            service_workers="block",
            java_script_enabled=scripts is Scripts.RUN,
        )
        context.set_default_timeout(_PATIENCE)
        await context.add_init_script(_TELL_VIOLATIONS)
        page = await context.new_page()
        self._watch(page)
        return page

    async def leave(self) -> None:
        """Close every page: what they watch may go."""
        for context in self._browser.contexts:
            await context.close()

    def take(self, kind: Kind, text: str) -> list[Trouble]:
        """The troubles of this kind with this text, which the test expected: there must be one."""
        taken = [one for one in self.troubles if one.kind is kind and text in one.text]
        assert taken, f"no {kind} trouble with {text!r} among {self.troubles}"
        self.troubles = [one for one in self.troubles if one not in taken]
        return taken

    def _watch(self, page: Page) -> None:
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._note(Kind.SCRIPT, str(error)))
        page.on("requestfinished", self._note_elsewhere)
        page.on("requestfailed", self._on_failure)
        page.on("dialog", self._on_dialog)
        page.context.on("page", self._watch)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            policy = message.text.startswith("POLICY ") or "Content Security Policy" in message.text
            self._note(Kind.POLICY if policy else Kind.CONSOLE, message.text)

    def _note_elsewhere(self, request: Request) -> None:
        place = urlsplit(request.url)
        if place.scheme not in {"data", "blob", "about"} and place.hostname not in {LOOPBACK, "localhost"}:
            self._note(Kind.ELSEWHERE, request.url)

    def _on_failure(self, request: Request) -> None:
        match request.failure:
            case "csp":  # it never left the browser
                self._note(Kind.POLICY, f"{request.method} {request.url}")
            case "net::ERR_ABORTED":  # a download, or a page that was left while it loaded
                self._note_elsewhere(request)
            case failure:
                self._note_elsewhere(request)
                self._note(Kind.REQUEST, f"{request.method} {request.url}: {failure}")

    async def _on_dialog(self, dialog: Dialog) -> None:
        self._note(Kind.DIALOG, f"{dialog.type}: {dialog.message}")
        await dialog.dismiss()

    def _note(self, kind: Kind, text: str) -> None:
        self.troubles.append(Trouble(kind, text))


@asynccontextmanager
async def browsing() -> AsyncIterator[Browsing]:
    """A new browser with a profile of its own; at the end nothing may have gone wrong that was not taken.

    One for each test, on the test's own loop: it is there in half a second, and no test can leave anything in it.
    """
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        seen = Browsing(browser)
        yield seen
        await browser.close()
    assert not seen.troubles, "\n".join(f"{one.kind}: {one.text}" for one in seen.troubles)


async def assert_accessible(page: Page) -> None:
    """Nothing on the page, as it is now, keeps anybody from using it, as far as axe can tell."""
    # Letters are shown in frames that no script may enter.
    results = await Axe().run(page, options={"resultTypes": ["violations"], "iframes": False})
    grave = [one for one in results.response["violations"] if one["impact"] in _GRAVE]
    assert not grave, "\n".join(
        f"{one['id']} ({one['impact']}): {one['help']}\n    {node['html']}\n    {node['failureSummary']}"
        for one in grave
        for node in one["nodes"]
    )


async def assert_fits(page: Page) -> None:
    """The page is no wider than its window."""
    wide, window = await page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= window, f"{page.url} is {wide} pixels wide in a window of {window}"


async def take_picture(page: Page, name: str, folder: Path = PICTURES) -> None:
    """Write what the window shows to this folder, small enough for the documents."""
    path = folder / f"{name}.png"
    picture = await page.screenshot(path=path, animations="disabled", caret="hide", scale="css")
    assert len(picture) <= LARGEST_PICTURE, f"{path.name} has {len(picture)} bytes"
