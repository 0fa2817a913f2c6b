"""Asks which known vulnerabilities are in what the locks pin (SEC-17), and says so loudly when nobody could tell.

`make check` runs it. It fails for a vulnerability. Where the service that knows them cannot be asked, which is so wherever
only the registries of packages can be reached, it prints what was not looked up and passes: `tests/house/floors.toml`
holds there what we know ourselves. `--required` fails then too; whoever releases uses that.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-test.lock")

#: Seconds for each question, and for all of them.
ONE_SECONDS = 10
ALL_SECONDS = 180


@dataclass(frozen=True, slots=True)
class Audit:
    """What came of it: `name version: id (fixed in …)` of each vulnerability, what was looked up, and what was not."""

    vulnerable: tuple[str, ...] = ()
    looked_up: int = 0
    unknown: tuple[str, ...] = ()
    #: Why there is no answer at all.
    failure: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every package was looked up."""
        return self.failure is None and not self.unknown and self.looked_up > 0


def judged(report: str, said: str) -> Audit:
    """What a report of pip-audit means; one that is none was never made, for a reason that stands last in what it said."""
    try:
        packages: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        lines = said.strip().splitlines() or ["it said nothing"]
        return Audit(failure=lines[-1])
    asked = [one for one in packages if "skip_reason" not in one]
    return Audit(
        vulnerable=tuple(
            f"{one['name']} {one['version']}: {found['id']} (fixed in {', '.join(found['fix_versions']) or 'no version'})"
            for one in asked
            for found in one["vulns"]
        ),
        looked_up=len(asked),
        unknown=tuple(one["name"] for one in packages if "skip_reason" in one),
    )


def told(audit: Audit) -> list[str]:
    """What people read of it."""
    if audit.vulnerable:
        return ["VULNERABLE: what the locks pin has known vulnerabilities", *(f"  {one}" for one in audit.vulnerable)]
    if audit.is_whole:
        return [f"pip-audit: {audit.looked_up} packages looked up, no vulnerability is known"]
    why = audit.failure or f"the service knows nothing of {len(audit.unknown)} of {_number_of(audit)} packages"
    return [
        "#" * 100,
        "# NOT AUDITED: whether what the locks pin has known vulnerabilities could not be found out here:",
        f"# {why}",
        "# This check passes all the same: tests/house/floors.toml holds what is known to us. Before a release:",
        "#   make check AUDIT=--required",
        "#" * 100,
    ]


def _number_of(audit: Audit) -> int:
    return audit.looked_up + len(audit.unknown)


def code_of(audit: Audit, *, required: bool) -> int:
    """How the check ends."""
    return int(bool(audit.vulnerable) or (required and not audit.is_whole))


def asked(locks: Sequence[str] = LOCKS) -> Audit:
    """Ask about each lock."""
    command = [
        sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner",
        "off", "--timeout", str(ONE_SECONDS), *(part for lock in locks for part in ("--requirement", str(ROOT / lock))),
    ]  # fmt: skip
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=ALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Audit(failure=f"nothing was answered in {ALL_SECONDS} seconds")
    return judged(ended.stdout, ended.stderr)


def main(arguments: Sequence[str]) -> int:
    """Ask, tell, end."""
    audit = asked()
    sys.stderr.write("\n".join(told(audit)) + "\n")
    return code_of(audit, required="--required" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
