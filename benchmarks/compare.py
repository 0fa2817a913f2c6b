"""`python -m benchmarks compare`: the same work through Mailroom and through what people would build, side by side.

Each round takes every stack through the same story: intake with nobody delivering, then the drain of that backlog, then
both at once, then single submissions and a steady rate with a clock at both ends. Everything accepted must have arrived,
once. The medians of the rounds are held against what is claimed (benchmarks/figures.py), and the exit code is 1 when
anything does not hold.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import ours, stacks
from benchmarks.cases import CASES, Case
from benchmarks.figures import Holds, Verdict, medians, table, verdict_lines, verdicts
from benchmarks.latency import NotDelivered, one_at_a_time, serving, steadily
from benchmarks.load import BadLoad, Load, load
from benchmarks.stacks import Places, Postfix, Stack, StackFailed
from benchmarks.trees import cpu_seconds, forget_peaks, peak_megabytes
from tests.services import Postgres, RabbitMQ, Sink

#: Seconds that a backlog may take to arrive, and how long to look for mails that came once too often.
DRAIN_SECONDS, AFTERWARDS_SECONDS = 90.0, 0.3

#: Seconds between two looks at what has arrived.
LOOK = 0.01

#: Seconds of single submissions, and of a steady rate.
ALONE_SECONDS, STEADY_SECONDS = 1.5, 3.0

#: What the broker counts, in the words of its global counters.
_PUBLISHES = "maps:get(messages_received_total, maps:get([{protocol, amqp091}], rabbit_global_counters:overview()))."

#: As a small machine that keeps its promises would have it.
_POSTGRESQL = {
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "shared_preload_libraries": "pg_stat_statements",
}


class NotTheSame(Exception):
    """What was delivered is not what was accepted."""


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


# --- what everybody stands on -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ground:
    """Database, broker and SMTP server, the same for every stack."""

    postgres: Postgres
    rabbitmq: RabbitMQ
    sink: Sink

    @contextlib.contextmanager
    def places(self) -> Iterator[Places]:
        """A database, a virtual host and a folder for one stack, gone afterwards."""
        self.postgres.run_sql("CHECKPOINT")
        self.sink.start_counting()
        with tempfile.TemporaryDirectory(prefix="mailroom-bench-") as folder:
            yield Places(
                amqp_url=self.rabbitmq.new_vhost(),
                database_url=self.postgres.new_database(),
                smtp_port=self.sink.port,
                folder=Path(folder),
            )
        self.postgres.tidy()
        self.rabbitmq.tidy()

    def roots(self) -> dict[str, list[int]]:
        """Their processes by role."""
        sink = [self.sink.pid] if self.sink.running else []
        return {"postgresql": [self.postgres.pid], "rabbitmq": [self.rabbitmq.pid], "sink": sink}

    def statements(self, database_url: str) -> float:
        """How many were run in this database since its beginning."""
        database = database_url.rpartition("/")[2]
        asked = "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements JOIN pg_database d ON d.oid = dbid"
        return float(self.postgres.run_sql(f"{asked} WHERE datname = '{database}'"))

    def publishes(self) -> float:
        """How many the broker was given since its start."""
        return float(self.rabbitmq.evaluate(_PUBLISHES))


@contextlib.contextmanager
def ground() -> Iterator[Ground]:
    """All of it, ended on leaving."""
    with contextlib.ExitStack() as endings, tempfile.TemporaryDirectory() as folder:
        # What is acknowledged is on the disk, here as in the broker: with less there would be no promise to compare.
        postgres = Postgres(fsync="on", settings=_POSTGRESQL)
        endings.callback(postgres.close)
        rabbitmq = RabbitMQ()
        endings.callback(rabbitmq.close)
        sink = Sink(Path(folder) / "sink")
        endings.callback(sink.stop)
        postgres.start()
        postgres.run_sql("CREATE EXTENSION pg_stat_statements")
        rabbitmq.start()
        yield Ground(postgres, rabbitmq, sink)


# --- one stack in one round -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reading:
    """What has been used since the beginning of everything."""

    #: Seconds by role and root process.
    cpu: Mapping[tuple[str, int], float]
    statements: float
    publishes: float


@dataclass(slots=True)
class Run:
    """A stack on its ground, and its figures by case."""

    ground: Ground
    places: Places
    stack: Stack | Postfix
    seconds: float
    figures: dict[str, dict[str, float]] = field(default_factory=dict)

    def roots(self) -> dict[str, list[int]]:
        """All processes by role."""
        return {role: pids for role, pids in (self.stack.roots() | self.ground.roots()).items() if pids}

    def bring(self, case: Case) -> Load:
        """Give it as much as it takes: forms for a while, or a number of mails."""
        if isinstance(self.stack, Postfix):
            begun = time.monotonic()
            took = self.stack.feed(case.mails, case.connections, case.mail_size)
            return Load(accepted=case.mails, per_second=case.mails / took, begun=begun)
        return load(self.stack.url(), case, self.seconds)

    def note(self, case: Case, figures: Mapping[str, float]) -> None:
        """Keep these figures."""
        self.figures.setdefault(case.name, {}).update(figures)

    def read(self) -> Reading:
        """Look at every meter."""
        return Reading(
            cpu={(role, pid): cpu_seconds([pid]) for role, pids in self.roots().items() for pid in pids},
            statements=self.ground.statements(self.places.database_url),
            publishes=self.ground.publishes(),
        )

    def note_costs(self, case: Case, phase: str, before: Reading, messages: int) -> None:
        """What each message cost in this phase: milliseconds of CPU by role, statements, publishes; and memory."""
        after, costs = self.read(), dict[str, float]()
        for (role, pid), cpu in after.cpu.items():
            # Who was not there before has spent all of it in this phase.
            spent = cpu - before.cpu.get((role, pid), 0.0)
            name = f"{phase}_cpu_{role}"
            costs[name] = costs.get(name, 0.0) + spent * 1000 / messages
        costs[f"{phase}_statements"] = (after.statements - before.statements) / messages
        costs[f"{phase}_publishes"] = (after.publishes - before.publishes) / messages
        self.note(case, costs)
        for role, pids in self.roots().items():
            name = f"memory_{role}"
            self.note(case, {name: max(peak_megabytes(pids), self.figures[case.name].get(name, 0.0))})

    def forget_peaks(self) -> None:
        """From now on memory is that of what comes."""
        for pids in self.roots().values():
            forget_peaks(pids)


def measure(run: Run, entry: Entry, cases: list[Case]) -> None:
    """The story of one stack in one round; its processes serve all cases."""
    try:
        run.stack.start_intake()
        for case in cases:
            before = run.ground.sink.count()
            accepted = intake(run, case)
            if entry.drains:
                drain(run, case, before, accepted)
                run.stack.stop_delivery()
        run.stack.start_delivery()
        for case in cases:
            end_to_end(run, case)
        run.stack.stop_delivery()
        if not isinstance(run.stack, Postfix):
            run.ground.sink.stop()
            asyncio.run(latencies(run, run.stack, cases))
    finally:
        run.stack.stop_delivery()
        run.stack.stop_intake()


def intake(run: Run, case: Case) -> int:
    """Take in as fast as it can, while nobody delivers; how many were accepted."""
    run.forget_peaks()
    before = run.read()
    came = run.bring(case)
    run.note_costs(case, "intake", before, came.accepted)
    run.note(case, {"intake": came.per_second})
    if came.latency is not None:
        run.note(case, {"accept_p50": came.latency[0], "accept_p99": came.latency[1]})
    return came.accepted


def drain(run: Run, case: Case, base: int, accepted: int) -> None:
    """Deliver the backlog, from the first mail to the last."""
    before = run.read()
    arrived = Arrivals(run.ground.sink)
    # The first may arrive before everything that delivers is there.
    with arrived.watching():
        run.stack.start_delivery()
        arrived.wait(base + accepted, case)
    run.note_costs(case, "drain", before, accepted)
    run.note(case, {"drain": arrived.rate()})
    _check_nothing_twice(run, case, base + accepted)


def end_to_end(run: Run, case: Case) -> None:
    """Take in and deliver at once, on the same cores, until the last has arrived."""
    run.forget_peaks()
    before, base = run.read(), run.ground.sink.count()
    arrived = Arrivals(run.ground.sink)
    with arrived.watching():
        came = run.bring(case)
        arrived.wait(base + came.accepted, case)
    inside = arrived.between(came.begun, came.begun + run.seconds)
    run.note_costs(case, "end_to_end", before, came.accepted)
    run.note(
        case,
        {
            "end_to_end": came.accepted / (arrived.changed - came.begun),
            "end_to_end_accepted": came.per_second,
            "end_to_end_inside": inside / run.seconds,
        },
    )
    _check_nothing_twice(run, case, base + came.accepted)


class Arrivals:
    """When how many mails had arrived."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._seen = [(time.monotonic(), sink.count())]

    @property
    def changed(self) -> float:
        """When the last one came."""
        return self._seen[-1][0]

    def look(self) -> int:
        """How many there are now."""
        count = self._sink.count()
        if count != self._seen[-1][1]:
            self._seen.append((time.monotonic(), count))
        return count

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Look again and again for as long as this lasts, whatever else is done."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(LOOK):
                self.look()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def rate(self) -> float:
        """How many came per second, from the first to the last."""
        # The first look that saw any counts them as there at the beginning; a single look has nothing to compare with.
        (begun, first), (ended, last) = self._seen[1 if len(self._seen) > 2 else 0], self._seen[-1]
        return (last - first) / (ended - begun)

    def between(self, begin: float, end: float) -> int:
        """How many came then."""
        counts = [count for moment, count in self._seen if begin <= moment <= end]
        return counts[-1] - counts[0] if counts else 0

    def wait(self, wanted: int, case: Case) -> None:
        """Return once there are so many."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while (count := self._sink.count()) < wanted:
            if time.monotonic() > deadline:
                raise NotTheSame(f"{case.title}: {wanted - count} of what was accepted did not arrive")
            _pause(LOOK)


def _check_nothing_twice(run: Run, case: Case, wanted: int) -> None:
    _pause(AFTERWARDS_SECONDS)
    if (count := run.ground.sink.count()) != wanted:
        raise NotTheSame(f"{case.title}: {wanted} were accepted since the sink's start, and {count} arrived")


async def latencies(run: Run, stack: Stack, cases: list[Case]) -> None:
    """Single submissions, and a steady rate, with our own SMTP server in the sink's place."""
    async with serving(run.places.smtp_port) as mails:
        await asyncio.to_thread(stack.start_delivery)
        url, number = stack.url(), 1
        for case in cases:
            # The first few make connections.
            for name, measured, seconds in (
                ("", one_at_a_time, 0.2),
                ("alone", one_at_a_time, ALONE_SECONDS),
                ("steady", steadily, STEADY_SECONDS),
            ):
                times = await measured(url, case, mails, seconds, number)
                number += len(times.accept)
                if name:
                    run.note(case, times.figures(name))
        await asyncio.to_thread(stack.stop_delivery)


