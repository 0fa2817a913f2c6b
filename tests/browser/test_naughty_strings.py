"""Whatever strangers write is shown as they wrote it, in a real browser: nothing runs, nothing breaks, nothing is fetched."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

import aiohttp
import pytest
from playwright.async_api import Page, expect

from mailroom.message import Content, Status
from mailroom.roles import Role
from mailroom.store import audit, sign_ins, users
from mailroom.store.audit import Entry
from mailroom.store.content import encode_content
from tests.browser.kit import DESKTOP, PHONE, Browsing, Kind, assert_fits
from tests.browser.naughty import EVERYTHING, POSSIBLE
from tests.browser.stage import GONE, Stage
from tests.gateway.admin.visitor import PASSWORD
from tests.journeys.office import FORM, a_row

#: What runs although it should not complains, and so fails the test.
TELLS = "window.ran = () => console.error('IT RAN')"

#: Many pages are looked at; each is quick.
patient = pytest.mark.timeout(500)


@pytest.fixture
async def reader(page: Page, stage: Stage) -> Page:
    """An administrator's page that complains when something runs."""
    await page.add_init_script(TELLS)
    await stage.enter(page)
    return page


async def look(page: Page, stage: Stage, path: str) -> None:
    """Visit a page, open what is folded, and see that it fits a desk and a phone."""
    await page.set_viewport_size(DESKTOP)
    await page.goto(stage.url(path))
    await page.evaluate("document.querySelectorAll('main details').forEach(one => { one.open = true })")
    await assert_fits(page)
    await page.set_viewport_size(PHONE)
    await assert_fits(page)
    assert await page.evaluate("document.querySelectorAll('main script, main img, main style, main meta').length") == 0


def test_there_are_many() -> None:
    """The list is long, and nothing is in it twice."""
    assert len(set(EVERYTHING)) == len(EVERYTHING) >= 150


async def submitted(stage: Stage, text: str, service: str = "support", **more: Any) -> UUID | None:
    """A form with this text in every field; its id, or None when the API refused it as it refuses what it cannot take."""
    fields = {**FORM, "firstName": text, "lastName": text, "subject": text, "text": text, "userData": f"{text}={text}",
              "userData[key]": text, **more}  # fmt: skip
    body = urlencode(fields, errors="surrogatepass")
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    status, answer = await stage.office.insisted(quote(service, safe=""), lambda: body, headers)
    assert (status, "errors" in answer) in {(200, False), (400, True)}, (text, status, answer)
    return stage.office.id_of(answer) if status == 200 else None


