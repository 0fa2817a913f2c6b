"""Bodies that are taken apart in one pass mean what the parser would say; all that is unusual is left to the parser."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.forms.regular import RegularPart, regular_parts
from tests.gateway.forms.test_form_body import MALFORMED, Intake, finish, served
from tests.gateway.forms.test_form_corpora import OTHERWISE, cases, completed

BOUNDARY = "xYz"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
NAME = b'Content-Disposition: form-data; name="text"'
FILE = NAME + b'; filename="a.txt"'


def body(*parts: bytes, end: bytes = b"--xYz--\r\n") -> bytes:
    """A body of these parts, each from its head to its last byte."""
    return b"".join(b"--xYz\r\n" + part + b"\r\n" for part in parts) + end


REGULAR: dict[str, tuple[bytes, list[tuple[str, str | None, bytes]]]] = {
    "nothing": (body(), []),
    "field": (body(NAME + b"\r\n\r\nhi"), [("text", None, b"hi")]),
    "empty field": (body(NAME + b"\r\n\r\n"), [("text", None, b"")]),
    "file": (body(FILE + b"\r\nContent-Type: text/plain\r\n\r\nhi"), [("text", "a.txt", b"hi")]),
    "file without type": (body(FILE + b"\r\n\r\nhi"), [("text", "a.txt", b"hi")]),
    "unused file": (
        body(NAME + b'; filename=""\r\nContent-Type: application/octet-stream\r\n\r\n'),
        [("text", "", b"")],
    ),
    "field with a charset": (
        body(NAME + b"\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhi"),
        [("text", None, b"hi")],
    ),
    "UTF-8": (
        body('Content-Disposition: form-data; name="gr\u00fcn"; filename="\u6f22.txt"\r\n\r\n\u5b57'.encode()),
        [("gr\u00fcn", "\u6f22.txt", "\u5b57".encode())],
    ),
    "lines in a value": (body(NAME + b"\r\n\r\na\r\n\r\n--xY\r\n-"), [("text", None, b"a\r\n\r\n--xY\r\n-")]),
    "no last line end": (body(NAME + b"\r\n\r\nhi", end=b"--xYz--"), [("text", None, b"hi")]),
    "two": (body(NAME + b"\r\n\r\na", FILE + b"\r\n\r\nb"), [("text", None, b"a"), ("text", "a.txt", b"b")]),
}


@pytest.mark.parametrize("name", REGULAR)
def test_regular_bodies(name: str) -> None:
    """What browsers write is taken apart: name, name of the file, content."""
    whole, parts = REGULAR[name]

    assert regular_parts(whole, BOUNDARY, 100) == [RegularPart(*part) for part in parts]


UNUSUAL = {
    "preamble": b"x\r\n" + body(NAME + b"\r\n\r\nhi"),
    "line before": b"\r\n" + body(NAME + b"\r\n\r\nhi"),
    "epilogue": body(NAME + b"\r\n\r\nhi") + b"x",
    "no end": body(NAME + b"\r\n\r\nhi", end=b""),
    "half an end": body(NAME + b"\r\n\r\nhi", end=b"--xYz-"),
    "padding": body(NAME + b"\r\n\r\nhi").replace(b"--xYz\r", b"--xYz \r"),
    "longer boundary": body(NAME + b"\r\n\r\nhi", end=b"--xYzz--\r\n"),
    "LF": body(NAME + b"\r\n\r\nhi").replace(b"\r\n", b"\n"),
    "LF in a name": body(NAME.replace(b"text", b"te\nxt") + b"\r\n\r\nhi"),
    "no head": body(b"\r\nhi"),
    "no blank line": body(NAME),
    "no name": body(b"Content-Disposition: form-data\r\n\r\nhi"),
    "empty name": body(NAME.replace(b"text", b"") + b"\r\n\r\nhi"),
    "bare name": body(NAME.replace(b'"', b"") + b"\r\n\r\nhi"),
    "long name": body(NAME.replace(b"text", b"x" * 501) + b"\r\n\r\nhi"),
    "percent": body(NAME.replace(b"text", b"%22") + b"\r\n\r\nhi"),
    "backslash": body(FILE.replace(b"a.txt", b"C:\\\\a.txt") + b"\r\n\r\nhi"),
    "escaped quote": body(NAME.replace(b"text", b'te\\"xt') + b"\r\n\r\nhi"),
    "extended name": body(NAME + b"; filename*=UTF-8''a.txt\r\n\r\nhi"),
    "two names of a file": body(FILE + b'; filename="b.txt"\r\n\r\nhi'),
    "other order": body(b'Content-Disposition: form-data; filename="a.txt"; name="text"\r\n\r\nhi'),
    "no UTF-8": body(NAME.replace(b"text", b"\xff") + b"\r\n\r\nhi"),
    "lower case": body(NAME.lower() + b"\r\n\r\nhi"),
    "folded": body(NAME + b"\r\n x\r\n\r\nhi"),
    "two dispositions": body(NAME + b"\r\n" + NAME + b"\r\n\r\nhi"),
    "type first": body(b"Content-Type: text/plain\r\n" + NAME + b"\r\n\r\nhi"),
    "multipart in it": body(NAME + b"\r\nContent-Type: Multipart/mixed\r\n\r\nhi"),
    "type of nonsense": body(NAME + b"\r\nContent-Type: text\r\n\r\nhi"),
    "encoded": body(NAME + b"\r\nContent-Transfer-Encoding: base64\r\n\r\nhi"),
    "compressed": body(NAME + b"\r\nContent-Encoding: gzip\r\n\r\nhi"),
    "with its length": body(NAME + b"\r\nContent-Length: 2\r\n\r\nhi"),
    "too many": body(*[NAME + b"\r\n\r\nhi"] * 101),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_int_1_unusual_bodies_are_left_to_the_parser(name: str) -> None:
    """Whatever needs to be judged is judged in one place."""
    assert regular_parts(UNUSUAL[name], BOUNDARY, 100) is None


@pytest.fixture
async def intake(tmp_path: Path) -> AsyncIterator[Intake]:
    """A running intake."""
    async with served(Intake(tmp_path)) as intake:
        yield intake


async def both(intake: Intake, content_type: str, sent: bytes) -> list[tuple[Any, Any]]:
    """What becomes of a body that comes at once, and of one whose first byte comes alone: the parser reads that."""
    found = []
    for pieces in ([sent], [sent[:1], sent[1:]]):
        reader, writer = await intake.connect(content_type, len(sent))
        # What was sent together with the head is there, whole, when it is read first.
        answer = await finish(reader, writer, pieces)
        found.append((answer, intake.forms.pop() if intake.forms else None))
        intake.submissions.clear()
    assert intake.raised.empty()
    return found


@pytest.mark.parametrize("corpus", OTHERWISE)
async def test_int_1_collected_bodies_mean_the_same_at_once(intake: Intake, corpus: str) -> None:
    """Whatever others collected is read the same at once as by the parser, alone and behind a complete form."""
    for case in cases(corpus):
        alone = case["body"].encode("latin-1")
        for sent in (alone, completed(case["content_type"], alone)):
            at_once, parsed = await both(intake, case["content_type"], sent)
            assert at_once == parsed, case["name"]


OURS = UNUSUAL | {name: whole for name, (whole, _) in REGULAR.items()}


@pytest.mark.parametrize("name", OURS)
async def test_int_1_our_bodies_mean_the_same_at_once(intake: Intake, name: str) -> None:
    """So are those above."""
    at_once, parsed = await both(intake, MULTIPART, OURS[name])

    assert at_once == parsed


@pytest.mark.parametrize("name", MALFORMED)
async def test_int_1_malformed_bodies_mean_the_same_at_once(intake: Intake, name: str) -> None:
    """And so are those that are none."""
    at_once, parsed = await both(intake, *MALFORMED[name])

    assert at_once == parsed


NAMES = st.sampled_from(["text", "files", "gr\u00fcn", "%22", 'a"b', "a\\b", "", "x" * 600, "\r\n", "\n", "\t", "\x85"])
HEADS = st.builds(
    lambda head, name, filename, then: head % name.encode() + (
        b"" if filename is None else b'; filename="%b"' % filename.encode()
    ) + then,
    st.sampled_from([b'Content-Disposition: form-data; name="%b"'] * 6 + [
        b'content-disposition: form-data; name="%b"', b"Content-Disposition: form-data; name=%b",
        b'Content-Disposition:form-data;name="%b"', b'Content-Disposition: attachment; name="%b"', b"X: %b",
    ]),
    NAMES,
    st.none() | NAMES | st.sampled_from(["a.txt", "b.exe", "c.zip", "C:\\a.txt", 'a.txt"; filename="b.txt']),
    st.sampled_from([b""] * 4 + [
        b"\r\nContent-Type: text/plain", b"\r\nContent-Type: text/plain; charset=utf-8", b"\r\nContent-Type: Multipart/x",
        b"\r\nContent-Type: MULTIPART", b"\r\nContent-Length: 2", b"\r\n folded", b"\nX: y", b"\xff", b" ", b"\r",
    ]),
)  # fmt: skip
CONTENTS = st.sampled_from(
    [b"", b"x", b"hi", b"\r\n", b"\r\n\r\n", b"\r\n--xY", b"\r\n--xYz ", b"--xYz\r\n", b"\r", b"\n--xYz", b"\x00\xff"]
) | st.binary(max_size=12)  # fmt: skip
PARTS = st.tuples(
    st.just(b"--xYz\r\n"),
    HEADS,
    st.sampled_from([b"\r\n\r\n"] * 9 + [b"\r\n", b"\n\n", b""]),
    CONTENTS,
    st.sampled_from([b"\r\n"] * 9 + [b"\n", b""]),
).map(b"".join)
BODIES = st.tuples(
    st.sampled_from([b""] * 9 + [b"\r\n", b"x"]),
    st.lists(PARTS, max_size=4).map(b"".join),
    st.sampled_from([b"--xYz--\r\n"] * 9 + [b"--xYz--", b"--xYz--\r\nx", b"--xYz-", b"--xYz\r\n", b""]),
).map(b"".join)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(sent=body(FILE + b"\r\n\r\n" + b"x" * 700_000))
@example(sent=body(FILE + b"\r\n\r\n" + b"x" * 500_000, NAME + b"\r\n\r\n" + b"x" * 70_000))
@example(sent=body(*[FILE + b"\r\n\r\n" + b"x" * 30_000] * 12, NAME + b"\r\n\r\n" + b"x" * 66_000))
@given(sent=BODIES)
async def test_int_1_any_body_means_the_same_at_once(intake: Intake, sent: bytes) -> None:
    """Whatever comes close to a form, or is one, is read the same at once as by the parser."""
    at_once, parsed = await both(intake, MULTIPART, sent)

    assert at_once == parsed
