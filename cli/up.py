"""`mailroom up`: gateway, worker, queue, database and a development mailbox in one process, with nothing to configure."""

import asyncio
import contextlib
import os
import secrets
import shlex
import shutil
import socket
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from cyclopts import Parameter

from cli.commands import run
from cli.console_shell import ConsoleShell
from cli.desk import open_desk
from cli.mailbox.faults import Faults
from cli.mailbox.kept_faults import keeping_faults
from cli.mailbox.letters import Letters
from cli.mailbox.pages import add_routes
from cli.mailbox.smtp import serve_smtp
from cli.printing import lines
from cli.worker_thread import WorkerThread
from gateway.app import Gateway
from mailroom.integration import IN_PLAIN_WORDS, Integration, ReportedState, Security
from mailroom.logs import LogLevel, LogStyle, configure_logs
from mailroom.operating.operator import Operator
from mailroom.passwords import hashed
from mailroom.process import listening, ready, stop_signal, unless_stopped
from mailroom.provisioning import attachment_store, prepare
from mailroom.queue.memory import MemoryQueue
from mailroom.roles import Role
from mailroom.settings import BY_EXAMPLE, BadSettings, EmailOptions, IntegrationSettings, Settings
from mailroom.settings_file import from_environment
from mailroom.store import users
from mailroom.store.development import move_integration
from mailroom.store.migrating import migrate
from mailroom.store.opening import open_store
from mailroom.store.port import Store
from mailroom.vault import Vault, new_key
from worker.app import Worker

LOOPBACK = "127.0.0.1"
LOOPBACK_RELAYS = ("127.0.0.0/8:*", "[::1]:*")

#: Where the development mailbox takes mail when the port is free at its first start.
MAILBOX_PORT = 8025

#: The integration that a start without configuration has, and the addresses of its examples. RFC 2606 keeps .test for
#: such: they can belong to nobody.
EXAMPLE_INTEGRATION = "main"
EXAMPLE_SENDER = "forms@mailroom.test"
EXAMPLE_MAILBOXES: Mapping[str, str] = MappingProxyType(
    {"support": "support@example.test", "billing": "billing@example.test"}
)

#: The first administrator, and the random bytes of the first password.
FIRST_USER = "admin"
PASSWORD_BYTES = 15

#: Seconds that requests in progress may take when it stops. Nobody spreads load here, so there is no farewell.
FINISH_SECONDS = 3.0

#: Seconds that the integrations' first live tests may take before the start is told without them.
TESTED_SECONDS = 15.0

#: For so long a thread may keep the others of Python waiting: the database's asks for its turn some times in each commit,
#: which many wait for, and with the usual 5 ms most of a commit is that.
TURN_SECONDS = 0.0001


def up(
    *,
    verbose: Annotated[
        bool, Parameter(name=["--verbose", "-v"], negative="", show_default=False, help="Log every event.")
    ] = False,
) -> int:
    """Run everything in one process: gateway, worker, queue, an SQLite database and a development mailbox."""
    configure_logs(LogStyle.CONSOLE, LogLevel.INFO if verbose else LogLevel.WARNING)
    sys.setswitchinterval(TURN_SECONDS)
    run(run_up(), ready)
    return 0


async def run_up() -> None:
    """Everything until SIGTERM or SIGINT."""
    settings = from_environment(embedded=True)
    stop = stop_signal()
    async with contextlib.AsyncExitStack() as stack:
        store = _open_database(settings)
        stack.push_async_callback(store.aclose)
        await store.transaction(migrate)
        mailbox = await _open_mailbox(settings, stack)
        settings = with_loopback(with_examples(settings, mailbox.port))
        vault = Vault(settings.secret_keys or (_kept_key(settings.data_dir),))
        attachments = attachment_store(settings)
        await unless_stopped(stop, prepare(settings, store, vault, attachments))
        await _point_at_mailbox(store, settings)
        queue = MemoryQueue()
        stack.push_async_callback(queue.aclose)
        thread = await _start_worker(
            stack, stop, WorkerThread(lambda: Worker(settings, store, queue, attachments, vault))
        )
        gateway = await stack.enter_async_context(Gateway(settings, store, queue, attachments, vault).running())

        def operator(who: str) -> Operator:
            return Operator(store=store, queue=queue, who=who, settings=settings, attachments=attachments, vault=vault)

        await stack.enter_async_context(open_desk(settings.data_dir, operator))
        addresses = await _open_doors(stack, settings, gateway, thread, mailbox)
        await unless_stopped(stop, _tested(gateway, settings))
        lines(greeting(settings, addresses, gateway.watch.all.values(), await _first_password(store)))
        await _until_ended(stop, thread)
        gateway.stop_being_ready()


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where it serves, each as host:port."""

    api: str
    pages: str
    smtp: str


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The development mailbox, taking mail on this port of loopback."""

    letters: Letters
    faults: Faults
    port: int


