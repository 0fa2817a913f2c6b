"""The fault panel, filled in by a real HTTP client, and its double for programs."""

import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from markupsafe import Markup
from pytest_aiohttp.plugin import AiohttpClient

from cli.mailbox.fault_pages import READY_MADE, how_often, in_words, read_form
from cli.mailbox.faults import MOST_FAULTS, Deed, Fault, Faults, Step, problems
from cli.mailbox.frame import Handler, OwnShell
from cli.mailbox.letters import Letters
from cli.mailbox.pages import add_routes

Client = TestClient[web.Request, web.Application]

#: As the browser sends the form when nobody touched it.
UNTOUCHED = {
    "at": "RCPT", "do": "answer", "code": "451", "text": "", "seconds": "",
    "address": "", "above_per_minute": "", "times": "", "odds": "",
}  # fmt: skip


@pytest.fixture
def faults() -> Faults:
    """None yet."""
    return Faults()


@pytest.fixture
async def client(tmp_path: Path, faults: Faults, aiohttp_client: AiohttpClient) -> Client:
    """A client of the pages."""
    app = web.Application()
    add_routes(app, Letters(tmp_path / "mail"), prefix="/box", faults=faults)
    return await aiohttp_client(app)


def standing(faults: Faults) -> list[Fault]:
    """What is set."""
    return [one.fault for one in faults.standing]


@pytest.mark.parametrize(
    ("typed", "fault"),
    [
        ({}, Fault(at=Step.RCPT, do=Deed.ANSWER)),
        (
            {"at": "AUTH", "code": " 535 ", "text": " 5.7.8 No "},
            Fault(at=Step.AUTH, do=Deed.ANSWER, code=535, text="5.7.8 No"),
        ),
        ({"do": "delay", "seconds": "2.5"}, Fault(at=Step.RCPT, do=Deed.DELAY, seconds=2.5)),
        ({"at": "dot", "do": "lose-answer", "times": "1"}, Fault(at=Step.DOT, do=Deed.LOSE_ANSWER, times=1)),
        (
            {"address": "*@a.example", "above_per_minute": "10", "odds": "50"},
            Fault(at=Step.RCPT, do=Deed.ANSWER, address="*@a.example", above_per_minute=10, odds=50),
        ),
    ],
)
async def test_a_filled_in_form_sets_a_fault(
    client: Client, faults: Faults, typed: dict[str, str], fault: Fault
) -> None:
    """What was typed is set, and the browser is led back to the panel, which shows it."""
    answer = await client.post("/box/faults", data={**UNTOUCHED, **typed}, allow_redirects=False)

    assert (answer.status, answer.headers["Location"]) == (303, "./faults")
    assert standing(faults) == [fault]
    assert "1 fault" in await (await client.get("/box/faults")).text()


@pytest.mark.parametrize(
    ("typed", "wrong"),
    [
        ({"code": "250"}, {"code"}),
        ({"code": ""}, {"code"}),
        ({"code": "4x1", "times": "-1", "seconds": "soon"}, {"code", "times", "seconds"}),
        ({"at": "QUIT", "do": "explode"}, {"at", "do"}),
        ({"odds": "0", "text": "a\nb"}, {"odds", "text"}),
        ({"seconds": "inf"}, {"seconds"}),
        ({"seconds": "61"}, {"seconds"}),
        ({"times": "٣"}, {"times"}),
    ],
)
async def test_what_is_wrong_is_said_beside_its_field(
    client: Client, faults: Faults, typed: dict[str, str], wrong: set[str]
) -> None:
    """Nothing is set, every wrong field is marked, and what was typed stays."""
    given = {**UNTOUCHED, **typed, "address": '"><script>'}
    answer = await client.post("/box/faults", data=given)
    page = await answer.text()

    assert (answer.status, standing(faults)) == (422, [])
    assert wrong <= set(read_form(given).wrong) | {"address"}
    assert all(f'id="{name}-hint">' in page and "aria-invalid" in page for name in wrong)
    assert "&#34;&gt;&lt;script&gt;" in page
    assert "<script" not in page


@pytest.mark.parametrize("name", list(READY_MADE))
async def test_a_click_sets_what_is_ready_made(client: Client, faults: Faults, name: str) -> None:
    """Each of the ready-made faults is a good one, and set by its button."""
    await client.post("/box/faults", data={"ready": name})

    assert standing(faults) == [READY_MADE[name]]
    assert problems(READY_MADE[name]) == {}


async def test_faults_are_removed_one_by_one_and_all_at_once(client: Client, faults: Faults) -> None:
    """A button takes back its own fault, another all of them; one that is gone already does no harm."""
    for code in (450, 451, 452):
        faults.add(Fault(at=Step.RCPT, do=Deed.ANSWER, code=code))
    answer = await client.post("/box/faults/2/remove")
    await client.post("/box/faults/2/remove")

    assert (answer.status, answer.url.path) == (200, "/box/faults")
    assert [one.code for one in standing(faults)] == [450, 452]
    await client.post("/box/faults/clear")
    assert standing(faults) == []


async def test_the_panel_counts(client: Client, faults: Faults) -> None:
    """It shows how often each fault struck, and which are over."""
    faults.add(Fault(at=Step.MAIL, do=Deed.DROP, times=2))
    for _ in range(3):
        faults.strike(Step.MAIL, ("a@b.example",), 0.0, lambda: 0.0)
    page = await (await client.get("/box/faults")).text()

    assert "over: struck 2 times" in page
    assert "lose the connection unanswered" in page


