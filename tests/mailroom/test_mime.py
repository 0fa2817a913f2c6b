"""The bytes on the wire say what was meant and nothing else, whatever a client wrote into a field."""

import base64
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.header import decode_header
from email.message import EmailMessage, Message
from email.parser import BytesParser
from email.policy import compat32, default
from email.utils import getaddresses, parseaddr
from urllib.parse import unquote
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.message import Attachment, Content, Correspondent
from mailroom.mime import UnsafeMessage, ascii_address, compose, compose_off_loop, message_id_of
from mailroom.threads import thread_headers

ID = UUID("01890000-0000-7000-8000-000000000001")
LETTER_ID = UUID("01890000-0000-7000-8000-00000000000a")
ACCEPTED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

#: Strings that have put a header line of their own on somebody's wire.
NAUGHTY = (
    "=?utf-8?q?x=0ABcc:evil@example.com?=",
    "=?utf-8?b?eApCY2M6IGV2aWxAZXhhbXBsZS5jb20=?=",
    "x =?utf-8?q?=0D=0ABcc:evil@example.com?= y =?utf-8?q?z?=",
    "a\r\nBcc: evil@example.com",
    "a\nBcc: evil@example.com",
    "a\rBcc: evil@example.com",
    "a\n",
    "a\n\nbody",
    "a\x0bb\x0cc\x1cd\x1de\x1ef",
    "a\x85Bcc: evil@example.com",
    "a\u2028Bcc: evil@example.com\u2029",
    "nul\x00del\x7f",
    "half \ud83d a pair",
    '"quoted" \\ back\\',
    "Doe, Jane <evil@example.com>",
    "evil@example.com, other@example.com",
    "(comment) : ; [group]",
    "=?utf-8?b?AAAA",
    "=?unknown-charset?b?AAAA?=",
    "\u202egnp.exe",
    "  spaces  inside  ",
    "x" * 2000,
    "word " * 400,
    "ü" * 700,
    "👩‍👩‍👧‍👦" * 60,
    "",
)


def a_content(**changes: object) -> Content:
    values: dict[str, object] = {"to": "support@company.com", "subject": "Hello", "text": "Text\n"}
    return Content(**(values | changes))  # type: ignore[arg-type]  # the test names the fields


def composed(content: Content, *attachments: bytes) -> bytes:
    return compose(ID, content, "forms@company.com", "Forms", ACCEPTED_AT, attachments)


def parsed(wire: bytes) -> Message:
    return BytesParser(policy=compat32).parsebytes(wire)


def parts_of(wire: bytes) -> list[Message]:
    payload = parsed(wire).get_payload()
    return [part for part in payload if isinstance(part, Message)]


def parsed_by_today(wire: bytes) -> EmailMessage:
    """As the standard library's newer reader has it."""
    return BytesParser(EmailMessage, policy=default).parsebytes(wire)


def people_in(message: Message, header: str) -> list[tuple[str, str]]:
    """The names and addresses of an address header: its list taken apart first, then the names decoded."""
    unfolded = re.sub(r"\r?\n(?=[ \t])", "", str(message[header]))
    return [(decoded(name), address) for name, address in getaddresses([unfolded])]


def shape_of(part: Message) -> object:
    """The types of a message's parts, nested as the parts are."""
    if not part.is_multipart():
        return part.get_content_type()
    return (part.get_content_subtype(), [shape_of(one) for one in part.iter_parts()])  # type: ignore[attr-defined]


def decoded(value: str) -> str:
    """The standard library's reading of a header, folds and encoded words undone."""
    unfolded = re.sub(r"\r?\n(?=[ \t])", "", value)
    parts = decode_header(unfolded)
    return "".join(p.decode(c or "ascii") if isinstance(p, bytes) else p for p, c in parts)


def cleaned(value: str) -> str:
    """What a header can mean: one line of text."""
    value = re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", value)
    return re.sub("[\ud800-\udfff]", "\ufffd", value).strip(" ")


def file_name(part: Message) -> str:
    """The name by RFC 2231 where there is one, else the plain one."""
    disposition = re.sub(r"\r?\n[ \t]", " ", str(part["Content-Disposition"]))
    extended = re.findall(r"filename\*(?:\d+\*)?=(?:UTF-8'')?([^;\s]*)", disposition)
    if extended:
        return unquote("".join(extended), errors="strict")
    plain = re.search(r'filename="([^"]*)"', disposition)
    assert plain is not None
    return plain[1]


