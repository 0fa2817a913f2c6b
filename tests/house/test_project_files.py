"""What a fresh clone relies on: lock files that any index can serve, and a Makefile that explains itself."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = [ROOT / "requirements.lock", ROOT / "requirements-test.lock"]
PEERS = ROOT / "benchmarks" / "peers"
ALL_LOCKS = [*LOCKS, PEERS / "requirements.txt"]


@pytest.mark.parametrize("lock", ALL_LOCKS, ids=lambda lock: lock.name)
def test_locks_hold_no_address(lock: Path) -> None:
    """A lock names versions and hashes and no place to fetch them from, so that any index can serve it."""
    text = lock.read_text()

    assert "://" not in text
    assert not re.search(r"^\s*(-|file:|/)(?!-hash)", text, re.MULTILINE)


@pytest.mark.parametrize("lock", ALL_LOCKS, ids=lambda lock: lock.name)
def test_locks_pin_everything_by_hash(lock: Path) -> None:
    """Every line of a lock is a pinned version or one of its hashes."""
    lines = [line for line in lock.read_text().splitlines() if line.strip() and not line.startswith("#")]

    assert all(re.match(r"[a-z0-9-]+==\S+ .*\\$|    --hash=sha256:[0-9a-f]{64}( \\)?$", line) for line in lines)


def test_the_lock_of_node_holds_no_address() -> None:
    """As the others: versions and hashes, and no place to fetch them from."""
    lock = json.loads((PEERS / "express" / "package-lock.json").read_text())
    packages = [about for path, about in lock["packages"].items() if path]

    assert packages
    assert not [about for about in packages if "resolved" in about or "integrity" not in about]


def test_locks_cover_the_project() -> None:
    """Whatever the project asks for is in its lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    build, runtime = project["build-system"]["requires"], project["project"]["dependencies"]
    tests = project["project"]["optional-dependencies"]["test"]
    pinned = [set(re.findall(r"^([a-z0-9-]+)==", lock.read_text(), re.MULTILINE)) for lock in LOCKS]

    assert {_name(requirement) for requirement in build + runtime} <= pinned[0]
    assert {_name(requirement) for requirement in runtime + tests} <= pinned[1]


def _name(requirement: str) -> str:
    """The distribution's name as locks spell it."""
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-")


def test_the_locks_agree() -> None:
    """What both locks pin, they pin at the same version."""
    runtime, tests = (dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock.read_text(), re.MULTILINE)) for lock in LOCKS)

    assert {name: tests[name] for name in runtime.keys() & tests.keys()} == {
        name: runtime[name] for name in runtime.keys() & tests.keys()
    }


def test_make_help_lists_every_target() -> None:
    """`make` alone lists every target with what it does."""
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets is not None
    command = ["make", "--no-print-directory", "-C", str(ROOT)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert set(re.findall(r"^make (\S+) +\S", answer, re.MULTILINE)) == set(targets[1].split())
