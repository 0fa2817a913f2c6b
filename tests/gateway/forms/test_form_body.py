"""Reading of forms over real HTTP: within budgets, in any chunks, and without ever anything but a typed refusal."""

import asyncio
import contextlib
import itertools
import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest
from aiohttp import web
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.forms.answers import accepted, refused
from gateway.forms.body import (
    LONGEST_BOUNDARY,
    LONGEST_FIELD,
    LONGEST_PART_HEADER,
    MOST_PART_HEADERS,
    MOST_PARTS,
    MOST_TEXT,
    BadForm,
    read_form,
    seconds_left,
)
from gateway.forms.raw import RawFile, RawForm
from gateway.forms.submission import Submission, check
from mailroom.attachments import LARGEST_IN_A_ROW, AttachmentStore
from mailroom.settings import EmailOptions, LimitSettings

OPTIONS = EmailOptions(mailbox="support@company.com")
URLENCODED = "application/x-www-form-urlencoded"
BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
FIELDS = (
    ("lastName", "Doe"),
    ("firstName", "John"),
    ("fromAddress", "john@example.org"),
    ("subject", "My order"),
    ("text", "Where is it?"),
)
ZIP = b"PK\x03\x04"


def part(disposition: str, content: bytes, *headers: str) -> bytes:
    """One part of a multipart body, its delimiter before it."""
    lines = [f"--{BOUNDARY}", f"Content-Disposition: form-data; {disposition}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n"


def field(name: str, value: str) -> bytes:
    """A text field."""
    return part(f'name="{name}"', value.encode())


def file(name: str, content: bytes, *headers: str) -> bytes:
    """A file as a widget sends it."""
    return part(f'name="files"; filename="{name}"', content, *headers)


END = f"--{BOUNDARY}--\r\n".encode()
COMPLETE = b"".join(field(name, value) for name, value in FIELDS)


class Intake:
    """A small server that reads and checks forms, and remembers what came of each."""

    def __init__(self, folder: Path) -> None:
        self.attachments = AttachmentStore(folder)
        self.options = OPTIONS
        self.limits = LimitSettings()
        self.forms: list[RawForm] = []
        self.submissions: list[Submission] = []
        self.raised: asyncio.Queue[BaseException] = asyncio.Queue()
        self.port = 0

    async def handle(self, request: web.Request) -> web.Response:
        """Answer as a front end would."""
        try:
            form = await read_form(request, self.options, self.limits, self.attachments)
        except BadForm as bad:
            return web.json_response(refused([bad.problem]), status=bad.status)
        except BaseException as error:
            self.raised.put_nowait(error)
            raise
        self.forms.append(form)
        result = check(form, "billing", self.options, None)
        if isinstance(result, list):
            await form.discard(self.attachments)
            return web.json_response(refused(result), status=400)
        self.submissions.append(result)
        return web.json_response(accepted("an id"))

    def stored(self) -> list[Path]:
        """All files in the attachment store, finished or not."""
        return [path for path in self.attachments.folder.rglob("*") if path.is_file()]

    async def connect(self, content_type: str, length: int | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which the head of a request has been sent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        head = ["POST /billing HTTP/1.1", "Host: x", f"Content-Type: {content_type}", framing, "", ""]
        writer.write("\r\n".join(head).encode("latin-1"))
        return reader, writer

    async def post(self, content_type: str, chunks: Sequence[bytes]) -> tuple[int, dict[str, Any]]:
        """Send these chunks one by one, and return status and JSON of the answer."""
        reader, writer = await self.connect(content_type, sum(map(len, chunks)))
        return await finish(reader, writer, chunks)


async def finish(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, chunks: Sequence[bytes]
) -> tuple[int, dict[str, Any]]:
    """Send the rest and read the answer; a server may answer and close before all is sent."""
    try:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            for _ in range(4):  # lets the server, which runs in this loop, read what has come so far
                await asyncio.sleep(0)
    except ConnectionError:
        pass
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    assert length is not None
    body = await reader.readexactly(int(length[1]))
    writer.close()
    return int(head.split()[1]), json.loads(body)


@contextlib.asynccontextmanager
async def served(intake: Intake, *, handler_cancellation: bool = False) -> AsyncIterator[Intake]:
    """The intake behind a port of its own."""
    app = web.Application()
    app.router.add_post("/{service}", intake.handle)
    runner = web.AppRunner(app, handler_cancellation=handler_cancellation, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    intake.port = runner.addresses[0][1]
    yield intake
    await runner.cleanup()


@pytest.fixture
async def intake(tmp_path: Path) -> AsyncIterator[Intake]:
    """A running intake, whose handlers go on when their client is gone."""
    async with served(Intake(tmp_path)) as intake:
        yield intake


@pytest.fixture
async def cancelling_intake(tmp_path: Path) -> AsyncIterator[Intake]:
    """A running intake, whose handlers are cancelled when their client is gone."""
    async with served(Intake(tmp_path), handler_cancellation=True) as intake:
        yield intake


async def codes_of(intake: Intake, content_type: str, *chunks: bytes) -> list[int]:
    """The codes with which a form is refused; none when it is accepted."""
    status, answer = await intake.post(content_type, chunks)
    assert (status == 200) == (answer["statusCode"] == 0)
    return [error["code"] for error in answer.get("errors", [])]


async def test_multipart(intake: Intake) -> None:
    """A multipart form yields its fields and files as they were sent."""
    content = bytes(range(256)) * 10
    status, _ = await intake.post(MULTIPART, [COMPLETE, file("a.zip", ZIP + content, "Content-Type: text/html"), END])

    assert status == 200
    assert intake.forms == [
        RawForm(
            fields=FIELDS,
            files=(
                RawFile(
                    name="a.zip", size=len(content) + 4, head=(ZIP + content)[:2048], content=ZIP + content, key=None
                ),
            ),
        )
    ]


async def test_urlencoded(intake: Intake) -> None:
    """An urlencoded form yields its fields; files in it are ignored."""
    more = (("userData", "k2=a=b"), ("text", "ü + %"), ("files", "ignored"))
    status, _ = await intake.post(URLENCODED, [urlencode([*FIELDS, *more]).encode()])

    assert status == 200
    assert intake.forms == [RawForm(fields=(*FIELDS, *more))]
    assert intake.submissions[0].attachments == ()


async def test_int_10_query_is_not_mixed_in(intake: Intake) -> None:
    """Parameters in the URL are no fields."""
    reader, writer = await asyncio.open_connection("127.0.0.1", intake.port)
    writer.write(
        b"POST /billing?firstName=John HTTP/1.1\r\nHost: x\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n\r\n"
    )
    status, answer = await finish(reader, writer, [])

    assert status == 400
    assert 102 in [error["code"] for error in answer["errors"]]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (URLENCODED + "; charset=punycode", b"text=gr%FCn"),
        (URLENCODED, b"_charset_=punycode&text=gr%FCn"),
        (MULTIPART, part('name="text"', b"gr\xfcn", "Content-Type: text/plain; charset=punycode") + END),
        (MULTIPART, field("_charset_", "punycode") + part('name="text"', b"gr\xfcn") + END),
    ],
)
async def test_int_2_charset_is_never_the_clients_choice(intake: Intake, content_type: str, body: bytes) -> None:
    """Text is UTF-8, whatever a client declares; what is none is replaced, not guessed."""
    await intake.post(content_type, [body])

    assert dict(intake.forms[0].fields)["text"] == "gr\ufffdn"


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('name="files"; filename="safe.txt"; filename*=UTF-8\'\'evil.exe', "safe.txt"),
        ('name="files"; filename*=UTF-8\'\'evil.exe; filename="safe.txt"', "safe.txt"),
        ("name=\"files\"; filename*=UTF-8''evil.exe", "attachment-1.txt"),
        ('name="files"', "attachment-1.txt"),
        ('name="upload"; filename="a.txt"', "a.txt"),
        ('name="files"; filename="a%0D%0ABcc: x.txt"', "aBcc_ x.txt"),
        ('name="files"; filename="a\x00b.txt"', "ab.txt"),
        ('name="files"; filename="../../etc/passwd.txt"', "passwd.txt"),
        ('name="files"; filename="C:\\dir\\a.txt"', "a.txt"),
        ("name=files; filename=a.txt", "a.txt"),
        ('name="files"; filename="a.exe"; filename="b.txt"', "b.txt"),
        ('name="files"; filename="Größe.txt"', "Größe.txt"),
    ],
)
async def test_int_9_name_of_a_file(intake: Intake, disposition: str, name: str) -> None:
    """The name that is checked and sent comes from `filename` alone, cleaned; without one it is made up."""
    await intake.post(MULTIPART, [COMPLETE + part(disposition, b"hello") + END])

    assert [attachment.name for attachment in intake.submissions[0].attachments] == [name]