# --- what is there without configuration ------------------------------------------------------------------------------


def with_examples(settings: Settings, mailbox_port: int) -> Settings:
    """The settings, with examples for what nobody configured: services, and an integration that is the mailbox."""
    if not settings.services and not settings.any_service:
        mailboxes = {} if settings.email.mailbox else {name: {"mailbox": BY_EXAMPLE} for name in EXAMPLE_MAILBOXES}
        settings = replace(
            settings,
            services=_example_services(settings.email),
            origins=MappingProxyType({**settings.origins, **mailboxes}),
        )
    if not settings.integrations:
        settings = replace(settings, integrations=MappingProxyType({settings.email.integration: example(mailbox_port)}))
    return settings


def with_loopback(settings: Settings) -> Settings:
    """The settings, with servers on this machine allowed: the development mailbox is one."""
    relays = (*settings.smtp.private_relays, *LOOPBACK_RELAYS)
    return replace(settings, smtp=replace(settings.smtp, private_relays=relays))


def example(mailbox_port: int) -> IntegrationSettings:
    """An integration that is the development mailbox."""
    return IntegrationSettings(
        host=LOOPBACK,
        port=mailbox_port,
        security=Security.NONE,
        # The mailbox lets anybody in; a fault at AUTH can be watched only where somebody logs in.
        username="forms",
        password="development",  # noqa: S106 - of the development mailbox, which takes any
        from_address=EXAMPLE_SENDER,
        mailbox=EXAMPLE_MAILBOXES["support"],
    )


def _example_services(email: EmailOptions) -> Mapping[str, EmailOptions]:
    return MappingProxyType(
        {name: replace(email, mailbox=email.mailbox or mailbox) for name, mailbox in EXAMPLE_MAILBOXES.items()}
    )


def _kept_key(folder: Path) -> str:
    """The key in the data folder, made at the first start."""
    file = folder / "secret_key"
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = file.read_text().strip()
        if not key:
            raise BadSettings(
                [f"{file}: is empty; write the key back, or remove the file and enter passwords again"]
            ) from None
        return key
    with os.fdopen(descriptor, "w") as opened:
        opened.write(f"{new_key()}\n")
        opened.flush()
        os.fsync(opened.fileno())
    return file.read_text().strip()


# --- steps ------------------------------------------------------------------------------------------------------------


def _open_database(settings: Settings) -> Store:
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open_store(settings.database_url)
    except OSError as error:
        place = error.filename or settings.data_dir
        raise BadSettings(
            [f"MAILROOM_DATA_DIR: {place} cannot be used: {error.strerror or error}; correct its permissions"]
        ) from error


async def _open_mailbox(settings: Settings, stack: contextlib.AsyncExitStack) -> Mailbox:
    """On the port it had last time, when that is free: the integration's row remembers it."""
    folder = settings.data_dir / "mailbox"
    letters = Letters(folder)
    faults = await stack.enter_async_context(keeping_faults(folder / "faults.json"))
    remembered = settings.data_dir / "mailbox_port"
    wanted = int(remembered.read_text()) if remembered.exists() else MAILBOX_PORT
    server = await serve_smtp(letters, LOOPBACK, wanted if _is_free(wanted) else 0, faults)
    await stack.enter_async_context(server)
    remembered.write_text(f"{server.port}\n")
    return Mailbox(letters, faults, server.port)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


async def _point_at_mailbox(store: Store, settings: Settings) -> None:
    """The example's row follows the mailbox to another port; a row that somebody else configured is left alone."""
    for name, configured in settings.integrations.items():
        if configured.from_address == EXAMPLE_SENDER and configured.host == LOOPBACK:
            await store.transaction(
                move_integration,
                name,
                from_address=EXAMPLE_SENDER,
                host=LOOPBACK,
                port=configured.port,
                now=datetime.now(UTC),
            )


async def _start_worker(stack: contextlib.AsyncExitStack, stop: asyncio.Event, thread: WorkerThread) -> WorkerThread:
    thread.start()
    stack.push_async_callback(thread.aclose)
    await unless_stopped(stop, thread.started())
    return thread


