"""The pages of integrations: made, changed, tested, reset, disabled and deleted, by one person or by two at once."""

import asyncio
import re
from html import unescape
from typing import Any

import pytest

from mailroom.integration import ReportedState
from mailroom.store import connection_tests, integrations
from mailroom.store.integrations import UnknownIntegration
from tests.gateway.admin.visitor import Seen, Visitor, entrance_of
from tests.journeys.office import VAULT, Office
from tests.smtp_server import scripted_smtp

SECRET = "hunter2 & <no> \"markup'"

NEW = {
    "name": "new",
    "host": "smtp.company.test",
    "port": "587",
    "security": "starttls",
    "username": "forms",
    "password": SECRET,
    "from": "Company <forms@company.test>",
    "mailbox": "",
    "max_connections": "4",
    "per_second": "",
    "per_day": "",
}


async def row_of(office: Office, name: str = "main") -> Any:
    """An integration as it is stored."""
    return await office.store.read(integrations.named, name)


async def page_of(office: Office, action: str = "", name: str = "main") -> str:
    """Where its page is, or the page of something to do with it."""
    return f"/integrations/{(await row_of(office, name)).id}{action}"


def typed(seen: Seen) -> dict[str, str]:
    """What stands in the fields of a form."""
    fields = re.findall(r'<input id="(\w+)" name="\w+" type="\w+" value="([^"]*)"', seen.text)
    return {name: unescape(value) for name, value in fields}


async def the_form(admin: Visitor, office: Office, **changes: str) -> dict[str, str]:
    """The form to change it as a browser sends it, with these fields typed anew."""
    seen = await admin.get(await page_of(office, "/edit"))
    version = re.search(r'name="version" value="(\d+)"', seen.text)
    assert version is not None
    return {**typed(seen), "version": version[1], "security": "none", "password": "", **changes}


# --- made -------------------------------------------------------------------------------------------------------------


async def test_sec_6_one_is_made(office: Office, admin: Visitor) -> None:
    """With what was typed; its password is sealed, and on no page."""
    made = await admin.post("/integrations/new", NEW)
    row = await row_of(office, "new")
    pages = [await admin.get(f"/integrations/{row.id}{action}") for action in ("", "/edit", "/reset", "/delete")]
    everywhere = [*pages, await admin.get("/audit"), await admin.get("/integrations")]

    assert (made.status, made.headers["Location"]) == (303, f"/integrations/{row.id}?done=created")
    assert (row.reported_state, row.from_name, row.per_second, row.per_day) == ("ACTIVATING", "Company", None, None)
    assert VAULT.open(row.sealed_password) == SECRET
    for seen in everywhere:
        assert seen.status == 200
        assert "hunter2" not in seen.text
        assert row.sealed_password not in seen.text


async def test_one_is_made_to_wait(office: Office, admin: Visitor) -> None:
    """Who wants it neither tested nor enabled yet gets one that is disabled."""
    await admin.post("/integrations/new", NEW | {"disabled": "on"})
    row = await row_of(office, "new")

    assert (row.intended_state, row.reported_state) == ("DISABLED", "INACTIVE")
    assert await office.store.read(connection_tests.newest_test, row.id) is None


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("name", "", "name: "),
        ("name", "../x", "is no good name"),
        ("name", "main", "there is an integration 'main' already"),
        ("host", "", "host"),
        ("host", "a b", "is no host name"),
        ("port", "none", "port: "),
        ("port", "0", "port: "),
        ("port", "65536", "port: "),
        ("port", "9" * 5000, "port: "),
        ("security", "if available", "security: "),
        ("from", "nobody", "from: "),
        ("mailbox", "nobody", "is no address"),
        ("max_connections", "0", "max_connections: "),
        ("max_connections", "9" * 30, "max_connections: "),
        ("per_second", "nan", "per_second: "),
        ("per_second", "inf", "per_second: "),
        ("per_second", "1e-300", "per_second: "),
        ("per_second", "many", "per_second: "),
        ("per_day", "-1", "per_day: "),
        ("per_day", "9" * 30, "per_day: "),
    ],
    ids=lambda value: str(value)[:12] or "empty",
)  # fmt: skip
async def test_what_is_wrong_is_told(office: Office, admin: Visitor, field: str, value: str, told: str) -> None:
    """With what was typed still there, but for the password; nothing is made."""
    seen = await admin.post("/integrations/new", NEW | {field: value})

    assert seen.status == 400
    assert told in seen.words
    kept = typed(seen)
    assert {name: kept.get(name) for name in ("username", "host") if name != field} == {
        name: NEW[name] for name in ("username", "host") if name != field
    }
    assert "hunter2" not in seen.text
    with pytest.raises(UnknownIntegration):
        await row_of(office, "new")


