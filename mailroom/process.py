"""A process of ours: told to stop by a signal, and ended by one clear sentence when it cannot run."""

import asyncio
import contextlib
import gc
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from aiohttp import web

try:
    import uvloop
except ImportError:  # there is none for Windows
    uvloop = None  # type: ignore[assignment]

from mailroom.logs import LogLevel, configure_logs
from mailroom.provisioning import AttachmentsElsewhere
from mailroom.queue.port import WrongTopology
from mailroom.serving import AddressTaken, serving
from mailroom.settings import BadSettings, Settings
from mailroom.store.sqlite import AlreadyOpen

Result = TypeVar("Result")

#: What stops a process at its start although nothing is broken: whoever started it must change something.
TOLD = (BadSettings, AddressTaken, AttachmentsElsewhere, AlreadyOpen, WrongTopology)


#: New objects after which Python looks for those that only know each other: how many at first, and after how many such
#: looks at the young ones it looks at older ones, and at all. By itself (700, 10, 10) it looks at all several times a
#: second where thousands are connected, for 50 ms each time. Most of our objects go without being looked for.
RUBBISH = (20_000, 20, 50)


class Stopped(Exception):
    """The process was told to stop before this was done."""


def run_process(
    story: Callable[[Settings], Coroutine[Any, Any, None]],
    settings: Callable[[], Settings],
) -> int:
    """Run until it is told to stop; 0, or 1 when it cannot run and the reason was written to stderr."""
    try:
        with ready() as runner:
            told = settings()
            configure_logs(level=LogLevel(told.log_level))
            runner.run(story(told))
    except Stopped:
        return 0
    except TOLD as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def ready() -> asyncio.Runner:
    """What runs a process of ours: it may have thousands of connections."""
    _open_as_many_as_allowed()
    gc.set_threshold(*RUBBISH)
    return asyncio.Runner(loop_factory=quick_loop)


def quick_loop() -> asyncio.AbstractEventLoop:
    """The event loop of all our processes: on uvloop a message costs a worker a quarter less, and a gateway a tenth."""
    return asyncio.new_event_loop() if uvloop is None else uvloop.new_event_loop()


def _open_as_many_as_allowed() -> None:
    """The usual 1,024 files are fewer than connections are let in; a service may raise that itself up to its hard limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A hard limit that is "unlimited", or more than the kernel has, is refused on some systems; the usual ones will do.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def stop_signal() -> asyncio.Event:
    """Set by SIGTERM or SIGINT; a second one changes nothing."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of the work; it is cancelled, and Stopped raised, when the process is told to stop meanwhile."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Stopped
        return working.result()
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.wait({working, stopping})


@contextlib.asynccontextmanager
async def listening(
    app: web.Application, listen: str, variable: str, *, share_port: bool = False, shutdown_seconds: float = 30.0
) -> AsyncIterator[str]:
    """Serve at the address that this variable set; gives the address. AddressTaken names the variable."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            address = await stack.enter_async_context(
                serving(app, listen, share_port=share_port, shutdown_seconds=shutdown_seconds)
            )
        except AddressTaken as error:
            raise AddressTaken(f"{error}, in {variable}") from error
        yield address
