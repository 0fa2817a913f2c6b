"""The example file is the manual of the settings, so it must be complete and true."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mailroom.settings import Settings
from mailroom.settings_file import (
    ANY_SERVICE,
    EMAIL,
    ENFORCEMENT,
    INTEGRATION,
    LIMITS,
    RETRY,
    SCANNER,
    SMTP,
    THRESHOLDS,
    TOP_LEVEL,
    Key,
    load_settings,
)

EXAMPLE = Path(__file__).parents[2] / "mailroom.example.toml"
#: A key or a table behind a comment sign; sentences have no ` = ` after their first word.
COMMENTED = re.compile(r"^# (\w+ = |\[[\w.]+\])")


def _keys_shown(keys: Mapping[str, Key]) -> set[str]:
    return set(keys) | {f"{name}_file" for name, key in keys.items() if key.secret}


@pytest.fixture
def shown() -> dict[str, set[str]]:
    """The keys that the example shows, commented out or not, by their table."""
    tables: dict[str, set[str]] = {"": set()}
    table = ""
    for line in EXAMPLE.read_text().splitlines():
        text = line.removeprefix("# ") if COMMENTED.match(line) else line
        if match := re.match(r"\[([\w.]+)\]", text):
            table = match[1]
            tables[table] = set()
        elif match := re.match(r"(\w+) = ", text):
            tables[table].add(match[1])
    return tables


@pytest.mark.parametrize(
    ("table", "keys"),
    [
        ("", TOP_LEVEL),
        ("email", {**EMAIL, **ANY_SERVICE}),
        ("integrations.main", INTEGRATION),
        ("smtp", SMTP),
        ("enforcement", ENFORCEMENT),
        ("retry", RETRY),
        ("thresholds", THRESHOLDS),
        ("limits", LIMITS),
        ("scanner", SCANNER),
    ],
)
def test_every_setting_is_in_the_example(shown: dict[str, set[str]], table: str, keys: Mapping[str, Key]) -> None:
    """A setting that the example file does not show does not exist for its readers, and no other is shown."""
    assert shown[table] == _keys_shown(keys)


def test_the_example_shows_the_defaults() -> None:
    """The example file loads as it is, and changes nothing."""
    assert load_settings({"MAILROOM_CONFIG": str(EXAMPLE)}) == Settings()


def test_what_the_example_has_in_comments_loads(tmp_path: Path) -> None:
    """The example's commented tables can be used as they stand."""
    secrets = tmp_path / "smtp"
    secrets.write_text("secret")
    wanted = re.split(r"^(?=# \[)|\n\n", EXAMPLE.read_text(), flags=re.MULTILINE)
    tables = [part for part in wanted if part.startswith("# [")]
    text = "\n".join(line[2:] for part in tables for line in part.splitlines() if COMMENTED.match(line))
    one_password = text.replace('password = "better in a file"', "").replace("/run/secrets/smtp", str(secrets))
    config = tmp_path / "mailroom.toml"
    config.write_text(one_password)
    settings = load_settings({"MAILROOM_CONFIG": str(config)})

    assert settings.integrations["main"].password == "secret"
    assert settings.services["billing"].mailbox == "billing@company.com"


def test_every_field_can_be_set() -> None:
    """No field of the settings is out of reach of the file."""
    tables: dict[str, Any] = tomllib.loads(EXAMPLE.read_text())
    reachable = {key.field for key in TOP_LEVEL.values()} | set(tables) | {"any_service", "services", "integrations"}

    # Where options come from is no setting: reading the file fills it.
    assert set(Settings.__dataclass_fields__) - {"origins"} == reachable
