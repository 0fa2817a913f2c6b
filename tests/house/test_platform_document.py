"""docs/platform-api.md says what the platform API does: its tables are the code's, and its examples run."""

import asyncio
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import aiohttp

from gateway.cloud.errors import Code
from gateway.cloud.integrations import MESSAGE_CODES, PROPERTIES
from gateway.cloud.routes import ENDPOINTS
from mailroom.integration import Cause
from mailroom.roles import Role, may
from mailroom.settings import Settings
from tests.processes import environment, first_password, letters_of_up, mailroom, running, signed_in
from tests.services import free_port

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/platform-api.md").read_text()

#: The port of the development mailbox in the examples.
MAILBOX_PORT = "8025"


def rows(heading: str) -> list[list[str]]:
    """The rows of the table whose first line begins like this."""
    table = re.match(r"(?:\|.*\n)+", TEXT[TEXT.index(f"| {heading} |") :])
    assert table is not None
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in table[0].splitlines()[2:]]


def block(language: str, number: int = 0) -> str:
    """A block of code in this language; the first one has number 0."""
    return str(re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)[number])


def test_every_endpoint_is_explained_with_its_roles() -> None:
    """The document has a row for each endpoint, in order, with its permission and the roles that have it."""
    assert rows("endpoint") == [
        [f"{one.method} {one.path}", one.does, str(one.permission),
         ", ".join(role for role in Role if may(role, one.permission))]
        for one in ENDPOINTS
    ]  # fmt: skip


def test_every_role_is_explained() -> None:
    """The document has a row for each role."""
    assert [row[0] for row in rows("role")] == list(Role)


def test_every_code_is_explained() -> None:
    """The document has a row for each code, and for each cause of ERROR."""
    assert [row[0] for row in rows("code")] == list(Code)
    assert {Cause(row[1]): row[0] for row in rows("`localizableMessageCode`")} == MESSAGE_CODES


def test_every_property_is_explained() -> None:
    """The document has a row for each property, with its default."""
    told = {row[0]: row[1] for row in rows("property")}

    assert list(told) == [one.name for one in PROPERTIES]
    assert {name: default for name, default in told.items() if default not in ("", "no limit")} == {
        one.name: str(one.schema["default"]) for one in PROPERTIES if "default" in one.schema
    }


# --- the examples -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """A running `mailroom up`, and a client of it."""

    api: str
    pages: str
    smtp_port: str
    password: str
    client_id: str
    client_secret: str

    async def letters(self, count: int = 1) -> list[dict[str, Any]]:
        """What arrived in its mailbox, once so many did."""
        return await letters_of_up(self.pages, await signed_in(self.pages, self.password), count)

    def here(self, example: str) -> str:
        """An example with what is otherwise here than in the document."""
        assert Settings().listen in example
        return example.replace(Settings().listen, self.api).replace(MAILBOX_PORT, self.smtp_port)


@asynccontextmanager
async def a_place(folder: Path, number: int = 0) -> AsyncIterator[Place]:
    """`mailroom up` as a newcomer has it, and a client that the document adds: its first one, or another."""
    api, pages = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    variables = {"MAILROOM_LISTEN": api, "MAILROOM_ADMIN_LISTEN": pages}
    add = re.findall(r"mailroom (clients add .* --role [a-z]+)", TEXT)[number]
    with running(folder, variables, "up") as up:
        greeting = await up.prints("Ctrl-C ends it.")
        smtp = re.search(r"SMTP +127\.0\.0\.1:(\d+)", greeting)
        added = await mailroom(folder, variables, *shlex.split(add))
        told = dict(re.findall(r"^client (id|secret) +(\S+)$", added.stdout, re.MULTILINE))
        assert smtp is not None, greeting
        yield Place(api, pages, smtp[1], first_password(greeting), told["id"], told["secret"])
        await up.stop()


async def test_the_python_example_runs(tmp_path: Path) -> None:
    """The vendor's package, unmodified, does every step of the document, and prints what the document says."""
    async with a_place(tmp_path) as place:
        ended = await run_example(tmp_path, place, block("python"))
        (letter,) = await place.letters()

    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.match(r"ACTIVE it may send\nsent as <.*@company\.test>\n", ended.stdout)
    assert "Post ENABLED ACTIVE" in ended.stdout
    assert letter["subject"] == "A try"


async def test_the_example_of_an_agent_runs(tmp_path: Path) -> None:
    """After a form has come in the vendor's package answers it as the document says, with the file, in one thread."""
    async with a_place(tmp_path, 1) as place, aiohttp.ClientSession() as session:
        form = {"firstName": "Jane", "lastName": "Doe", "fromAddress": "jane@example.test",
                "subject": "A question", "text": "Where are you?"}  # fmt: skip
        async with session.post(f"http://{place.api}/genesys/2/email/support", data=form) as answer:
            assert (await answer.json())["statusCode"] == 0
        ended = await run_example(tmp_path, place, block("python", 1))
        subjects = {letter["subject"] for letter in await place.letters(2)}

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("Jane Doe asks: A question\n")
    assert "You find us like this." in ended.stdout
    assert ended.stdout.endswith("nothing failed\n")
    assert subjects == {"A question", "Re: A question"}


async def run_example(folder: Path, place: Place, example: str) -> subprocess.CompletedProcess[str]:
    """A program of the document, as the client that was added."""
    script = place.here(example).replace("CLIENT_ID", place.client_id).replace("CLIENT_SECRET", place.client_secret)
    (folder / "example.py").write_text(script)
    return await asyncio.to_thread(
        subprocess.run, [sys.executable, "example.py"], cwd=folder, env=environment({"HOME": str(folder)}),
        capture_output=True, text=True, timeout=90, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


async def test_the_curl_example_runs(tmp_path: Path) -> None:
    """Each curl of the document, sent as curl would, is answered with success."""
    async with a_place(tmp_path) as place, aiohttp.ClientSession() as session:
        known = {"CLIENT_ID": place.client_id, "CLIENT_SECRET": place.client_secret}
        statuses = []
        for line in place.here(block("sh")).replace("\\\n", " ").splitlines():
            async with _sent(session, shlex.split(line), known) as answer:
                body = await answer.json()
                statuses.append(answer.status)
            if "access_token" in body:
                known["TOKEN"] = body["access_token"]
            elif "id" in body:
                known["ID"] = body["id"]

    assert statuses == [200] * 7


def _sent(session: aiohttp.ClientSession, words: list[str], known: Mapping[str, str]) -> Any:
    """What curl does with -X, -H, -u and -d, and with variables as a shell knows them."""
    assert words.pop(0) == "curl"
    words = [Template(word).substitute(known) if "{" not in word else word for word in words]
    url, options = words.pop(), dict[str, str]()
    headers: dict[str, str] = {}
    for option, value in zip(words[::2], words[1::2], strict=True):
        assert option in ("-X", "-H", "-u", "-d")
        if option == "-H":
            name, _, content = value.partition(": ")
            headers[name] = content
        else:
            options[option] = value
    if "-u" in options:
        name, _, secret = options["-u"].partition(":")
        headers["Authorization"] = aiohttp.encode_basic_auth(name, secret)
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    method = options.get("-X", "POST" if "-d" in options else "GET")
    return session.request(method, url, headers=headers, data=options.get("-d"))
