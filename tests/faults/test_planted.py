"""The bugs that `make faults ARGS=planted` plants can still be planted: the source reads as they expect."""

import ast
from pathlib import Path

import pytest

from tests.faults.checker import Verdict
from tests.faults.planted import BUGS, Bug
from tests.processes import ROOT


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_each_bug_can_be_planted(bug: Bug, tmp_path: Path) -> None:
    """What it changes is there, and what comes of it is Python."""
    planted = (bug.planted(tmp_path) / bug.file).read_text()

    assert planted != (ROOT / bug.file).read_text()
    ast.parse(planted)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_each_bug_shows_in_a_finding(bug: Bug) -> None:
    """It is caught by what breaks the verdict, and by nothing else."""
    verdict = Verdict()
    assert verdict.holds
    assert not bug.is_caught(verdict)
    getattr(verdict, bug.shows).append("something")

    assert bug.is_caught(verdict)
    assert not verdict.holds
