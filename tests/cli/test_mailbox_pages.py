"""The pages of the development mailbox, read by a real HTTP client: complete, escaped, and deaf to other sites."""

import re
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from urllib.parse import urljoin

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from cli.mailbox.letters import Letter, Letters
from cli.mailbox.pages import add_routes

Client = TestClient[web.Request, web.Application]

#: Would run if any page showed it unescaped, as text or inside an attribute.
PAYLOAD = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}"


@pytest.fixture
def letters(tmp_path: Path) -> Letters:
    """An empty mailbox."""
    return Letters(tmp_path / "mail")


@pytest.fixture
async def client(letters: Letters, aiohttp_client: AiohttpClient) -> Client:
    """A client of its pages."""
    app = web.Application()
    add_routes(app, letters, smtp_address="127.0.0.1:1025")
    return await aiohttp_client(app)


async def keep(letters: Letters, message: EmailMessage, sender: str = "a@example.org") -> Letter:
    """Store the mail as SMTP would bring it."""
    return await letters.store(sender, ["b@example.org"], message.as_bytes(policy=SMTP))


def a_mail(subject: str = "Hello", text: str = "Hi\n") -> EmailMessage:
    """A small mail."""
    message = EmailMessage()
    message["From"] = "Ann <ann@example.org>"
    message["Subject"] = subject
    message.set_content(text)
    return message


async def page_of(client: Client, path: str) -> str:
    """The page, which must be there."""
    answer = await client.get(path)
    assert answer.status == 200
    return await answer.text()


async def test_an_empty_mailbox_says_what_to_do(client: Client) -> None:
    """Without letters the page names the SMTP address to send to."""
    page = await page_of(client, "/")

    assert "No letters yet" in page
    assert "127.0.0.1:1025" in page


async def test_the_list_shows_the_newest_first(client: Client, letters: Letters) -> None:
    """Each letter is listed with subject and sender, the newest on top."""
    for number in range(3):
        await keep(letters, a_mail(f"Letter {number}"))
    page = await page_of(client, "/")

    assert re.findall(r"Letter \d", page) == ["Letter 2", "Letter 1", "Letter 0"]
    assert page.count("Ann &lt;ann@example.org&gt;") == 3


async def test_the_list_is_paged(client: Client, letters: Letters) -> None:
    """Fifty letters make a page, and links lead to the others with the search kept."""
    for number in range(120):
        await keep(letters, a_mail(f"Number {number}"))
    first, last = await page_of(client, "/?search=number"), await page_of(client, "/?page=3&search=number")

    assert (first.count("<li>"), last.count("<li>")) == (50, 20)
    assert 'href="?page=2&amp;search=number" rel="next"' in first
    assert 'rel="next"' not in last
    assert "Page 3 of 3" in last


@pytest.mark.parametrize("page", ["0", "-1", "x", "9" * 5000, "999", "1.5", "٣", ""])
async def test_any_page_number_is_answered(client: Client, letters: Letters, page: str) -> None:
    """A wrong page number shows a page, not an error."""
    await keep(letters, a_mail("The only one"))

    assert "The only one" in await page_of(client, f"/?page={page}")


async def test_a_search_without_result_says_so(client: Client, letters: Letters) -> None:
    """Nothing found is told apart from nothing there."""
    await keep(letters, a_mail())

    assert "No letter with" in await page_of(client, "/?search=nobody")


async def test_a_letter_shows_all_of_itself(client: Client, letters: Letters) -> None:
    """One page has headers, envelope, text, the frame for the HTML, files and the way to the source."""
    message = a_mail("Grüße", "Plain ü\n")
    message.add_alternative("<p>Fancy</p>", subtype="html")
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="bill.pdf")
    letter = await keep(letters, message, sender="bounce@example.org")
    page = await page_of(client, f"/letters/{letter.id}")

    assert all(
        part in page
        for part in ("Grüße", "Ann &lt;ann@example.org&gt;", "bounce@example.org", "Plain ü", "bill.pdf", "/source")
    )
    assert f'<iframe src="{letter.id}/html" sandbox ' in page


async def test_html_is_served_as_it_came_into_a_sandbox(client: Client, letters: Letters) -> None:
    """The letter's HTML is unchanged, and the browser is told to let it do nothing."""
    message = a_mail()
    message.add_alternative("<script>alert(1)</script><b>ü</b>\n", subtype="html")
    letter = await keep(letters, message)
    answer = await client.get(f"/letters/{letter.id}/html")

    assert await answer.text() == "<script>alert(1)</script><b>ü</b>\n"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:")


