"""Signing in and out (SEC-7, SEC-11)."""

import asyncio
import statistics
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from gateway.admin.patience import MOST_FAILURES
from mailroom.operating import people
from mailroom.operating.operator import Operator
from mailroom.passwords import MOST_WAITING, hashed, is_password
from mailroom.queue.memory import MemoryQueue
from mailroom.store import audit, schema, sign_ins, users
from tests.gateway.admin.visitor import PASSWORD, Entrance, Visitor


async def made_older(entrance: Entrance, **ages: timedelta) -> None:
    """Let every sign-in have begun, or been seen, so much earlier."""

    def change(tx: sa.Connection) -> None:
        for name, age in ages.items():
            tx.execute(sa.update(schema.sign_ins).values({name: datetime.now(UTC) - age}))

    await entrance.store.transaction(change)


async def test_whoever_is_not_signed_in_is_led_to_the_sign_in_and_back(entrance: Entrance) -> None:
    """A page that somebody asks for is what they see after they have signed in."""
    await entrance.add_user("jane")
    async with entrance.browser() as visitor:
        asked = await visitor.get("/integrations?x=1")
        shown = await visitor.get(asked.headers["Location"])
        let_in = await visitor.sign_in("jane", next="/integrations?x=1")
        seen = await visitor.get(let_in.headers["Location"])

    assert (asked.status, asked.headers["Location"]) == (303, f"/sign-in?next={quote('/integrations?x=1', safe='')}")
    assert 'value="/integrations?x=1"' in shown.text
    assert (let_in.status, seen.status) == (303, 200)
    assert "Integrations" in seen.words


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.test/", "//evil.test/", "/\\evil.test", "javascript:alert(1)", "evil", "/a\r\nSet-Cookie: x", "\\\\evil"],
    ids=["absolute", "no-scheme", "backslash", "script", "relative", "line-break", "backslashes"],
)  # fmt: skip
async def test_sec_7_nobody_is_led_elsewhere_by_signing_in(entrance: Entrance, elsewhere: str) -> None:
    """Where a link says to go after signing in is followed within our pages only."""
    await entrance.add_user("jane")
    async with entrance.browser() as visitor:
        let_in = await visitor.sign_in("jane", next=elsewhere)

    assert (let_in.status, let_in.headers["Location"]) == (303, "/")


async def test_sec_7_the_cookie_is_out_of_reach_of_scripts_and_other_sites(entrance: Entrance) -> None:
    """The browser is told to show the token to nobody but us, and it is stored as a hash only."""
    await entrance.add_user("jane")
    async with entrance.browser() as visitor:
        let_in = await visitor.sign_in("jane")
        cookie = let_in.headers["Set-Cookie"]
        token = cookie.split("=", 1)[1].split(";")[0]

    def everything(tx: sa.Connection) -> str:
        return str(tx.execute(sa.select(schema.sign_ins)).all())

    assert all(part in cookie for part in ("HttpOnly", "SameSite=Lax", "Path=/", "Max-Age="))
    kept = await entrance.store.read(everything)
    assert len(token) >= 43, "256 bits in base64"
    assert token not in kept
    assert sign_ins.hash_of(token) in kept


async def test_sec_11_a_wrong_name_and_a_wrong_password_are_told_alike(entrance: Entrance) -> None:
    """What is answered does not tell whether a name exists."""
    await entrance.add_user("jane")
    async with entrance.browser() as visitor:
        wrong_password = await visitor.sign_in("jane", "not the password of jane")
    async with entrance.browser() as visitor:
        wrong_name = await visitor.sign_in("nobody", "not the password of jane")

    assert wrong_password.status == wrong_name.status == 403
    assert wrong_password.text.replace("jane", "nobody") == wrong_name.text
    assert "The name or the password is wrong." in wrong_name.words