async def _open_doors(
    stack: contextlib.AsyncExitStack, settings: Settings, gateway: Gateway, thread: WorkerThread, mailbox: Mailbox
) -> Addresses:
    smtp = f"{LOOPBACK}:{mailbox.port}"

    def figures() -> Mapping[str, float]:
        return {**thread.worker.figures(), **gateway.figures()}

    pages_app, console = gateway.pages(lambda: gateway.unready() or thread.worker.unready(), figures, mailbox=True)
    add_routes(
        pages_app,
        mailbox.letters,
        prefix="/mailbox",
        smtp_address=smtp,
        faults=mailbox.faults,
        shell=ConsoleShell(console),
    )
    pages = await stack.enter_async_context(
        listening(pages_app, settings.admin_listen, "MAILROOM_ADMIN_LISTEN", shutdown_seconds=FINISH_SECONDS)
    )
    api = await stack.enter_async_context(
        listening(gateway.app, settings.listen, "MAILROOM_LISTEN", shutdown_seconds=FINISH_SECONDS)
    )
    return Addresses(api, pages, smtp)


async def _first_password(store: Store) -> str | None:
    """At the first start there is nobody yet: make the first administrator; the password is told once."""
    if await store.read(users.is_anybody):
        return None
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    kept = await hashed(password)
    await store.transaction(users.create, FIRST_USER, Role.ADMIN, kept, who="mailroom up", now=datetime.now(UTC))
    return password


async def _tested(gateway: Gateway, settings: Settings) -> None:
    """Return once no configured integration awaits its live test any more, or that takes too long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TESTED_SECONDS):
            while not _all_tested(gateway, settings):  # noqa: ASYNC110 - the watch tells nobody when it refreshes
                await asyncio.sleep(0.05)


def _all_tested(gateway: Gateway, settings: Settings) -> bool:
    known = [gateway.watch.named(name) for name in settings.integrations]
    return all(one is not None and one.reported_state is not ReportedState.ACTIVATING for one in known)


async def _until_ended(stop: asyncio.Event, thread: WorkerThread) -> None:
    """Return when told to stop; a worker that ends by itself is a defect, and ends everything."""
    stopping, working = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(thread.ended())
    done, pending = await asyncio.wait({stopping, working}, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    if working in done:
        working.result()


# --- what is printed --------------------------------------------------------------------------------------------------


def greeting(
    settings: Settings, addresses: Addresses, integrations: Collection[Integration], first_password: str | None
) -> list[str]:
    """Where everything is, and something to try."""
    service = next(iter(settings.services), "support")
    others = ", ".join(name for name in settings.services if name != service)
    endpoint = f"http://{addresses.api}/genesys/2/email/{service}"
    return [
        "Mailroom is running.",
        "",
        f"  Forms     {endpoint}" + (f"   (also: {others})" if others else ""),
        f"  Pages     http://{addresses.pages}/   ({_sign_in(first_password)})",
        f"  Mailbox   http://{addresses.pages}/mailbox/",
        f"  SMTP      {addresses.smtp}   (keeps whatever it is sent, for the mailbox)",
        f"  Data      {settings.data_dir}/",
        "",
        *[f"  {_state(one, addresses)}" for one in integrations],
        "",
        "Send a form with a file:",
        "",
        f"  {curl(endpoint)}",
        "",
        f"Then read the mail at http://{addresses.pages}/mailbox/ and try: {_command()} messages list",
        "Ctrl-C ends it.",
    ]


def _sign_in(first_password: str | None) -> str:
    if first_password is not None:
        return f"sign in as {FIRST_USER} with {first_password}, told only this once"
    return f"forgot the password? {_command()} users password {FIRST_USER}"


def curl(endpoint: str) -> str:
    """A command that works in every folder: its file is made on the way."""
    fields = {
        "firstName": "Jane",
        "lastName": "Doe",
        "fromAddress": "jane@example.test",
        "subject": "A question",
        "text": "Where is my parcel?",
        "files": "Order 17;filename=order.txt",
    }
    words = [word for name, value in fields.items() for word in ("-F", f"{name}={value}")]
    return shlex.join(["curl", *words, endpoint])


def _state(integration: Integration, addresses: Addresses) -> str:
    server = f"{integration.account.host}:{integration.account.port}"
    where = "the development mailbox" if server == addresses.smtp else f"REAL MAIL through {server}"
    if integration.reported_state is ReportedState.ACTIVE:
        return f"Integration {integration.name} is ACTIVE: {where}"
    cause = f" ({IN_PLAIN_WORDS[integration.cause]})" if integration.cause else ""
    return (
        f"Integration {integration.name} is {integration.reported_state}{cause}: nothing is sent through {server}; "
        f"try: {_command()} integrations reset {integration.name}"
    )


def _command() -> str:
    """How a person here calls us: what `make up` installs is not on the PATH."""
    called = Path(sys.argv[0])
    if called.name != "mailroom":
        return "python -m cli"
    return "mailroom" if shutil.which("mailroom") else os.path.relpath(called)