def assert_fit_for_the_wire(wire: bytes) -> None:
    assert wire.isascii()
    assert wire.endswith(b"\r\n")
    assert wire.count(b"\r") == wire.count(b"\n") == wire.count(b"\r\n")
    assert max(map(len, wire.split(b"\r\n"))) <= 998


def test_a_plain_mail_is_written_as_one_would_by_hand() -> None:
    """Plain text needs no encoding, and the headers come in the usual order."""
    wire = composed(a_content(reply_to="jane@example.com", reply_to_name="Jane Doe"))

    assert wire.decode("ascii").split("\r\n") == [
        "From: Forms <forms@company.com>",
        "To: support@company.com",
        "Reply-To: Jane Doe <jane@example.com>",
        "Subject: Hello",
        "Date: Fri, 02 Jan 2026 03:04:05 +0000",
        "Message-ID: <01890000-0000-7000-8000-000000000001@company.com>",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=us-ascii",
        "Content-Transfer-Encoding: 7bit",
        "",
        "Text",
        "",
    ]


def test_every_attempt_has_the_same_bytes() -> None:
    """A second attempt is the same message to every reader, however its time of acceptance is written."""
    content = a_content(html="<p>Text</p>", attachments=(Attachment(name="a.txt", media_type="text/plain", size=1),))
    elsewhere = ACCEPTED_AT.astimezone(timezone(timedelta(hours=5)))

    assert compose(ID, content, "f@a.de", None, ACCEPTED_AT, [b"x"]) == compose(
        ID, content, "f@a.de", None, elsewhere, [b"x"]
    )


def test_the_contents_own_sender_goes_before_the_integrations() -> None:
    """From is the content's address and name where it has them; Message-ID has the same domain."""
    message = parsed(composed(a_content(from_address="sales@shop.example", from_name="Sales")))

    assert parseaddr(message["From"]) == ("Sales", "sales@shop.example")
    assert message["Message-ID"].endswith("@shop.example>")


@pytest.mark.parametrize("text", NAUGHTY)
def test_sec_1_no_field_can_add_a_header_or_end_the_block(text: str) -> None:
    """Hostile text in every field stays the value of that field (CVE-2024-6923, CVE-2026-1299)."""
    content = a_content(
        subject=text,
        text=text,
        html=text,
        from_name=text,
        to_all=(Correspondent("a@example.com", text), Correspondent("b@example.com", text)),
        cc=(Correspondent("c@example.com", text),),
        reply_to="jane@example.com",
        reply_to_name=text,
        headers=(("X-User-Data", text),),
        attachments=(Attachment(name=text, media_type="application/pdf", size=1),),
    )
    wire = composed(content, b"x")
    message = parsed(wire)

    assert_fit_for_the_wire(wire)
    assert message.keys() == [
        "From",
        "To",
        "Cc",
        "Reply-To",
        "Subject",
        "Date",
        "Message-ID",
        "MIME-Version",
        "X-User-Data",
        "Content-Type",
    ]
    assert decoded(message["Subject"]) == cleaned(text)
    assert decoded(message["X-User-Data"]) == cleaned(text)
    assert parseaddr(message["From"])[1] == "forms@company.com"
    assert parseaddr(message["Reply-To"])[1] == "jane@example.com"
    assert [address for _, address in people_in(message, "To")] == ["a@example.com", "b@example.com"]
    assert [address for _, address in people_in(message, "Cc")] == ["c@example.com"]


#: Any text, and often what headers are attacked with.
hostile_text = st.text(st.characters(codec=None), max_size=120) | st.lists(
    st.sampled_from(["=?", "?=", "=?utf-8?q?x?=", "\r", "\n", "\x85", "\u2028", "\x00", " ", "ü", "<", ">", '"', "\\"])
    | st.text(max_size=4),
    max_size=30,
).map("".join)


@given(subject=hostile_text, name=hostile_text, value=hostile_text)
def test_headers_round_trip(subject: str, name: str, value: str) -> None:
    """An independent parser reads the subject, the names and the extra headers that were meant."""
    content = a_content(subject=subject, from_name=name, headers=(("X-A", value), ("X-B", "b")))
    wire = composed(content)
    message = parsed(wire)
    display, address = parseaddr(str(message["From"]).replace("\r\n", ""))

    assert_fit_for_the_wire(wire)
    assert message.keys()[:2] == ["From", "To"]
    assert message.keys()[-4:] == ["X-A", "X-B", "Content-Type", "Content-Transfer-Encoding"]
    assert decoded(message["Subject"]) == cleaned(subject)
    assert decoded(message["X-A"]) == cleaned(value)
    assert decoded(display) == cleaned(name)
    assert address == "forms@company.com"