async def test_sec_11_after_five_failures_even_the_right_password_must_wait(entrance: Entrance) -> None:
    """A name is closed for a while by wrong guesses, wherever they come from, and told how long."""
    await entrance.add_user("jane")
    now = datetime.now(UTC)

    def fail(tx: sa.Connection) -> None:
        for minutes in (9, 7, 5, 3, 1):
            sign_ins.note_failure(tx, ["user jane"], now=now - timedelta(minutes=minutes))

    await entrance.store.transaction(fail)
    async with entrance.browser() as visitor:
        seen = await visitor.sign_in("jane")

    assert seen.status == 429
    assert "Wait 5 min 5" in seen.words or "Wait 6 min" in seen.words, "the oldest failure is 9 of 15 minutes old"


async def test_sec_11_guesses_sent_at_once_are_counted_too(entrance: Entrance) -> None:
    """Of many guesses in flight together only the first few are looked at, by name and by address."""
    await entrance.add_user("jane")
    async with entrance.browser() as visitor:
        seen = await asyncio.gather(*(visitor.sign_in("jane", f"guess number {n} of many") for n in range(30)))

    looked_at = [one for one in seen if one.status == 403]
    assert len(looked_at) <= 5
    assert {one.status for one in seen} == {403, 429}


async def test_sec_11_an_address_that_guesses_names_is_stopped(entrance: Entrance) -> None:
    """Somebody who tries one password on many names is stopped as soon as one who tries many on one name."""
    async with entrance.browser() as visitor:
        seen = [await visitor.sign_in(f"name{n}", "winter 2026 is cold") for n in range(4)]

    assert 429 in {one.status for one in seen}


async def test_a_new_password_from_the_command_line_lets_somebody_in_at_once(entrance: Entrance) -> None:
    """Whoever locked themselves out is let in by a new password, and is signed out everywhere."""
    await entrance.add_user("jane")
    operator = Operator(store=entrance.store, queue=MemoryQueue(), who="cli test")
    async with entrance.browser() as elsewhere, entrance.browser() as visitor:
        await elsewhere.sign_in("jane")
        for guess in range(3):
            await visitor.sign_in("jane", f"guess number {guess} of many")
        told = await people.set_password(operator, "jane", "another long password")

        def forgive_address(tx: sa.Connection) -> None:
            sign_ins.forgive(tx, "address 127.0.0.1")

        await entrance.store.transaction(forgive_address)
        let_in = await visitor.sign_in("jane", "another long password")

        assert told == {"name": "jane", "signed_out": 1}
        assert let_in.status == 303
        assert (await elsewhere.get("/account")).status == 303


@pytest.mark.parametrize(
    "age",
    [{"seen_at": timedelta(minutes=61)}, {"began_at": timedelta(hours=12, minutes=1)}],
    ids=["idle", "a-day-s-work"],
)
async def test_sec_7_nobody_stays_signed_in_for_ever(entrance: Entrance, age: dict[str, timedelta]) -> None:
    """A sign-in ends after an hour without a page, and after twelve hours in any case."""
    async with entrance.person() as visitor:
        before = await visitor.get("/account")
        await made_older(entrance, **age)
        after = await visitor.get("/account")

    assert (before.status, after.status) == (200, 303)


async def test_sec_7_signing_out_ends_it_on_the_server(entrance: Entrance) -> None:
    """A token that was copied is worth nothing once its owner has signed out."""
    async with entrance.person() as visitor:
        copied = {cookie.key: cookie.value for cookie in visitor.session.cookie_jar}
        out = await visitor.post("/sign-out")
    async with entrance.browser() as thief:
        seen = await thief.request("GET", "/account", cookies=copied)

    assert out.headers["Location"] == "/sign-in"
    assert seen.status == 303


async def test_sec_7_signing_in_anew_makes_a_new_token(entrance: Entrance) -> None:
    """A token that was planted before, or is older, is not carried on (ASVS 7.2.4)."""
    async with entrance.person(name="jane") as visitor:
        [old] = [cookie.value for cookie in visitor.session.cookie_jar if cookie.key == "mailroom"]
        await visitor.sign_in("jane")
        [new] = [cookie.value for cookie in visitor.session.cookie_jar if cookie.key == "mailroom"]
    async with entrance.browser() as other:
        seen = await other.request("GET", "/account", cookies={"mailroom": old})

    assert old != new
    assert seen.status == 303