async def test_unused_file_inputs_are_no_files(intake: Intake) -> None:
    """What browsers send for a file input that nobody used does not count as a file."""
    intake.options = replace(OPTIONS, max_files=0)

    assert await codes_of(intake, MULTIPART, COMPLETE, file("", b"") * 5, END) == []


async def test_int_4_large_files_go_to_the_store(intake: Intake) -> None:
    """A file of 1 MiB stays in memory; one byte more, and it is in the attachment store before the form is read."""
    at_border = ZIP + bytes(LARGEST_IN_A_ROW - 4)
    beyond = ZIP + bytes(range(256)) * 4096
    await intake.post(MULTIPART, [COMPLETE, file("a.zip", at_border), file("b.zip", beyond), END])
    small, large = intake.submissions[0].attachments

    assert (small.content, small.key) == (at_border, None)
    assert large.content is None
    assert large.size == len(beyond)
    assert large.key is not None
    assert await intake.attachments.read(large.key) == beyond
    assert len(intake.stored()) == 1


async def test_int_4_refused_form_leaves_no_files(intake: Intake) -> None:
    """When a form is refused by the rules, discarding it empties the attachment store."""
    body = [file("a.zip", ZIP + bytes(LARGEST_IN_A_ROW)) * 2, END]

    assert 102 in await codes_of(intake, MULTIPART, *body)
    assert intake.stored() == []


