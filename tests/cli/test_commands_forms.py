"""What an operator can ask for about form services."""

from pathlib import Path
from typing import Any

import pytest

from cli.up import with_examples
from mailroom.operating.forms import UnknownService
from mailroom.operating.operations import perform
from mailroom.operating.operator import Operator
from mailroom.queue.memory import MemoryQueue
from mailroom.settings import Settings
from mailroom.settings_file import load_settings
from mailroom.store.port import Store
from mailroom.store.sqlite import SqliteStore
from tests.builders import created
from tests.processes import run_mailroom

TOML = """
[email]
max_files = 3
any_service = true
[email.billing]
mailbox = "billing@company.test"
api_keys = ["canary", "another canary"]
integration = "missing"
rate_limit = false
[email.support]
file_types = "pdf"
"""


def loaded(folder: Path, toml: str = TOML) -> Settings:
    """The settings of this file."""
    (folder / "mailroom.toml").write_text(toml)
    return load_settings({"MAILROOM_CONFIG": str(folder / "mailroom.toml")})


@pytest.fixture
async def office(store: SqliteStore) -> Store:
    """A store with one integration, which has a mailbox."""
    await created(store, default_mailbox="all@company.test")
    return store


def operator_of(store: Store, settings: Settings) -> Operator:
    """Somebody who asks a process with these settings."""
    return Operator(store=store, queue=MemoryQueue(), who="cli tester", settings=settings)


def options_of(found: Any) -> dict[str, tuple[object, str]]:
    """Value and origin of each option."""
    return {one["option"]: (one["value"], one["origin"]) for one in found["options"]}


async def test_services_are_listed_with_their_state(office: Store, tmp_path: Path) -> None:
    """Each named service and `*` for any other, its mailbox wherever that comes from, its integration's state."""
    found = await perform(operator_of(office, loaded(tmp_path)), "forms.list", {})

    assert [(one["service"], one["mailbox"], one["reported_state"], one["api_keys"]) for one in found] == [
        ("billing", "billing@company.test", None, 2),
        ("support", "all@company.test", "ACTIVATING", 0),
        ("*", "all@company.test", "ACTIVATING", 0),
    ]


async def test_every_option_is_shown_with_its_origin(office: Store, tmp_path: Path) -> None:
    """The effective value and the table it comes from; keys are counted and never told."""
    operator = operator_of(office, loaded(tmp_path))
    billing = await perform(operator, "forms.show", {"name": "billing"})
    support = options_of(await perform(operator, "forms.show", {"name": "support"}))
    other = await perform(operator, "forms.show", {"name": "other"})

    told = options_of(billing)
    assert told["mailbox"] == ("billing@company.test", "[email.billing]")
    assert told["api_keys"] == (2, "[email.billing]")
    assert told["rate_limit"] == (False, "[email.billing]")
    assert told["max_files"] == (3, "[email]")
    assert told["acknowledge"] == ("accepted", "default")
    assert support["mailbox"] == ("all@company.test", "integration main")
    assert support["rate_limit"] == ("60/minute", "default")
    assert support["file_types"] == (["pdf"], "[email.support]")
    assert (billing["named"], other["named"]) == (True, False)
    assert "canary" not in str(billing)
    assert billing["options"][3]["file"] == str(tmp_path / "mailroom.toml")


async def test_examples_say_so(office: Store, tmp_path: Path) -> None:
    """What `mailroom up` has without configuration is told as such."""
    settings = with_examples(loaded(tmp_path, "[email]\nmax_files = 2\n"), 2525)
    shown = options_of(await perform(operator_of(office, settings), "forms.show", {"name": "support"}))

    assert shown["mailbox"] == ("support@example.test", "an example of mailroom up")
    assert shown["max_files"] == (2, "[email]")


async def test_an_unknown_service_is_refused(office: Store, tmp_path: Path) -> None:
    """What there is instead is named."""
    operator = operator_of(office, loaded(tmp_path, "[email.support]\n"))
    with pytest.raises(UnknownService, match="there is no service 'x'; there are: support"):
        await perform(operator, "forms.show", {"name": "x"})


async def test_a_form_is_printed(office: Store, tmp_path: Path) -> None:
    """The form posts to the endpoint as given, and the script comes with it."""
    asked = {"name": "support", "endpoint": "https://mail.company.test/genesys/2/email/support"}
    found = await perform(operator_of(office, loaded(tmp_path)), "forms.html", asked)

    assert 'action="https://mail.company.test/genesys/2/email/support"' in found["html"]
    assert "form.mailroom" in found["script"]


async def test_the_commands_print_it(tmp_path: Path, sqlite_file: Path) -> None:
    """Tables for people, from the settings that the command itself finds."""
    loaded(tmp_path)
    variables = {"MAILROOM_DATABASE_URL": f"sqlite:///{sqlite_file}", "MAILROOM_DATA_DIR": str(tmp_path)}
    listed = run_mailroom(tmp_path, variables, "forms", "list")
    shown = run_mailroom(tmp_path, variables, "forms", "show", "billing")
    html = run_mailroom(tmp_path, variables, "forms", "html", "billing", "--endpoint", "https://a.test/x")
    script = run_mailroom(tmp_path, variables, "forms", "html", "billing", "--endpoint", "https://a.test/x", "--script")

    assert [one.returncode for one in (listed, shown, html, script)] == [0, 0, 0, 0], listed.stderr + shown.stderr
    assert "billing@company.test" in listed.stdout
    assert "[email.billing]" in shown.stdout
    assert "canary" not in shown.stdout
    assert html.stdout.startswith("<form ")
    assert "addEventListener" in script.stdout