async def test_sec_7_a_disabled_person_is_out_at_once(entrance: Entrance) -> None:
    """Disabling somebody ends what they have open."""
    operator = Operator(store=entrance.store, queue=MemoryQueue(), who="cli test")
    async with entrance.person(name="jane") as visitor:
        await people.disable_user(operator, "jane")
        seen = await visitor.get("/account")
        again = await visitor.sign_in("jane")

    assert (seen.status, again.status) == (303, 403)


async def test_everything_about_a_sign_in_is_on_record(entrance: Entrance) -> None:
    """The audit has who signed in and out, who was refused, and from where."""
    await entrance.add_user("jane")
    async with entrance.browser() as visitor:
        await visitor.sign_in("jane")
        await visitor.post("/sign-out")
        await visitor.sign_in("jane", "not the password of jane")

    def rows(tx: sa.Connection) -> list[Any]:
        user_id = tx.execute(sa.select(schema.users.c.id)).scalar_one()
        return list(audit.history(tx, "user", user_id))

    found = await entrance.store.read(rows)
    assert [(row.action, row.who) for row in reversed(found)][1:] == [
        ("signed in", "user jane"), ("signed out", "user jane"), ("sign-in refused", "user jane"),
    ]  # fmt: skip
    assert "from 127.0.0.1" in {row.after for row in found}


async def test_a_password_that_is_too_long_is_only_wrong(entrance: Entrance) -> None:
    """A megabyte of password costs no more than a short one."""
    await entrance.add_user("jane")
    async with entrance.browser() as visitor:
        seen = await visitor.sign_in("jane", "x" * 500_000)
        whole = await visitor.sign_in("jane", PASSWORD)

    assert (seen.status, whole.status) == (403, 303)


@pytest.mark.parametrize("name", ["", "\0", "\ud800", "x" * 5000, "'; DROP TABLE users; --"], ids=str.__len__)
async def test_no_name_can_break_the_sign_in(entrance: Entrance, name: str) -> None:
    """Whatever is typed as a name is at most wrong."""
    async with entrance.browser() as visitor:
        seen = await visitor.request(
            "POST", "/sign-in", data=f"name={quote(name, errors='replace')}&password=x",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )  # fmt: skip

    assert seen.status == 403


async def test_nobody_is_told_how_to_add_the_first_person(entrance: Entrance) -> None:
    """While there is nobody, the page says what to do."""
    async with entrance.browser() as visitor:
        before = await visitor.get("/sign-in")
        await entrance.add_user("jane")
        after = await visitor.get("/sign-in")

    assert "mailroom users add NAME --role admin" in before.words
    assert "mailroom users add" not in after.words


async def test_sec_8_a_sign_in_from_another_site_is_refused(entrance: Entrance) -> None:
    """Nobody can be signed in to somebody else's account by a page elsewhere."""
    await entrance.add_user("jane")
    async with entrance.browser() as visitor:
        crossed = await visitor.send(
            "/sign-in", {"name": "jane", "password": PASSWORD}, **{"Sec-Fetch-Site": "cross-site"}
        )
        posed = await visitor.send("/sign-in", {"name": "jane", "password": PASSWORD}, Origin="https://evil.test")

    assert (crossed.status, posed.status) == (403, 403)


async def test_passwords_are_changed_by_who_knows_the_old_one(entrance: Entrance) -> None:
    """A stolen sign-in cannot change the password; who changes it is signed out everywhere else."""
    async with entrance.person(name="jane") as visitor, entrance.browser() as other:
        await other.sign_in("jane")
        new = {"new": "a quite different sentence", "again": "a quite different sentence"}
        wrong = await visitor.post("/account/password", {"old": "not the password of jane", **new})
        differ = await visitor.post("/account/password", {"old": PASSWORD, **new, "again": "something else of length"})
        short = await visitor.post("/account/password", {"old": PASSWORD, "new": "short", "again": "short"})
        changed = await visitor.post("/account/password", {"old": PASSWORD, **new})
        here, there = await visitor.get("/account"), await other.get("/account")

    assert [wrong.status, differ.status, short.status, changed.status] == [400, 400, 400, 303]
    assert "present password is wrong" in wrong.words
    assert "two new passwords differ" in differ.words
    assert "15 to 256 characters" in short.words
    assert (here.status, there.status) == (200, 303)