# --- changed ----------------------------------------------------------------------------------------------------------


async def test_what_is_left_as_it_is_stays(office: Office, admin: Visitor) -> None:
    """A form sent back as it came changes nothing: no test, no new version, and the password is kept."""
    await admin.post("/integrations/new", NEW)
    before = await row_of(office, "new")
    path = await page_of(office, "/edit", "new")
    seen = await admin.get(path)
    form = {**typed(seen), "version": str(before.version), "security": "starttls", "password": "", "why": ""}
    sent = await admin.post(path, form)
    after = await row_of(office, "new")

    assert sent.status == 303
    assert (after.version, after.generation, after.sealed_password) == (
        before.version, before.generation, before.sealed_password,
    )  # fmt: skip


async def test_limits_come_and_go(office: Office, admin: Visitor) -> None:
    """A number limits, an empty field does not; neither needs a new test."""
    before = await row_of(office)
    path = await page_of(office, "/edit")
    await admin.post(
        path, await the_form(admin, office, per_second="2.5", per_day="1000", mailbox="sales@company.test")
    )
    limited = await row_of(office)
    shown = await admin.get(await page_of(office))
    await admin.post(path, await the_form(admin, office, per_second="", per_day="", mailbox=""))
    free = await row_of(office)

    assert (limited.per_second, limited.per_day, limited.default_mailbox) == (2.5, 1000, "sales@company.test")
    assert (free.per_second, free.per_day, free.default_mailbox) == (None, None, None)
    assert before.generation == limited.generation == free.generation
    assert "Messages a second 2.5" in shown.words


async def test_a_new_password_is_tried(office: Office, admin: Visitor) -> None:
    """It replaces the old one, whose blanks were part of it; who logs in no more has none."""
    path = await page_of(office, "/edit")
    await admin.post(path, await the_form(admin, office, username="jane", password="  blanks  "))
    row = await row_of(office)
    assert (row.username, VAULT.open(row.sealed_password)) == ("jane", "  blanks  ")

    await admin.post(path, await the_form(admin, office, anonymous="on"))
    row = await row_of(office)
    assert (row.username, row.sealed_password, row.reported_state) == (None, None, "ACTIVATING")


async def test_the_later_of_two_is_told(office: Office, admin: Visitor) -> None:
    """Who changes what somebody else has changed meanwhile changes nothing, also when both are sent at once."""
    path = await page_of(office, "/edit")
    mine = await the_form(admin, office, per_day="1")
    theirs = await the_form(admin, office, per_day="2")
    told = await asyncio.gather(admin.post(path, mine), admin.post(path, theirs))
    row = await row_of(office)

    assert sorted(seen.status for seen in told) == [303, 409]
    assert "Somebody else changed it" in "".join(seen.words for seen in told) or "changed" in told[-1].words
    assert row.version == int(mine["version"]) + 1


async def test_a_name_that_is_taken_is_told(office: Office, admin: Visitor) -> None:
    """Two integrations never have one name."""
    await office.add_integration(2526, "other")
    seen = await admin.post(await page_of(office, "/edit"), await the_form(admin, office, name="other"))

    assert seen.status == 400
    assert typed(seen)["name"] == "other"
    assert (await row_of(office)).name == "main"


