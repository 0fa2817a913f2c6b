"""The pages without JavaScript: everything can be read, and everything can be done; only nothing changes by itself."""

from pathlib import Path

from playwright.async_api import Page, expect

from mailroom.integration import ReportedState
from mailroom.message import Status
from tests.browser.kit import Browsing, Scripts
from tests.browser.stage import GONE, Stage
from tests.gateway.admin.visitor import PASSWORD


async def test_an_account_is_mended_without_scripts(browser: Browsing, stage: Stage) -> None:
    """Sign in, see what needs a person, reset it with a reason, find a message that was held, sign out."""
    page = await browser.open(scripts=Scripts.OFF)
    stage.change_the_password()
    await stage.submit("Where is my refund?")
    await stage.office.state(ReportedState.ERROR)
    waits = await stage.submit("Is anybody there?")
    await stage.office.becomes(waits, Status.HELD)
    await stage.enter(page)
    await page.get_by_role("link", name="See why and reset").click()
    await expect(page.locator("pre").first).to_contain_text("535")
    await expect(page.locator("#held")).to_have_text("1")
    await page.get_by_role("link", name="Reset").click()
    await page.get_by_label("What was mended").fill("the old password is good again")
    stage.mend_the_password()
    await page.get_by_role("button", name="Reset").click()
    await stage.office.becomes(waits, Status.SENT)
    await page.reload()
    await expect(page.locator(".figures")).to_contain_text("ACTIVE")

    await page.get_by_role("link", name="Messages").click()
    await page.get_by_role("searchbox").fill("anybody")
    await page.get_by_role("button", name="Search").click()
    await page.get_by_role("link", name="Is anybody there?").click()
    await expect(page.locator(".timeline")).to_contain_text("the old password is good again")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_dead_letters_without_scripts(browser: Browsing, stage: Stage, tmp_path: Path) -> None:
    """A group is exported and re-driven, one of it is sent elsewhere, another dismissed."""
    page = await browser.open(scripts=Scripts.OFF)
    stage.smtp.script("RCPT", "550 5.1.1 This mailbox does not exist", address=f"@{GONE}")
    ids = [await stage.submit(f"Complaint {i}", mailbox=f"clerk{i}@{GONE}") for i in range(4)]
    for one in ids:
        await stage.office.becomes(one, Status.FAILED)
    stage.smtp.forget("RCPT")
    await stage.enter(page)
    await page.get_by_role("link", name="Dead letters", exact=True).click()
    await page.locator("tbody a").click()
    group = page.url
    async with page.expect_download() as downloaded:
        await page.get_by_role("link", name="Who was affected (CSV)").click()
    await (await downloaded.value).save_as(tmp_path / "affected.csv")
    assert len((tmp_path / "affected.csv").read_text().splitlines()) == 1 + len(ids)

    await page.goto(stage.url(f"/messages/{ids[0]}/dismiss"))
    await page.get_by_label("Why").fill("she called")
    await page.get_by_role("button", name="Dismiss").click()
    await expect(page.get_by_text("It is dismissed")).to_be_visible()
    await page.goto(stage.url(f"/messages/{ids[1]}/copy"))
    await page.get_by_label("To", exact=True).fill("right@company.test")
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_text("It is sent again as this new message.")).to_be_visible()
    await page.goto(stage.url(f"/messages/{ids[2]}"))
    await page.get_by_role("button", name="Re-drive").click()
    await stage.office.becomes(ids[2], Status.SENT)
    await page.goto(group)
    await page.get_by_text("Re-drive all of them").click()
    await page.get_by_role("button", name="Re-drive 1").click()
    await stage.office.becomes(ids[3], Status.SENT)


async def test_everything_is_set_up_without_scripts(browser: Browsing, stage: Stage) -> None:
    """An integration is created, changed, tested, disabled and deleted; a person is added; a form is tried."""
    page = await browser.open(scripts=Scripts.OFF)
    await stage.enter(page)
    await page.get_by_role("link", name="Integrations").click()
    await page.get_by_role("link", name="New integration").click()
    for label, text in {
        "Name": "second",
        "Host": "127.0.0.1",
        "Port": str(stage.smtp.port),
        "Sends as": "a@company.test",
    }.items():
        await page.get_by_label(label, exact=True).fill(text)
    await page.get_by_label("Security").select_option("none")
    await page.get_by_label("Do not test and enable it yet").check()
    await page.get_by_role("button", name="Create").click()
    await expect(page.get_by_role("heading", name="second")).to_be_visible()
    await page.get_by_role("link", name="Edit").click()
    await page.get_by_label("Messages a day (UTC)").fill("100")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator(".facts")).to_contain_text("100")
    await page.get_by_role("button", name="Test").click()
    await expect(page.get_by_role("heading", name="Last test")).to_be_visible()
    await page.get_by_role("link", name="Delete this integration").click()
    await page.get_by_label("Write its name to go on").fill("second")
    await page.get_by_role("button", name="Delete").click()
    await expect(page.get_by_text("It is deleted.")).to_be_visible()
    await disables_main(page)

    await page.get_by_role("link", name="People").click()
    await page.get_by_label("Name").fill("joe")
    await page.get_by_label("Role").select_option("operator")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Add").click()
    await expect(page.get_by_text("They can sign in now.")).to_be_visible()
    await page.get_by_role("link", name="Forms").click()
    await page.get_by_role("link", name="support").click()
    await page.get_by_role("button", name="Submit it for real").click()
    await expect(page.get_by_role("status")).to_contain_text("Accepted.")
    await page.get_by_role("link", name="Explain").click()
    await page.get_by_label("Service of a form").fill("support")
    await page.get_by_role("button", name="Explain").last.click()
    await expect(page.get_by_role("heading", name="A submission of kind form, now")).to_be_visible()


async def disables_main(page: Page) -> None:
    """Disabling wants a reason, which is then in its history."""
    await page.get_by_role("link", name="main").click()
    await page.get_by_role("link", name="Disable").click()
    await page.get_by_label("Why").fill("the provider moves")
    await page.get_by_role("button", name="Disable").click()
    await expect(page.locator(".timeline")).to_contain_text("user jane: the provider moves")
