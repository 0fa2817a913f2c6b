"""Requests that one reader of HTTP ends elsewhere than another: refused, and nothing behind them is a request."""

import asyncio
import json
from pathlib import Path
from urllib.parse import urlencode

from tests.gateway.forms.live import PLACE, calling, listening, never_stalled
from tests.journeys.office import FORM

BODY = urlencode(FORM).encode()
KIND = b"Content-Type: application/x-www-form-urlencoded\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
HEAD = f"POST {PLACE} HTTP/1.1\r\nHost: x\r\n".encode() + KIND
CODED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
#: What an attacker wants to have taken for a request of somebody else.
SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def with_length(*lines: bytes, head: bytes = HEAD) -> bytes:
    """A form with these headers besides, of a known length."""
    return head + b"".join(lines) + LENGTH + b"\r\n" + BODY


def chunked(*lines: bytes, body: bytes = CODED) -> bytes:
    """A form with these headers, in chunks."""
    return HEAD + b"".join(lines) + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked\r\n"
AMBIGUOUS = {
    "length, then chunks": chunked(LENGTH, CHUNKED),
    "chunks, then length": chunked(CHUNKED, b"Content-Length: 4\r\n"),
    "length twice": with_length(LENGTH),
    "two lengths": with_length(b"Content-Length: 3\r\n"),
    "list of lengths": chunked(b"Content-Length: 3, 3\r\n", body=BODY),
    "length with a sign": chunked(b"Content-Length: +3\r\n", body=BODY),
    "negative length": chunked(b"Content-Length: -1\r\n", body=BODY),
    "hexadecimal length": chunked(b"Content-Length: 0x10\r\n", body=BODY),
    "length in Arabic": chunked("Content-Length: \u0661\u0662\r\n".encode(), body=BODY),
    "length of nothing": chunked(b"Content-Length: \r\n", body=BODY),
    "endless length": chunked(b"Content-Length: 99999999999999999999999\r\n", body=BODY),
    "space before the colon": chunked(b"Content-Length : 3\r\n", body=BODY),
    "two hosts": with_length(b"Host: y\r\n"),
    "no host": with_length(head=HEAD.replace(b"Host: x\r\n", b"")),
    "chunked twice": chunked(CHUNKED, CHUNKED),
    "identity": chunked(b"Transfer-Encoding: identity\r\n"),
    "chunked first": chunked(b"Transfer-Encoding: chunked, identity\r\n"),
    "xchunked": chunked(b"Transfer-Encoding: xchunked\r\n"),
    "chunked behind a control": chunked(b"Transfer-Encoding: \x0bchunked\r\n"),
    "chunked in quotes": chunked(b'Transfer-Encoding: "chunked"\r\n'),
    "folded header": with_length(b"X: a\r\n b\r\n"),
    "folded coding": chunked(b"Transfer-Encoding:\r\n chunked\r\n"),
    "LF alone": with_length().replace(b"\r\n", b"\n"),
    "one LF": with_length(b"X: y\n"),
    "one CR": with_length(b"X: y\r"),
    "NUL": with_length(b"X: y\x00z\r\n"),
    "LF in the chunks": chunked(CHUNKED, body=CODED.replace(b"\r\n", b"\n")),
    "LF in an extension": chunked(CHUNKED, body=b"%x;a\nb\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)),
    "space behind a size": chunked(CHUNKED, body=b"%x \r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)),
    "size with 0x": chunked(CHUNKED, body=b"0x" + CODED),
    "endless size": chunked(CHUNKED, body=b"F" * 40 + b"\r\n" + BODY),
    "chunk too short": chunked(CHUNKED, body=b"3\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "length in a trailer": chunked(CHUNKED, body=CODED[:-2] + b"Content-Length: 5\r\n\r\n"),
    "thousand trailers": chunked(CHUNKED, body=CODED[:-2] + b"X: y\r\n" * 1000 + b"\r\n"),
    "too many headers": with_length(*(b"X%d: y\r\n" % number for number in range(140))),
    "too long a header": with_length(b"Cookie: %b\r\n" % (b"y" * 10_000)),
    "HTTP/9.9": with_length(head=HEAD.replace(b"HTTP/1.1", b"HTTP/9.9")),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "method in lower case": with_length(head=HEAD.replace(b"POST", b"post")),
    "TLS": bytes.fromhex("16030100200100001c0303") + bytes(100),
}


async def all_told(address: str, *pieces: bytes) -> bytes:
    """Everything that is answered until the gateway hangs up."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for piece in pieces:
        writer.write(piece)
        for _ in range(3):  # the gateway, which runs in this loop, sees each piece by itself
            await asyncio.sleep(0)
    async with asyncio.timeout(10):
        told = await reader.read()
    writer.close()
    return told


async def test_int_11_an_ambiguous_request_is_400_and_the_last_one(tmp_path: Path, sqlite_file: Path) -> None:
    """One answer, in JSON, and then the end: also for who is still sending, whom a reset would rob of it."""
    wrong = {}
    async with listening(tmp_path, sqlite_file) as office, never_stalled():
        for name, request in AMBIGUOUS.items():
            sent = request + SMUGGLED
            step = len(sent) // 9 + 1
            for pieces in ([sent], [sent[at : at + step] for at in range(0, len(sent), step)]):
                told = await all_told(office.addresses[0], *pieces)
                head, _, body = told.partition(b"\r\n\r\n")
                if head[8:13] != b" 400 " or json.loads(body)["statusCode"] != 1 or b'"alive"' in told:
                    wrong[name] = told

    assert wrong == {}


async def test_int_11_a_long_body_behind_nonsense_does_not_cost_the_answer(tmp_path: Path, sqlite_file: Path) -> None:
    """Whoever goes on sending megabytes after its header was refused still reads why."""
    refused = AMBIGUOUS["too long a header"]
    async with listening(tmp_path, sqlite_file) as office:
        told = await all_told(office.addresses[0], refused, *[bytes(65536)] * 64)

    assert told.startswith(b"HTTP/1.0 400 ")


async def test_int_11_many_requests_at_once_are_answered_in_order(tmp_path: Path, sqlite_file: Path) -> None:
    """A thousand pipelined requests are a thousand answers, and a form among them is one."""
    async with listening(tmp_path, sqlite_file) as office, never_stalled():
        host, _, port = office.addresses[0].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        last = with_length().replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n")
        writer.write(SMUGGLED * 1000 + last)
        async with asyncio.timeout(20):
            told = await reader.read()
        writer.close()

    assert told.count(b'"alive"') == 1000
    assert told.count(b"interactionId") == 1
    assert told.rindex(b'"alive"') < told.index(b"interactionId")


async def test_int_6_a_coding_on_the_way_is_refused_too(tmp_path: Path, sqlite_file: Path) -> None:
    """What is compressed hop by hop is not decompressed either: it is 415."""
    async with listening(tmp_path, sqlite_file) as office, calling(office) as caller:
        status, body = await caller.send(chunked(b"Transfer-Encoding: gzip, chunked\r\n"))

    assert (status, body["errors"][0]["code"]) == (415, 415)
