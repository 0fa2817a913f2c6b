"""Answers before the body: over real connections, with clients that go on sending."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.early import MOST_DISCARDED, MOST_DRAINED
from mailroom.settings import EmailOptions, LimitSettings
from tests.builders import migrated
from tests.journeys.office import FORM, Office, an_office

#: What a kernel may keep between two processes that do not read; far less than the bodies below.
BETWEEN = 16 * 1024**2
LARGE = 64 * 1024**2


@pytest.fixture
async def full(tmp_path: Path) -> AsyncIterator[Office]:
    """An office whose gateway has room for nothing: to a form it says "later", to everybody else 503."""
    url = f"sqlite:///{tmp_path}/mailroom.db"
    await migrated(url)
    async with an_office(tmp_path, url, "memory:") as office:
        email = EmailOptions(rate_limit=None, max_size=100)
        limits = LimitSettings(bytes_in_flight=0)
        async with office.gateway(email=email, limits=limits):
            yield office


async def opened(office: Office) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the gateway."""
    host, _, port = office.addresses[0].rpartition(":")
    return await asyncio.open_connection(host, int(port))


def head(length: int, path: str = "/genesys/2/email/support", *more: str) -> bytes:
    """A request whose body has so many bytes."""
    lines = [
        f"POST {path} HTTP/1.1", "Host: here", "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {length}", *more,
    ]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode()


async def answer_of(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of the next answer."""
    async with asyncio.timeout(20):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        return head, await reader.readexactly(length)


async def test_ovl_2_a_full_gateway_answers_before_the_body_comes(full: Office) -> None:
    """The refusal is there when only the headers are; then the connection ends, however long the client would go on."""
    reader, writer = await opened(full)
    writer.write(head(LARGE))
    told, said = await answer_of(reader)
    async with asyncio.timeout(20):
        rest = await reader.read()
    writer.close()

    assert told.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in told.lower()
    assert (said, rest) == (b'{"statusCode":1}', b"")


async def test_ovl_1_programs_are_told_when_to_come_again(full: Office) -> None:
    """A program is answered 503 before its body came, and its waits are spread over seconds."""
    waits = set()
    for _ in range(40):
        reader, writer = await opened(full)
        writer.write(head(1000, "/oauth/token"))
        told, said = await answer_of(reader)
        assert told.startswith(b"HTTP/1.1 503")
        assert b"service.unavailable" in said
        waits.add(int(told.lower().split(b"retry-after:")[1].split(b"\r\n")[0]))
        writer.close()

    assert waits <= set(range(3, 11))
    assert len(waits) > 3


async def test_ovl_2_what_nobody_wants_is_not_read(full: Office) -> None:
    """A client that sends on and on after a refusal is cut off after little of it."""
    reader, writer = await opened(full)
    writer.write(head(LARGE))
    sent = 0
    async with asyncio.timeout(30):
        try:
            while sent < LARGE:
                writer.write(bytes(MOST_DRAINED))
                await writer.drain()
                sent += MOST_DRAINED
        except ConnectionError:
            pass
        writer.transport.abort()

    assert sent < BETWEEN
    assert reader is not None


async def test_ovl_2_who_sends_all_before_it_reads_sees_the_refusal(full: Office) -> None:
    """A client that reads no sooner than its body of almost a megabyte is sent gets the answer, and no broken connection."""
    length = MOST_DISCARDED - MOST_DRAINED
    for _ in range(5):
        reader, writer = await opened(full)
        writer.write(head(length))
        for _ in range(length // MOST_DRAINED):
            writer.write(bytes(MOST_DRAINED))
            await writer.drain()
            await asyncio.sleep(0.005)  # it is answered meanwhile
        _, said = await answer_of(reader)
        writer.close()

        assert said == b'{"statusCode":1}'


async def test_a_small_refused_form_costs_no_connection(full: Office) -> None:
    """A browser whose small form was refused asks again over the same connection."""
    reader, writer = await opened(full)
    answers = []
    for _ in range(2):
        writer.write(head(1000))
        writer.write(b"x" * 1000)
        answers.append(await answer_of(reader))
    writer.close()

    assert [said for _, said in answers] == [b'{"statusCode":1}'] * 2


async def test_ovl_4_health_is_told_while_nothing_comes_in(full: Office) -> None:
    """Whoever watches over a gateway that turns everybody away is answered all the same."""
    answers = [(await full.ask("/healthz"))[0] for _ in range(3)]
    answers += [(await full.post("support", FORM))[0]]

    assert answers == [200] * 4
