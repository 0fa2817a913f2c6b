"""The `mailroom` command. The module of a command is imported when it is run, so that `--help` is quick."""

import os
import sys
from importlib.metadata import PackageNotFoundError, version

from cyclopts import App


def _version() -> str:
    try:
        return version("mailroom")
    except PackageNotFoundError:  # run from its folder, without having been installed
        return "not installed"


app = App(
    name="mailroom",
    help="Takes in e-mail that must not be lost, checks that its SMTP integration may send, and delivers it.\n\n"
    "Settings come from mailroom.toml (or the file that MAILROOM_CONFIG names) and MAILROOM_… variables.",
    help_format="plaintext",
    version=_version,
)
app.command("cli.up:up", name="up", help="Run everything in one process, with a development mailbox.", sort_key=1)
app.command("cli.deployment:gateway", name="gateway", help="Take submissions in over HTTP.", sort_key=2)
app.command("cli.deployment:worker", name="worker", help="Deliver what was accepted.", sort_key=3)
app.command("cli.deployment:migrate", name="migrate", help="Bring the database's tables up to date.", sort_key=4)
app.command("cli.mailbox_command:mailbox", name="mailbox", help="Run the development mailbox alone.", sort_key=5)

integrations = App(
    name="integrations", help="See, test, reset and disable the SMTP accounts that mail leaves through.", sort_key=6
)
integrations.command("cli.operating:list_integrations", name="list")
integrations.command("cli.operating:show_integration", name="show")
integrations.command("cli.operating:try_integration", name="test")
integrations.command("cli.operating:reset_integration", name="reset")
integrations.command("cli.operating:disable_integration", name="disable")
app.command(integrations)

messages = App(name="messages", help="See where messages stand, and re-drive dead letters.", sort_key=7)
messages.command("cli.operating:list_messages", name="list")
messages.command("cli.operating:show_message", name="show")
messages.command("cli.operating:redrive_message", name="redrive")
app.command(messages)


def main() -> None:
    """Do what the command line says, and exit: 0 done, 1 not done and the reason is on stderr, 2 not understood."""
    try:
        app()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`); nothing is left to be flushed at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
