"""Makes the secrets of docker-compose.yml that are missing, so that a fresh clone needs no file made by hand.

It runs once before everything else, and may run again at any time: a secret that is there stays, and what is made from
it (URLs, the broker's configuration) follows it.
"""  # noqa: INP001 - a script for the image, not a package

import argparse
import contextlib
import os
import secrets
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit

from mailroom.vault import new_key

#: For files that only our own processes read; all of them run as the same user.
OURS = 0o400
#: For files in a volume that only one foreign container mounts, whose user is not ours.
THEIRS = 0o444


def prepare(folder: Path, database_url: str, queue_url: str) -> None:
    """Leave every secret and what is made from it in the folder; `{password}` in a URL stands for the password."""
    ours, database, broker = folder / "secrets", folder / "database", folder / "broker"
    keep(ours / "secret_key", new_key(), OURS)
    database_password = keep(database / "password", secrets.token_urlsafe(32), THEIRS)
    broker_password = keep(broker / "password", secrets.token_urlsafe(32), OURS)
    write(ours / "database_url", with_password(database_url, database_password), OURS)
    write(ours / "queue_url", with_password(queue_url, broker_password), OURS)
    write(broker / "rabbitmq.conf", broker_configuration(urlsplit(queue_url).username, broker_password), THEIRS)


def add_secret_key(folder: Path) -> None:
    """Put a new key before the present ones, which from now on only decrypt."""
    path = folder / "secrets" / "secret_key"
    write(path, f"{new_key()}\n{path.read_text()}", OURS)


def keep(path: Path, otherwise: str, mode: int) -> str:
    """The secret in the file; when there is none, the other one, which is in the file from now on."""
    with contextlib.suppress(FileNotFoundError):
        if secret := path.read_text().strip():
            return secret
    write(path, otherwise, mode)
    return otherwise


def write(path: Path, text: str, mode: int) -> None:
    """Replace the file in one step, so that nobody reads half a secret; a file that says so already is left alone."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_text() == text:
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        # Before it is used: a database made with a password that a power cut then took is locked for good.
        os.fsync(file.fileno())
    temporary.chmod(mode)
    temporary.rename(path)
    sys.stdout.write(f"wrote {path}\n")


def with_password(url: str, password: str) -> str:
    """The URL with the password in its place, as URLs spell it."""
    return url.replace("{password}", quote(password, safe=""))


def broker_configuration(user: str | None, password: str) -> str:
    """What makes RabbitMQ's first and only user, when its data folder is new."""
    return f"default_user = {user}\ndefault_pass = {password}\n"


def main() -> None:
    """Do what the arguments say, or end with 1 and a sentence."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where the volumes secrets, database and broker are mounted")
    parser.add_argument("--database-url", help="with {password} in the place of the password")
    parser.add_argument("--queue-url", help="the same")
    parser.add_argument(
        "--add-secret-key", action="store_true", help="only put a new secret key before the present ones"
    )
    given = parser.parse_args()
    try:
        if given.add_secret_key:
            add_secret_key(given.folder)
        elif given.database_url and given.queue_url:
            prepare(given.folder, given.database_url, given.queue_url)
        else:
            parser.error("--database-url and --queue-url are needed")
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}; the volume must belong to user {os.getuid()}")


if __name__ == "__main__":
    main()
