"""The scanner for viruses: what it finds is not accepted, and what it cannot see is as the operator has it (SEC-16)."""

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData
from yarl import URL

from gateway.scanner import Scanner, Verdict
from mailroom.integration import ReportedState
from mailroom.settings import ScannerSettings
from tests.gateway.cloud.caller import caller_of
from tests.journeys.office import FORM, Office, an_office
from tests.services import free_port

#: The file that every scanner takes for a virus, and that is none; in two parts, so that no scanner takes this one for it.
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-" + b"STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
LARGEST = 3_000_000


def zipped(content: bytes) -> bytes:
    """A zip with one file in it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("readme.txt", content)
    return packed.getvalue()


@dataclass(slots=True)
class Clamd:
    """What clamd says over INSTREAM, as its manual has it: it looks into zips, and has a largest size."""

    url: str = ""
    seen: list[bytes] = field(default_factory=list)
    stalls: bool = False
    #: So many files are answered before it stalls, or hangs up.
    answers: int = 0
    hangs_up: bool = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One command."""
        try:
            assert await reader.readexactly(10) == b"zINSTREAM\0"
            content = b""
            while length := int.from_bytes(await reader.readexactly(4), "big"):
                content += await reader.readexactly(length)
                if len(content) > LARGEST:
                    writer.write(b"INSTREAM size limit exceeded. ERROR\0")
                    return
            self.seen.append(content)
            if self.stalls and len(self.seen) > self.answers:
                await reader.read()
            if self.hangs_up and content == b"odd":
                return
            found = any(EICAR in one for one in [content, *_inside(content)])
            writer.write(b"stream: Win.Test.EICAR_HDB-1 FOUND\0" if found else b"stream: OK\0")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # whoever asked has left
        finally:
            writer.close()


def _inside(content: bytes) -> list[bytes]:
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return []
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [archive.read(name) for name in archive.namelist()]


@asynccontextmanager
async def clamd(path: Path | None = None, **options: Any) -> AsyncIterator[Clamd]:
    """A scanner at a port, or at a socket of this path."""
    scanner = Clamd(**options)
    if path is None:
        server = await asyncio.start_server(scanner.serve, "127.0.0.1", 0)
        scanner.url = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    else:
        server = await asyncio.start_unix_server(scanner.serve, path)
        scanner.url = f"unix:{path}"
    try:
        yield scanner
    finally:
        server.close()


@pytest.fixture
async def office(tmp_path: Path, sqlite_file: Path) -> AsyncIterator[Office]:
    """An office of one process whose integration may send; no worker runs."""
    async with an_office(tmp_path, f"sqlite:///{sqlite_file}", "memory:") as office:
        await office.add_integration(1)
        await office.reconfigure(heard=False, reported_state=ReportedState.ACTIVE)
        yield office


async def with_files(office: Office, *files: tuple[str, bytes]) -> tuple[int, Any]:
    """Status, and the code of the first error or the statusCode, of a form with these files."""
    form = FormData(default_to_multipart=True)
    for name, value in FORM.items():
        form.add_field(name, value)
    for name, content in files:
        form.add_field("files", io.BytesIO(content), filename=name)
    status, body = await office.post("support", form)
    return status, body["errors"][0]["code"] if "errors" in body else body["statusCode"]


async def test_sec_16_a_harmful_file_is_refused_at_the_form(
    office: Office, logged: list[MutableMapping[str, Any]]
) -> None:
    """Plain, in a zip, behind a good file or so large that it is in the store: 400 with 203, and nothing of it stays."""
    large = EICAR + b"a" * 2_000_000
    async with clamd() as scanner, office.gateway(scanner=ScannerSettings(url=scanner.url)):
        told = [
            await with_files(office, ("a.txt", EICAR)),
            await with_files(office, ("a.zip", zipped(EICAR))),
            await with_files(office, ("good.txt", b"good"), ("a.txt", EICAR)),
            await with_files(office, ("large.txt", large)),
        ]
        left = office.stored_files()
        good = await with_files(
            office, ("good.txt", b"good"), ("a.zip", zipped(b"good")), ("large.txt", b"a" * 2_000_000)
        )
        without = await with_files(office)

    assert told == [(400, 203)] * 4
    assert (good, without) == ((200, 0), (200, 0))
    assert left == []
    assert large in scanner.seen
    assert {event["found"] for event in logged if event["event"] == "harmful file refused"} == {"Win.Test.EICAR_HDB-1"}


