"""What every page tells the browser, and which forms are ours (SEC-8, SEC-9, SEC-15)."""

import json
import re
from pathlib import Path

import pytest

from gateway.admin.pages import PAGES
from mailroom.store import integrations
from tests.gateway.admin.visitor import Entrance, Visitor
from tests.journeys.office import Office


async def state_of(office: Office) -> str:
    """What people want of the integration."""
    row = await office.store.read(integrations.named, "main")
    return str(row.intended_state)


async def reset_path(office: Office, action: str = "disable") -> str:
    """Where a form that changes the integration is sent."""
    row = await office.store.read(integrations.named, "main")
    return f"/integrations/{row.id}/{action}"


async def test_sec_9_every_answer_has_the_headers(admin: Visitor) -> None:
    """Nothing inline runs, nothing is framed, sniffed or kept, whatever the status."""
    for path in ("/", "/integrations", "/account", "/no/such/page", "/sign-in", "/people/not-an-id"):
        seen = await admin.get(path)
        policy = seen.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert seen.headers["X-Content-Type-Options"] == "nosniff"
        assert seen.headers["Referrer-Policy"] == "same-origin"
        assert seen.headers["Cache-Control"] == "no-store"
        assert "Server" not in seen.headers
        assert "Strict-Transport-Security" not in seen.headers, "it came without TLS"


#: What would run or style a page from within it.
INLINE = re.compile(
    r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|javascript:|\ssrc=.(?!/)|<base|<object|<embed", re.IGNORECASE
)


async def test_sec_9_every_page_there_is_has_the_headers(office: Office, admin: Visitor) -> None:
    """Each route of the admin port is answered with the headers, and none of its pages has anything inline."""
    row = await office.store.read(integrations.named, "main")
    for page in PAGES:
        path = page.path.replace("{id}", str(row.id)).replace("{integration}", str(row.id))
        path = path.replace("{fingerprint}", "0" * 32).replace("{number}", "1").replace("{service}", "support")
        if page.method == "GET" and not path.endswith("live"):
            seen = await admin.get(path)
            assert seen.status in {200, 303, 404}, path
            assert "default-src 'none'" in seen.headers["Content-Security-Policy"], path
            assert "unsafe" not in seen.headers["Content-Security-Policy"], path
            assert seen.headers["X-Content-Type-Options"] == "nosniff", path
            assert seen.headers["Cache-Control"] == "no-store", path
            assert not INLINE.search(seen.text), path


async def test_sec_7_over_tls_the_cookie_is_for_this_host_and_tls_only(tmp_path: Path, office: Office) -> None:
    """Behind a proxy of ours that speaks TLS the cookie has the prefix __Host- and Secure, and HSTS is sent."""
    await office.add_integration(2525)
    limits = office.settings.limits.__class__(trusted_proxies=("127.0.0.1",))
    from tests.gateway.admin.visitor import PASSWORD, entrance_of  # noqa: PLC0415 - this test makes its own entrance

    async with office.gateway(limits=limits) as gateway, entrance_of(gateway, office.store) as entrance:
        await entrance.add_user("jane")
        async with entrance.browser() as visitor:
            seen = await visitor.send(
                "/sign-in", {"name": "jane", "password": PASSWORD}, **{"X-Forwarded-Proto": "https"}
            )
            token = seen.headers["Set-Cookie"].split("=", 1)[1].split(";")[0]
            inside = await visitor.request(
                "GET", "/account", headers={"X-Forwarded-Proto": "https", "Cookie": f"__Host-mailroom={token}"}
            )
            in_the_clear = await visitor.request("GET", "/account", headers={"Cookie": f"__Host-mailroom={token}"})

    assert seen.headers["Set-Cookie"].startswith("__Host-mailroom=")
    assert "Secure" in seen.headers["Set-Cookie"]
    assert "Strict-Transport-Security" in inside.headers
    assert (inside.status, in_the_clear.status) == (200, 303)


