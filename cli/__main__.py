"""The `mailroom` command. The module of a command is imported when it is run, so that `--help` is quick."""

import gc
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from inspect import cleandoc

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


def _flowing(text: str) -> str:
    """Paragraphs whose lines are as long as the terminal is wide."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in cleandoc(text).split("\n\n"))


#: Name, where it is, and what `--help` says: the first paragraph in lists too. Here, because a list must not import them.
PROCESSES = (
    (
        "up",
        "cli.up:up",
        """Run everything in one process, with a development mailbox.

        Gateway, worker, queue, an SQLite database and a real SMTP server on loopback; needs no configuration. What it
        keeps is in MAILROOM_DATA_DIR (var). Without integrations in mailroom.toml no mail leaves this machine: the
        mailbox keeps it and shows it at MAILROOM_ADMIN_LISTEN. Without services there, the examples support and
        billing exist. Other mailroom commands, given in the same folder, talk to this process. Ctrl-C or SIGTERM ends
        it.
        """,
    ),
    (
        "gateway",
        "cli.deployment:gateway",
        """Take submissions in over HTTP, at MAILROOM_LISTEN.

        Needs PostgreSQL, RabbitMQ and MAILROOM_SECRET_KEY, and waits for the first two and for `mailroom migrate`.
        /healthz and /readyz are served there too, and with /metrics (of the first process) at MAILROOM_ADMIN_LISTEN.
        SIGTERM: is not ready any more, accepts for 3 more seconds, finishes what it began, and exits with 0.
        """,
    ),
    (
        "worker",
        "cli.deployment:worker",
        """Deliver what was accepted.

        Start as many as wanted, on as many machines. Needs PostgreSQL, RabbitMQ and MAILROOM_SECRET_KEY, and waits for
        the first two and for `mailroom migrate`. Serves /healthz, /readyz and /metrics at MAILROOM_HEALTH_LISTEN.
        SIGTERM: takes nothing more, finishes what it began within 60 seconds or gives it back, and exits with 0.
        """,
    ),
    (
        "migrate",
        "cli.migration:migrate",
        """Bring the database's tables up to this version.

        Run it once for each version, before the processes. Waits up to 60 seconds for the database. `mailroom up` does
        this for its own database by itself.
        """,
    ),
    (
        "mailbox",
        "cli.mailbox_command:mailbox",
        """Run the development mailbox alone: a real SMTP server that keeps what it gets, and shows it in a browser.

        For tests and development: it lets anybody in and delivers nothing. Mail to reply-550@… or reply-451@… is
        refused with that code, to reply-451-data@… after the final dot, and hang-up@… loses the connection there.
        """,
    ),
)
LOOKS = (
    (
        "explain",
        "cli.explaining:explain",
        """Explain what happens to a message, or would happen to a submission, and why.

        With a message's id every decision about it as it stands now. Without one those about a form (--service) or a
        letter (--kind acd --from agent@company.com): nothing is sent.
        """,
    ),
    (
        "figures",
        "cli.figures:show_figures",
        """Show what happened in the last hour and day, how long it took, and what waits.

        The processes count by themselves and tell the database every two seconds; a process that is killed takes its
        last counts with it.
        """,
    ),
)
FORMS = (
    ("list", "cli.forms:list_forms", "List the form services with their mailboxes, integrations and states."),
    (
        "show",
        "cli.forms:show_form",
        """Show every option of one service: its value, and which table of which file it comes from.

        The settings are those of the running `mailroom up`, else those that this command finds itself. Of API keys only
        the number is told.
        """,
    ),
    (
        "html",
        "cli.forms:form_to_paste",
        """Print the HTML of a form for one service, to paste into a page.

        The form works without a script: a browser then shows our answer, which is JSON. --script prints a script of a
        few lines that shows it in the form; put it into a file of its own, and the page's origin into allowed_origins.
        """,
    ),
)
AUDIT = (
    (
        "list",
        "cli.audit:list_audit",
        """List who changed what, newest first.

        Every change of an integration's state or configuration, of credentials, domains, clients, users and keys.
        --json has the conversations with servers too.
        """,
    ),
)
INTEGRATIONS = (
    (
        "list",
        "cli.operating:list_integrations",
        """List the integrations with their states.

        INTENDED is what people want (ENABLED, DISABLED), REPORTED what is so; only ACTIVE sends.
        """,
    ),
    (
        "show",
        "cli.operating:show_integration",
        "Show one integration: its configuration and state, the last transcript, who changed it.",
    ),
    (
        "create",
        "cli.operating:create_integration",
        """Create an integration; a live test makes it ACTIVE.

        The server must be on the public Internet, at a port for mail, or allowed in [smtp] private_relays. A user name
        needs a password, which is asked for or read from a file. Waits up to 60 seconds. Exits with 1 when the test
        fails: the integration is there and in ERROR, `set` corrects it.
        """,
    ),
    (
        "set",
        "cli.operating:change_integration",
        """Change an integration.

        What is not given stays. A change of server, security or log-in is tested at once when the integration is
        ENABLED: until the test has passed nothing is sent. Waits up to 60 seconds for it. Exits with 1 when it fails.
        """,
    ),
    (
        "test",
        "cli.operating:try_integration",
        """Let a worker log in at the integration's server now, and print the conversation.

        Leaves the state as it is, and sends no mail, unless --to asks for a letter and the integration is ACTIVE. Waits
        up to 60 seconds. Exits with 1 when the test fails.
        """,
    ),
    (
        "reset",
        "cli.operating:reset_integration",
        """Bring an integration back to ACTIVE by way of a live test; the only way out of ERROR and DISABLED.

        Held messages go out once it is ACTIVE, oldest first. Waits up to 60 seconds. Exits with 1 when the test fails.
        """,
    ),
    (
        "disable",
        "cli.operating:disable_integration",
        "Send nothing through an integration any more until it is reset; forms that were accepted wait.",
    ),
    (
        "delete",
        "cli.operating:delete_integration",
        """Delete an integration: it never sends again, and its name is free.

        Its messages keep their history; those that were not sent stay held and expire in their time. Remove it from
        mailroom.toml too, or the next start of a process creates it anew.
        """,
    ),
)
KEYS = (
    (
        "reseal",
        "cli.operating:reseal_keys",
        """Encrypt every stored password with the first key of MAILROOM_SECRET_KEY.

        To rotate: put a new key in front of the old one (a comma between them), restart the processes, give this
        command, and take the old key away. Exits with 1 when there is a password that no key opens.
        """,
    ),
)
CLIENTS = (
    (
        "add",
        "cli.people:add_client",
        """Let a program call the platform API; prints its id and its secret.

        The secret is stored nowhere and cannot be shown again. The program trades both for a token at /oauth/token.
        """,
    ),
    ("list", "cli.people:list_clients", "List the clients with their roles, those that were disabled too."),
    (
        "disable",
        "cli.people:disable_client",
        "Let a client call never again: its tokens are refused within 5 seconds, everywhere.",
    ),
)
USERS = (
    (
        "add",
        "cli.people:add_user",
        """Add a person.

        The password is asked for, or read from a file; it has at least 15 characters.
        """,
    ),
    ("list", "cli.people:list_users", "List the users with their roles, those that were disabled too."),
    (
        "password",
        "cli.people:set_password",
        """Give a person another password.

        It is asked for, or read from a file. They are signed out everywhere, and may try at once however often they
        failed.
        """,
    ),
    ("sign-out", "cli.people:sign_out", "Sign a person out everywhere; they can sign in again."),
    ("disable", "cli.people:disable_user", "Let a person in never again; they are signed out everywhere."),
)
MESSAGES = (
    (
        "list",
        "cli.operating:list_messages",
        """List messages, newest first; with --search and the other options only those that all of them fit.

        Dead letters are those that are failed, expired or uncertain: `mailroom messages redrive` tries them again.
        """,
    ),
    (
        "show",
        "cli.operating:show_message",
        "Show where one message stands and every recorded attempt, with what the server said.",
    ),
    (
        "redrive",
        "cli.operating:redrive_message",
        """Give a dead letter fresh attempts.

        Correct first what made it fail. One whose client was told that it failed cannot be re-driven, but copied.
        """,
    ),
    (
        "copy",
        "cli.operating:copy_message",
        """Send a dead letter again to another recipient, as a new message.

        For a wrong address, and for one whose client was told that it failed: give the same address then. The dead
        letter is dismissed.
        """,
    ),
    (
        "dismiss",
        "cli.operating:dismiss_message",
        "Put a dead letter out of sight; it stays what it is, and can still be re-driven.",
    ),
)
DEAD_LETTERS = (
    (
        "list",
        "cli.dead_letters:list_groups",
        """List the dead letters by what they have in common.

        Those of one integration that failed for one reason, with the same words of the server but for ids, addresses
        and numbers, are a group.
        """,
    ),
    (
        "show",
        "cli.dead_letters:show_group",
        "Show one group: its cause, the youngest of its messages, its re-drives and its history.",
    ),
    (
        "redrive",
        "cli.dead_letters:redrive_group",
        """Have a whole group tried again, so many a second.

        A worker does it, oldest first, while the integration may send. What fails again is a dead letter again, and is
        not taken up once more. Correct first what made them fail.
        """,
    ),
    ("redrives", "cli.dead_letters:list_redrives", "List the re-drives of groups with how far they are, newest first."),
    ("stop", "cli.dead_letters:stop_redrive", "Queue no more of a group; what was queued goes on."),
    (
        "dismiss",
        "cli.dead_letters:dismiss_group",
        "Put a whole group out of sight; its messages stay what they are, and each can still be re-driven.",
    ),
    ("export", "cli.dead_letters:export_group", "Print whom a group concerns as CSV, the oldest first."),
)

for number, (name, where, text) in enumerate((*PROCESSES, *LOOKS)):
    app.command(where, name=name, help=_flowing(text), sort_key=number)
for number, (group, text, commands) in enumerate(
    (
        ("integrations", "See, create, change, test, reset and disable the SMTP accounts of mail.", INTEGRATIONS),
        ("messages", "See where messages stand, and re-drive dead letters.", MESSAGES),
        ("forms", "See the form services, and where their options come from.", FORMS),
        ("audit", "See who changed what, when and why.", AUDIT),
        ("dead-letters", "Deal with failures of one cause together.", DEAD_LETTERS),
        ("keys", "Look after the keys that stored passwords are encrypted with.", KEYS),
        ("clients", "Say which programs may call the platform API, and as what.", CLIENTS),
        ("users", "Say which people there are, and what they may do.", USERS),
    ),
    start=len(PROCESSES) + len(LOOKS),
):
    nouns = App(name=group, help=text, sort_key=number, help_format="plaintext")
    app.command(nouns)
    for place, (name, where, help_text) in enumerate(commands):
        nouns.command(where, name=name, help=_flowing(help_text), sort_key=place)


#: New objects after which Python looks for those that only know each other. A command makes so many by importing its
#: modules, and all of them stay: looking for rubbish among them took a sixth of its time. What serves sets its own.
OBJECTS_OF_A_START = 100_000


def main() -> None:
    """Do what the command line says, and exit: 0 done, 1 not done and the reason is on stderr, 2 not understood."""
    gc.set_threshold(OBJECTS_OF_A_START)
    try:
        app()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`); nothing is left to be flushed at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