async def test_int_4_broken_form_leaves_no_files(intake: Intake) -> None:
    """When a body turns out broken after large files, they are deleted."""
    body = [file("a.zip", ZIP + bytes(LARGEST_IN_A_ROW)) * 2, b"--no end"]

    assert await codes_of(intake, MULTIPART, *body) == [400]
    assert intake.stored() == []


LARGE_UPLOAD = COMPLETE + file("a.zip", ZIP + bytes(LARGEST_IN_A_ROW * 2))


async def leave(intake: Intake, sent: bytes) -> BaseException:
    """Send this much of a larger body, go away once something is stored, and return what the handler raised."""
    _, writer = await intake.connect(MULTIPART, 9_000_000)
    writer.write(sent)
    async with asyncio.timeout(30):
        while not intake.stored():  # the file system sends no events
            await asyncio.sleep(0.01)
        writer.close()
        return await intake.raised.get()


@pytest.mark.parametrize("sent", [LARGE_UPLOAD, LARGE_UPLOAD[:-1000]], ids=["after a file", "within a file"])
async def test_int_4_client_gone_leaves_no_files(intake: Intake, sent: bytes) -> None:
    """When the client goes away in the middle, whatever it had uploaded is deleted."""
    assert isinstance(await leave(intake, sent), ConnectionError)
    assert intake.stored() == []


