"""Uploads to a gateway that listens: large ones, many at once, given up in the middle, and ones meant to do harm."""

import asyncio
import contextlib
import io
import random
import zipfile
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import select

from mailroom.settings import LimitSettings
from mailroom.store import schema
from mailroom.store.content import decode_content
from mailroom.store.messages import body_of
from tests.gateway.forms.live import Caller, calling, head, listening, never_stalled
from tests.journeys.office import FORM, Office, an_office
from tests.processes import running
from tests.services import free_port

KIND = "multipart/form-data; boundary=xx"
END = b"\r\n--xx--\r\n"


def upload(content: bytes, name: str = "a.zip") -> bytes:
    """A form with this file."""
    fields = (
        b'--xx\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (field.encode(), value.encode())
        for field, value in FORM.items()
    )
    start = b'--xx\r\nContent-Disposition: form-data; name="files"; filename="%b"\r\n\r\n' % name.encode()
    return b"".join(fields) + start + content + END


async def accepted_file(office: Office, answer: tuple[int, dict[str, Any]]) -> bytes | bytearray:
    """The one file of an accepted form, as it is kept."""
    assert answer[0] == 200, answer
    content = decode_content(await office.store.read(body_of, UUID(answer[1]["interactionId"])))
    [file] = content.attachments
    return await office.attachments.content_of(file)


async def test_int_8_a_zip_bomb_is_a_zip_like_any_other(tmp_path: Path, sqlite_file: Path) -> None:
    """Nothing is unpacked: what would become 64 MB, and that again in itself, is passed on byte for byte."""
    inner, outer = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb:
        bomb.writestr("zeros", bytes(64 * 1024 * 1024))
    with zipfile.ZipFile(outer, "w", zipfile.ZIP_DEFLATED) as bomb:
        for number in range(100):
            bomb.writestr(f"../../{number}.zip", inner.getvalue()[:20_000])
    async with listening(tmp_path, sqlite_file) as office, calling(office) as caller, never_stalled():
        for content in (inner.getvalue(), outer.getvalue()):
            assert await accepted_file(office, await caller.post(KIND, upload(content))) == content


async def test_int_12_who_leaves_at_any_point_leaves_nothing_half(
    tmp_path: Path, sqlite_file: Path, logged: list[MutableMapping[str, Any]]
) -> None:
    """A connection reset anywhere in an upload leaves a whole message or nothing: no row without its file, no file more."""
    chance = random.Random(2026)  # noqa: S311 - the same points in every run
    whole = head(KIND, b"Content-Length: %d" % len(upload(bytes(1_300_000)))) + upload(b"PK\x03\x04" + bytes(1_299_996))
    points = [*(chance.randrange(len(whole)) for _ in range(40)), len(whole) - 1, *[len(whole)] * 5]
    async with an_office(tmp_path, f"sqlite:///{sqlite_file}", "memory:", when_inactive="hold") as office:
        await office.add_integration(1)
        async with office.gateway() as gateway:
            for point in points:
                host, _, port = office.addresses[0].rpartition(":")
                _, writer = await asyncio.open_connection(host, int(port))
                writer.write(whole[:point])
                await writer.drain()
                for _ in range(chance.randrange(30)):
                    await asyncio.sleep(0)
                writer.transport.abort()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    while gateway.crowd.here or len(office.stored_files()) != gateway.intake.accepted:
                        await asyncio.sleep(0.02)
            accepted = gateway.intake.accepted
        ids = await office.store.read(lambda tx: list(tx.execute(select(schema.messages.c.id)).scalars()))
        kept = [decode_content(await office.store.read(body_of, one)).attachments[0] for one in ids]

    assert {file.size for file in kept} <= {1_300_000}
    assert {file.key for file in kept} == {path.name for path in office.stored_files()}
    assert len(ids) == accepted
    assert [event for event in logged if event["log_level"] == "error"] == []


async def post_slowly(address: str, request: bytes) -> bytes:
    """The first line that is answered to a request that comes in pieces."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for at in range(0, len(request), 256 * 1024):
        writer.write(request[at : at + 256 * 1024])
        await writer.drain()
        await asyncio.sleep(0.01)
    line = await reader.readline()
    writer.close()
    return line


def memory_of(pid: int, line: str) -> int:
    """Megabytes of a process."""
    return int(Path(f"/proc/{pid}/status").read_text().partition(line)[2].split()[0]) // 1024


def forget_the_highest(pid: int) -> None:
    """From here on VmHWM is the highest there is."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def test_int_4_uploads_pass_through_memory_without_staying_there(tmp_path: Path) -> None:
    """Thirty files of 5 MB at once cost a process, from its first upload on, less than two thirds of what they are."""
    config = (
        '[email]\nany_service = true\nwhen_inactive = "hold"\nmailbox = "support@company.test"\n\n'
        '[integrations.main]\nhost = "127.0.0.1"\nport = 1\nsecurity = "none"\nfrom = "forms@company.test"\n'
    )
    (tmp_path / "mailroom.toml").write_text(config)
    address = f"127.0.0.1:{free_port()}"
    variables = {"MAILROOM_LISTEN": address, "MAILROOM_ADMIN_LISTEN": f"127.0.0.1:{free_port()}"}
    file = b"PK\x03\x04" + bytes(range(256)) * 20_000
    body = upload(file)
    request = head(KIND, b"Content-Length: %d" % len(body)) + body
    with running(tmp_path, variables, "up") as process:
        await process.prints("Ctrl-C ends it.")
        pid = process.process.pid
        async with asyncio.timeout(20):
            while not (await post_slowly(address, head(KIND, b"Content-Length: 0"))).startswith(b"HTTP/1.1 400"):
                await asyncio.sleep(0.1)
        before = memory_of(pid, "VmRSS:")
        forget_the_highest(pid)
        answers = await asyncio.gather(*(post_slowly(address, request) for _ in range(30)))
        highest = memory_of(pid, "VmHWM:")
        stored = [path for path in (tmp_path / "var" / "attachments").rglob("*") if path.stat().st_size == len(file)]
        await process.stop()

    assert answers == [b"HTTP/1.1 200 OK\r\n"] * 30
    assert len(stored) == 30
    assert highest - before < 30 * len(file) / 1_500_000


async def test_int_5_a_gateway_says_so_when_too_many_are_connected(tmp_path: Path, sqlite_file: Path) -> None:
    """Who finds no room is told in JSON, in the words of both APIs, to come again later."""
    async with (
        an_office(tmp_path, f"sqlite:///{sqlite_file}", "memory:") as office,
        office.gateway(limits=LimitSettings(connections=1)),
        calling(office) as first,
    ):
        await first.post("text/plain", b"")
        second = Caller(office.addresses[0])
        status, body = await second.post(KIND, b"")
        second.hang_up()

    assert (status, body["statusCode"], body["code"]) == (503, 1, "service.unavailable")
    assert "errors" not in body