async def test_each_place_can_be_signed_out(entrance: Entrance) -> None:
    """Somebody sees where they are signed in, and ends one or all of the others."""
    async with entrance.person(name="jane") as visitor, entrance.browser() as second, entrance.browser() as third:
        for other in (second, third):
            await other.sign_in("jane")
        [token] = [cookie.value for cookie in second.session.cookie_jar if cookie.key == "mailroom"]
        await visitor.post("/account/sign-out", {"place": sign_ins.hash_of(token)})
        one_left = [(await other.get("/account")).status for other in (second, third)]
        await visitor.post("/account/sign-out")
        none_left = (await third.get("/account")).status
        here = await visitor.get("/account")

    assert (one_left, none_left, here.status) == ([303, 200], 303, 200)


async def test_sec_7_nobody_signs_somebody_else_out(entrance: Entrance) -> None:
    """The hash of somebody else's sign-in is not enough to end it."""
    async with entrance.person(name="jane") as jane, entrance.person(name="joe") as joe:
        [token] = [cookie.value for cookie in jane.session.cookie_jar if cookie.key == "mailroom"]
        await joe.post("/account/sign-out", {"place": sign_ins.hash_of(token)})
        seen = await jane.get("/account")

    assert seen.status == 200


async def timed(visitor: Visitor, name: str) -> float:
    """Seconds that a wrong password of this name takes."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await visitor.sign_in(name, "not the password of anybody")
    return loop.time() - began


async def test_sec_11_an_unknown_name_takes_as_long_as_a_known_one(entrance: Entrance) -> None:
    """A name that nobody has is held against a password all the same: it never answers at once."""
    await entrance.add_user("jane")

    def forget(tx: sa.Connection) -> None:
        tx.execute(sa.delete(schema.sign_in_failures))

    async with entrance.browser() as visitor:
        times: dict[str, list[float]] = {"jane": [], "nobody": []}
        for _ in range(6):
            for name, taken in times.items():
                await entrance.store.transaction(forget)
                taken.append(await timed(visitor, name))

    known, unknown = (statistics.median(taken[1:]) for taken in times.values())
    assert unknown > known / 3, "computing the password is what takes the time, and both do it"


async def failures(entrance: Entrance) -> int:
    """How many tries are counted."""

    def count(tx: sa.Connection) -> int:
        return tx.execute(sa.select(sa.func.count()).select_from(schema.sign_in_failures)).scalar_one()

    return await entrance.store.read(count)


async def test_a_password_that_is_changed_meanwhile_lets_nobody_in(entrance: Entrance) -> None:
    """Who is kept out by a new password is kept out, also while the old one is being verified."""
    await entrance.add_user("jane")
    new = await hashed("a quite different sentence")
    ahead = [asyncio.create_task(is_password("busy with others", new)) for _ in range(12)]
    async with entrance.browser() as visitor:
        trying = asyncio.create_task(visitor.sign_in("jane"))
        async with asyncio.timeout(10):
            while not await failures(entrance):
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)

        def change(tx: sa.Connection) -> None:
            sign_ins.end_all(tx, users.set_password(tx, "jane", new, who="test", now=datetime.now(UTC)))

        await entrance.store.transaction(change)
        seen = await trying
    await asyncio.gather(*ahead)

    assert seen.status == 403
    assert "Set-Cookie" not in seen.headers


async def test_sec_11_a_stolen_sign_in_cannot_guess_the_password(entrance: Entrance) -> None:
    """Wrong present passwords are counted like failed sign-ins, and keep nobody from signing in elsewhere."""
    async with entrance.person(name="jane") as visitor, entrance.browser() as elsewhere:
        new = {"new": "a quite different sentence", "again": "a quite different sentence"}
        guesses = [{"old": f"guess number {number} of many", **new} for number in range(8)]
        told = await asyncio.gather(*(visitor.post("/account/password", guess) for guess in guesses))
        right = await visitor.post("/account/password", {"old": PASSWORD, **new})
        signed_in = await elsewhere.sign_in("jane")

    assert sorted({seen.status for seen in told}) == [400, 429]
    assert sum(seen.status == 400 for seen in told) <= MOST_FAILURES
    assert (right.status, signed_in.status) == (429, 303)


async def test_a_flood_of_passwords_is_told(entrance: Entrance) -> None:
    """While too many passwords are verified one is asked to come again, and that counts as no failure."""
    async with entrance.person(name="jane") as visitor, entrance.browser() as elsewhere:
        kept = await hashed("a quite different sentence")
        token = (await visitor.get("/account")).text.split('name="csrf" value="')[1][:64]
        flood = [asyncio.create_task(is_password("busy with others", kept)) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        form = {"old": PASSWORD, "new": "another good sentence", "again": "another good sentence"}
        changed = await visitor.send("/account/password", form | {"csrf": token})
        signed_in = await elsewhere.sign_in("jane")
        await asyncio.gather(*flood)

    assert (changed.status, signed_in.status) == (400, 503)
    assert "in a few seconds" in changed.words
    assert "in a few seconds" in signed_in.words
    assert await failures(entrance) == 0


async def test_who_guesses_at_a_name_keeps_nobody_out_of_their_own_browser(entrance: Entrance) -> None:
    """Where somebody has signed in before they can again, whoever fails elsewhere; everywhere else the name is closed."""
    await entrance.add_user("jane")
    async with entrance.browser() as at_home, entrance.browser() as abroad:
        await at_home.sign_in("jane")
        await at_home.post("/sign-out")
        for _ in range(MOST_FAILURES):
            await entrance.store.transaction(
                sign_ins.note_failure, ["user jane", "address 127.0.0.1"], now=datetime.now(UTC)
            )
        told = [(await visitor.sign_in("jane")).status for visitor in (abroad, at_home, at_home, abroad)]

    assert told == [429, 303, 303, 429]


async def test_sec_11_a_known_browser_may_guess_no_more_than_others(entrance: Entrance) -> None:
    """Whoever has got hold of somebody's browser has as many tries as everybody."""
    await entrance.add_user("jane")
    await entrance.add_user("joe")
    async with entrance.browser() as visitor:
        await visitor.sign_in("jane")
        told = await asyncio.gather(*(visitor.sign_in("jane", f"guess number {n} of many") for n in range(10)))
        right = await visitor.sign_in("jane")
        another = await visitor.sign_in("joe")

    assert sum(seen.status == 403 for seen in told) <= MOST_FAILURES
    assert right.status == 429
    assert another.status == 303, "these were no failures of the address"


