"""A gateway as a process of its own: the API on `listen`, its health and figures on `admin_listen`."""

import asyncio
import contextlib
import sys
from enum import StrEnum

from gateway.app import Gateway
from mailroom.process import listening, stop_signal, unless_stopped
from mailroom.provisioning import attachment_store, check_queue, prepare
from mailroom.queue.opening import open_queue
from mailroom.settings import Settings, require_deployment
from mailroom.store.opening import open_store
from mailroom.vault import Vault

#: Seconds a stopping gateway goes on accepting after /readyz has said no: whoever spreads the load looks every second
#: or two, and until it has looked it still sends requests here.
FAREWELL_SECONDS = 3.0

#: Seconds that a further gateway at a port waits until it can take in, and between two looks. Then it opens in any case:
#: submissions are not all that is asked of it.
OPEN_SECONDS, OPEN_LOOK_SECONDS = 5.0, 0.02

#: Seconds that requests in progress may still take then; a body may take longer to arrive, but nobody's shutdown does.
FINISH_SECONDS = 30.0

#: The same for the pages: what is shown there can be shown again by another gateway.
PAGES_FINISH_SECONDS = 5.0


class Place(StrEnum):
    """Which one of a machine's gateways this is."""

    ALONE = "alone"
    #: The ones that share a port; only the first has the admin port.
    FIRST = "first"
    FURTHER = "further"


async def run_gateway(settings: Settings, place: Place = Place.ALONE) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was begun.

    It answers from the start, also without a database; a further one at the same port once it can take in.
    """
    require_deployment(settings)
    stop = stop_signal()
    if place is not Place.ALONE:
        _stop_with_the_supervisor(stop)
    vault, attachments = Vault(settings.secret_keys), attachment_store(settings)
    async with contextlib.AsyncExitStack() as inside:
        store = open_store(settings.database_url)
        inside.push_async_callback(store.aclose)
        queue = open_queue(settings.queue_url)
        inside.push_async_callback(queue.aclose)
        gateway = Gateway(settings, store, queue, attachments, vault)
        async with contextlib.AsyncExitStack() as doors:
            # Until it runs, its snapshot is not fresh, and so every submission is answered 1. A further one leaves the port
            # to those that can take in.
            if place is not Place.FURTHER:
                await _open_doors(doors, gateway, settings, place)
            await unless_stopped(stop, prepare(settings, store, vault, attachments))
            await unless_stopped(stop, check_queue(queue))
            await inside.enter_async_context(gateway.running())
            if place is Place.FURTHER:
                await unless_stopped(stop, _ready_to_open(gateway))
                await _open_doors(doors, gateway, settings, place)
            await stop.wait()
            gateway.stop_being_ready()
            await asyncio.sleep(FAREWELL_SECONDS)


async def _ready_to_open(gateway: Gateway) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(OPEN_SECONDS):
            while gateway.unready():  # noqa: ASYNC110 - several things make it ready, and not each of them tells
                await asyncio.sleep(OPEN_LOOK_SECONDS)


async def _open_doors(doors: contextlib.AsyncExitStack, gateway: Gateway, settings: Settings, place: Place) -> None:
    if place is not Place.FURTHER:
        pages, _ = gateway.pages()
        await doors.enter_async_context(
            listening(pages, settings.admin_listen, "MAILROOM_ADMIN_LISTEN", shutdown_seconds=PAGES_FINISH_SECONDS)
        )
    await doors.enter_async_context(
        listening(
            gateway.app,
            settings.listen,
            "MAILROOM_LISTEN",
            share_port=place is not Place.ALONE,
            shutdown_seconds=FINISH_SECONDS,
        )
    )


def _stop_with_the_supervisor(stop: asyncio.Event) -> None:
    """Its end of the pipe at our stdin closes when it dies, however it dies; it never writes."""
    loop, pipe = asyncio.get_running_loop(), sys.stdin.fileno()

    def ended() -> None:
        loop.remove_reader(pipe)
        stop.set()

    loop.add_reader(pipe, ended)