body_text = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=400) | st.lists(
    st.sampled_from(["\n", ".", "--=_a_", " ", "\t", "=", "ü", "x" * 500, "From ", "漢字", "\x00", "\x0c"]), max_size=20
).map("".join)


@given(text=body_text, html=body_text)
def test_bodies_round_trip(text: str, html: str) -> None:
    """Text and html arrive as they were, with line breaks as mail has them and one at the end."""
    wire = composed(a_content(text=text, html=html))
    first, second = parts_of(wire)

    assert_fit_for_the_wire(wire)
    for part, meant in ((first, text), (second, html)):
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        assert payload.decode("utf-8").replace("\r\n", "\n") == meant.removesuffix("\n") + "\n"


@given(name=hostile_text, data=st.binary(max_size=300))
def test_attachments_round_trip(name: str, data: bytes) -> None:
    """A file arrives byte for byte under the name it was given."""
    attachment = Attachment(name=name, media_type="application/octet-stream", size=len(data))
    wire = composed(a_content(attachments=(attachment,)), data)
    _, part = parts_of(wire)

    assert_fit_for_the_wire(wire)
    assert part.keys() == ["Content-Type", "Content-Transfer-Encoding", "Content-Disposition"]
    assert part.get_payload(decode=True) == data
    assert file_name(part) == (cleaned(name) or "attachment")


def test_a_file_name_is_written_once() -> None:
    """A name that is not plain is written by RFC 2231 alone, so that no reader shows a mangled form of it."""
    attachment = Attachment(name="Übersicht 2026.pdf", media_type="application/pdf", size=1)
    wire = composed(a_content(attachments=(attachment,)), b"x")

    assert b'filename="' not in wire
    assert b"filename*=UTF-8''%C3%9Cbersicht%202026.pdf" in wire


def test_a_mail_as_attachment_is_carried_as_bytes() -> None:
    """message/* may not be base64 (RFC 2046 section 5.2.1), so it is not called that."""
    attachment = Attachment(name="old.eml", media_type="message/rfc822", size=1)

    assert b"Content-Type: application/octet-stream\r\n" in composed(a_content(attachments=(attachment,)), b"x")


def test_mostly_foreign_letters_go_as_base64() -> None:
    """Text that quoted-printable would triple is carried in the shorter encoding."""
    body = composed(a_content(text="漢字かな交じり文\n")).partition(b"\r\n\r\n")[2]

    assert base64.b64decode(body).decode() == "漢字かな交じり文\r\n"


def test_headers_are_folded() -> None:
    """No header line is longer than 76 characters when its words allow it."""
    head = composed(a_content(subject="word " * 100, from_name="Ü" * 200)).partition(b"\r\n\r\n")[0]

    assert max(map(len, head.split(b"\r\n"))) <= 76


@pytest.mark.parametrize(
    "address",
    [
        "alice@example.org)bob@example.com",
        '"a@evil x"@internal',
        "a,b@example.com",
        "a b@example.com",
        "a@b@example.com",
        "<a@example.com>",
        "a@example.com\r\nBcc: b@example.com",
        "a@example.com\n",
        "a@exa\u2028mple.com",
        "a\u3000b@example.com",
        "a@[127.0.0.1]",
        "=?utf-8?q?x?=@example.com",
        "(a)b@example.com",
        "group:a@example.com;",
        "no-at-sign",
        "@example.com",
        "a@",
        "a@" + "b" * 260,
        "\ud800@example.com",
        "",
    ],
)
def test_sec_2_an_address_that_could_be_read_two_ways_is_refused(address: str) -> None:
    """What is not plainly one address is written nowhere."""
    with pytest.raises(UnsafeMessage):
        ascii_address(address)


def test_snd_6_a_domain_is_written_in_a_labels() -> None:
    """No server needs SMTPUTF8 for the sake of a domain, and the sharp s is not taken for two (IDNA 2008)."""
    assert ascii_address("info@straße.de") == "info@xn--strae-oqa.de"