async def test_images_a_letter_brings_are_shown_in_its_html(client: Client, letters: Letters) -> None:
    """A `cid:` link to an image of the letter becomes that image; other links stay as they are."""
    message = a_mail()
    message.add_alternative('<img src="cid:logo@x"><img src="cid:other"><img src="cid:page">', subtype="html")
    message.add_attachment(b"PNG", maintype="image", subtype="png", cid="<logo@x>")
    message.add_attachment(b"<b>", maintype="text", subtype="html", cid="<page>", filename="page.html")
    letter = await keep(letters, message)
    page = await page_of(client, f"/letters/{letter.id}/html")

    assert page.strip() == '<img src="data:image/png;base64,UE5H"><img src="cid:other"><img src="cid:page">'


async def test_repeated_images_do_not_grow_without_bound(client: Client, letters: Letters) -> None:
    """A letter that shows one image ten thousand times does not become a page of gigabytes."""
    message = a_mail()
    message.add_alternative('<img src="cid:a">\n' * 10_000, subtype="html")
    message.add_attachment(b"x" * 1_000_000, maintype="image", subtype="png", cid="<a>")
    letter = await keep(letters, message)

    assert len(await page_of(client, f"/letters/{letter.id}/html")) < 12_000_000


async def test_files_come_down_byte_for_byte(client: Client, letters: Letters) -> None:
    """An attachment is a download with its name and exactly its bytes, and nothing a browser would run."""
    content = bytes(range(256)) * 100
    message = a_mail()
    message.add_attachment(content, maintype="text", subtype="html", filename="Rächnung “1”.html")
    letter = await keep(letters, message)
    answer = await client.get(f"/letters/{letter.id}/files/1")

    assert await answer.read() == content
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment; ")
    assert "filename*=UTF-8''R%C3%A4chnung%20%E2%80%9C1%E2%80%9D.html" in answer.headers["Content-Disposition"]


async def test_the_source_is_the_letter_as_it_came(client: Client, letters: Letters) -> None:
    """The source is plain text, byte for byte, whatever it is."""
    content = b"<script>alert(1)</script>\r\n\xff\0\r\n"
    letter = await letters.store("a@example.org", ["b@example.org"], content)
    answer = await client.get(f"/letters/{letter.id}/source")

    assert await answer.read() == content
    assert answer.content_type == "text/plain"


async def test_sec_10_nothing_a_stranger_wrote_becomes_markup(client: Client, letters: Letters) -> None:
    """A script in subject, sender, recipient, body, file name, header or search is shown, never run."""
    message = a_mail(PAYLOAD, PAYLOAD)
    message.replace_header("From", f'"{PAYLOAD.replace(chr(34), "")}" <x@example.org>')
    message["X-Evil"] = PAYLOAD
    message.add_attachment(b"x", maintype="application", subtype="pdf", filename=PAYLOAD)
    letter = await letters.store(PAYLOAD, [PAYLOAD], message.as_bytes(policy=SMTP))
    pages = [
        await page_of(client, "/"),
        await page_of(client, f"/letters/{letter.id}"),
        await (await client.get("/", params={"search": PAYLOAD})).text(),
        await (await client.get(f"/letters/{PAYLOAD.replace('/', '')}")).text(),
    ]

    for page in pages:
        assert "<script" not in page
        assert "<img" not in page
    assert "&lt;script&gt;" in pages[0]
    assert "{{7*7}}" in pages[1]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\xff" * 500,
        b"Subject: \xed\xa0\x80 =?utf-8?q?=ED=A0=80?=\r\nFrom: <<<\r\nDate: never\r\n\r\n\xff",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 20_000,
        b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(2000)),
        b'Content-Type: text/html\r\nContent-Disposition: attachment; filename="a\r\n b\x01\xff"\r\n\r\n<b>',
    ],
)
async def test_garbage_is_a_page_too(client: Client, letters: Letters, content: bytes) -> None:
    """No letter makes any page fail: what cannot be taken apart can still be read as source."""
    letter = await letters.store("\udcff\0@x", ["\udcff"], content)
    await page_of(client, "/")
    await page_of(client, "/letters.json")
    page = await page_of(client, f"/letters/{letter.id}")
    for number in range(1, min(page.count(f"{letter.id}/files/"), 3) + 1):
        assert (await client.get(f"/letters/{letter.id}/files/{number}")).status == 200

    assert f"{letter.id}/source" in page
    assert (await client.get(f"/letters/{letter.id}/html")).status in {200, 404}


@pytest.mark.parametrize(
    "path",
    [
        "/letters/0000000000000000",
        "/letters/x/html",
        "/letters/x/source",
        "/letters/x/files/1",
        "/letters/..%2f..%2fetc%2fpasswd/source",
    ],
)
async def test_a_letter_that_is_gone_is_said_to_be_gone(client: Client, path: str) -> None:
    """An unknown letter is a friendly 404 with a link back that works from there."""
    answer = await client.get(path)
    page = await answer.text()
    [back] = re.findall(r'<a href="([./]+)">All letters', page)

    assert answer.status == 404
    assert urljoin(answer.url.raw_path, back) == "/"