@pytest.mark.parametrize("sent", [LARGE_UPLOAD, LARGE_UPLOAD[:-1000]], ids=["after a file", "within a file"])
async def test_int_4_cancelled_reading_leaves_no_files(cancelling_intake: Intake, sent: bytes) -> None:
    """When the reading is cancelled, whatever had been uploaded is deleted."""
    assert isinstance(await leave(cancelling_intake, sent), asyncio.CancelledError)
    assert cancelling_intake.stored() == []


async def test_int_3_limits_of_files_are_told_together(intake: Intake) -> None:
    """Too many, too large and of the wrong type are all told in one answer, and none of them stays in the store."""
    intake.options = replace(OPTIONS, max_files=2, max_size=2_500_000)
    large = file("a.zip", ZIP + bytes(1_400_000))
    codes = await codes_of(intake, MULTIPART, large, large, file("c.exe", b"MZ"), END)

    assert {201, 202, 203, 102} <= set(codes)
    assert intake.stored() == []


@pytest.mark.parametrize("size", [100_000, 2_000_000])
async def test_int_3_size_of_all_files(intake: Intake, size: int) -> None:
    """Files of just max_size pass; one byte more is 202, though still read to its end."""
    intake.options = replace(OPTIONS, max_size=size)

    assert await codes_of(intake, MULTIPART, COMPLETE, file("a.zip", ZIP + bytes(size - 4)), END) == []
    assert await codes_of(intake, MULTIPART, COMPLETE, file("a.zip", ZIP + bytes(size - 3)), END) == [202]
    assert await codes_of(intake, MULTIPART, COMPLETE, file("a.zip", ZIP), file("b.txt", b"x" * (size - 3)), END) == [
        202
    ]


async def test_int_3_number_of_files(intake: Intake) -> None:
    """Ten files pass, eleven are 201."""
    assert await codes_of(intake, MULTIPART, COMPLETE, file("a.txt", b"x") * 10, END) == []
    assert await codes_of(intake, MULTIPART, COMPLETE, file("a.txt", b"x") * 11, END) == [201]


