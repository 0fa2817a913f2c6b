"""`python -m benchmarks intake`: what slow peers cost the others, and what uploads cost in memory and files.

Slow peers send their header or their body a byte at a time, or never read; what they cost is the ratio of the 99th
percentiles of the others' answers with and without them, in turns. Uploads are 50 at once, of 10 MB each; then as many
that are given up in the middle.
"""

import argparse
import asyncio
import contextlib
import itertools
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.deployment import Deployment, Process, deployment

PEERS = 500
#: Where slow peers come from: not where the others do.
PEERS_ADDRESS = "127.0.0.2"

#: Seconds of a turn, turns of each kind, and how many of the others ask so often a second each.
TURN_SECONDS, TURNS, OTHERS, EVERY = 8.0, 3, 4, 0.02

UPLOADS, UPLOAD_BYTES = 50, 10_000_000

_PLACE = "/genesys/2/email/support"
_FORM = b"firstName=Jane&lastName=Doe&fromAddress=jane%40customer.test&subject=A+question&text=Where+is+it%3F"
_HEAD = (
    f"POST {_PLACE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    f"Content-Length: {len(_FORM)}\r\n\r\n"
).encode()

_Speech = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _drip_header(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(f"POST {_PLACE} HTTP/1.1\r\nHost: x\r\nX-Slow: ".encode())
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(1)


async def _drip_body(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_HEAD)
    for byte in _FORM:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(1)


async def _read_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # As many as slowhttptest pipelines; more would be a flood, and measured as one.
    for _number in range(10):
        writer.write(f"GET {_PLACE}/nobody HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    while True:
        await writer.drain()
        await asyncio.sleep(1)


async def _be_slow(port: int, speech: _Speech) -> None:
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(PEERS_ADDRESS, 0), limit=256)
            with contextlib.closing(writer):
                await speech(reader, writer)
        await asyncio.sleep(random.random())  # noqa: S311 - only spreads them


async def be_slow(port: int) -> None:
    """Be so many slow peers until killed."""
    speeches = itertools.islice(itertools.cycle((_drip_header, _drip_body, _read_nothing)), PEERS)
    await asyncio.gather(*(_be_slow(port, speech) for speech in speeches))


async def _ask(port: int, until: float, took: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    loop = asyncio.get_running_loop()
    with contextlib.closing(writer):
        while (begun := loop.time()) < until:
            writer.write(_HEAD + _FORM)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0]))
            took.append(loop.time() - begun)
            await asyncio.sleep(EVERY)


async def _others(port: int) -> list[float]:
    took: list[float] = []
    until = asyncio.get_running_loop().time() + TURN_SECONDS
    await asyncio.gather(*(_ask(port, until, took) for _ in range(OTHERS)))
    return took


def _percentiles(took: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(took, n=100)
    return cuts[49] * 1000, cuts[98] * 1000


def slow_peers(made: Deployment) -> None:
    """Turns with and without slow peers; the ratio."""
    gateway = made.gateway()
    without: list[float] = []
    beside: list[float] = []
    asyncio.run(_others(made.listen_port))
    for _ in range(TURNS):
        without += asyncio.run(_others(made.listen_port))
        command = [sys.executable, "-m", "benchmarks", "intake", "--be-slow", str(made.listen_port)]
        with subprocess.Popen(command) as peers:
            time.sleep(5)  # noqa: TID251 - all of them have come
            beside += asyncio.run(_others(made.listen_port))
            connections = gateway.figures()["mailroom_connections"]
            peers.terminate()
        time.sleep(2)  # noqa: TID251 - all of them have left
    (half, most), (half_beside, most_beside) = _percentiles(without), _percentiles(beside)
    print(f"slow peers: {connections:.0f} connections in the last turn")
    print(f"  without   p50 {half:6.1f} ms   p99 {most:6.1f} ms   of {len(without)}")
    print(f"  beside    p50 {half_beside:6.1f} ms   p99 {most_beside:6.1f} ms   of {len(beside)}")
    print(f"  ratio of the p99: {most_beside / most:.2f}")


async def _upload(port: int, size: int, sent: int) -> bool:
    start = b'--xx\r\nContent-Disposition: form-data; name="files"; filename="a.zip"\r\n\r\nPK\x03\x04'
    fields = (pair.split(b"=") for pair in _FORM.replace(b"%40", b"@").split(b"&"))
    text = b"".join(
        b'--xx\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name, value) for name, value in fields
    )
    end = b"\r\n--xx--\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    length = len(text) + len(start) + size + len(end)
    writer.write(
        f"POST {_PLACE} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=xx\r\n"
        f"Content-Length: {length}\r\n\r\n".encode()
        + text
        + start
    )
    block = bytes(range(256)) * 256
    for at in range(0, sent, len(block)):
        writer.write(block[: sent - at])
        await writer.drain()
        await asyncio.sleep(0.02)
    if sent < size:
        writer.transport.abort()
        return False
    writer.write(end)
    answer = await reader.readuntil(b"\r\n\r\n")
    accepted = b'"statusCode":0' in await reader.readexactly(int(answer.partition(b"Length: ")[2].split(b"\r")[0]))
    writer.close()
    return accepted


async def _uploads(port: int, sent: int) -> int:
    return sum(await asyncio.gather(*(_upload(port, UPLOAD_BYTES, sent) for _ in range(UPLOADS))))


def _megabytes(gateway: Process, line: str) -> float:
    status = Path(f"/proc/{gateway.popen.pid}/status").read_text()
    return int(status.partition(line)[2].split()[0]) / 1024


def uploads(made: Deployment) -> None:
    """Fifty at once; memory at its height, and what is left in the attachment store."""
    gateway = made.gateway()
    asyncio.run(_others(made.listen_port))
    before = _megabytes(gateway, "VmRSS:")
    Path(f"/proc/{gateway.popen.pid}/clear_refs").write_text("5")
    accepted = asyncio.run(_uploads(made.listen_port, UPLOAD_BYTES))
    highest = _megabytes(gateway, "VmHWM:")
    folder = Path(made.environment["MAILROOM_ATTACHMENTS_URL"].removeprefix("file://"))
    kept = sum(path.is_file() for path in folder.rglob("*"))
    asyncio.run(_uploads(made.listen_port, UPLOAD_BYTES // 2))
    time.sleep(2)  # noqa: TID251 - those who gave up have been noticed
    left = sum(path.is_file() for path in folder.rglob("*")) - kept
    print(f"uploads: {accepted} of {UPLOADS} accepted, {kept} files kept (one is the store's own mark)")
    print(f"  memory {before:.0f} MB before, {highest:.0f} MB at most: {highest - before:.0f} MB more")
    print(f"  files left by {UPLOADS} that gave up in the middle: {left}")


def main(arguments: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks intake")
    parser.add_argument("--be-slow", type=int, metavar="PORT", help="be the slow peers of a gateway there")
    chosen = parser.parse_args(arguments)
    if chosen.be_slow:
        asyncio.run(be_slow(chosen.be_slow))
        return 0
    for measure in (slow_peers, uploads):
        with deployment() as made:
            config = Path(made.environment["MAILROOM_CONFIG"])
            text = config.read_text().replace("rate_limit = false", 'rate_limit = false\nwhen_inactive = "hold"')
            config.write_text(text.replace("[limits]", "[limits]\nbytes_in_flight = '700MB'"))
            measure(made)
    return 0