async def test_the_cookie_of_a_browser_lets_nobody_in(entrance: Entrance) -> None:
    """It is for this host only, no script reads it, and by itself it is worth nothing."""
    await entrance.add_user("jane")
    async with entrance.browser() as visitor, entrance.browser() as thief:
        seen = await visitor.sign_in("jane")
        [cookie] = [one for one in seen.headers.getall("Set-Cookie") if one.startswith("mailroom-browser=")]
        inside = await thief.get("/account", Cookie=cookie.split(";")[0])
        signed_in = await visitor.sign_in("jane")

    assert all(part in cookie for part in ("HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=15552000"))
    assert inside.status == 303
    assert "mailroom-browser=" not in "".join(signed_in.headers.getall("Set-Cookie")), "it is known already"


async def test_sec_7_who_signs_in_over_somebody_else_ends_their_sign_in(entrance: Entrance) -> None:
    """Of two who use one browser, the first is signed out when the second signs in: nothing of theirs is left behind."""
    await entrance.add_user("jane")
    await entrance.add_user("joe")
    async with entrance.browser() as visitor, entrance.browser() as thief:
        await visitor.sign_in("jane")
        [token] = [cookie.value for cookie in visitor.session.cookie_jar if cookie.key == "mailroom"]
        before = await thief.get("/account", Cookie=f"mailroom={token}")
        await visitor.sign_in("joe")
        after = await thief.get("/account", Cookie=f"mailroom={token}")

    assert (before.status, after.status) == (200, 303)
