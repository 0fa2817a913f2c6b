"""An operator's day in a real browser, against a real deployment: what went wrong is seen, understood, mended and proved."""

import asyncio
import csv
import io
import re
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Page, Route, expect
from pytest_aiohttp.plugin import AiohttpServer

from mailroom.integration import ReportedState
from mailroom.message import Status
from tests.browser.kit import PHONE, Browsing, Kind, assert_accessible, assert_fits
from tests.browser.stage import GONE, SECRET, Stage
from tests.journeys.office import Office

#: These are whole days of a person, on a machine that may be busy.
pytestmark = pytest.mark.timeout(400)

#: Seconds by which a script may come after the others on a slow line.
LATE_SECONDS = 1.0

#: What a page forgets when it is loaded again.
MARK = "window.notLoadedAgain = true"
IS_MARKED = "window.notLoadedAgain === true"


async def held(stage: Stage, number: int) -> list[str]:
    """Forms that are accepted while nothing may be sent."""
    ids = [await stage.submit(f"Parcel number {i}", fromAddress=f"customer{i}@example.test") for i in range(number)]
    return [str(one) for one in ids]


async def test_a_page_changes_by_itself_however_late_its_scripts_arrive(page: Page, stage: Stage) -> None:
    """What connects it to its stream may come long after what looks for what to connect."""

    async def late(route: Route) -> None:
        await asyncio.sleep(LATE_SECONDS)
        await route.continue_()

    await page.route("**/hx-sse.min.js", late)
    async with page.expect_request("**/live?*"):
        await stage.enter(page)
    stage.change_the_password()
    await stage.submit("Where is my refund?", fromAddress="ann@refund.test")
    await expect(page.locator(".needs li").first).to_contain_text("main is in ERROR")


async def test_a_refused_password_is_seen_understood_and_mended(page: Page, browser: Browsing, stage: Stage) -> None:
    """The overview says by itself that an account is refused and why; after the mending a reset sends what was held."""
    await stage.sent("All is well")
    await stage.enter(page)
    await expect(page.get_by_text("Nothing needs a person.")).to_be_visible()

    # It goes wrong while somebody watches.
    await page.evaluate(MARK)
    stage.change_the_password()
    first = await stage.submit("Where is my refund?", fromAddress="ann@refund.test")
    need = page.locator(".needs li").first
    await expect(need).to_contain_text("main is in ERROR")
    await expect(need).to_contain_text("user name or password")
    assert await page.evaluate(IS_MARKED)

    # Its page says how much it sent, what the server said, and never the password.
    await need.get_by_role("link", name="See why and reset").click()
    await expect(page.get_by_role("heading", name="What the server said")).to_be_visible()
    await expect(page.locator(".figures > div", has_text="sent today")).to_contain_text("1")
    await expect(page.locator("pre").first).to_contain_text("535")
    assert SECRET not in await page.content()
    await held(stage, 12)
    await expect(page.locator("#held")).to_have_text("12")

    # A reset wants a reason, from whoever gets past the browser's own question too.
    await page.get_by_role("link", name="Reset").click()
    await expect(page.locator(".figures > div", has_text="held")).to_contain_text("12")
    await page.get_by_role("button", name="Reset").click()
    assert page.url.endswith("/reset")
    assert (await stage.office.integration()).reported_state is ReportedState.ERROR
    await page.locator("#why").evaluate("field => field.required = false")
    await page.get_by_role("button", name="Reset").click()
    await expect(page.get_by_role("alert")).to_contain_text("Write what was mended")
    browser.take(Kind.CONSOLE, "400")

    # Mended and reset, it sends what was held while one watches.
    stage.mend_the_password()
    await page.get_by_label("What was mended").fill("the provider gave the old password back")
    await page.get_by_role("button", name="Reset").click()
    await page.evaluate(MARK)
    await expect(page.locator(".figures").get_by_text("ACTIVE")).to_be_visible()
    await expect(page.locator("#held")).to_have_text("0", timeout=40_000)
    assert await page.evaluate(IS_MARKED)
    assert await stage.office.becomes(first, Status.SENT)
    await expect(page.locator(".timeline")).to_contain_text("user jane: the provider gave the old password back")

    await finds_it(page, str(first))
    await reads_its_story(page, stage, str(first))