@patient
async def test_sec_10_in_every_field_of_a_form(reader: Page, stage: Stage) -> None:
    """Names, subjects, texts and attached data stand on the pages of their messages as they were written."""
    ids = {text: await submitted(stage, text) for text in EVERYTHING}
    taken = {text: one for text, one in ids.items() if one is not None}
    assert len(taken) > 120, sorted(set(ids) - set(taken))
    # The list below shows all of them; what a page of a message adds, every third tells.
    for one in list(taken.values())[::3]:
        standing = await stage.office.becomes(one, Status.SENT, Status.FAILED)
        await look(reader, stage, f"/messages/{one}")
        assert await reader.locator("h1").text_content() == (standing.subject or "(no subject)")
    for number in range(1 + len(taken) // 50):
        await look(reader, stage, "/messages") if not number else await reader.get_by_role("link", name="Older").click()
        await expect(reader.locator("tbody tr").first).to_be_visible()
    await look(reader, stage, "/")
    for received in stage.smtp.inbox:
        assert received.rcpt_to == ("support@company.test",)


@patient
async def test_sec_10_in_the_mailbox(reader: Page, stage: Stage) -> None:
    """The letters that come of it are shown by the development mailbox just so."""
    for text in EVERYTHING[::6]:
        if (one := await submitted(stage, text)) is not None:
            await stage.office.becomes(one, Status.SENT, Status.FAILED)
    for received in stage.smtp.inbox:
        letter = await stage.letters.store(received.mail_from, list(received.rcpt_to), received.content)
        await look(reader, stage, f"/mailbox/letters/{letter.id}")
    await look(reader, stage, "/mailbox/")


def with_a_file(name: str) -> aiohttp.FormData:
    """A form with a file of this name."""
    form = aiohttp.FormData(quote_fields=True)
    for field, value in FORM.items():
        form.add_field(field, value)
    form.add_field("files", b"Order 17\n", filename=name)
    return form


@patient
async def test_sec_10_as_names_of_files(reader: Page, stage: Stage) -> None:
    """A file may be named like anything; its link downloads it and does nothing else."""
    taken = 0
    # Others cannot be sent by a client that keeps to the rules of headers.
    for text in [one for one in POSSIBLE if one.isprintable()][::3]:
        status, answer = await stage.office.insisted("support", partial(with_a_file, f"{text}.txt"))
        assert status in {200, 400}, (text, answer)
        if status == 200:
            taken += 1
            await look(reader, stage, f"/messages/{stage.office.id_of(answer)}")
            assert await reader.locator(".files a").count() == 1
    assert taken > 25


@patient
async def test_sec_10_in_what_people_and_servers_leave_behind(reader: Page, stage: Stage, browser: Browsing) -> None:
    """Names, notes, reasons, browsers and servers' replies are shown as they are, wherever they are shown."""
    store, now = stage.office.store, datetime.now(UTC)
    main = (await stage.office.integration()).id
    jane = await store.read(users.named, "jane")
    await stage.office.reconfigure(notes="\n".join(POSSIBLE), from_name=POSSIBLE[0], transcript="\n".join(POSSIBLE))
    names = POSSIBLE[::24]
    for name in names:
        await stage.office.add_integration(stage.smtp.port, name)
        await store.transaction(users.create, name[:64], Role.VIEWER, "kept", who=name, now=now)

    def leave(tx: Any) -> None:
        for text in POSSIBLE:
            sign_ins.begin(tx, jane, address=text[:45], browser=text[:160], now=now)
            for subject in (("integration", main), ("message", None)):
                audit.note(tx, Entry(subject=subject[0], subject_id=subject[1], action="changed", who=text, at=now,
                                     before=text, after=text, why=text, transcript=text))  # fmt: skip

    await store.transaction(leave)
    people = [row.id for row in await store.read(users.listed)]
    integrations = [(await stage.office.integration(name)).id for name in names]
    paths = [
        "/account", "/people", *[f"/people/{one}" for one in people], "/audit", "/integrations", "/",
        *[f"/integrations/{one}{page}" for one in (main, *integrations)
          for page in ("", "/edit", "/reset", "/disable", "/delete")],
    ]  # fmt: skip
    for path in paths:
        await look(reader, stage, path)
    for number in range(6):
        await reader.goto(stage.url("/audit")) if not number else await reader.get_by_role("link", name="Older").click()
        await expect(reader.locator("tbody tr")).to_have_count(50)
    assert len(await store.read(sign_ins.of_user, jane, now=now + timedelta(seconds=1))) > len(POSSIBLE)


def lines_of_a_server(texts: Sequence[str]) -> list[str]:
    """Those that a server can say in one line."""
    return [one for one in texts if one.isprintable() and one.isascii() and len(one) < 400]


@patient
async def test_in_the_replies_of_a_server(reader: Page, stage: Stage) -> None:
    """A server may reply with anything: the groups of dead letters, their messages and their CSV show it, tamed."""
    said = lines_of_a_server(POSSIBLE)[::5]
    for number, text in enumerate(said):
        stage.smtp.script("RCPT", f"550 5.1.1 {text}", address=f"n{number}@{GONE}")
    ids = [await submitted(stage, text, mailbox=f"n{number}@{GONE}") for number, text in enumerate(said)]
    for one in filter(None, ids):
        await stage.office.becomes(one, Status.FAILED)
        await look(reader, stage, f"/messages/{one}")
    await look(reader, stage, "/dead-letters")
    groups = await reader.locator("tbody a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert len(groups) > 10
    for path in groups:
        await look(reader, stage, path)
        answer = await reader.request.get(stage.url(f"{path}/affected.csv"))
        rows = list(csv.reader(io.StringIO(await answer.text())))
        assert len({len(row) for row in rows}) == 1, "every line has every column"
        assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


@patient
async def test_in_addresses_of_pages(reader: Page, stage: Stage, browser: Browsing) -> None:
    """What stands in a link to us is shown or refused, never run, and leads nowhere else."""
    for text in EVERYTHING[::22]:
        word = quote(text[:300], safe="", errors="surrogatepass")
        for path in (f"/messages?text={word}", f"/explain?message={word}", f"/explain?kind=form&service={word}",
                     f"/audit?who={word}&since={word}", f"/forms/{word}", f"/messages/{word}"):  # fmt: skip
            await look(reader, stage, path)
            assert reader.url.startswith(stage.url())
    browser.troubles = [one for one in browser.troubles if "Failed to load resource" not in one.text]


async def test_in_the_sign_in(page: Page, stage: Stage, browser: Browsing) -> None:
    """A name that is none, and a way back that leads elsewhere, change nothing of the sign-in."""
    await page.add_init_script(TELLS)
    await stage.entrance.add_user("jane")
    for way in ("//evil.invalid/", "/\\evil.invalid", "javascript:ran()", '"><script>ran()</script>'):
        await page.goto(stage.url(f"/sign-in?next={quote(way, safe='')}"))
        await page.get_by_label("Name").fill(f'x" onfocus="ran()" <script>ran()</script>{{{{7*7}}}}{len(way)}')
        await page.get_by_label("Password").fill("wrong")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_be_visible()
        assert "{{7*7}}" in await page.get_by_label("Name").input_value()
        browser.troubles = [one for one in browser.troubles if "Failed to load resource" not in one.text]
        async with stage.entrance.browser() as other:
            seen = await other.sign_in("jane", PASSWORD, next=way)
        assert seen.headers.get("Location", "/").startswith("/")
        assert "evil" not in seen.headers.get("Location", "")


async def test_html_of_a_letter(reader: Page, browser: Browsing, stage: Stage) -> None:
    """The HTML of a letter is shown in a frame in which it can do nothing."""
    integration = await stage.office.integration()
    row = a_row(integration.id)
    html = "<p id=readable>Dear customer</p><img src=http://evil.invalid/first.png>\n" + "\n".join(POSSIBLE)
    content = Content(to="jane@customer.test", subject="A letter", text="Dear customer", html=html)
    await stage.office.queued(
        [type(row)(**{**{name: getattr(row, name) for name in row.__slots__}, "body": encode_content(content)})]
    )
    await reader.goto(stage.url(f"/messages/{row.id}"))
    await reader.get_by_text("HTML, in a frame").click()
    await expect(reader.frame_locator("iframe").locator("#readable")).to_have_text("Dear customer")
    await reader.goto(stage.url(f"/messages/{row.id}/html"))

    troubles, browser.troubles = browser.troubles, []
    assert reader.url == stage.url(f"/messages/{row.id}/html")
    assert {one.kind for one in troubles} == {Kind.POLICY, Kind.CONSOLE}, "it was refused, and said so"
    assert all("Blocked" in one.text for one in troubles if one.kind is Kind.CONSOLE)