@pytest.mark.parametrize("number", ["0", "2", "-1", "x", "9" * 100])
async def test_a_file_that_is_not_there_is_not_found(client: Client, letters: Letters, number: str) -> None:
    """Only the files of the letter can be asked for."""
    message = a_mail()
    message.add_attachment(b"x", maintype="application", subtype="pdf", filename="a.pdf")
    letter = await keep(letters, message)

    assert (await client.get(f"/letters/{letter.id}/files/{number}")).status == 404


async def test_sec_9_every_answer_protects_itself(client: Client, letters: Letters) -> None:
    """No answer may be framed by others, sniffed, cached, or run anything."""
    message = a_mail()
    message.add_alternative("<b>x</b>", subtype="html")
    message.add_attachment(b"x", maintype="application", subtype="pdf", filename="a.pdf")
    letter = await keep(letters, message)
    below = ["", "/html", "/source", "/files/1", "/files/9"]
    paths = [
        "/",
        "/letters.json",
        "/faults",
        "/faults.json",
        "/static/mailbox.css",
        "/static/letters.css",
        "/letters/x",
    ] + [f"/letters/{letter.id}{one}" for one in below]
    for path in paths:
        headers = (await client.get(path)).headers
        policy = headers["Content-Security-Policy"]

        assert "default-src 'none'" in policy, path
        assert "frame-ancestors" in policy, path
        assert "script-src" not in policy, path
        assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store"), path
        assert headers["Referrer-Policy"] == "same-origin", path


async def test_our_pages_have_no_script_and_no_inline_style(client: Client, letters: Letters) -> None:
    """The pages keep to their own policy: everything works without JavaScript."""
    letter = await keep(letters, a_mail())
    for path in ("/", f"/letters/{letter.id}", "/letters/x", "/faults"):
        page = await (await client.get(path)).text()

        assert not re.search(r"<script|<style|\sstyle=|\son\w+=", page)
        assert '<html lang="en">' in page
        assert page.count("<h1>") == 1


async def test_the_list_for_programs(client: Client, letters: Letters) -> None:
    """`/letters.json` has the same list as the page, with search and paging."""
    await keep(letters, a_mail("One"))
    letter = await keep(letters, a_mail("Two"))
    answer = await (await client.get("/letters.json?per_page=1")).json()

    assert answer == {
        "letters": [
            {
                "id": letter.id,
                "at": letter.at.isoformat(),
                "from": "a@example.org",
                "to": ["b@example.org"],
                "subject": "Two",
                "author": "Ann <ann@example.org>",
                "size": letter.size,
            }
        ],
        "page": 1,
        "pages": 2,
        "total": 2,
    }
    assert (await (await client.get("/letters.json?search=one")).json())["total"] == 1


async def test_delete_all_from_our_page(client: Client, letters: Letters) -> None:
    """The form on the list empties the mailbox and leads back to the list."""
    await keep(letters, a_mail())
    origin = str(client.make_url("/"))[:-1]
    answer = await client.post("/letters/clear", headers={"Origin": origin})

    assert (answer.status, answer.url.path, len(letters)) == (200, "/", 0)


async def test_delete_all_for_programs(client: Client, letters: Letters) -> None:
    """`DELETE /letters` empties the mailbox."""
    await keep(letters, a_mail())

    assert (await client.delete("/letters")).status == 204
    assert len(letters) == 0


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
async def test_sec_8_other_sites_cannot_delete(client: Client, letters: Letters, headers: dict[str, str]) -> None:
    """A foreign page cannot empty the mailbox, by form or by script."""
    await keep(letters, a_mail())

    assert (await client.post("/letters/clear", headers=headers)).status == 403
    assert (await client.delete("/letters", headers=headers)).status == 403
    assert len(letters) == 1


async def test_below_a_prefix_every_link_works(letters: Letters, aiohttp_client: AiohttpClient) -> None:
    """Mounted below a path, the mailbox finds its own list, letters, faults and stylesheets."""
    app = web.Application()
    add_routes(app, letters, prefix="/mailbox")
    client = await aiohttp_client(app)
    await keep(letters, a_mail("Below"))
    seen: set[str] = set()
    waiting = {(await client.get("/mailbox")).url.path}
    while waiting:
        path = waiting.pop()
        answer = await client.get(path)
        assert answer.status == 200, path
        seen.add(path)
        if answer.content_type == "text/html":
            links = re.findall(r'(?:href|src)="([^"#]+)"', await answer.text())
            waiting |= {urljoin(path, one) for one in links if not one.startswith("data:")} - seen

    assert {"/mailbox/", "/mailbox/faults", "/mailbox/static/mailbox.css", "/mailbox/static/letters.css"} < seen
    assert all(path.startswith("/mailbox/") for path in seen)
    assert len(seen) == 6
