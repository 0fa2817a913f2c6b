"""A letter taken apart for reading: good ones completely, bad ones without ever raising."""

from email.message import EmailMessage
from email.policy import SMTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.mailbox.opened import LONGEST_BODY, headline, open_letter


def written(message: EmailMessage) -> bytes:
    """The message as it goes over the wire."""
    return message.as_bytes(policy=SMTP)


def test_text_html_and_files_are_told_apart() -> None:
    """The first text and the first HTML are the body; everything else is a file with its own bytes."""
    message = EmailMessage()
    message["Subject"] = "Grüße"
    message.set_content("Plain ü\n")
    message.add_alternative("<p>Fancy ü</p>", subtype="html")
    message.add_attachment(bytes(range(256)), maintype="application", subtype="pdf", filename="Rächnung.pdf")
    opened = open_letter(written(message))

    assert opened.text == "Plain ü\n"
    assert opened.html == "<p>Fancy ü</p>\n"
    assert [(one.name, one.media_type, one.content) for one in opened.files] == [
        ("Rächnung.pdf", "application/pdf", bytes(range(256)))
    ]
    assert (opened.header("subject"), opened.trouble) == ("Grüße", None)


def test_an_attached_mail_stays_whole() -> None:
    """A forwarded mail is one file, and its bytes are those it came with."""
    inner = b"Subject: kept  as is\r\nX-Long: " + b"word " * 40 + b"\r\n\r\nInner body\r\n"
    source = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: text/plain\r\n\r\nOuter\r\n"
        b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + inner + b"\r\n--b--\r\n"
    )
    opened = open_letter(source)

    assert opened.text == "Outer"
    assert [one.content for one in opened.files] == [inner]


@pytest.mark.parametrize(
    ("charset", "body", "text"),
    [
        ("iso-8859-1", b"\xfc", "ü"),
        ("us-ascii", "ü".encode(), "ü"),
        ("no-such-charset", "ü".encode(), "ü"),
        ("base64", "ü".encode(), "ü"),
        ("utf-8", b"\xff", "\ufffd"),
        ("", "ü".encode(), "ü"),
    ],
)
def test_a_body_is_read_in_its_charset(charset: str, body: bytes, text: str) -> None:
    """A wrong or unknown charset costs characters, never the page."""
    source = f"Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: 8bit\r\n\r\n".encode() + body

    assert open_letter(source).text == text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\evil.exe", "evil.exe"),
        ("..", "attachment-1"),
        ("", "attachment-1"),
        ("invoice\u202efdp.exe", "invoice\ufffdfdp.exe"),
    ],
)
def test_a_file_name_is_one_component(name: str, shown: str) -> None:
    """No name leads out of a folder or deceives about its ending."""
    message = EmailMessage()
    message.add_attachment(b"x", maintype="application", subtype="pdf", filename=name)

    assert [one.name for one in open_letter(written(message)).files] == [shown]


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"\0" * 1000,
        b"no header at all",
        b"\xff\xfe\xfd: \xff\r\n\r\n\xff",
        b"Subject: =?no-such?q?x?=\r\nFrom: <<<>>>@@,,;:\r\n\r\n",
        b"Content-Type: multipart/mixed\r\n\r\nwithout a boundary",
        b"Content-Type: multipart/mixed; boundary=\r\n\r\n--\r\n",
        b"Content-Type: ;;;===\"\r\nContent-Disposition: attachment; filename*=x'y\r\n\r\nx",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!not base64!!!",
        b"Content-Type: message/rfc822\r\n\r\n",
        b"Content-Type: message/delivery-status\r\n\r\n",
        b"Date: Sun, 99 Foo 99999 99:99:99 +9999\r\nMessage-ID: <<\r\nTo: =?utf-8?b?//8?=\r\n\r\n",
        b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(3000)),
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 20_000,
        b"To: " + b'"a(' * 100_000 + b"\r\n\r\n",
        b"Subject: " + b"=?utf-8?q?=ff?= " * 50_000 + b"\r\n\r\n",
        b"a:\r\n" * 50_000,
    ],
)
def test_garbage_is_shown_somehow(source: bytes) -> None:
    """Whatever comes in, taking it apart raises nothing and what is shown can be encoded."""
    opened = open_letter(source)
    shown = headline(source)

    assert "".join((shown.subject, shown.author, opened.text or "", opened.html or "")).encode() is not None
    assert all((name + value).encode() is not None for name, value in opened.headers)


@given(st.binary(max_size=2000))
def test_any_bytes_can_be_opened(source: bytes) -> None:
    """No bytes at all make the reader raise, alone or behind a header that gives them a structure."""
    for start in (b"", b"Content-Type: multipart/mixed; boundary=0\r\n\r\n--0\r\n", b"From: ", b"Content-Type: "):
        opened = open_letter(start + source)
        headline(start + source)

        assert all((name + value).encode() is not None for name, value in opened.headers)


def test_a_letter_of_too_many_parts_is_not_taken_apart() -> None:
    """Parts cost memory each, so beyond a bound there is only the source, and the page says why."""
    opened = open_letter(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 20_000)

    assert opened.trouble == "It has too many parts to be taken apart."


def test_a_very_long_body_is_cut_on_the_page() -> None:
    """A page shows at most a million characters; the source has the rest."""
    opened = open_letter(b"Subject: long\r\n\r\n" + b"x" * (LONGEST_BODY + 10))

    assert opened.text is not None
    assert len(opened.text) == LONGEST_BODY


def test_raw_utf8_headers_are_read() -> None:
    """SMTPUTF8 mail has its headers in plain UTF-8 (RFC 6532)."""
    shown = headline("Subject: Grüße aus Köln\r\nFrom: Zoë <zoë@bücher.example>\r\n\r\n".encode())

    assert (shown.subject, shown.author) == ("Grüße aus Köln", "Zoë <zoë@bücher.example>")
