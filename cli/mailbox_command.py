"""`mailroom mailbox`: the development mailbox alone."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from aiohttp import web
from cyclopts import Parameter

from cli.commands import run
from cli.mailbox.faults import Faults
from cli.mailbox.frame import OwnShell
from cli.mailbox.kept_faults import keeping_faults
from cli.mailbox.letters import Letters
from cli.mailbox.pages import add_routes
from cli.mailbox.smtp import SmtpServer, serve_smtp
from cli.printing import lines
from mailroom.logs import LogLevel, LogStyle, configure_logs
from mailroom.process import listening, stop_signal
from mailroom.serving import AddressTaken
from mailroom.settings_file import from_environment

SMTP_DEFAULT = "127.0.0.1:8025"


def mailbox(
    *,
    smtp: Annotated[str, Parameter(help="Where to take mail in, host:port.")] = SMTP_DEFAULT,
    pages: Annotated[
        str | None, Parameter(help="Where to show it, host:port. Without it: MAILROOM_ADMIN_LISTEN.")
    ] = None,
    folder: Annotated[
        Path | None, Parameter(help="Where to keep it. Without it: the folder mailbox in MAILROOM_DATA_DIR.")
    ] = None,
    name: Annotated[
        tuple[str, ...], Parameter(help="A name with dots that browsers may ask for it by, besides its address.")
    ] = (),
) -> int:
    """Run the development mailbox alone: a real SMTP server that keeps what it gets, and shows it in a browser."""
    configure_logs(LogStyle.CONSOLE, LogLevel.WARNING)
    run(_mailbox(smtp, pages, folder, name))
    return 0


async def _mailbox(smtp: str, pages: str | None, folder: Path | None, names: Sequence[str]) -> None:
    settings = from_environment()
    stop = stop_signal()
    app = web.Application()
    folder = folder or settings.data_dir / "mailbox"
    letters = Letters(folder)
    async with contextlib.AsyncExitStack() as stack:
        faults = await stack.enter_async_context(keeping_faults(folder / "faults.json"))
        server = await stack.enter_async_context(await take_mail(letters, smtp, faults))
        host = smtp.rpartition(":")[0]
        add_routes(app, letters, smtp_address=f"{host}:{server.port}", faults=faults, shell=OwnShell(names))
        where = pages or settings.admin_listen
        variable = "--pages" if pages else "MAILROOM_ADMIN_LISTEN"
        address = await stack.enter_async_context(listening(app, where, variable, shutdown_seconds=3.0))
        lines([f"Taking mail at {host}:{server.port}, showing it at http://{address}/"])
        await stop.wait()


async def take_mail(letters: Letters, listen: str, faults: Faults) -> SmtpServer:
    """A listening SMTP server; raises AddressTaken."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit():
        raise AddressTaken(f"{listen!r} is no place to listen at; write an address and a port, like {SMTP_DEFAULT}")
    try:
        return await serve_smtp(letters, host.strip("[]"), int(port), faults)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AddressTaken(f"cannot take mail at {listen}: {reason}; choose another address with --smtp") from error
