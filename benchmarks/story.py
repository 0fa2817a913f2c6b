"""The story that every stack is taken through in a round, and what each part of it costs.

After a warm-up: intake with nobody delivering, the drain of that backlog, both at once, then single submissions and a
steady rate with a clock at both ends. Everything accepted must have arrived, once.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from benchmarks.cases import CASES, Case
from benchmarks.ground import Ground
from benchmarks.latency import one_at_a_time, serving, steadily
from benchmarks.load import Load, load
from benchmarks.stacks import Places, Postfix, Stack
from benchmarks.trees import cpu_seconds, forget_peaks, peak_megabytes
from tests.services import Sink

#: Seconds that a backlog may take to arrive, and how long to look for mails that came once too often.
DRAIN_SECONDS, AFTERWARDS_SECONDS = 90.0, 0.3

#: Seconds between two looks at what has arrived.
LOOK = 0.01

#: Seconds of single submissions, and of a steady rate.
ALONE_SECONDS, STEADY_SECONDS = 1.0, 2.5

#: What a stack takes in, and delivers, before anything is measured: one that compiles while it runs (V8) takes in a quarter
#: more, and takes in and delivers a third more, when it has for a while; the first case would be measured without that.
WARM_UP = CASES["urlencoded"]


class NotTheSame(Exception):
    """What was delivered is not what was accepted."""


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
        return load(self.stack.url(), case, self.seconds * case.window)

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


def measure(run: Run, cases: list[Case], *, drains: bool, steady: bool) -> None:
    """The whole story; its processes serve all cases. Without `drains` what was taken in alone is never delivered."""
    try:
        run.stack.start_intake()
        waiting = run.bring(WARM_UP).accepted
        for case in cases:
            before = run.ground.sink.count()
            waiting += intake(run, case)
            if drains:
                drain(run, case, before, waiting)
                run.stack.stop_delivery()
                waiting = 0
        run.stack.start_delivery()
        warm_up(run)
        for case in cases:
            end_to_end(run, case)
        run.stack.stop_delivery()
        if not isinstance(run.stack, Postfix):
            run.ground.sink.stop()
            asyncio.run(latencies(run, run.stack, cases, steady=steady))
    finally:
        run.stack.stop_delivery()
        run.stack.stop_intake()


def warm_up(run: Run) -> None:
    """Take in and deliver for a while what nobody measures."""
    base = run.ground.sink.count()
    Arrivals(run.ground.sink).wait(base + run.bring(WARM_UP).accepted, WARM_UP)


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
    run.note_costs(case, "end_to_end", before, came.accepted)
    run.note(
        case,
        {
            "end_to_end": came.accepted / (arrived.changed - came.begun),
            "end_to_end_accepted": came.per_second,
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


async def latencies(run: Run, stack: Stack, cases: list[Case], *, steady: bool) -> None:
    """Single submissions, and a steady rate, with our own SMTP server in the sink's place."""
    async with serving(run.places.smtp_port) as mails:
        await asyncio.to_thread(stack.start_delivery)
        url, number = stack.url(), 1
        for case in cases:
            # The first few make connections.
            for name, measured, seconds in (
                ("", one_at_a_time, 0.2),
                ("alone", one_at_a_time, ALONE_SECONDS),
                ("steady", steadily, STEADY_SECONDS if steady else 0.0),
            ):
                if not seconds:
                    continue
                times = await measured(url, case, mails, seconds, number)
                number += len(times.accept)
                if name:
                    run.note(case, times.figures(name))
        await asyncio.to_thread(stack.stop_delivery)


def _pause(seconds: float) -> None:
    time.sleep(seconds)  # noqa: TID251 - there is no event loop here