def _pause(seconds: float) -> None:
    time.sleep(seconds)  # noqa: TID251 - there is no event loop here


# --- the whole --------------------------------------------------------------------------------------------------------


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
                        measure(run, known[name], cases)
                    except (BadLoad, NotDelivered, NotTheSame) as error:
                        raise NotTheSame(f"{known[name].title}: {error}") from error
                found[name] = run.figures
                print(f"round {number + 1}: {known[name].title} took {time.monotonic() - begun:.0f} s", flush=True)
            yield found


def machine() -> dict[str, Any]:
    """What it was measured on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    asked = {
        "commit": ["git", "rev-parse", "HEAD"],
        "rabbitmq": ["dpkg-query", "--show", "--showformat=${Version}", "rabbitmq-server"],
        "postgresql": ["psql", "--version"],
        "postfix": ["dpkg-query", "--show", "--showformat=${Version}", "postfix"],
        "wrk": ["dpkg-query", "--show", "--showformat=${Version}", "wrk"],
        "node": ["node", "--version"],
    }
    return {
        "cores": os.cpu_count(),
        "processor": model[1] if model else platform.machine(),
        "memory_mb": int(memory[1]) // 1024 if memory else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: _told(command) for name, command in asked.items()},
    }


def _told(command: list[str]) -> str | None:
    """The first line a program prints; none where there is no such program."""
    if shutil.which(command[0]) is None:
        return None
    printed = subprocess.run(command, check=False, capture_output=True, text=True).stdout.splitlines()
    return printed[0] if printed else None


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
    parser.add_argument("--seconds", type=float, default=3.0, help="of each window of load")
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