# --- done with it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["reset", "disable"])
async def test_what_others_will_ask_about_needs_a_reason(office: Office, admin: Visitor, action: str) -> None:
    """Without one nothing is done; with it the history has it."""
    before = await row_of(office)
    path = await page_of(office, f"/{action}")
    without = await admin.post(path, {"why": " "})
    unchanged = await row_of(office)
    done = await admin.post(path, {"why": "the <provider> said so"})
    page = await admin.get(await page_of(office))

    assert (without.status, done.status) == (400, 303)
    assert 'role="alert"' in without.text
    assert unchanged.generation == before.generation
    assert "user the admin: the <provider> said so" in page.words


async def test_only_its_name_deletes_it(office: Office, admin: Visitor) -> None:
    """What cannot be undone asks for the name; afterwards there is no page of it, and its name is free."""
    path, page = await page_of(office, "/delete"), await page_of(office)
    without = await admin.post(path, {"name": "mian"})
    done = await admin.post(path, {"name": "main", "why": "moved"})
    gone = [await admin.get(one) for one in (page, path, f"{page}/reset", f"{page}/edit", f"{page}/live")]
    late = [
        await admin.post(f"{page}/{action}", {"why": "x", "name": "main"}) for action in ("reset", "disable", "test")
    ]
    again = await admin.post("/integrations/new", NEW | {"name": "main"})

    assert (without.status, done.status, again.status) == (400, 303, 303)
    assert {seen.status for seen in (*gone, *late)} == {404}


async def test_two_people_do_different_things_at_once(office: Office, admin: Visitor) -> None:
    """Whoever is second is told, or undoes nothing: what is deleted stays so."""
    page = await page_of(office)
    actions = {"delete": {"name": "main"}, "reset": {"why": "x"}, "disable": {"why": "y"}, "test": {}}
    told = await asyncio.gather(*(admin.post(f"{page}/{action}", form) for action, form in actions.items()))

    assert told[0].status == 303
    assert {seen.status for seen in told} <= {303, 404, 409}
    with pytest.raises(UnknownIntegration):
        await row_of(office)


@pytest.mark.parametrize(
    "to", ["nobody", "a@b.test>\r\nRCPT TO:<c@d.test", "a@b.test, c@d.test", "x" * 9000 + "@b.test", "a@b.test\0"]
)
async def test_a_letter_goes_to_one_address(office: Office, admin: Visitor, to: str) -> None:
    """What is no address is told before a worker is asked."""
    seen = await admin.post(await page_of(office, "/test"), {"to": to})
    taken = await office.store.read(connection_tests.newest_test, (await row_of(office)).id)

    assert (seen.status == 409) is (to != "a@b.test\0"), "what a browser cannot send is left out"
    if seen.status == 409:
        assert "is no e-mail address" in seen.words
        assert taken is not None
        assert taken.letter is None, "it is the one of its making"


async def test_sec_10_a_test_shows_what_was_said(office: Office) -> None:
    """The reply of a hostile server is text on the page, without our password; the letter arrives where it should."""
    async with scripted_smtp(username="forms", password=SECRET) as smtp:
        await office.add_integration(smtp.port)
        async with office.gateway() as gateway, office.worker(), entrance_of(gateway, office.store) as entrance:
            await office.active()
            async with entrance.person() as admin:
                path = await page_of(office, "/edit")
                await admin.post(path, await the_form(admin, office, username="forms", password=SECRET))
                await office.active()
                await admin.post(await page_of(office, "/test"), {"to": "jane@customer.test"})
                async with asyncio.timeout(20):
                    while not smtp.inbox:
                        await asyncio.sleep(0.1)
                smtp.script("AUTH", f"535 {SECRET} <script>alert(1)</script>")
                await admin.post(await page_of(office, "/reset"), {"why": "to see it fail"})
                await office.state(ReportedState.ERROR)
                seen = await admin.get(await page_of(office))

    assert smtp.inbox[0].rcpt_to == ("jane@customer.test",)
    assert "<script>alert" not in seen.text
    assert "<script>alert(1)</script>" in seen.words
    assert "hunter2" not in seen.text
    assert "***" in seen.text