@pytest.mark.parametrize("name", ["Bcc", "from", "Content-Type", "X A", "X:", "", "X\r\nY", "Ü"])
def test_sec_1_our_own_headers_cannot_be_added_again(name: str) -> None:
    """An extra header has a proper name, and not one that this house writes itself."""
    with pytest.raises(UnsafeMessage):
        composed(a_content(headers=((name, "x"),)))


async def test_snd_10_a_large_message_built_in_a_thread_is_the_same() -> None:
    """Where a message is built makes no difference to it."""
    data = bytes(300_000)
    content = a_content(attachments=(Attachment(name="a.bin", media_type="application/pdf", size=len(data)),))
    arguments = (ID, content, "forms@company.com", None, ACCEPTED_AT)

    assert await compose_off_loop(*arguments, [data]) == compose(*arguments, [data])


# --- Letters to several people ---------------------------------------------------------------------------------------


def test_a_letter_names_everybody_as_one_would_by_hand() -> None:
    """To and Cc are lists, folded between their members; the copy's own recipient is named only there."""
    wire = composed(
        a_content(
            to="hidden@example.com",
            to_all=(
                Correspondent("jane@example.com", "Jane Doe"),
                Correspondent("joe@example.com", 'Joe "Jo" Doe, Jr.'),
                Correspondent("support@example.com"),
            ),
            cc=(Correspondent("joerg@example.com", "Jörg"), Correspondent("boss@example.com")),
        )
    )

    assert wire.decode("ascii").split("\r\n")[1:5] == [
        'To: Jane Doe <jane@example.com>, "Joe \\"Jo\\" Doe, Jr." <joe@example.com>,',
        " support@example.com",
        "Cc: =?utf-8?b?SsO2cmc=?= <joerg@example.com>, boss@example.com",
        "Subject: Hello",
    ]
    assert b"hidden@example.com" not in wire


def test_without_a_list_the_recipient_is_named() -> None:
    """A message that is no letter's copy names whom it goes to, and so does a copy that only hidden readers have."""
    message = parsed(composed(a_content(to="jane@example.com", letter_id=LETTER_ID)))

    assert message["To"] == "jane@example.com"
    assert "Cc" not in message


def test_a_long_list_is_folded() -> None:
    """Fifty recipients make many lines, none of them longer than 76 characters."""
    people = tuple(
        Correspondent(f"person.{n}@example.com", ("Ünal", "Doe, J.", "Jane", "")[n % 4] * 3) for n in range(50)
    )
    wire = composed(a_content(to_all=people, cc=people))
    message = parsed_by_today(wire)

    assert max(map(len, wire.split(b"\r\n"))) <= 76
    for header in (message["To"], message["Cc"]):
        assert [(one.display_name, one.addr_spec) for one in header.addresses] == [(p.name, p.address) for p in people]


#: Names that could end their mailbox, begin another, or swallow the next one.
hostile_names = hostile_text | st.lists(
    st.sampled_from([",", '"', "\\", "<evil@example.com>", "<", ">", "(", ")", ";", ":", "@", "a", "ü", " ", "\r\n"]),
    max_size=12,
).map("".join)
hostile_people = st.lists(hostile_names, min_size=1, max_size=6).map(
    lambda names: tuple(Correspondent(f"person.{number}@example.com", name) for number, name in enumerate(names))
)


@given(to_all=hostile_people, cc=hostile_people)
def test_lists_round_trip(to_all: tuple[Correspondent, ...], cc: tuple[Correspondent, ...]) -> None:
    """Whatever people are called, a list has them and nobody else, each by the own name."""
    wire = composed(a_content(to_all=to_all, cc=cc))
    message = parsed(wire)

    assert_fit_for_the_wire(wire)
    assert message.keys()[:4] == ["From", "To", "Cc", "Subject"]
    for header, meant in (("To", to_all), ("Cc", cc)):
        assert people_in(message, header) == [(cleaned(one.name or ""), one.address) for one in meant]


@pytest.mark.parametrize("field", ["to_all", "cc"])
def test_sec_2_every_address_of_a_list_is_judged(field: str) -> None:
    """One address that could be read two ways is enough to refuse the letter."""
    people = (Correspondent("jane@example.com"), Correspondent("a@example.com, b@example.com"))

    with pytest.raises(UnsafeMessage):
        composed(a_content(**{field: people}))


