"""Several gateways on one machine: processes that share a port, started again when they die."""

import asyncio
import contextlib
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable

from gateway.process import Place
from mailroom.logs import get_logger
from mailroom.process import stop_signal
from mailroom.serving import AddressTaken
from mailroom.settings import BadSettings, Settings, require_deployment

log = get_logger(__name__)

#: Seconds before a process that died is started again; doubled each time, unless the process lived for a while.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
A_WHILE = 60.0

#: Seconds a process has to stop in: its farewell, its requests in progress, its last commits.
STOP_SECONDS = 75.0

#: How a process says that it cannot start as it is configured (EX_CONFIG of sysexits.h).
CANNOT_START = 78


class GatewayRefused(BadSettings):
    """A gateway process could not start; it has said why itself."""

    def __init__(self) -> None:
        super().__init__(["a gateway process could not start with them; its reason stands above"])


async def run_gateways(settings: Settings, processes: int) -> None:
    """Keep so many gateways running until SIGTERM or SIGINT."""
    require_deployment(settings)
    _check_port(settings.listen)
    stop = stop_signal()
    places = [Place.FIRST] + [Place.FURTHER] * (processes - 1)
    try:
        async with asyncio.TaskGroup() as group:
            for place in places:
                group.create_task(_keep_running(place, stop))
    except* GatewayRefused:
        raise GatewayRefused from None


def _check_port(listen: str) -> None:
    """Sharing a port would also share it with a stranger's gateway, so it must be free before the first of ours."""
    host, _, port = listen.rpartition(":")
    if int(port) == 0:
        raise BadSettings(["MAILROOM_LISTEN: processes cannot share port 0; name the port"])
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise AddressTaken(
            f"cannot listen on {listen}: {error.strerror or error}; choose another address, in MAILROOM_LISTEN"
        ) from error


async def _keep_running(place: Place, stop: asyncio.Event) -> None:
    pause, refusable = FIRST_PAUSE, True
    while not stop.is_set():
        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "--place", place, stdin=PIPE
        )  # fmt: skip
        code = await _watch(process, stop)
        if stop.is_set():
            return
        if refusable and code == CANNOT_START:
            raise GatewayRefused
        refusable = False
        if time.monotonic() - started > A_WHILE:
            pause = FIRST_PAUSE
        log.error("gateway process died and is started again", pid=process.pid, code=code, in_seconds=pause)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause)
        pause = min(2 * pause, LONGEST_PAUSE)


async def _watch(process: Process, stop: asyncio.Event) -> int:
    """Return its code once it has ended, which it is asked to when we are, and made to when it takes too long."""
    stopping = asyncio.ensure_future(stop.wait())
    ending = asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait({stopping, ending}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not ending.done():
            _end(process.terminate)
            await asyncio.wait({ending}, timeout=STOP_SECONDS)
        if not ending.done():
            log.error("gateway process did not stop and was killed", pid=process.pid)
            _end(process.kill)
    return await ending


def _end(how: Callable[[], None]) -> None:
    """It may have ended in the meantime."""
    with contextlib.suppress(ProcessLookupError):
        how()
