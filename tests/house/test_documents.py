"""What the documents name exists, and what they copy from the code's tables is still what stands there."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from cyclopts import App

from cli.__main__ import app
from gateway.admin.pages import PAGES
from gateway.forms.problems import Code
from mailroom import diagrams
from mailroom.integration import Cause
from mailroom.roles import Permission, Role, may
from mailroom.settings import Settings
from mailroom.settings_file import ANY_SERVICE, CONFIG_VARIABLE, EMAIL, PREFIX, TOP_LEVEL
from tests.processes import first_password, letters_of_up, running, signed_in
from tests.services import free_port

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
EXPECTED = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/form-api.md",
    "docs/platform-api.md",
    "docs/operating.md",
    "docs/pages.md",
)
SOURCES = ("mailroom", "gateway", "worker", "cli", "tests", "benchmarks", "deploy", "docs")

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


def code_in(document: Path) -> list[str]:
    """Every line of its blocks of code, and whatever stands between backticks."""
    lines: list[str] = []
    prose: list[str] = []
    inside = False
    for line in document.read_text().splitlines():
        if line.lstrip().startswith("```"):
            inside = not inside
        else:
            (lines if inside else prose).append(line)
    return lines + re.findall(r"`([^`]+)`", "\n".join(prose))


def cells(document: str, heading: str) -> list[list[str]]:
    """The rows of the table whose first line begins like this."""
    text = (ROOT / document).read_text()
    start = text.index(f"| {heading} |")
    rows = re.match(r"(?:\|.*\n)+", text[start:])
    assert rows is not None
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows[0].splitlines()[2:]]


def commands(group: App, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command there is, as its words."""
    for name in group:
        if not name.startswith("-"):
            yield (*before, name)
            yield from commands(group[name], (*before, name))


@pytest.mark.parametrize("document", EXPECTED)
def test_the_documents_are_there(document: str) -> None:
    """What a reader is promised is written."""
    assert (ROOT / document).read_text().startswith("# ")


@every_document
def test_links_lead_somewhere(document: Path) -> None:
    """A link to a file or a heading of this project finds it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if "://" in target:
            continue
        place, _, anchor = target.partition("#")
        found = document.parent / place if place else document
        assert found.exists(), f"{target} does not exist"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{target} names no heading"


@every_document
def test_files_that_are_named_exist(document: Path) -> None:
    """A path between backticks is the path of something; `0002_…` stands for what is not written yet."""
    for code in code_in(document):
        for path in re.findall(rf"(?<![\w./:-])((?:{'|'.join(SOURCES)})/[\w./-]+\w)", code):
            assert (ROOT / path).exists() or "/0002_" in path, f"{path} does not exist"


@every_document
def test_targets_that_are_named_exist(document: Path) -> None:
    """Every `make …` is a target of the Makefile."""
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    named = {target for code in code_in(document) for target in re.findall(r"(?:^|[\s;&|])make ([a-z]+)", code)}

    assert named <= set(phony[1].split())


@every_document
def test_commands_that_are_named_exist(document: Path) -> None:
    """Every `mailroom …` is a command, with its second word where it has one."""
    known = set(commands(app))
    groups = {words[0] for words in known if len(words) > 1}
    for code in code_in(document):
        for first, second in re.findall(r"(?:^|[\s;&|]|\.venv/bin/)mailroom ([a-z-]+)(?: ([a-z-]+))?", code):
            words = (first, second) if first in groups and second else (first,)
            assert words in known, f"mailroom {' '.join(words)} is no command"


@every_document
def test_variables_that_are_named_exist(document: Path) -> None:
    """Every MAILROOM_… is a variable that the settings read."""
    known = {CONFIG_VARIABLE}
    for name, key in TOP_LEVEL.items():
        known |= {f"{PREFIX}{name.upper()}"} | ({f"{PREFIX}{name.upper()}_FILE"} if key.secret else set())

    assert set(re.findall(r"MAILROOM_[A-Z][A-Z_]*", document.read_text())) <= known


def test_the_readme_names_every_variable() -> None:
    """A variable that the README does not name is not found."""
    named = {row[0] for row in cells("README.md", "variable")}

    assert named == {CONFIG_VARIABLE} | {f"{PREFIX}{name.upper()}" for name in TOP_LEVEL}


def test_pictures_are_those_of_the_tables() -> None:
    """The state diagrams of the architecture are drawn from the tables that the code reads."""
    text = (ROOT / "docs/architecture.md").read_text()
    pictures = re.findall(r"```mermaid\n(stateDiagram.*?)\n```", text, re.DOTALL)

    assert pictures == [diagrams.message_states(), diagrams.integration_states()], (
        "docs/architecture.md shows other moves than the code has: "
        "paste what `.venv/bin/python -m mailroom.diagrams` prints"
    )


def test_every_move_of_an_integration_is_explained() -> None:
    """The architecture shows the table of moves as the code has it: from where to where, by whom, and why."""
    assert diagrams.integration_moves() in (ROOT / "docs/architecture.md").read_text(), (
        "docs/architecture.md has another table of moves: paste what `.venv/bin/python -m mailroom.diagrams` prints"
    )


def test_every_code_of_an_error_is_explained() -> None:
    """The API's document lists each code once, in order, and no other."""
    assert [row[0] for row in cells("docs/form-api.md", "code")] == [str(int(code)) for code in Code]