def test_the_recipient_is_judged_even_when_no_header_names_it() -> None:
    """A blind copy does not go to an address that would be refused in a header."""
    with pytest.raises(UnsafeMessage):
        composed(a_content(to="a@b@example.com", to_all=(Correspondent("jane@example.com"),)))


def test_all_copies_of_a_letter_are_the_same_bytes() -> None:
    """What two recipients get differs in nothing, so that their programs take it for one letter."""
    files = (a_png("logo"), Attachment(name="a.txt", media_type="text/plain", size=1))
    first = a_content(
        to="jane@example.com",
        html='<img src="cid:logo">',
        attachments=files,
        letter_id=LETTER_ID,
        to_all=(Correspondent("jane@example.com"), Correspondent("joe@example.com")),
    )
    second = replace(first, to="joe@example.com")
    another_id = UUID("01890000-0000-7000-8000-000000000002")
    wire = composed(first, b"x", b"y")

    assert wire == compose(another_id, second, "forms@company.com", "Forms", ACCEPTED_AT, [b"x", b"y"])
    assert parsed(wire)["Message-ID"] == message_id_of(LETTER_ID, "forms@company.com")


# --- Threads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", ["company.com", "a." * 120 + "com"])
def test_a_chain_of_letters_is_folded_at_its_spaces(domain: str) -> None:
    """Every id of In-Reply-To and References stands whole on a line, even when it alone is longer than a line should be."""
    earlier = [message_id_of(UUID(int=n), f"a@{domain}") for n in range(40)]
    wire = composed(a_content(headers=thread_headers(earlier)))
    message = parsed(wire)
    chain = str(message["References"])

    assert_fit_for_the_wire(wire)
    assert message["In-Reply-To"] == earlier[-1]
    assert chain.split() == [earlier[0], *earlier[20:]]
    assert all(line.strip().startswith("<") and line.endswith(">") for line in chain.splitlines())
    assert max(map(len, chain.splitlines())) <= max(76, len(earlier[0]) + 1)


def test_even_an_endless_chain_fits_the_wire() -> None:
    """How many ids there are is no business of their lines."""
    earlier = [f"<{n}@company.com>" for n in range(5000)]
    wire = composed(a_content(headers=(("References", "\r\n\t".join(earlier)),)))

    assert_fit_for_the_wire(wire)
    assert str(parsed(wire)["References"]).split() == earlier


@pytest.mark.parametrize("name", ["In-Reply-To", "references"])
@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "a@company.com",
        "<a@company.com> b",
        "<a b@company.com>",
        "<a@company.com><b@company.com>",
        "<a@company.com>,<b@company.com>",
        "<a@company.com>\r\nBcc: evil@example.com",
        "<=?utf-8?q?x?=@company.com>",
        '<"a"@company.com>',
        "<(a)@company.com>",
        "<ä@company.com>",
        "<a@company.com\x00>",
        "<" + "a" * 1000 + "@company.com>",
    ],
)
def test_what_is_no_message_id_is_no_thread(name: str, value: str) -> None:
    """Where only ids may stand nothing else is written, not even encoded."""
    with pytest.raises(UnsafeMessage):
        composed(a_content(headers=((name, value),)))


# --- Images inside the HTML ------------------------------------------------------------------------------------------


def a_png(content_id: str | None, name: str = "logo.png") -> Attachment:
    return Attachment(name=name, media_type="image/png", size=1, content_id=content_id)


PDF = Attachment(name="a.pdf", media_type="application/pdf", size=1)
LETTER = ["text/plain", "text/html"]
LETTER_WITH_IMAGE = ["text/plain", ("related", ["text/html", "image/png"])]


