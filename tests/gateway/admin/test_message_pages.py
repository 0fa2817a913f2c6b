"""The pages of messages: found, read without harm, downloaded as they are sent, and dealt with when they are dead."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest

from gateway.admin.console import MOST_DOWNLOADS, MOST_SEARCHES
from mailroom.message import Attachment, Status
from mailroom.store import audit, integrations, messages
from mailroom.store.content import encode_content
from mailroom.store.messages import NewMessage
from tests.builders import a_content, a_message, a_settlement
from tests.gateway.admin.visitor import Entrance, Visitor, entrance_of
from tests.journeys.office import Office
from tests.smtp_server import ScriptedSmtp, scripted_smtp

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"

NO = "RCPT: 550 5.1.1 no such user"


async def stored(office: Office, **changes: object) -> NewMessage:
    """A message of now whose content, and where they are in both places also its row, say this."""
    row = await office.store.read(integrations.named, "main")
    content = a_content(**{name: value for name, value in changes.items() if name != "service"})
    rows = {name: value for name, value in changes.items() if name in {"subject", "service"}}
    message = a_message(row.id, body=encode_content(content), accepted_at=row.since, **rows)
    await office.store.statement(messages.accept, [message])
    return message


async def dead(office: Office, **changes: object) -> NewMessage:
    """One that failed."""
    message = await stored(office, **changes)
    taken = await office.store.statement(messages.claim, [message.id], uuid4())
    failure = a_settlement(
        taken[message.id], Status.FAILED, reason="rejected.recipient", reply=f"{NO} {EVIL}", at=message.accepted_at
    )
    assert await office.store.statement(messages.settle, [failure]) == [True]
    return message


async def large_file(office: Office, content: bytes) -> Attachment:
    """A file in the attachment store."""
    async with office.attachments.upload() as upload:
        await upload.write(content)
        await upload.finish()
    return Attachment(name="parcel.txt", media_type="text/plain", size=len(content), key=upload.key)


# --- read -------------------------------------------------------------------------------------------------------------


async def test_sec_10_what_strangers_wrote_is_text(office: Office, admin: Visitor) -> None:
    """No part of a message is markup, on its own page, in the list, among dead letters or where one deals with it."""
    file = Attachment(name=f"{EVIL}.txt", media_type=EVIL, size=1, content=b"x")
    message = await dead(
        office, subject=EVIL, text=EVIL, html=EVIL, from_name=EVIL, attributes=((EVIL, EVIL),), attachments=(file,)
    )  # fmt: skip
    row = await office.store.read(integrations.named, "main")
    typed = (
        "/messages?text", "/messages?service", "/messages?before", "/audit?who", "/audit?since", "/explain?message",
        "/explain?kind=form&mailbox", "/sign-in?next",
    )  # fmt: skip
    pages = [
        f"/messages/{message.id}", f"/messages/{message.id}/copy", f"/messages/{message.id}/dismiss", "/messages?range=year",
        "/dead-letters", f"/explain?message={message.id}", f"/integrations/{row.id}",
        *(f"{path}={quote(EVIL)}" for path in typed),
    ]  # fmt: skip
    for path in pages:
        seen = await admin.get(path)
        assert "<img" not in seen.text, path
        assert "<script>" not in seen.text, path
        assert seen.status < 500, path


async def test_sec_9_html_is_shown_where_it_can_do_nothing(office: Office, admin: Visitor) -> None:
    """The browser is told to run, load and send nothing of it, whoever opens it and however."""
    message = await stored(office, html=EVIL)
    page = await admin.get(f"/messages/{message.id}")
    seen = await admin.get(f"/messages/{message.id}/html")
    policy = seen.headers["Content-Security-Policy"]

    assert f'<iframe src="/messages/{message.id}/html" sandbox ' in page.text
    assert seen.text == EVIL
    assert policy.split("; ")[:2] == ["sandbox", "default-src 'none'"]
    assert "script" not in policy
    assert "allow-" not in policy
    assert seen.headers["X-Content-Type-Options"] == "nosniff"
    assert (await admin.get(f"/messages/{(await stored(office)).id}/html")).status == 404


@pytest.mark.parametrize("number", ["0", "2", "-1", "x", "99999", "\u00b2"])
async def test_sec_9_files_are_downloaded_as_bytes(office: Office, admin: Visitor, number: str) -> None:
    """A file is never opened by the browser, whatever it calls itself; one that is not there is told."""
    file = Attachment(name='a"\r\nX: y\u202e.html', media_type="text/html", size=3, content=b"<b>")
    message = await stored(office, attachments=(file,))
    seen = await admin.get(f"/messages/{message.id}/files/1")
    missing = await admin.get(f"/messages/{message.id}/files/{quote(number)}")

    assert seen.text == "<b>"
    assert seen.headers["Content-Type"] == "application/octet-stream"
    assert seen.headers["Content-Disposition"].startswith("attachment; ")
    assert "X" not in seen.headers
    assert seen.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert seen.headers["Cache-Control"] == "no-store"
    assert missing.status == 404


async def test_a_file_that_is_gone_is_told(office: Office, admin: Visitor) -> None:
    """Neither the page nor a download fails for it, and neither tells where files are kept."""
    file = await large_file(office, b"x" * 10)
    assert file.key is not None
    await office.attachments.delete(file.key)
    message = await stored(office, attachments=(file,))
    path = f"/messages/{message.id}"
    told = [await admin.get(one) for one in (path, f"{path}/files/1", f"{path}/wire")]

    assert [seen.status for seen in told] == [200, 409, 409]
    for seen in told:
        assert "A file of it cannot be read from the attachment store." in seen.words
        assert str(office.folder) not in seen.text


async def test_a_large_message_is_not_made_to_be_looked_at(office: Office, admin: Visitor) -> None:
    """The page of a message that is large has a link to what is sent, and reads none of its files."""
    file = await large_file(office, b"x" * 2_000_000)
    message = await stored(office, attachments=(file,))
    before = await admin.get(f"/messages/{message.id}")
    download = await admin.get(f"/messages/{message.id}/wire")
    assert file.key is not None
    await office.attachments.delete(file.key)
    after = await admin.get(f"/messages/{message.id}")

    assert "too large to be shown here" in before.words
    assert "too large to be shown here" in after.words, "nobody noticed that its file is gone: it was not read"
    assert len(before.text) < 20_000
    assert len(download.text) > 2_000_000


async def test_what_cannot_be_made_says_why(office: Office, admin: Visitor) -> None:
    """A message that no mail can be made of has its page, with the reason."""
    message = await stored(office, from_address="nobody at all")
    seen = await admin.get(f"/messages/{message.id}")
    download = await admin.get(f"/messages/{message.id}/wire")

    assert (seen.status, download.status) == (200, 409)
    assert "It cannot be made:" in seen.words


async def test_there_is_no_such_message(admin: Visitor) -> None:
    """What does not exist, or is no id, is told; nothing of it is repeated as markup."""
    for path in (f"/messages/{uuid4()}", f"/messages/{quote(EVIL, safe='')}", f"/messages/{uuid4()}/wire"):
        seen = await admin.get(path)
        assert seen.status == 404
        assert "<img" not in seen.text


# --- as it is sent ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def smtp() -> AsyncIterator[ScriptedSmtp]:
    """Where the mail of the office goes."""
    async with scripted_smtp() as smtp:
        yield smtp


async def test_the_download_is_what_was_sent(office: Office, smtp: ScriptedSmtp) -> None:
    """Byte for byte, with files from the row and from the store."""
    await office.add_integration(smtp.port)
    async with office.gateway() as gateway, office.worker(), entrance_of(gateway, office.store) as entrance:
        await office.active()
        ids = []
        for said in (b"small", b"large " * 300_000):
            file = io.BytesIO(said)
            file.name = "parcel \u00fc.txt"
            ids.append(await office.accepted(file=file, subject="Wo ist mein P\u00e4ckchen?"))
        for one in ids:
            await office.becomes(one, Status.SENT)
        async with entrance.person() as admin:
            seen = [await admin.get(f"/messages/{one}/wire") for one in ids]
            pages = [await admin.get(f"/messages/{one}") for one in ids]

    received = {UUID(office.parsed(one.content)["Message-ID"][1:37]): one.content for one in smtp.inbox}
    for one, download, page in zip(ids, seen, pages, strict=True):
        assert download.text.encode() == received[one]
        assert f'filename="{one}.eml"' in download.headers["Content-Disposition"]
        assert "Attempt 1: Sent" in page.words
        assert "250" in page.words


# --- dead letters -----------------------------------------------------------------------------------------------------


async def test_a_dead_letter_is_queued_again(office: Office, admin: Visitor) -> None:
    """Once; a second person is told that it is no dead letter any more."""
    message = await dead(office)
    path = f"/messages/{message.id}/redrive"
    told = await asyncio.gather(admin.post(path), admin.post(path))
    page = await admin.get(f"/messages/{message.id}")

    assert sorted(seen.status for seen in told) == [303, 409]
    assert (await office.standing(message.id)).status is Status.QUEUED
    assert page.words.count("re-driven by user the admin") == 1


async def test_a_dead_letter_is_dismissed_with_a_reason(office: Office, admin: Visitor) -> None:
    """Without one nothing is done; with it others read who did it and why."""
    message = await dead(office)
    path = f"/messages/{message.id}/dismiss"
    without = await admin.post(path, {"why": "  "})
    done = await admin.post(path, {"why": "they wrote again"})
    again = await admin.post(path, {"why": "once more"})
    history = await office.store.read(audit.history, "message", message.id)

    assert (without.status, done.status, again.status) == (400, 303, 409)
    assert "Write why" in without.words
    assert [(one.action, one.who, one.why) for one in history] == [
        ("dismissed", "user the admin", "they wrote again")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "to", ["", "nobody", "a@b.test, c@d.test", "a@b.test\r\nBcc: c@d.test", f"{'x' * 9000}@b.test"]
)
async def test_a_copy_goes_to_an_address(office: Office, admin: Visitor, to: str) -> None:
    """What is none is told, with what was typed still there; nothing is sent."""
    message = await dead(office)
    seen = await admin.post(f"/messages/{message.id}/copy", {"to": to})

    assert seen.status == 400
    assert "is no e-mail address" in seen.words
    assert (await office.standing(message.id)).status is Status.FAILED


# --- found ------------------------------------------------------------------------------------------------------------


async def test_messages_are_found(office: Office, admin: Visitor) -> None:
    """By id, address, domain, words and what they are narrowed to; the page says when nothing fits."""
    message = await stored(office, subject="Where is my parcel")
    await stored(office, subject="Something else")
    for query, fits in (
        (f"text={message.id}", True),
        ("text=parcel", True),
        ("text=jane@customer.test%20parcel", True),
        ("text=@customer.test%20parcel", True),
        ("text=parcels", False),
        ("text=parcel&status=queued&kind=form&service=support&integration=main", True),
        ("text=parcel&status=sent", False),
        ("text=parcel&service=%00%ff", False),
    ):
        seen = await admin.get(f"/messages?range=year&{query}")
        assert seen.status == 200, query
        assert ("Where is my parcel" in seen.words) is fits, query


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("from=2020-01-01&to=9999-12-31", 200),
        ("from=9999-12-31", 200),
        ("from=0001-01-01T00:00%2B14:00", 200),
        ("to=0001-01-01", 200),
        ("before=ffffffff-ffff-ffff-ffff-ffffffffffff", 200),
        ("before=00000000-0000-0000-0000-000000000000", 200),
        ("range=for%20ever", 200),
        ("from=yesterday", 400),
        ("to=yesterday", 400),
        ("before=x", 400),
        ("status=lost", 400),
        ("kind=letter", 400),
        ("integration=none", 400),
        (f"text={'x' * 1001}", 400),
        ("text=%F0%9F%98%80", 400),
        (f"text={'a%20' * 41}" + "%20".join(f"w{number}" for number in range(41)), 400),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_what_cannot_be_searched_for_is_told(admin: Visitor, query: str, status: int) -> None:
    """Whatever stands in the address, there is a page; what makes no sense is said on it."""
    seen = await admin.get(f"/messages?{query}")

    assert seen.status == status
    assert ('role="alert"' in seen.text) is (status == 400)


async def test_searches_wait_for_their_turn(entrance: Entrance, admin: Visitor) -> None:
    """However many search at once, few of them keep the database busy; other pages do not wait for them."""
    async with AsyncExitStack() as stack:
        for _ in range(MOST_SEARCHES):
            await stack.enter_async_context(entrance.console.turns)
        searches = [asyncio.create_task(admin.get(path)) for path in ("/messages?text=parcel", "/audit?who=jane")]
        page = await admin.get("/integrations")
        await asyncio.sleep(0.3)
        waited = not any(one.done() for one in searches)

    assert (page.status, waited) == (200, True)
    assert [(await one).status for one in searches] == [200, 200]


async def test_downloads_wait_for_their_turn(office: Office, entrance: Entrance, admin: Visitor) -> None:
    """However many download at once, few messages are in memory."""
    message = await stored(office)
    async with AsyncExitStack() as stack:
        for _ in range(MOST_DOWNLOADS):
            await stack.enter_async_context(entrance.console.downloads)
        download = asyncio.create_task(admin.get(f"/messages/{message.id}/wire"))
        page = await admin.get(f"/messages/{message.id}")
        await asyncio.sleep(0.3)
        waited = not download.done()

    assert (page.status, waited) == (200, True)
    assert (await download).status == 200
