"""The pages of people: added, given a password, signed out and disabled, by administrators only."""

import asyncio

import pytest

from mailroom.roles import Role
from mailroom.store import audit, sign_ins, users
from tests.gateway.admin.visitor import PASSWORD, Entrance, Visitor

JOE = {"name": "joe", "role": "viewer", "password": "a good sentence for joe"}


async def page_of(entrance: Entrance, name: str, action: str = "") -> str:
    """Where somebody's page is, or what is done there."""
    return f"/people/{await entrance.store.read(users.named, name)}{action}"


async def test_somebody_is_added(entrance: Entrance, admin: Visitor) -> None:
    """They can sign in, in their role; no page has their password or what is kept of it."""
    added = await admin.post("/people", JOE)
    pages = [await admin.get(path) for path in ("/people", await page_of(entrance, "joe"), "/audit")]
    async with entrance.browser() as visitor:
        signed_in = await visitor.sign_in("joe", JOE["password"])
        account = await visitor.get("/account")

    assert (added.status, signed_in.status) == (303, 303)
    assert "Role: viewer" in account.words
    for seen in pages:
        assert "joe" in seen.words
        assert "a good sentence" not in seen.text
        assert "argon2" not in seen.text


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("name", "", "is no good name"),
        ("name", "<script>", "is no good name"),
        ("name", "x" * 65, "is no good name"),
        ("name", "joe\u202e", "is no good name"),
        ("name", "the admin", "there is, or was, a user"),
        ("role", "root", "there is no role 'root'"),
        ("password", "short", "a password has 15 to 256 characters"),
        ("password", "x" * 257, "a password has 15 to 256 characters"),
    ],
    ids=lambda value: str(value)[:10] or "empty",
)
async def test_what_is_wrong_is_told(entrance: Entrance, admin: Visitor, field: str, value: str, told: str) -> None:
    """Nobody is added, and the page says what is wrong without the password that was typed."""
    before = len(await entrance.store.read(users.listed))
    seen = await admin.post("/people", JOE | {field: value})

    assert seen.status == 400
    assert told in seen.words
    assert "a good sentence" not in seen.text
    assert "<script>" not in seen.text.replace('<script src="', "")
    assert len(await entrance.store.read(users.listed)) == before


async def test_a_new_password_ends_what_was(entrance: Entrance, admin: Visitor) -> None:
    """They are signed out everywhere; only the new password lets them in, at once however often they failed."""
    async with entrance.person(Role.OPERATOR, "jane") as jane, entrance.browser() as anew:
        await asyncio.gather(*(anew.sign_in("jane", f"guess number {number} of many") for number in range(5)))
        short = await admin.post(await page_of(entrance, "jane", "/password"), {"password": "short"})
        still = await jane.get("/account")
        done = await admin.post(await page_of(entrance, "jane", "/password"), {"password": "another good sentence"})
        out = await jane.get("/account")
        await entrance.store.transaction(sign_ins.forgive, "address 127.0.0.1")
        old, new = await anew.sign_in("jane", PASSWORD), await anew.sign_in("jane", "another good sentence")

    assert (short.status, still.status, done.status, out.status) == (400, 200, 303, 303)
    assert (old.status, new.status) == (403, 303)


async def test_somebody_is_signed_out(entrance: Entrance, admin: Visitor) -> None:
    """Everywhere, and may sign in again."""
    async with entrance.person(Role.VIEWER, "jane") as jane:
        before = await admin.get(await page_of(entrance, "jane"))
        await admin.post(await page_of(entrance, "jane", "/sign-out"))
        out, again = await jane.get("/account"), await jane.sign_in("jane")

    assert "Signed in in one place" in before.words
    assert (out.status, again.status) == (303, 303)


async def test_somebody_is_disabled(entrance: Entrance, admin: Visitor) -> None:
    """Only when it is meant; at once, for ever, and on record."""
    async with entrance.person(Role.VIEWER, "jane") as jane:
        path = await page_of(entrance, "jane")
        without = await admin.post(f"{path}/disable")
        still = await jane.get("/account")
        done = await admin.post(f"{path}/disable", {"sure": "on"})
        out, again = await jane.get("/account"), await jane.sign_in("jane")
        once_more = await admin.post(f"{path}/disable", {"sure": "on"})
        late = await admin.post(f"{path}/password", {"password": "another good sentence"})
        name_again = await admin.post("/people", JOE | {"name": "jane"})
    page, listed = await admin.get(path), await admin.get("/people")

    assert (without.status, still.status, done.status) == (400, 200, 303)
    assert (out.status, again.status) == (303, 403)
    assert (once_more.status, late.status, name_again.status, page.status) == (409, 400, 400, 200)
    assert "New password" not in page.words
    assert "disabled" in listed.words


async def test_nobody_disables_themselves(entrance: Entrance, admin: Visitor) -> None:
    """So that one administrator is left, whatever is pressed."""
    seen = await admin.post(await page_of(entrance, "the admin", "/disable"), {"sure": "on"})

    assert seen.status == 409
    assert (await admin.get("/people")).status == 200


async def test_there_is_no_such_person(admin: Visitor) -> None:
    """What is nobody's page is told."""
    for path in ("/people/00000000-0000-0000-0000-000000000000", "/people/jane"):
        assert (await admin.get(path)).status == 404
        assert (await admin.post(f"{path}/sign-out")).status == 404


async def test_nobody_raises_themselves(entrance: Entrance) -> None:
    """Who may not manage people changes nobody, themselves neither, with a form that is right in every other way."""
    async with entrance.person(Role.OPERATOR, "jane") as jane:
        path = await page_of(entrance, "jane")
        forms = {"/people": JOE | {"role": "admin"}, f"{path}/password": {"password": "another good sentence"},
                 f"{path}/disable": {"sure": "on"}, f"{path}/sign-out": {}}  # fmt: skip
        told = [(await jane.post(one, form)).status for one, form in forms.items()]
    history = await entrance.store.read(audit.history, users.SUBJECT, await entrance.store.read(users.named, "jane"))

    assert set(told) == {403}
    assert [one.action for one in history] == ["created"]