@pytest.mark.parametrize(
    ("html", "files", "shape"),
    [
        (None, (), "text/plain"),
        ("<p>", (), ("alternative", LETTER)),
        ("<p>", (PDF,), ("mixed", [("alternative", LETTER), "application/pdf"])),
        ('<img src="cid:i1">', (a_png("i1"),), ("alternative", LETTER_WITH_IMAGE)),
        ("<img src=CID:i1>", (a_png("i1"),), ("alternative", LETTER_WITH_IMAGE)),
        ("<p style='background:url(cid:i1)'>", (a_png("i1"),), ("alternative", LETTER_WITH_IMAGE)),
        (
            '<img src="cid:i1">',
            (PDF, a_png("i1"), PDF),
            ("mixed", [("alternative", LETTER_WITH_IMAGE), "application/pdf", "application/pdf"]),
        ),
        (
            '<img src="cid:i2"><img src="cid:i1">',
            (a_png("i1"), a_png("i2")),
            ("alternative", ["text/plain", ("related", ["text/html", "image/png", "image/png"])]),
        ),
        (
            '<img src="cid:i1">',
            (a_png("i1"), a_png("i2")),
            ("mixed", [("alternative", LETTER_WITH_IMAGE), "image/png"]),
        ),
        ('<img src="cid:i1">', (a_png(None),), ("mixed", [("alternative", LETTER), "image/png"])),
        ('<img src="cid:i12">', (a_png("i1"),), ("mixed", [("alternative", LETTER), "image/png"])),
        ("acid:i1", (a_png("i1"),), ("mixed", [("alternative", LETTER), "image/png"])),
        ("", (a_png("i1"),), ("mixed", [("alternative", LETTER), "image/png"])),
        (None, (a_png("i1"),), ("mixed", ["text/plain", "image/png"])),
    ],
)
def test_each_file_stands_where_it_is_shown(html: str | None, files: tuple[Attachment, ...], shape: object) -> None:
    """What the HTML shows is with it, all other files are beside the letter, and no part holds only one other."""
    wire = composed(a_content(html=html, attachments=files), *[b"x"] * len(files))

    assert_fit_for_the_wire(wire)
    assert shape_of(parsed_by_today(wire)) == shape


def test_an_image_is_found_by_its_content_id() -> None:
    """The HTML is the root of what is related, and its image says by which id and name it is known."""
    image = a_png("01890000-0000-7000-8000-0000000000aa", "Größe.png")
    wire = composed(a_content(html=f'<img src="cid:{image.content_id}">', attachments=(image,)), b"\x00\xff")
    _, related = parsed_by_today(wire).iter_parts()
    root, shown = related.iter_parts()

    assert related.get_param("type") == "text/html"
    assert related.get_param("start") is None
    assert root.get_content() == f'<img src="cid:{image.content_id}">\r\n'
    assert shown.keys() == ["Content-Type", "Content-Transfer-Encoding", "Content-ID", "Content-Disposition"]
    assert shown["Content-ID"] == f"<{image.content_id}>"
    assert shown.get_content_disposition() == "inline"
    assert shown.get_filename() == "Größe.png"
    assert shown.get_content() == b"\x00\xff"


def test_an_image_that_the_html_does_not_show_is_an_ordinary_file() -> None:
    """Nobody is left with a picture that no program lists: it has no content id, and is to be saved."""
    wire = composed(a_content(html="<p>Text</p>", attachments=(a_png("i1"),)), b"x")
    _, file = parsed_by_today(wire).iter_parts()

    assert file.get_content_disposition() == "attachment"
    assert "Content-ID" not in file


@given(name=hostile_text, data=st.binary(max_size=300))
def test_inline_files_round_trip(name: str, data: bytes) -> None:
    """An image arrives byte for byte, and its name is as harmless as any other file's."""
    wire = composed(a_content(html="<img src='cid:i1'>", attachments=(a_png("i1", name),)), data)
    shown = next(part for part in parsed(wire).walk() if part.get_content_type() == "image/png")

    assert_fit_for_the_wire(wire)
    assert shown.keys() == ["Content-Type", "Content-Transfer-Encoding", "Content-ID", "Content-Disposition"]
    assert shown.get_payload(decode=True) == data
    assert file_name(shown) == (cleaned(name) or "attachment")


@pytest.mark.parametrize(
    "content_id", ["", " ", "a b", "a>", "<a>", "a@b", "a\r\nBcc: b", "a\n", "ä", "=?x", "a" * 101]
)
def test_a_content_id_that_could_be_read_two_ways_is_refused(content_id: str) -> None:
    """An id is letters, digits, dots and dashes, whether the HTML shows the file or not."""
    with pytest.raises(UnsafeMessage):
        composed(a_content(html=f"cid:{content_id}", attachments=(a_png(content_id),)), b"x")
    with pytest.raises(UnsafeMessage):
        composed(a_content(attachments=(a_png(content_id),)), b"x")


def test_two_files_of_one_content_id_are_refused() -> None:
    """Which of them the HTML shows would be anybody's guess."""
    with pytest.raises(UnsafeMessage):
        composed(a_content(html="cid:i1", attachments=(a_png("i1"), a_png("i1"))), b"x", b"y")
