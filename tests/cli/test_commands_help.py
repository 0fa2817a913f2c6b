"""The command line itself: help, versions, mistakes."""

import re
from pathlib import Path

import pytest

from cli.__main__ import app
from tests.processes import run_mailroom

COMMANDS = {
    "up",
    "gateway",
    "worker",
    "migrate",
    "mailbox",
    "explain",
    "figures",
    "forms",
    "audit",
    "integrations",
    "messages",
    "dead-letters",
    "keys",
    "clients",
    "users",
}
OPERATORS = [
    "integrations list", "integrations show", "integrations test", "integrations reset", "integrations disable",
    "integrations create", "integrations set", "integrations delete",
    "messages list", "messages show", "messages redrive", "messages copy", "messages dismiss", "keys reseal",
    "dead-letters list", "dead-letters show", "dead-letters redrive", "dead-letters redrives", "dead-letters stop",
    "dead-letters dismiss", "dead-letters export",
    "clients add", "clients list", "clients disable", "users add", "users list", "users disable",
]  # fmt: skip
PROCESSES = ["up", "gateway", "worker", "migrate", "mailbox"]


def typed(capsys: pytest.CaptureFixture[str], line: str) -> tuple[object, str, str]:
    """What a command line that leads to no command comes to in this process: its exit code, what it printed and said.

    A process of its own for each of them would take longer to import everything than all of them together.
    """
    with pytest.raises(SystemExit) as left:
        app(line.split())
    printed, said = capsys.readouterr()
    return left.value.code, printed, said


def test_help_lists_the_commands(tmp_path: Path) -> None:
    """`mailroom --help` lists every command with what it does, and no other."""
    ended = run_mailroom(tmp_path, {}, "--help")

    listed = dict(re.findall(r"^│ (\w[\w-]*)  +(\S.*\S) *│$", ended.stdout, re.MULTILINE))
    assert ended.returncode == 0
    assert set(listed) == COMMANDS, ended.stdout


@pytest.mark.parametrize(
    "command", [*PROCESSES, "integrations", "messages", "dead-letters", "forms", "keys", *OPERATORS]
)
def test_every_command_has_help(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--help` of every command explains it and needs no settings; every operator's command can print JSON."""
    monkeypatch.setenv("MAILROOM_LISTEN", "nonsense")
    code, printed, said = typed(capsys, f"{command} --help")

    assert code == 0
    assert f"mailroom {command}" in printed
    assert said == ""
    assert command not in OPERATORS or "--json" in printed


@pytest.mark.parametrize(
    "mistake", ["nonsense", "up --nonsense", "integrations show", "messages list --limit 0", "gateway --processes 0"]
)
def test_a_mistake_exits_with_two(mistake: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not understood exits with 2, says why, and does nothing."""
    code, printed, said = typed(capsys, mistake)

    assert (code, printed) == (2, "")
    assert said
    assert "Traceback" not in said


@pytest.mark.parametrize("command", [*PROCESSES, "integrations list", "messages redrive some-id"])
def test_bad_settings_are_told_by_every_command(tmp_path: Path, command: str) -> None:
    """Settings that cannot be used end every command with 1 and all of their problems."""
    bad = {"MAILROOM_LISTEN": "nonsense", "MAILROOM_QUEUE_URL": "carrier-pigeon:"}
    ended = run_mailroom(tmp_path, bad, *command.split())

    assert ended.returncode == 1
    assert "MAILROOM_LISTEN" in ended.stderr
    assert "MAILROOM_QUEUE_URL" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", ["gateway", "gateway --processes 2", "worker", "migrate"])
def test_a_deployment_needs_a_shared_database(tmp_path: Path, command: str) -> None:
    """The processes of a deployment refuse SQLite and say what to set."""
    ended = run_mailroom(tmp_path, {}, *command.split())

    assert ended.returncode == 1
    assert "MAILROOM_DATABASE_URL" in ended.stderr
    assert "postgresql://" in ended.stderr
    assert not (tmp_path / "var").exists()


def test_a_database_out_of_reach_is_told(tmp_path: Path) -> None:
    """A database out of reach is told in one sentence that names the setting."""
    away = {
        "MAILROOM_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
        "MAILROOM_QUEUE_URL": "amqp://127.0.0.1:1/",
    }
    ended = run_mailroom(tmp_path, away, "messages", "list")

    assert (ended.returncode, ended.stdout) == (1, "")
    assert "cannot be reached" in ended.stderr
    assert "MAILROOM_DATABASE_URL" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
