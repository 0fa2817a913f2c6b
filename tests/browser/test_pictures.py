"""The pictures of the documents, of a deployment with traffic; `--screenshots` writes them anew."""

import re
from datetime import UTC, datetime, timedelta
from math import sin
from uuid import UUID

from playwright.async_api import Page, expect

from cli.mailbox.faults import Deed, Fault, Step
from mailroom.integration import ReportedState
from mailroom.latency import bucket_of
from mailroom.message import Kind, Status
from mailroom.store import integrations, tallies
from mailroom.store.tallies import NO_INTEGRATION, Key
from mailroom.tally import What
from tests.browser.conftest import Picture
from tests.browser.kit import PICTURES, assert_fits
from tests.browser.stage import GONE, Stage

ROOT = PICTURES.parents[1]

#: Customers and what they ask.
QUESTIONS = {
    "anna.berg@example.com": "Where is my parcel?",
    "l.rossi@example.org": "Invoice 2026-118 has the wrong address",
    "jonas@example.net": "Change of my delivery date",
    "m.okafor@example.com": "Refund for order 4471",
    "sofia.lind@example.org": "The discount code does not work",
    "t.nguyen@example.net": "How do I close my account?",
    "p.martin@example.com": "Two charges for one order",
    "k.haddad@example.com": "Order 4802 is late again",
}


async def test_the_pictures_show_what_the_documents_say(page: Page, stage: Stage, picture: Picture) -> None:
    """Each picture of the documents is of a page that shows what its text says, with real mail behind it."""
    taken = []

    async def take(name: str, path: str, shows: str) -> None:
        await page.goto(stage.url(path))
        await expect(page.locator("main")).to_contain_text(shows)
        await assert_fits(page)
        await picture(page, name)
        taken.append(name)

    released = await a_busy_day(stage)
    await as_a_reader_has_it(stage)
    await stage.enter(page)
    await take("overview", "/", "main is in ERROR")
    await take("integration", await stage.path_of(), "535 5.7.8")
    await take("messages", "/messages?text=order", "Refund for order 4471")
    await take("message", f"/messages/{released}", "ERROR to ACTIVATING")
    await take("dead-letters", "/dead-letters", "quota")
    await take("form", "/forms/support", "To paste into a page")
    stage.faults.add(Fault(at=Step.AUTH, do=Deed.ANSWER, code=535, text="5.7.8 Authentication failed"))
    stage.faults.add(Fault(at=Step.RCPT, do=Deed.ANSWER, code=451, text="4.7.1 Greylisted", times=3))
    stage.faults.add(Fault(at=Step.DOT, do=Deed.DELAY, seconds=10, odds=20))
    await take("faults", "/mailbox/faults", "Greylisted")

    assert {path.stem for path in PICTURES.glob("*.png")} == set(taken)


def test_every_picture_is_shown_and_told() -> None:
    """Each picture stands in a document, with words for who does not see it."""
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    shown = [
        found
        for one in documents
        for found in re.findall(r"!\[([^]]*)\]\((?:docs/)?screenshots/([\w-]+)\.png\)", one.read_text())
    ]

    assert {name for _, name in shown} == {path.stem for path in PICTURES.glob("*.png")}
    assert all(len(told) > 20 for told, _ in shown)


async def a_busy_day(stage: Stage) -> UUID:
    """Mail that was sent, mail that was refused, an account that was refused and mended, and is refused again.

    The id of a message that was held and released.
    """
    await add_an_hour(stage)
    for sender, subject in QUESTIONS.items():
        await stage.sent(subject, fromAddress=sender)
    await dead_letters(stage)
    stage.change_the_password()
    await stage.submit("Is the shop open on Monday?", fromAddress="r.silva@example.org")
    await stage.office.state(ReportedState.ERROR)
    released = await stage.submit("Damaged on arrival: order 5120", fromAddress="e.fischer@example.com")
    await stage.office.becomes(released, Status.HELD)
    stage.mend_the_password()
    await stage.office.store.transaction(
        integrations.reset,
        "main",
        who="user jane",
        why="the provider gave the old password back",
        now=datetime.now(UTC),
    )
    await stage.office.active()
    await stage.office.becomes(released, Status.SENT)
    stage.change_the_password()
    await stage.submit("Can I pay by invoice?", fromAddress="h.weber@example.com")
    await stage.office.state(ReportedState.ERROR)
    await stage.submit("Please cancel order 5213", fromAddress="d.ivanov@example.net")
    for i in range(22):
        await stage.submit(f"Sign-up {6000 + i}", fromAddress=f"customer{i}@example.com")
    await stage.office.add_integration(stage.smtp.port, "notifications")
    await stage.office.state(ReportedState.ACTIVE, "notifications")
    return released


async def add_an_hour(stage: Stage) -> None:
    """What an hour of mail leaves among the figures."""
    now = datetime.now(UTC)
    counts: dict[Key, int] = {}
    for ago in range(1, 60):
        minute = int((now - timedelta(minutes=ago)).timestamp() // 60)
        wave = 1.4 + sin(ago / 9) + 0.3 * sin(ago * 2.3)
        for kind, share in ((Kind.FORM, 40), (Kind.ACD, 22), (Kind.AGENTLESS, 9)):
            number = round(share * wave)
            counts[Key(minute, What.ACCEPTED, kind, "", NO_INTEGRATION)] = number
            counts[Key(minute, What.SENT, kind, "", NO_INTEGRATION)] = max(0, number - ago % 3)
            counts[Key(minute, bucket_of(0.4), kind, "", NO_INTEGRATION)] = round(number * (0.9 if ago % 11 else 0.4))
            counts[Key(minute, bucket_of(4.0 if ago % 7 else 20.0), kind, "", NO_INTEGRATION)] = round(number * 0.1) + 1
        if ago % 13 == 0:
            counts[Key(minute, What.FAILED, Kind.FORM, "", NO_INTEGRATION)] = ago // 13
    await stage.office.store.transaction(tallies.add, counts)


async def dead_letters(stage: Stage) -> None:
    """Two groups of letters that nobody tries again."""
    replies = {"sales": "550 5.1.1 This mailbox does not exist", "press": "552 5.2.2 Over quota, 100 MB of 100 MB used"}
    for name, reply in replies.items():
        stage.smtp.script("RCPT", reply, address=f"{name}@{GONE}")
    for name, number in {"sales": 14, "press": 3}.items():
        ids = [
            await stage.submit(f"Request about order {i}" if i == 1 else f"Request {i}", mailbox=f"{name}@{GONE}")
            for i in range(number)
        ]
        for one in ids:
            await stage.office.becomes(one, Status.FAILED)
    stage.smtp.forget("RCPT")


async def as_a_reader_has_it(stage: Stage) -> None:
    """Servers as a reader would have them, in place of those of the tests, to which nothing is sent any more."""
    row = await stage.office.transcript()
    told = (
        row.replace("127.0.0.1", "smtp.company.com")
        .replace(str(stage.smtp.port), "587")
        .replace("scripted.test", "smtp.company.com")
    )
    await stage.office.reconfigure(host="smtp.company.com", port=587, security="starttls", transcript=told)
    await stage.office.reconfigure("notifications", host="smtp.notify.company.com", port=465, security="tls")