@pytest.mark.parametrize("character", ["x", "ü"])
async def test_int_3_longest_field(intake: Intake, character: str) -> None:
    """A text of 64 KiB passes in both encodings; one byte more is 204, and not also called missing."""
    fits = character * (LONGEST_FIELD // len(character.encode()))

    for text, codes in ((fits, []), (fits + "x", [204])):
        changed = tuple((dict(FIELDS) | {"text": text}).items())
        multipart = b"".join(field(name, value) for name, value in changed)
        assert await codes_of(intake, MULTIPART, multipart, END) == codes
        assert await codes_of(intake, URLENCODED, urlencode(changed).encode()) == codes


async def test_int_3_most_text(intake: Intake) -> None:
    """All text together may have 512 KiB; one byte more is 204."""
    rest = MOST_TEXT - sum(len(value) for _, value in FIELDS) - 7 * LONGEST_FIELD
    more = [("more", "x" * LONGEST_FIELD)] * 7

    for last, codes in (("x" * rest, []), ("x" * (rest + 1), [204])):
        fields = [*FIELDS, *more, ("more", last)]
        assert await codes_of(intake, MULTIPART, *(field(*pair) for pair in fields), END) == codes
        assert await codes_of(intake, URLENCODED, urlencode(fields).encode()) == codes


async def test_int_3_number_of_parts(intake: Intake) -> None:
    """100 parts or urlencoded fields pass, one more is malformed."""
    more = MOST_PARTS - len(FIELDS)

    for count, codes in ((more, []), (more + 1, [400])):
        assert await codes_of(intake, MULTIPART, COMPLETE, field("x", "y") * count, END) == codes
        assert await codes_of(intake, URLENCODED, urlencode([*FIELDS, *[("x", "y")] * count]).encode()) == codes


async def test_int_3_headers_of_a_part(intake: Intake) -> None:
    """A part may have 8 header lines of 4 kB; a ninth, or a longer one, is malformed."""
    headers = ["X-Long: " + "x" * (LONGEST_PART_HEADER - 8)] + ["X-Short: x"] * (MOST_PART_HEADERS - 2)

    assert await codes_of(intake, MULTIPART, COMPLETE, file("a.txt", b"", *headers), END) == []
    assert await codes_of(intake, MULTIPART, COMPLETE, file("a.txt", b"", *headers, "X-Ninth: x"), END) == [400]
    assert await codes_of(intake, MULTIPART, COMPLETE, file("a.txt", b"", headers[0] + "x"), END) == [400]


async def test_int_3_length_of_the_boundary(intake: Intake) -> None:
    """A boundary of 70 characters passes, of 71 not."""
    for length, codes in ((LONGEST_BOUNDARY, []), (LONGEST_BOUNDARY + 1, [400])):
        boundary = "b" * length
        body = (COMPLETE + END).replace(BOUNDARY.encode(), boundary.encode())
        assert await codes_of(intake, f'Multipart/Form-Data; Boundary="{boundary}"', body) == codes


@pytest.mark.parametrize(("content_type", "code"), [(MULTIPART, 202), (URLENCODED, 204)])
async def test_int_3_too_long_by_its_own_account(intake: Intake, content_type: str, code: int) -> None:
    """A body whose Content-Length is beyond all budgets is refused before any of it was sent."""
    reader, writer = await intake.connect(content_type, 10**12)
    status, answer = await finish(reader, writer, [])

    assert (status, answer["errors"][0]["code"]) == (400, code)


@pytest.mark.parametrize(
    ("content_type", "start", "code"),
    [
        (
            MULTIPART,
            COMPLETE + b"--" + BOUNDARY.encode() + b'\r\nContent-Disposition: form-data; name="x"\r\n\r\n',
            202,
        ),
        (MULTIPART, b"a preamble without end ", 202),
        (MULTIPART, COMPLETE + END, 202),
        (MULTIPART, COMPLETE + file("a.zip", b"")[:-2], 202),
        (URLENCODED, b"text=", 204),
    ],
    ids=["field", "preamble", "epilogue", "file", "urlencoded"],
)
async def test_int_3_endless_body(intake: Intake, content_type: str, start: bytes, code: int) -> None:
    """A body without a declared length is cut off at the total budget, wherever its bytes go."""
    intake.options = replace(OPTIONS, max_size=1_500_000)
    reader, writer = await intake.connect(content_type, None)
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    status, answer = await finish(reader, writer, [b"%x\r\n%b\r\n" % (len(start), start), *[chunk] * 60])

    assert (status, answer["errors"][0]["code"]) == (400, code)
    assert intake.stored() == []


async def test_chunked_body(intake: Intake) -> None:
    """A body in chunked transfer coding is read like any other."""
    reader, writer = await intake.connect(MULTIPART, None)
    body = COMPLETE + END
    pieces = [b"%x\r\n%b\r\n" % (1, body[i : i + 1]) for i in range(len(body))]
    status, _ = await finish(reader, writer, [*pieces, b"0\r\n\r\n"])

    assert status == 200


async def test_int_5_silent_client(intake: Intake) -> None:
    """A client that stops in the middle of its body is told so, and its files are deleted."""
    intake.limits = LimitSettings(idle_read_seconds=0.1)
    reader, writer = await intake.connect(MULTIPART, 3_000_000)
    status, answer = await finish(reader, writer, [COMPLETE, file("a.zip", ZIP + bytes(LARGEST_IN_A_ROW))])

    assert (status, answer["errors"][0]["code"]) == (408, 408)
    assert intake.stored() == []


async def test_int_5_dripping_client(intake: Intake) -> None:
    """A client that sends its body byte by byte is cut off when the time for the whole body is over."""
    intake.limits = LimitSettings(body_seconds=0.2)
    reader, writer = await intake.connect(MULTIPART, 3_000_000)

    async def drip() -> None:
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.01)

    dripping = asyncio.create_task(drip())
    status, answer = await finish(reader, writer, [])
    dripping.cancel()

    assert (status, answer["errors"][0]["code"]) == (408, 408)