async def finds_it(page: Page, message_id: str) -> None:
    """A word of the subject, the address and the id each lead to the message."""
    await page.get_by_role("link", name="Messages").click()
    for text in ("refund", "ann@refund.test", "@refund.test", message_id, f"<{message_id}@company.test>"):
        await page.get_by_role("searchbox").fill(text)
        await page.get_by_role("button", name="Search").click()
        await expect(page.locator("tbody tr")).to_have_count(1)
        await expect(page.locator("tbody tr").get_by_role("link", name="Where is my refund?")).to_be_visible()
    await page.get_by_role("link", name="Where is my refund?").click()


async def reads_its_story(page: Page, stage: Stage, message_id: str) -> None:
    """Its timeline has everything in the order of time; it is explained; the audit has who did what."""
    told = [(await one.inner_text()).replace("\n", " ") for one in await page.locator(".timeline .what").all()]
    assert told[0] == "Accepted"
    assert any("ACTIVE to ERROR" in one for one in told), told
    assert any("ERROR to ACTIVATING" in one for one in told), told
    assert told[-1].endswith("Sent"), told
    await expect(page.locator(".timeline")).to_contain_text("the provider gave the old password back")

    await page.get_by_role("link", name="Explain", exact=True).last.click()
    await expect(page.get_by_role("heading", name="Message of kind form")).to_be_visible()
    assert message_id in page.url

    await page.get_by_role("link", name="Audit").click()
    row = page.locator("tbody tr", has_text="the provider gave the old password back").first
    await expect(row).to_contain_text("user jane")
    await expect(row).to_contain_text("main")
    assert SECRET not in await page.content()


async def test_dead_letters_are_dealt_with_together_and_one_by_one(page: Page, stage: Stage, tmp_path: Path) -> None:
    """What one server refuses for one cause is one group: exported, sent after the mending, redirected or dismissed."""
    stage.smtp.script("RCPT", "550 5.1.1 This mailbox does not exist", address=f"@{GONE}")
    ids = [await stage.submit(f"Complaint {i}", mailbox=f"clerk{i}@{GONE}") for i in range(8)]
    for one in ids:
        await stage.office.becomes(one, Status.FAILED)
    await stage.enter(page)
    await expect(page.locator(".needs li")).to_contain_text("8 dead letters")
    await page.get_by_role("link", name="See them").click()
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.locator("tbody a").click()
    group = page.url

    # Whom it concerns.
    async with page.expect_download() as downloaded:
        await page.get_by_role("link", name="Who was affected (CSV)").click()
    file = tmp_path / "affected.csv"
    await (await downloaded.value).save_as(file)
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert sorted(one["recipient"] for one in rows) == [f"clerk{i}@{GONE}" for i in range(8)]

    # One had a wrong address, one is nobody's business any more.
    await page.get_by_role("link", name="Complaint 0").click()
    await page.get_by_role("link", name="Send to another address").click()
    await page.get_by_label("To", exact=True).fill("right@company.test")
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_text("It is sent again as this new message.")).to_be_visible()
    await expect(page.locator(".timeline")).to_contain_text("Sent")
    await page.goto(group)
    await page.get_by_role("link", name="Complaint 1").click()
    await page.get_by_role("link", name="Dismiss").click()
    await page.get_by_label("Why").fill("she called, all is settled")
    await page.get_by_role("button", name="Dismiss").click()
    await expect(page.get_by_text("It is dismissed")).to_be_visible()

    # The others go out once the server is mended, as fast as was said, while one watches.
    stage.smtp.forget("RCPT")
    await page.goto(group)
    await expect(page.get_by_role("heading", name="6 letters of main")).to_be_visible()
    await page.get_by_text("Re-drive all of them").click()
    await page.get_by_label("Messages a second").fill("1")
    await page.get_by_label("What was mended").fill("the provider made the mailboxes")
    await page.get_by_role("button", name="Re-drive 6").click()
    await page.evaluate(MARK)
    seen = page.locator("[role=status] strong")
    await expect(seen).to_have_text(re.compile(r"^[1-5] of 6 queued again$"))
    await expect(seen).to_have_text("6 of 6 queued again")
    await expect(page.get_by_text("0 wait for a person")).to_be_visible()
    assert await page.evaluate(IS_MARKED)
    for one in ids[2:]:
        await stage.office.becomes(one, Status.SENT)

    assert sorted(one.rcpt_to[0] for one in stage.smtp.inbox) == [
        *[f"clerk{i}@{GONE}" for i in range(2, 8)], "right@company.test"
    ]  # fmt: skip
    await page.get_by_role("link", name="Audit").click()
    for words in ("she called, all is settled", "the provider made the mailboxes"):
        await expect(page.locator("tbody tr", has_text=words).first).to_contain_text("user jane")


