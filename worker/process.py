"""A worker as a process of its own."""

import contextlib

from mailroom.health import health_app
from mailroom.process import listening, stop_signal, unless_stopped
from mailroom.provisioning import attachment_store, check_queue, prepare
from mailroom.queue.opening import open_queue
from mailroom.settings import Settings, require_deployment
from mailroom.store.opening import open_store
from mailroom.vault import Vault
from worker.app import Worker


async def run_worker(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT, then finish what was begun. Database and broker may come later than this process."""
    require_deployment(settings)
    stop = stop_signal()
    vault, attachments = Vault(settings.secret_keys), attachment_store(settings)
    async with contextlib.AsyncExitStack() as stack:
        store = open_store(settings.database_url)
        stack.push_async_callback(store.aclose)
        queue = open_queue(settings.queue_url)
        stack.push_async_callback(queue.aclose)
        worker = Worker(settings, store, queue, attachments, vault)
        health = health_app(worker.unready, worker.figures)
        await stack.enter_async_context(listening(health, settings.health_listen, "MAILROOM_HEALTH_LISTEN"))
        await unless_stopped(stop, prepare(settings, store, vault, attachments))
        await unless_stopped(stop, check_queue(queue))
        await unless_stopped(stop, stack.enter_async_context(worker.running(alone=False)))
        await stop.wait()