def test_every_option_of_a_form_is_explained() -> None:
    """The API's document lists each option of a service and no other."""
    assert {row[0] for row in cells("docs/form-api.md", "option")} == {*EMAIL, *ANY_SERVICE}


def test_every_figure_is_explained() -> None:
    """The operator's document lists each figure that gateway and worker give, and no other."""
    given = {
        name
        for source in ("gateway/app.py", "worker/app.py", "worker/consumer.py")
        for name in re.findall(r'"(mailroom_[a-z_]+)":', (ROOT / source).read_text())
    }

    assert {row[0] for row in cells("docs/operating.md", "figure")} == given


def test_every_command_is_explained() -> None:
    """The operator's document lists each command and no other."""
    known = set(commands(app))
    groups = {words[0] for words in known if len(words) > 1}

    assert {row[0] for row in cells("docs/operating.md", "command")} == {
        f"mailroom {' '.join(words)}" for words in known if words[0] not in groups or len(words) > 1
    }


def test_every_role_may_on_the_pages_what_is_told() -> None:
    """The document of the pages has a row for each of their permissions, with yes where a role has it."""
    header = re.search(r"^\| on the pages \| (.*) \|$", (ROOT / "docs/pages.md").read_text(), re.MULTILINE)
    assert header is not None
    roles = [Role(name) for name in header[1].split(" | ")[:-1]]
    asked = [page.permission for page in PAGES if page.permission is not None] + [Permission.MAILBOX_USE]

    assert set(roles) == set(Role)
    assert {row[-1]: row[1:-1] for row in cells("docs/pages.md", "on the pages")} == {
        str(one): ["yes" if may(role, one) else "" for role in roles] for one in asked
    }


def test_every_cause_of_an_error_is_explained() -> None:
    """The operator's document lists each of the causes that set ERROR and no other."""
    assert {row[2] for row in cells("docs/operating.md", "what happened")} == set(Cause)


def test_nothing_names_a_place_of_whoever_wrote_it() -> None:
    """No document holds the path of a machine."""
    for document in DOCUMENTS:
        assert not re.search(r"(?<![\w.])/(?:work|home|root|tmp)/", document.read_text()), document.name


def _form_of(curl: list[str]) -> aiohttp.FormData:
    """What curl would send from the project's folder for its `-F name=value` and `-F name=@file;filename=name`."""
    form = aiohttp.FormData()
    for option, field in zip(curl[1:-1:2], curl[2:-1:2], strict=True):
        assert option == "-F"
        name, _, value = field.partition("=")
        path, _, filename = value.removeprefix("@").partition(";filename=")
        if value.startswith("@"):
            form.add_field(name, (ROOT / path).read_bytes(), filename=filename or Path(path).name)
        else:
            form.add_field(name, value)
    return form


async def test_the_first_form_of_the_readme_arrives(tmp_path: Path) -> None:
    """The README's curl, sent to a fresh `mailroom up`, is answered as shown, and its mail is in the mailbox."""
    text = (ROOT / "README.md").read_text()
    shown_command = re.search(r"^curl -F(?:.*\\\n)+.*$", text, re.MULTILINE)
    shown_answer = re.search(r"```json\n(.*)\n```", text)
    assert shown_command is not None
    assert shown_answer is not None
    curl = shlex.split(shown_command[0].replace("\\\n", " "))
    listen, pages = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    with running(tmp_path, {"MAILROOM_LISTEN": listen, "MAILROOM_ADMIN_LISTEN": pages}, "up") as up:
        password = first_password(await up.prints("Ctrl-C ends it."))
        url = curl[-1].replace(Settings().listen, listen)
        async with aiohttp.ClientSession() as session, session.post(url, data=_form_of(curl)) as posted:
            answer = await posted.json()
        (letter,) = await letters_of_up(pages, await signed_in(pages, password))
        await up.stop()

    assert answer == json.loads(shown_answer[1]) | {"interactionId": answer["interactionId"]}
    assert letter["subject"] == "A question"
    assert f"http://{Settings().admin_listen}/mailbox/" in text
