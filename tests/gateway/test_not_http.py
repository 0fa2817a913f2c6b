"""What is no HTTP request, or expects what nobody can do: answered in JSON, without a word about what we are made of."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.builders import migrated
from tests.journeys.office import an_office

PLACE = "/genesys/2/email/support"


async def answered(address: str, request: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the first answer to these bytes that is not 100."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request.encode("latin-1"))
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        while head.startswith(b"HTTP/1.1 100"):
            head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
        body = await reader.readexactly(int(headers["content-length"]))
    writer.close()
    return int(lines[0].split()[1]), headers, body


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (f"POST {PLACE} HTTP/1.1\r\nHost: x\r\nCookie: {'y' * 10_000}\r\n\r\n", 400),
        (f"POST {PLACE} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (f"POST {PLACE} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (f"POST {PLACE} HTTP/1.1\r\nHost: x\r\nA B: c\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
        (f"POST {PLACE} HTTP/1.1\r\nHost: x\r\nExpect: nonsense\r\nContent-Length: 0\r\n\r\n", 417),
        ("POST /oauth/token HTTP/1.1\r\nHost: x\r\nExpect: nonsense\r\nContent-Length: 0\r\n\r\n", 417),
        (f"GET {PLACE}/nobody HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n", 404),
        (f"POST {PLACE} HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 0\r\n\r\n", 415),
    ],
    ids=range(9),
)
async def test_int_11_what_cannot_be_read_is_answered_in_json(tmp_path: Path, request_: str, status: int) -> None:
    """Widgets throw on anything that is not JSON and wait for ever: so even this is, with errors they can show."""
    await migrated(f"sqlite:///{tmp_path}/mailroom.db")
    async with an_office(tmp_path, f"sqlite:///{tmp_path}/mailroom.db", "memory:") as office, office.gateway():
        told, headers, body = await answered(office.addresses[0], request_)

    assert (told, headers["content-type"]) == (status, "application/json; charset=utf-8")
    found = json.loads(body)
    assert found["statusCode"] == 1
    assert {type(one["code"]) for one in found["errors"]} == {int}
    assert "aiohttp" not in headers.get("server", "")