async def test_sec_7_a_stranger_cannot_claim_tls(entrance: Entrance) -> None:
    """X-Forwarded-Proto counts only from a proxy of ours."""
    await entrance.add_user("jane")
    async with entrance.browser() as visitor:
        seen = await visitor.request("GET", "/sign-in", headers={"X-Forwarded-Proto": "https"})

    assert "Strict-Transport-Security" not in seen.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
    ],
    ids=["cross-site", "same-site", "origin", "null"],
)
async def test_sec_8_a_form_of_another_site_changes_nothing(
    office: Office, admin: Visitor, headers: dict[str, str]
) -> None:
    """Even with the right token a form that the browser says came from elsewhere is refused."""
    path = await reset_path(office)
    token = (await admin.get("/account")).text.split('name="csrf" value="')[1][:64]
    seen = await admin.send(path, {"csrf": token, "why": "a test"}, **headers)

    assert seen.status == 403
    assert await state_of(office) == "ENABLED"


@pytest.mark.parametrize("token", ["", "0" * 64, "none"], ids=["empty", "wrong", "missing"])
async def test_sec_8_a_form_without_the_token_changes_nothing(office: Office, admin: Visitor, token: str) -> None:
    """A form that no page of ours made for this sign-in is refused."""
    fields = {"why": "a test"} | ({} if token == "none" else {"csrf": token})
    seen = await admin.send(await reset_path(office), fields)

    assert seen.status == 403
    assert await state_of(office) == "ENABLED"


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "multipart/form-data"])
async def test_sec_8_other_kinds_of_bodies_change_nothing(office: Office, admin: Visitor, content_type: str) -> None:
    """What a page elsewhere can send without asking first is no form of ours."""
    token = (await admin.get("/account")).text.split('name="csrf" value="')[1][:64]
    body = json.dumps({"csrf": token, "why": "x"})
    if content_type == "multipart/form-data":
        content_type += "; boundary=b"
        body = f'--b\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n{token}\r\n--b--\r\n'
    seen = await admin.request("POST", await reset_path(office), data=body, headers={"Content-Type": content_type})

    assert seen.status == 403
    assert await state_of(office) == "ENABLED"


async def test_sec_8_the_token_of_one_sign_in_is_none_of_another(
    office: Office, entrance: Entrance, admin: Visitor
) -> None:
    """Somebody's own token does not make a form of theirs one of somebody else's."""
    async with entrance.person(name="jane") as other:
        token = (await other.get("/account")).text.split('name="csrf" value="')[1][:64]
    seen = await admin.send(await reset_path(office), {"csrf": token, "why": "a test"})

    assert seen.status == 403


async def test_sec_8_nothing_changes_by_looking(office: Office, admin: Visitor) -> None:
    """A GET of every place that a form is sent to changes nothing."""
    for page in PAGES:
        if page.method == "POST":
            path = page.path.replace("{id}", (await reset_path(office)).split("/")[2])
            assert (await admin.get(path.replace("{service}", "support"))).status in {200, 404, 405, 409}

    assert await state_of(office) == "ENABLED"


async def test_the_right_form_is_taken(office: Office, admin: Visitor) -> None:
    """What a person does on our page is done, and is in the history with their name and reason."""
    done = await admin.post(await reset_path(office), {"why": "the provider moves"})
    seen = await admin.get((await reset_path(office)).rpartition("/")[0])

    assert done.status == 303
    assert await state_of(office) == "DISABLED"
    assert "user the admin: the provider moves" in seen.words


async def test_sec_15_a_database_that_is_away_is_told(office: Office, admin: Visitor) -> None:
    """A page says that the database does not answer, and nothing of how we are made."""
    await office.store.aclose()
    seen = await admin.get("/integrations")

    assert seen.status == 503
    assert "The database does not answer" in seen.words
    assert "sqlite" not in seen.text.lower()


async def test_what_pages_are_made_of_is_kept_by_the_browser(admin: Visitor) -> None:
    """Style, font and scripts are fetched once; other versions of them are not kept."""
    page = await admin.get("/account")
    style = page.text.split('rel="stylesheet" href="')[1].split('"')[0]
    seen = await admin.get(style)
    old = await admin.get("/static/0123456789ab/mailroom.css")
    missing = await admin.get("/static/0123456789ab/..%2Fpages.py")

    assert "immutable" in seen.headers["Cache-Control"]
    assert seen.headers["Content-Type"].startswith("text/css")
    assert (old.status, old.headers["Cache-Control"]) == (200, "no-store")
    assert missing.status == 404
