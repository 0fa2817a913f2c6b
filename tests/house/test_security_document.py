"""SECURITY.md and the tests agree, and what is installed is free of the vulnerabilities we know of (SEC-17)."""

import json
import re
import tomllib
from collections import Counter
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.audit import Audit, code_of, judged, told

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "SECURITY.md"
FLOORS: dict[str, dict[str, Any]] = tomllib.loads((ROOT / "tests/house/floors.toml").read_text())
LOCKS = ("requirements.lock", "requirements-test.lock")

#: What a row says instead of a test when it is not there.
NOT_THERE = "not there"


def rows() -> dict[int, list[str]]:
    """The rows of the table of SECURITY.md: what is done, and what proves it."""
    found = re.findall(r"^\| SEC-(\d+) \| (.*) \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert Counter(number for number, *_ in found).most_common(1)[0][1] == 1, "a row is there twice"
    return {int(number): cells for number, *cells in found}


def proving() -> dict[int, set[str]]:
    """The tests named after a row."""
    found: dict[int, set[str]] = {}
    for file in (ROOT / "tests").rglob("test_*.py"):
        for name, number in re.findall(r"^(?:async )?def (test_sec_(\d+)_\w+)\(", file.read_text(), re.MULTILINE):
            found.setdefault(int(number), set()).add(name)
    return found


def test_every_row_of_the_security_table_has_its_tests() -> None:
    """SEC-1 to SEC-17: each row is proven by tests that bear its number, or says that it is not there; no other number."""
    missing = {number for number, (_, proof) in rows().items() if proof == NOT_THERE}

    assert sorted(rows()) == list(range(1, 18))
    assert set(proving()) == set(rows()) - missing


def test_every_test_that_the_security_table_names_exists() -> None:
    """A row names tests of its own number, and each is one that runs."""
    for number, (_, proof) in rows().items():
        named = re.findall(r"`(test_sec_\d+_\w+)`", proof)
        assert named or proof == NOT_THERE, f"SEC-{number} names no test"
        assert set(named) <= proving().get(number, set()), f"SEC-{number}"


@pytest.mark.parametrize("lock", LOCKS)
def test_sec_17_the_locks_pin_nothing_below_its_floor(lock: str) -> None:
    """Neither lock has a version with a vulnerability that we know of."""
    pinned = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", (ROOT / lock).read_text(), re.MULTILINE))

    assert [f"{name} {pinned[name]}" for name in FLOORS if name in pinned and _is_below(name, pinned[name])] == []


def test_sec_17_every_floor_is_about_something() -> None:
    """A floor under nothing that is pinned would hold nothing."""
    pinned = {
        name for lock in LOCKS for name in re.findall(r"^([a-z0-9-]+)==", (ROOT / lock).read_text(), re.MULTILINE)
    }

    assert set(FLOORS) <= pinned


def test_sec_17_what_runs_here_is_not_below_its_floor() -> None:
    """What these tests use is not below its floor; what is not installed harms nobody."""
    installed = {one.name.lower(): one.version for one in distributions()}

    assert "aiohttp" in installed
    assert [name for name in FLOORS if name in installed and _is_below(name, installed[name])] == []


def test_sec_17_nobody_can_install_the_project_on_what_is_vulnerable() -> None:
    """What the project asks for begins at the floor, for whoever installs it without the locks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {one.name.lower(): one.specifier for one in map(Requirement, project["dependencies"])}
    just_below = {name: f"{floor['version']}.dev0" for name, floor in FLOORS.items()}

    assert [name for name in FLOORS if name in asked and asked[name].contains(just_below[name], prereleases=True)] == []


def _is_below(name: str, found: str) -> bool:
    return Version(found) < Version(FLOORS[name]["version"])


def _report(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"], "description": "…"}]}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found"}


@pytest.mark.parametrize(
    ("report", "said", "audit", "codes"),
    [
        (_report(GOOD), "", Audit(looked_up=1), (0, 0)),
        (_report(GOOD, BAD), "", Audit(vulnerable=("b 2: CVE-1 (fixed in 3)",), looked_up=2), (1, 1)),
        (_report(GOOD, UNKNOWN), "", Audit(looked_up=1, unknown=("c",)), (0, 1)),
        (_report(BAD, UNKNOWN), "", Audit(("b 2: CVE-1 (fixed in 3)",), 1, ("c",)), (1, 1)),
        (_report(), "", Audit(), (0, 1)),
        ("", "Traceback\nConnectionError: no route\n", Audit(failure="ConnectionError: no route"), (0, 1)),
        ("[]", "", Audit(failure="it said nothing"), (0, 1)),
    ],
    ids=["clean", "vulnerable", "some unknown", "vulnerable and unknown", "empty", "unreachable", "another shape"],
)
def test_sec_17_an_audit_that_could_not_look_says_so(
    report: str, said: str, audit: Audit, codes: tuple[int, int]
) -> None:
    """Only what was wholly looked up is called clean; a vulnerability always fails, not knowing only where it is required."""
    found = judged(report, said)

    assert found == audit
    assert (code_of(found, required=False), code_of(found, required=True)) == codes
    assert ("NOT AUDITED" in "".join(told(found))) is (codes == (0, 1))
    assert ("no vulnerability is known" in "".join(told(found))) is (codes == (0, 0))
