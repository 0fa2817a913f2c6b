"""Load by wrk: a window of it, what was accepted meanwhile, and how long an answer took."""

import math
import os
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cases import Case

#: Seconds before the window in which connections are made and processes get going.
WARM = 0.5

#: Submissions after which a window ends early: a larger backlog would say the same of its drain, and take longer.
MOST = 8000

_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class BadLoad(Exception):
    """Not every submission was accepted; the text says what came instead."""


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a load."""

    #: All that was accepted, and how many of those per second in the window.
    accepted: int
    per_second: float
    #: `time.monotonic()` when it began.
    begun: float
    #: Milliseconds that half of the answers and all but one in a hundred took; none where nobody looked.
    latency: tuple[float, float] | None = None


def load(url: str, case: Case, seconds: float) -> Load:
    """Submit as fast as answers come, for so many seconds, or until there is enough."""
    script = Path(__file__).with_name("load.lua")
    whole = math.ceil(WARM + seconds + case.grace)
    command = ["wrk", "-t1", f"-c{case.connections}", f"-d{whole}s", "--latency", "--timeout", "30s", "-s", str(script)]
    with tempfile.NamedTemporaryFile() as body, tempfile.TemporaryFile("w+") as printed:
        body.write(case.body)
        body.flush()
        told = {
            "BODY": body.name,
            "CONTENT_TYPE": case.content_type,
            "WARM": str(WARM),
            "WINDOW": str(seconds),
            "MOST": str(MOST),
        }
        begun = time.monotonic()
        subprocess.run([*command, url], check=True, stdout=printed, env={"PATH": os.defpath} | told)
        printed.seek(0)
        return read_load(printed.read(), begun)


def read_load(printed: str, begun: float) -> Load:
    """What wrk printed, as numbers; raises BadLoad when not everything was accepted."""
    counted = dict(re.findall(r"^(accepted|inside|lasted) ([\d.]+)", printed, re.MULTILINE))
    refused = re.search(r"^refused ([1-9]\d* .*)", printed, re.MULTILINE)
    errors = re.search(r"Socket errors: (.*)", printed)
    if refused or errors or not int(counted.get("accepted", "0")):
        said = refused[1] if refused else errors[1] if errors else "nothing was accepted"
        raise BadLoad(f"not every submission was accepted: {said}")
    if "lasted" not in counted:
        raise BadLoad(
            "no answer came between the end of the window and the end of the load, so some may still be missing"
        )
    return Load(
        accepted=int(counted["accepted"]),
        per_second=int(counted["inside"]) / float(counted["lasted"]),
        begun=begun,
        latency=(_percentile(printed, "50"), _percentile(printed, "99")),
    )


def _percentile(printed: str, which: str) -> float:
    found = re.search(rf"^\s*{which}%\s+([\d.]+)(us|ms|s|m)\s*$", printed, re.MULTILINE)
    if found is None:
        raise BadLoad("wrk told no latencies")
    return float(found[1]) * _MILLISECONDS[found[2]]