async def test_the_form_to_paste_works_where_it_is_pasted(
    page: Page, browser: Browsing, stage: Stage, aiohttp_server: AiohttpServer, tmp_path: Path
) -> None:
    """What the page of a form tells to paste, pasted into a page elsewhere, brings a letter with its file."""
    await stage.enter(page)
    await page.get_by_role("link", name="Forms").click()
    await page.get_by_role("link", name="support").click()
    await page.get_by_role("button", name="Submit it for real").click()
    await expect(page.get_by_role("status")).to_contain_text("Accepted.")
    await page.get_by_role("link", name="See the message").click()
    await expect(page.locator(".timeline")).to_contain_text("Sent")
    await page.goto(stage.url("/forms/support"))
    pasted = await page.locator("#pasted").inner_text()

    async def elsewhere(_: web.Request) -> web.Response:
        head = "<!doctype html><html lang=en><title>A shop</title><link rel=icon href='data:,'><main><h1>A shop</h1>"
        return web.Response(text=head + pasted, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", elsewhere)
    shop = str((await aiohttp_server(app)).make_url("/"))
    await page.goto(shop)
    await assert_accessible(page)
    (tmp_path / "order.txt").write_text("Order 17\n")
    for label, text in {"First name": "Ann", "Last name": "Lee", "E-mail address": "ann@example.test",
                        "Subject": "A pasted form", "Message": "Where is it?"}.items():  # fmt: skip
        await page.get_by_label(label).fill(text)
    await page.get_by_label("Files").set_input_files(tmp_path / "order.txt")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("body")).to_contain_text('"statusCode":0')
    message_id = re.search(r'"interactionId":"([^"]+)"', await page.inner_text("body"))
    assert message_id is not None
    await page.goto(stage.url(f"/messages/{message_id[1]}"))
    await expect(page.locator(".timeline")).to_contain_text("Sent")

    mail = stage.office.parsed(stage.smtp.inbox[-1].content)
    assert mail["Subject"] == "A pasted form"
    assert [part.get_filename() for part in mail.iter_attachments()] == ["order.txt"]


async def everything_there_is(stage: Stage) -> list[str]:
    """Something of each kind, and the paths of every page that then shows something."""
    office: Office = stage.office
    sent = await stage.sent(
        "A question with a long subject, as people write them when they are cross", text="Hello\n" * 30
    )
    stage.smtp.script("RCPT", "550 5.1.1 This mailbox does not exist", address=f"@{GONE}")
    failed = await stage.submit("A dead letter", mailbox=f"clerk@{GONE}")
    await office.becomes(failed, Status.FAILED)
    stage.change_the_password()
    waits = await stage.submit("It waits")
    letter = await stage.letters.store("forms@company.test", ["support@company.test"], stage.smtp.inbox[0].content)
    await office.state(ReportedState.ERROR)
    main = await stage.path_of()
    async with stage.entrance.browser() as visitor:
        await visitor.sign_in("jane")
        groups = await visitor.get("/dead-letters")
        people = await visitor.get("/people")
    group = groups.text.split('class="plain" href="')[1].split('"')[0]
    person = people.text.split('href="/people/')[1].split('"')[0]
    messages = [f"/messages/{one}" for one in (sent, failed, waits)]
    return [
        "/", "/?span=week", "/integrations", "/integrations/new", main, f"{main}/reset", f"{main}/disable", f"{main}/edit",
        f"{main}/delete", "/messages", "/messages?text=nothing-like-it", *messages, f"{messages[1]}/copy",
        f"{messages[1]}/dismiss", "/dead-letters", group, "/forms", "/forms/support", "/explain",
        f"/explain?message={waits}", "/audit", "/people", f"/people/{person}", "/account", "/mailbox/",
        f"/mailbox/letters/{letter.id}", "/mailbox/faults",
    ]  # fmt: skip


async def test_every_page_is_for_everybody(browser: Browsing, stage: Stage) -> None:
    """Every page can be used without eyes or a mouse, in light and in dark, and fits a phone."""
    light, dark = await browser.open(), await browser.open(colours="dark", size=PHONE)
    await stage.enter(light)
    paths = await everything_there_is(stage)
    for page in (light, dark):
        await page.goto(stage.url("/sign-in"))
        await assert_accessible(page)
        await assert_fits(page)
    await stage.sign_in(dark, "jane")
    for path in paths:
        for page in (light, dark):
            await page.goto(stage.url(path))
            await assert_accessible(page)
            await assert_fits(page)