async def test_sec_16_a_harmful_upload_is_refused(office: Office) -> None:
    """A file for an agent's letter is shown too: 400 with a code of its own, and nothing of it stays."""
    async with clamd() as scanner, office.gateway(scanner=ScannerSettings(url=scanner.url)):
        caller = await caller_of(office)
        place = f"/conversations/emails/{(await office.submit())['interactionId']}/messages/draft/attachments/uploads"
        told = []
        for content in (EICAR, b"good"):
            link = await caller.call("POST", place, {"name": "a.txt"})
            assert link.status == 200, link
            told.append(await caller.raw("PUT", URL(link.body["url"]).path_qs, data=content))
        left = office.stored_files()

    assert [answer.status for answer in told] == [400, 200]
    assert told[0].body["code"] == "email.error.attachment.harmful"
    assert len(left) == 1


@pytest.mark.parametrize(("when_absent", "told"), [("refuse", (200, 1)), ("accept", (200, 0))])
async def test_sec_16_without_an_answer_it_is_as_the_operator_has_it(
    office: Office, logged: list[MutableMapping[str, Any]], when_absent: str, told: tuple[int, int]
) -> None:
    """A scanner that is dead, stalls, or cannot take so much: files are refused for now, or accepted, and that is logged."""
    dead = ScannerSettings(url=f"tcp://127.0.0.1:{free_port()}", when_absent=when_absent)
    async with office.gateway(scanner=dead):
        when_dead = await with_files(office, ("a.txt", b"good"))
    async with clamd(stalls=True) as scanner:
        stalling = ScannerSettings(url=scanner.url, when_absent=when_absent, seconds=0.3)
        async with office.gateway(scanner=stalling):
            when_stalling = await with_files(office, ("a.txt", b"good"))
    async with clamd() as scanner, office.gateway(scanner=ScannerSettings(url=scanner.url, when_absent=when_absent)):
        when_too_large = await with_files(office, ("a.txt", b"a" * (LARGEST + 1)))

    assert [when_dead, when_stalling, when_too_large] == [told] * 3
    assert len([event for event in logged if event["event"] == "files were not scanned"]) == 3


async def test_sec_16_it_may_be_at_a_socket(tmp_path: Path) -> None:
    """A scanner on the same machine is asked over its socket; one that is not there is told apart from a good file."""
    place = tmp_path / "clamd.ctl"
    async with clamd(place) as there:
        scanner = Scanner(ScannerSettings(url=there.url))
        verdicts = [await scanner.judge([b"good"]), await scanner.judge([EICAR]), await scanner.judge([])]
    gone = await Scanner(ScannerSettings(url=f"unix:{tmp_path}/nothing")).judge([b"good"])
    nobody = await Scanner(ScannerSettings()).judge([EICAR])

    assert verdicts == [Verdict.FINE, Verdict.HARMFUL, Verdict.FINE]
    assert (gone, nobody) == (Verdict.UNSEEN, Verdict.FINE)


async def test_sec_16_what_was_found_is_not_forgotten() -> None:
    """A harmful file is refused beside one that is never answered, and behind one at which the scanner hangs up."""
    async with clamd(stalls=True, answers=1) as stalling:
        settings = ScannerSettings(url=stalling.url, when_absent="accept", seconds=0.3)
        before = await Scanner(settings).judge([EICAR, b"good"])
    async with clamd(hangs_up=True) as odd:
        settings = ScannerSettings(url=odd.url, when_absent="accept")
        behind = await Scanner(settings).judge([b"odd", EICAR])

    assert (before, behind) == (Verdict.HARMFUL, Verdict.HARMFUL)


async def test_a_port_that_cannot_be_is_a_scanner_that_is_not_there() -> None:
    """Whatever is wrong with its place, nobody has seen the file, and nothing breaks."""
    assert await Scanner(ScannerSettings(url="tcp://127.0.0.1:70000")).judge([b"good"]) is Verdict.UNSEEN
