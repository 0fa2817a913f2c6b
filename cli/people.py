"""`mailroom clients …` and `mailroom users …`: who may call the platform API, and who may sign in."""

import getpass
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from cli import printing
from cli.commands import Complained, asked
from cli.printing import moment
from mailroom.roles import Role

Json = Annotated[bool, Parameter(name="--json", negative="", show_default=False, help="Print JSON, for programs.")]
ClientName = Annotated[str, Parameter(help="The client's name; the audit shows it.")]
UserName = Annotated[str, Parameter(help="The person's name; the audit shows it.")]
WithRole = Annotated[Role, Parameter(name="--role", help="What it may do; docs/platform-api.md has the table.")]
PasswordFile = Annotated[
    Path | None, Parameter(help="A file with the password; a password on the command line could be read by others.")
]


def add_client(name: ClientName, /, *, role: WithRole, json: Json = False) -> int:
    """Let a program call the platform API; prints its id and its secret, once."""
    made = asked("clients.add", name=name, role=str(role))
    if json:
        printing.as_json(made)
        return 0
    printing.fields({"client id": made["client_id"], "client secret": made["client_secret"]})
    printing.lines(["", "Keep the secret now: it is stored nowhere and cannot be shown again."])
    return 0


def list_clients(*, json: Json = False) -> int:
    """List the clients with their roles."""
    return _listed("clients.list", json=json)


def disable_client(name: ClientName, /, *, json: Json = False) -> int:
    """Let a client call never again; its tokens are refused within 5 seconds."""
    return _disabled("clients.disable", name, json=json)


def add_user(name: UserName, /, *, role: WithRole, password_file: PasswordFile = None, json: Json = False) -> int:
    """Add a person; the password is asked for, or read from a file."""
    made = asked("users.add", name=name, role=str(role), password=_new_password(password_file))
    if json:
        printing.as_json(made)
    else:
        printing.lines([f"{name} is a user with the role {made['role']}."])
    return 0


def list_users(*, json: Json = False) -> int:
    """List the users with their roles."""
    return _listed("users.list", json=json)


def set_password(name: UserName, /, *, password_file: PasswordFile = None, json: Json = False) -> int:
    """Give a person another password; it is asked for, or read from a file."""
    done: dict[str, Any] = asked("users.password", name=name, password=_new_password(password_file))
    if json:
        printing.as_json(done)
    else:
        printing.lines([f"{name} has another password, and was signed out in {_places(done['signed_out'])}."])
    return 0


def sign_out(name: UserName, /, *, json: Json = False) -> int:
    """Sign a person out everywhere."""
    done: dict[str, Any] = asked("users.sign_out", name=name)
    if json:
        printing.as_json(done)
    else:
        printing.lines([f"{name} was signed out in {_places(done['signed_out'])}."])
    return 0


def _places(number: int) -> str:
    return f"{number} {'place' if number == 1 else 'places'}"


def disable_user(name: UserName, /, *, json: Json = False) -> int:
    """Let a person in never again."""
    return _disabled("users.disable", name, json=json)


def _listed(operation: str, *, json: bool) -> int:
    found = asked(operation)
    if json:
        printing.as_json(found)
    else:
        printing.table(
            ("NAME", "ROLE", "ID", "ADDED", "BY", "DISABLED"),
            [
                (one["name"], one["role"], one["id"], moment(one["created_at"]), one["created_by"],
                 moment(one["disabled_at"]))
                for one in found
            ],
        )  # fmt: skip
    return 0


def _disabled(operation: str, name: str, *, json: bool) -> int:
    done: dict[str, Any] = asked(operation, name=name)
    if json:
        printing.as_json(done)
    else:
        printing.lines([f"{name} is disabled."])
    return 0


def _new_password(file: Path | None) -> str:
    """The password in the file, or as a person types it twice; raises Complained."""
    if file is not None:
        return _read(file)
    if not sys.stdin.isatty():
        raise _complained("a password is needed, and nobody is there to be asked; give --password-file")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise _complained("the two passwords differ; try again")
    return password


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise _complained(f"{file} cannot be read: {error.strerror}; give the password in another file") from error
    except UnicodeDecodeError as error:
        raise _complained(f"{file} cannot be read: it is not UTF-8; write it anew") from error


def _complained(sentence: str) -> Complained:
    printing.complain(sentence)
    return Complained(1)