@pytest.mark.parametrize(
    ("elapsed", "received", "left"),
    [
        (0, 0, 10),
        (0, 10_000, 15),
        (9, 0, 1),
        (10, 0, 0),
        (20, 12_000, 2),
        (60, 10_000_000, 15),
        (110, 10_000_000, 10),
        (120, 10_000_000, 0),
        (130, 10_000_000, -10),
    ],
)
def test_int_5_seconds_left(elapsed: float, received: int, left: float) -> None:
    """Bytes may take 15 s, a body 120 s, and after 10 s it must have come at 1 kB/s."""
    assert seconds_left(elapsed, received, LimitSettings()) == left


async def test_int_6_content_encoding_is_refused(intake: Intake) -> None:
    """A compressed body is refused as 415 before it is read."""
    reader, writer = await intake.connect(f"{MULTIPART}\r\nContent-Encoding: gzip", 1000)
    status, answer = await finish(reader, writer, [])

    assert (status, answer["errors"][0]["code"]) == (415, 415)


def between(head: str, content: bytes = b"x") -> bytes:
    """A whole multipart body of a good form and one part with this head."""
    return COMPLETE + f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode("latin-1") + content + b"\r\n" + END


DISPOSITION = 'Content-Disposition: form-data; name="x"'

MALFORMED: dict[str, tuple[str, bytes]] = {
    "no content type": ("", COMPLETE + END),
    "json": ("application/json", b"{}"),
    "text": ("text/plain", b"firstName=John"),
    "multipart of another kind": (f"multipart/mixed; boundary={BOUNDARY}", COMPLETE + END),
    "content type of nonsense": (";;;", COMPLETE + END),
    "no boundary": ("multipart/form-data", COMPLETE + END),
    "empty boundary": ('multipart/form-data; boundary=""', COMPLETE + END),
    "boundary outside ASCII": ('multipart/form-data; boundary="\xe4\xf6"', b"--\xe4\xf6--\r\n"),
    "boundary with a control": ('multipart/form-data; boundary="a\tb"', b"--a\tb--\r\n"),
    "two boundaries": (f"{MULTIPART}; boundary=b", COMPLETE + END),
    "another boundary": ("multipart/form-data; boundary=other", COMPLETE + END),
    "empty body": (MULTIPART, b""),
    "empty urlencoded body": (URLENCODED, b""),
    "only the end": (MULTIPART, END),
    "urlencoded body in multipart": (MULTIPART, urlencode(FIELDS).encode()),
    "multipart body in urlencoded": (URLENCODED, COMPLETE + END),
    "no final boundary": (MULTIPART, COMPLETE),
    "half a final boundary": (MULTIPART, COMPLETE + END[:-3]),
    "cut in a value": (MULTIPART, COMPLETE[:-10]),
    "cut in a header": (MULTIPART, COMPLETE + DISPOSITION.encode()),
    "bytes before the first boundary": (MULTIPART, b"x" + COMPLETE + END),
    "bytes after a boundary": (MULTIPART, COMPLETE + f"--{BOUNDARY} x\r\n\r\n".encode() + END),
    "LF only": (MULTIPART, (COMPLETE + END).replace(b"\r\n", b"\n")),
    "CR only": (MULTIPART, (COMPLETE + END).replace(b"\r\n", b"\r")),
    "LF in a header": (MULTIPART, between(f"{DISPOSITION}\nX: y")),
    "no disposition": (MULTIPART, between("Content-Type: text/plain")),
    "no headers": (MULTIPART, COMPLETE + f"--{BOUNDARY}\r\n\r\nx\r\n".encode() + END),
    "two dispositions": (MULTIPART, between(f'{DISPOSITION}\r\nContent-Disposition: form-data; name="y"')),
    "disposition of another type": (MULTIPART, between('Content-Disposition: attachment; name="x"')),
    "no name": (MULTIPART, between("Content-Disposition: form-data")),
    "empty name": (MULTIPART, between('Content-Disposition: form-data; name=""')),
    "file without name of a field": (MULTIPART, between('Content-Disposition: form-data; filename="a.txt"')),
    "name without quote": (MULTIPART, between('Content-Disposition: form-data; name="x')),
    "nested multipart": (MULTIPART, between(f"{DISPOSITION}\r\nContent-Type: multipart/mixed; boundary=b")),
    "content encoding": (MULTIPART, between(f"{DISPOSITION}\r\nContent-Encoding: gzip")),
    "base64": (MULTIPART, between(f"{DISPOSITION}\r\nContent-Transfer-Encoding: base64")),
    "unknown transfer encoding": (MULTIPART, between(f"{DISPOSITION}\r\nContent-Transfer-Encoding: x-rot13")),
    "length too small": (MULTIPART, between(f"{DISPOSITION}\r\nContent-Length: 0")),
    "length too great": (MULTIPART, between(f"{DISPOSITION}\r\nContent-Length: 2")),
    "length of nonsense": (MULTIPART, between(f"{DISPOSITION}\r\nContent-Length: {'9' * 4090}")),
    "bad UTF-8 in a header": (MULTIPART, between('Content-Disposition: form-data; name="\xff"')),
    "header without colon": (MULTIPART, between(f"{DISPOSITION}\r\nnonsense")),
    "header with a bad name": (MULTIPART, between(f"{DISPOSITION}\r\nX Y: z")),
    "continuation of nothing": (MULTIPART, between(f" folded\r\n{DISPOSITION}")),
    "continuation of spaces": (MULTIPART, between(f"{DISPOSITION}\r\n  ")),
    "10 kB header": (MULTIPART, between(f"{DISPOSITION}; x={'x' * 10_000}")),
    "folded 10 kB header": (MULTIPART, between(DISPOSITION + "\r\n x" * 10_000)),
    "300 headers": (MULTIPART, between(DISPOSITION + "\r\nX: y" * 300)),
    "300 parts": (MULTIPART, COMPLETE + field("x", "y") * 300 + END),
    "300 urlencoded fields": (URLENCODED, b"a=b&" * 300),
    "ampersands": (URLENCODED, b"&" * 100_000),
    "percent signs": (URLENCODED, b"%" * 100_000),
    "NUL": (URLENCODED, b"\x00" * 1000),
    "random bytes": (MULTIPART, bytes(range(256)) * 10),
    "script for a text": (MULTIPART, COMPLETE + file("a\x00.exe", b"MZ") + END),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_int_1_malformed_body(intake: Intake, name: str) -> None:
    """Every malformed body gets a 4xx in JSON with statusCode 1, numeric codes and advice; nothing else happens."""
    content_type, body = MALFORMED[name]
    status, answer = await intake.post(content_type, [body])

    assert status in {400, 415}
    assert answer["statusCode"] == 1
    assert answer["errors"]
    for error in answer["errors"]:
        assert isinstance(error["code"], int)
        assert error["advice"]
    assert intake.raised.empty()
    assert intake.submissions == []


LIVELY = (
    COMPLETE
    + field("userData", "k=\r\n--" + BOUNDARY[:-1])
    + file("a.zip", ZIP + b"\r\n--\r\r\n" * 9 + b"\r", "Content-Type: application/zip")
    + file("", b"")
    + END
    + b"an epilogue"
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(cuts=list(range(len(LIVELY))))
@given(cuts=st.lists(st.integers(0, len(LIVELY)), max_size=20))
async def test_int_1_any_chunking_reads_the_same(intake: Intake, cuts: list[int]) -> None:
    """However the network cuts a body, the form is the same."""
    edges = sorted({0, len(LIVELY), *cuts})
    chunks = [LIVELY[start:end] for start, end in itertools.pairwise(edges)]
    status, _ = await intake.post(MULTIPART, chunks)
    form = intake.forms.pop()

    assert status == 200
    assert form.fields == (*FIELDS, ("userData", f"k=\r\n--{BOUNDARY[:-1]}"))
    assert [(file.name, file.content) for file in form.files] == [("a.zip", ZIP + b"\r\n--\r\r\n" * 9 + b"\r")]


FRAGMENTS = [
    *(f"--{BOUNDARY}\r\n".encode(), END, b"\r\n", b"\n", b"\r", b"--", b"\x00", b"\xff", b":", b" "),
    *(DISPOSITION.encode(), b'Content-Disposition: form-data; name="files"; filename="', b'"', b"%0D%0A", b"\\"),
    *(b"Content-Type: multipart/mixed", b"Content-Length: 3", COMPLETE, file("a.txt", b"x"), field("text", "x")),
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=5)).map(b"".join))
async def test_int_1_any_body_is_answered(intake: Intake, body: bytes) -> None:
    """Whatever the bytes, a multipart body is accepted or refused, never an error of ours."""
    status, answer = await intake.post(MULTIPART, [body])

    assert (status, answer["statusCode"]) in {(200, 0), (400, 1)}
    assert intake.raised.empty()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(body=b"preamble--" + BOUNDARY.encode() + b"\r\n" + END, cuts=[])
