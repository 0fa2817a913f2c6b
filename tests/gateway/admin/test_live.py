"""Streams of what changes: who gets them for how long, how many there are, and what they may cost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web

from gateway.admin.console import NotFound, Visit
from gateway.admin.door import Page
from gateway.admin.live import LONGEST_PAUSE, LOOK_SECONDS, MOST_OF_ONE, live, pause
from mailroom.roles import Role
from mailroom.store import integrations, users
from mailroom.store.port import StoreUnavailable
from tests.gateway.admin.visitor import Entrance, Visitor, entrance_of
from tests.journeys.office import Office

SIGN_OUT_IN = 15.0


@dataclass(slots=True)
class Board:
    """A page of the test's own that is watched: it says what the test wrote on it."""

    text: str = "one"
    trouble: Exception | None = None
    looks: int = 0

    async def read(self, visit: Visit) -> str:
        """What it says to whoever looks."""
        self.looks += 1
        if self.trouble is not None:
            raise self.trouble
        return self.text

    async def watch(self, visit: Visit) -> web.StreamResponse:
        """The page."""
        return await live(visit, self.read)


@dataclass(slots=True)
class Stream:
    """What a browser gets of a stream."""

    answer: aiohttp.ClientResponse

    async def event(self, seconds: float = 10) -> list[str]:
        """The lines of data of the next event; none at the end of the stream."""
        lines: list[str] = []
        async with asyncio.timeout(seconds):
            while line := (await self.answer.content.readline()).decode():
                if line.startswith("data: "):
                    lines.append(line.removeprefix("data: ").rstrip("\r\n"))
                if lines and not line.strip():
                    break
        return lines

    async def nothing(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        try:
            await self.event(seconds)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def watching(visitor: Visitor, path: str = "/board") -> AsyncIterator[Stream]:
    """A page that a browser watches."""
    async with visitor.session.get(f"http://{visitor.address}{path}") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        yield Stream(answer)


@dataclass(slots=True)
class Hall:
    """Pages with a board among them."""

    entrance: Entrance
    board: Board = field(default_factory=Board)


@pytest.fixture
async def hall(office: Office) -> AsyncIterator[Hall]:
    """Pages with a board that everybody may watch."""
    board = Board()
    await office.add_integration(2525)
    async with (
        office.gateway() as gateway,
        entrance_of(gateway, office.store, Page("GET", "/board", None, board.watch)) as entrance,
    ):
        yield Hall(entrance, board)


@pytest.fixture
async def jane(hall: Hall) -> AsyncIterator[Visitor]:
    """Somebody who only looks."""
    async with hall.entrance.person(Role.VIEWER, "jane") as visitor:
        yield visitor


async def test_it_is_sent_when_it_has_changed(hall: Hall, jane: Visitor) -> None:
    """What it says comes at once, then only when it says something else."""
    async with watching(jane) as stream:
        first = await stream.event()
        quiet = await stream.nothing(2.5)
        hall.board.text = "two"
        second = await stream.event()

    assert (first, quiet, second) == (["one"], True, ["two"])
    assert hall.board.looks >= 3


async def test_no_line_break_ends_an_event(hall: Hall, jane: Visitor) -> None:
    """Whoever writes line breaks into what is shown makes no event of their own."""
    hall.board.text = "a\r\n\r\nevent: evil\rdata: x\n\ndata: y\u2028z"
    async with watching(jane) as stream:
        assert await stream.event() == ["a", "", "event: evil", "data: x", "", "data: y\u2028z"]


async def test_it_ends_with_the_sign_in(hall: Hall, jane: Visitor) -> None:
    """Who signs out elsewhere, or is disabled, is told so on the page and gets no more of it."""
    async with hall.entrance.browser() as other:
        await other.sign_in("jane")
        async with watching(jane) as stream:
            await stream.event()
            await other.post("/account/sign-out")
            assert "You are signed out here" in "".join(await stream.event(SIGN_OUT_IN))
            assert await stream.event(SIGN_OUT_IN) == []
        async with watching(other) as stream:
            await stream.event()
            await hall.entrance.store.transaction(users.end, "jane", who="test", now=datetime.now(UTC))
            while last := "".join(await stream.event(SIGN_OUT_IN)):
                hall.board.text, told = "for nobody who is disabled", last
            assert "You are signed out here" in told


async def test_it_ends_with_the_process(office: Office) -> None:
    """A process that stops waits for no reader: its streams end, and each browser comes to another one."""
    board = Board()
    async with AsyncExitStack() as stack, office.gateway() as gateway:
        page = Page("GET", "/board", None, board.watch)
        async with entrance_of(gateway, office.store, page) as entrance:
            visitor = await stack.enter_async_context(entrance.person(Role.VIEWER))
            stream = await stack.enter_async_context(watching(visitor))
            await stream.event()
        assert await stream.event(1) == []


async def test_it_ends_with_the_browser(hall: Hall, jane: Visitor) -> None:
    """A stream that nobody reads any more is not kept, nor counted."""
    async with watching(jane) as stream:
        await stream.event()
        assert hall.entrance.console.streams.open.total() == 1

    async with asyncio.timeout(20):
        while hall.entrance.console.streams.open:
            hall.board.text += "!"
            await asyncio.sleep(0.1)


async def test_who_clicks_on_leaves_nothing_behind(hall: Hall, jane: Visitor) -> None:
    """A stream ends soon after its browser left, also when it has nothing to say: many pages are seen one by one."""
    for _ in range(3):
        for _ in range(MOST_OF_ONE - 1):
            async with watching(jane) as stream:
                await stream.event()
        async with asyncio.timeout(5):
            while hall.entrance.console.streams.open:
                await asyncio.sleep(0.05)


async def test_it_ends_with_what_is_watched(hall: Hall, jane: Visitor) -> None:
    """The stream of what is deleted ends, and nothing that is no event comes after it."""
    async with watching(jane) as stream:
        await stream.event()
        hall.board.trouble = NotFound("It is gone.")
        assert await stream.event() == []

    assert (await jane.get("/board")).status == 404


async def test_a_fault_breaks_it_off(hall: Hall, jane: Visitor) -> None:
    """No page about a fault is written into a stream that has begun: it breaks off, as a browser expects."""
    async with watching(jane) as stream:
        await stream.event()
        hall.board.trouble = ZeroDivisionError()
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.event()


async def test_a_database_that_is_away_ends_nothing(hall: Hall, jane: Visitor) -> None:
    """While the database is away the page shows what it showed; when it is back, what is so then."""
    hall.board.trouble = StoreUnavailable("away")
    async with watching(jane) as stream:
        assert await stream.nothing(1.5)
        hall.board.trouble = None
        assert await stream.event() == ["one"]
        hall.board.trouble = StoreUnavailable("away")
        assert await stream.nothing(1.5)
        hall.board.text, hall.board.trouble = "two", None
        assert await stream.event() == ["two"]


async def test_nobody_has_them_all(hall: Hall, jane: Visitor) -> None:
    """Who watches too many pages gets no further one until they leave one; others do."""
    async with AsyncExitStack() as stack, hall.entrance.person(Role.VIEWER, "joe") as joe:
        for _ in range(MOST_OF_ONE):
            await stack.enter_async_context(watching(jane))
        one_more = await jane.get("/board")
        page = await jane.get("/integrations")
        async with watching(joe) as stream:
            theirs = await stream.event()

    assert (one_more.status, page.status, theirs) == (409, 200, ["one"])


async def test_pages_are_watched(office: Office, hall: Hall, jane: Visitor) -> None:
    """A page's stream tells of a change of what the page shows."""
    row = await office.store.read(integrations.named, "main")
    for path in ("/live", "/integrations/live", f"/integrations/{row.id}/live"):
        async with watching(jane, path) as stream:
            first = "\n".join(await stream.event())
            assert "ACTIVATING" in first or "ENABLED" in first or "main" in first

    async with watching(jane, f"/integrations/{row.id}/live") as stream:
        await stream.event()
        await office.store.transaction(integrations.disable, "main", who="test", why="a test", now=datetime.now(UTC))
        assert "disabled" in "\n".join(await stream.event())


@pytest.mark.parametrize(
    ("streams", "cost", "seconds"),
    [
        (1, 0.0, LOOK_SECONDS),
        (1, 0.01, LOOK_SECONDS),
        (1, 0.5, 5.0),
        (50, 0.002, LOOK_SECONDS),
        (200, 0.005, 10.0),
        (200, 3.0, LONGEST_PAUSE),
    ],
)
def test_streams_take_a_small_share_of_the_time(streams: int, cost: float, seconds: float) -> None:
    """The more are watched, and the more a look costs, the less often each looks: mail comes first."""
    assert pause(streams, cost) == pytest.approx(seconds)
