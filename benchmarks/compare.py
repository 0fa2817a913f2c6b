"""`python -m benchmarks compare`: the same work through Mailroom and through what people would build, side by side.

Each round takes every stack through the same story (benchmarks/story.py) on the same ground. The medians of the rounds are
held against what is claimed (benchmarks/figures.py), and the exit code is 1 when anything does not hold.
"""

import argparse
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import ours, stacks
from benchmarks.cases import CASES
from benchmarks.figures import Holds, Verdict, medians, table, verdict_lines, verdicts
from benchmarks.ground import ground, machine
from benchmarks.latency import NotDelivered
from benchmarks.load import BadLoad
from benchmarks.stacks import Places, Postfix, Stack, StackFailed
from benchmarks.story import NotTheSame, Run, measure


@dataclass(frozen=True, slots=True)
class Entry:
    """A stack that can be measured."""

    title: str
    make: Callable[[Places], Stack | Postfix]
    #: Whether what it takes in without delivery is delivered later by the same processes' successors.
    drains: bool = True


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    rounds: int
    seconds: float
    stacks: tuple[str, ...]
    cases: tuple[str, ...]
    gateways: int
    workers: int
    path: Path


def entries(options: Options) -> dict[str, Entry]:
    """Every stack, by the name it is asked for."""
    processes = (options.gateways, options.workers)
    return {
        "mailroom": Entry("Mailroom", lambda places: ours.Mailroom(places, *processes)),
        "embedded": Entry("Mailroom up", ours.Embedded, drains=False),
        "bare": Entry("bare program", lambda places: ours.Bare(places, *processes)),
        "flask": Entry("Flask, Celery", stacks.FlaskCelery),
        "fastapi": Entry("FastAPI, aio-pika", stacks.FastApiAioPika),
        "express": Entry("Express, nodemailer", stacks.ExpressNodemailer),
        "postfix": Entry("Postfix", Postfix),
    }


def rounds(options: Options) -> Iterator[dict[str, dict[str, dict[str, float]]]]:
    """The figures of each round, by stack and case; every other round goes through the stacks backwards."""
    known, cases = entries(options), [CASES[name] for name in options.cases]
    with ground() as under:
        for number in range(options.rounds):
            found: dict[str, dict[str, dict[str, float]]] = {}
            for name in options.stacks[:: -1 if number % 2 else 1]:
                begun = time.monotonic()
                with under.places() as places:
                    run = Run(under, places, known[name].make(places), options.seconds)
                    try:
                        # A steady rate says the same in every round, and takes longer than everything else with a clock.
                        measure(run, cases, drains=known[name].drains, steady=number == 0)
                    except (BadLoad, NotDelivered, NotTheSame) as error:
                        raise NotTheSame(f"{known[name].title}: {error}{places.last_words()}") from error
                found[name] = run.figures
                print(f"round {number + 1}: {known[name].title} took {time.monotonic() - begun:.0f} s", flush=True)
            yield found


def show(found: dict[str, dict[str, dict[str, float]]], options: Options) -> list[Verdict]:
    """Print the tables and what became of the claims."""
    titles = {name: entry.title for name, entry in entries(options).items()}
    for name in options.cases:
        print(f"\n{CASES[name].title}, {CASES[name].connections} connections")
        print("\n".join(table(found, name, titles)))
    came_to = verdicts(found)
    print("\nwhat is claimed")
    print("\n".join(verdict_lines(came_to)))
    return came_to


def asked(arguments: list[str]) -> Options:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks compare", description="Mailroom beside its peers.")
    known = tuple(entries(Options(1, 1, (), (), 1, 1, Path())))

    def some(of: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
        def chosen(text: str) -> tuple[str, ...]:
            names = tuple(text.split(","))
            if unknown := set(names) - set(of):
                raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose among {', '.join(of)}")
            return names

        return chosen

    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each window of load")
    parser.add_argument("--stacks", type=some(known), default=known, help=",".join(known))
    parser.add_argument("--cases", type=some(tuple(CASES)), default=tuple(CASES), help=",".join(CASES))
    parser.add_argument(
        "--gateways", type=int, default=ours.GATEWAYS, help="processes of Mailroom and the bare program"
    )
    parser.add_argument("--workers", type=int, default=ours.WORKERS, help="the same, for delivery")
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks.json"), dest="path")
    return Options(**vars(parser.parse_args(arguments)))


def main(arguments: list[str]) -> int:
    """Measure, print, and keep every figure; 1 when a claim does not hold or a stack did not do its work."""
    options = asked(arguments)
    if shutil.which("wrk") is None:
        sys.stderr.write("make bench needs wrk: as root, apt-get install wrk\n")
        return 1
    # Told to end it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("the run was ended"))
    measured: list[dict[str, dict[str, dict[str, float]]]] = []
    try:
        measured.extend(rounds(options))
    except (NotTheSame, StackFailed) as error:
        sys.stderr.write(f"the run is broken: {error}\n")
        return 1
    found = medians(measured)
    came_to = show(found, options)
    options.path.parent.mkdir(parents=True, exist_ok=True)
    kept = {
        "machine": machine(),
        "options": asdict(options) | {"path": str(options.path)},
        "titles": {name: entry.title for name, entry in entries(options).items()},
        "cases": {name: CASES[name].title for name in options.cases},
        "medians": found,
        "claims": [asdict(one) | {"holds": one.holds} for one in came_to],
        "rounds": measured,
    }
    options.path.write_text(json.dumps(kept, indent=1) + "\n")
    print(f"\nevery figure of every round: {options.path}")
    return 1 if any(one.holds is Holds.NO for one in came_to) else 0
