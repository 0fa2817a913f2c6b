"""A mail server that is far away: a proxy, in a process of its own, that delays every reply."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.scale.measuring import pause
from tests.services import free_port, listens

_BLOCK = 65536


@dataclass(frozen=True, slots=True)
class Far:
    """Where it listens, and which process it is."""

    port: int
    pid: int


@contextlib.contextmanager
def far(port: int, milliseconds: int) -> Iterator[Far]:
    """The server at this port, so far away that each of its replies takes so long."""
    listen = free_port()
    command = [sys.executable, "-m", "benchmarks", "scale", "--be-far", *map(str, (listen, port, milliseconds))]
    with subprocess.Popen(command) as process:
        try:
            while not listens(listen) and process.poll() is None:
                pause(0.05)
            yield Far(listen, process.pid)
        finally:
            process.terminate()


async def be_far(listen: int, port: int, milliseconds: int) -> None:
    """Be that proxy until killed."""
    seconds = milliseconds / 1000
    loop = asyncio.get_running_loop()

    async def there(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_BLOCK):
            writer.write(data)
        writer.close()

    async def back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_BLOCK):
            loop.call_later(seconds, writer.write, data)
        loop.call_later(seconds, writer.close)

    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(there(reader, far_writer), back(far_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(met, "127.0.0.1", listen)
    async with server:
        await server.serve_forever()