@given(
    body=st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=5), max_size=12).map(b"".join),
    cuts=st.lists(st.integers(0, 600), max_size=12),
)
async def test_int_1_any_body_has_one_verdict(intake: Intake, body: bytes, cuts: list[int]) -> None:
    """However the network cuts whatever bytes, what becomes of them is the same, and so is what was read."""
    whole = await intake.post(MULTIPART, [body])
    edges = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    pieces = await intake.post(MULTIPART, [body[start:end] for start, end in itertools.pairwise(edges)])
    bytewise = await intake.post(MULTIPART, [body[at : at + 1] for at in range(len(body))])

    assert pieces == bytewise == whole
    assert all(form == intake.forms[0] for form in intake.forms)
    intake.forms.clear()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(st.sampled_from(["a.txt", "b.exe", "c", "d.", ".e", "f.tx\u200bt", "a/b.zip", ""]), max_size=4),
    sizes=st.lists(st.integers(0, 9), min_size=4, max_size=4),
)
async def test_dropped_file_is_never_accepted(intake: Intake, names: list[str], sizes: list[int]) -> None:
    """A submission that is accepted has all bytes of all its files: what was dropped on the way refuses it."""
    intake.options = replace(OPTIONS, max_files=2, max_size=12)
    files = [file(name, b"x" * size) for name, size in zip(names, sizes, strict=False)]
    status, _ = await intake.post(MULTIPART, [COMPLETE, *files, END])

    assert (status == 200) == bool(intake.submissions)
    for submission in intake.submissions:
        assert all(attachment.content is not None for attachment in submission.attachments)
        assert sum(attachment.size for attachment in submission.attachments) <= 12
    intake.submissions.clear()


async def test_percent_encoded_bytes_of_utf_8(intake: Intake) -> None:
    """Names and values of an urlencoded form are UTF-8 behind their percent signs, broken ones stand as they are."""
    await intake.post(URLENCODED, [f"text={quote_plus('漢字 & =')}&%74itle=%zz&subject=100%".encode()])

    assert intake.forms[0].fields == (("text", "漢字 & ="), ("title", "%zz"), ("subject", "100%"))