async def test_there_is_an_end_to_faults(client: Client, faults: Faults) -> None:
    """One more than fifty is refused in words."""
    faults.replace([Fault(at=Step.MAIL, do=Deed.DROP)] * MOST_FAULTS)
    answer = await client.post("/box/faults", data=UNTOUCHED)

    assert answer.status == 409
    assert "remove some first" in await answer.text()


async def test_programs_set_see_and_remove_faults(client: Client, faults: Faults) -> None:
    """PUT replaces what is set, GET shows it with its counts, DELETE takes it back; what GET gives, PUT takes."""
    wanted = [{"at": "AUTH", "do": "answer", "code": 535}, {"at": "dot", "do": "delay", "seconds": 1, "times": 3}]
    put = await client.put("/box/faults.json", json={"faults": wanted})
    shown = await (await client.get("/box/faults.json")).json()

    assert put.status == 200
    assert shown == await put.json()
    assert shown["faults"][1] == {
        "id": 2, "at": "dot", "do": "delay", "code": 451, "text": "", "seconds": 1.0,
        "address": "", "above_per_minute": None, "times": 3, "odds": 100, "struck": 0,
    }  # fmt: skip
    assert (await client.put("/box/faults.json", json=shown)).status == 200
    assert (await client.delete("/box/faults.json")).status == 204
    assert standing(faults) == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"not json", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "faults"),
        (b'{"faults": 1}', "faults"),
        (b'{"faults": [1]}', "faults[0]"),
        (b'{"faults": [{"at": "RCPT"}]}', "do"),
        (b'{"faults": [{"at": "RCPT", "do": "answer", "percent": 5}]}', "there is no percent"),
        (b'{"faults": [{"at": "RCPT", "do": "answer"}, {"at": "QUIT", "do": "answer"}]}', "faults[1]"),
        (b'{"faults": [{"at": "RCPT", "do": "answer", "code": 250, "odds": 0}]}', "faults[0].odds"),
    ],
)
async def test_bad_faults_of_programs_change_nothing(client: Client, faults: Faults, body: bytes, said: str) -> None:
    """What is no list of good faults is refused with what is wrong, and what was set stays."""
    faults.add(Fault(at=Step.MAIL, do=Deed.DROP))
    answer = await client.put("/box/faults.json", data=body)

    assert answer.status == 422
    assert said in (await answer.json())["error"]
    assert len(standing(faults)) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/faults"), ("POST", "/faults/clear"), ("POST", "/faults/1/remove"), ("PUT", "/faults.json"),
        ("DELETE", "/faults.json"),
    ],
)  # fmt: skip
async def test_sec_8_other_sites_cannot_change_faults(client: Client, faults: Faults, method: str, path: str) -> None:
    """A foreign page cannot break somebody's mailbox, nor repair it."""
    faults.add(Fault(at=Step.MAIL, do=Deed.DROP))
    answer = await client.request(method, f"/box{path}", headers={"Sec-Fetch-Site": "cross-site"})

    assert (answer.status, len(standing(faults))) == (403, 1)


@pytest.mark.parametrize(
    ("fault", "what", "when"),
    [
        (Fault(at=Step.RCPT, do=Deed.ANSWER), "answer “451 The mailbox was told to answer this”", "always"),
        (Fault(at=Step.RCPT, do=Deed.DELAY, seconds=2.5, times=1), "wait 2.5 s", "1 time"),
        (Fault(at=Step.RCPT, do=Deed.DROP, odds=20, address="a.b"), "lose the connection unanswered",
         "for a.b, in 20 of 100 cases"),
        (Fault(at=Step.RCPT, do=Deed.DROP_AFTER, above_per_minute=0), "answer as usual, then lose the connection",
         "above 0 a minute"),
        (Fault(at=Step.DOT, do=Deed.LOSE_ANSWER, times=3), "keep the letter, lose the answer", "3 times"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_fault_in_words(fault: Fault, what: str, when: str) -> None:
    """A person reads what happens, and when."""
    assert (in_words(fault), how_often(fault)) == (what, when)


class _Hall(OwnShell):
    """A shell like an application's: a door with a key, a layout and a hidden field of its own."""

    def guard(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            if request.headers.get("Key") != "right":
                return web.Response(status=401)
            return await handler(request)

        return guarded

    def page(self, request: web.Request, *, title: str, main: Markup, stylesheet: str, status: int) -> web.Response:
        return web.Response(text=f"HALL {title} {stylesheet} {main}", status=status, content_type="text/html")

    def hidden(self, request: web.Request) -> Markup:
        return Markup('<input type="hidden" name="csrf" value="ours">')


async def test_a_shell_takes_the_pages_in(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """In a shell every page stands in its layout, every form brings its hidden field, and nothing goes past its door."""
    app = web.Application()
    faults = Faults()
    faults.add(Fault(at=Step.MAIL, do=Deed.DROP))
    letters = Letters(tmp_path / "mail")
    letter = await letters.store("a@example.org", ["b@example.org"], b"Subject: x\r\n\r\ny\r\n")
    add_routes(app, letters, prefix="/box", faults=faults, shell=_Hall())
    client: Any = await aiohttp_client(app)
    key = {"Key": "right"}
    for path in ("/box/", f"/box/letters/{letter.id}", "/box/letters/gone", "/box/faults"):
        page = await (await client.get(path, headers=key)).text()

        assert page.startswith("HALL "), path
        assert page.count('method="post"') == page.count('name="csrf"'), path
    for route in app.router.routes():
        assert route.resource is not None
        path = re.sub(r"\{\w+\}", "1", route.resource.canonical)
        assert (await client.request(route.method, path)).status == 401, path
