"""`python -m tests.faults`: the long fault runs. Each prints its table, and ends with 1 when a promise was broken."""

import argparse
import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.faults import cluster, embedded, faults, planted
from tests.faults.campaign import AnySystem, Campaign, carry_out, kept
from tests.faults.checker import Verdict, table
from tests.faults.faults import Fault
from tests.faults.system import a_small_disk, a_system
from tests.processes import ROOT
from tests.services import Postgres, RabbitMQ


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "what", nargs="*", default=[*RUNS], help=f"what is troubled: {', '.join(RUNS)}, or planted bugs"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="at least, of the system; the others have a fifth")
    parser.add_argument("--per-second", type=float, default=30.0, help="submissions")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the faults")
    parser.add_argument("--only", default="", help="faults, or planted bugs, whose name contains this")
    given = parser.parse_args()
    if unknown := set(given.what) - {*RUNS, "planted"}:
        parser.error(f"{', '.join(sorted(unknown))} cannot be troubled; {', '.join(RUNS)} and planted can")
    return max([asyncio.run(_run(what, given)) for what in given.what])


async def _run(what: str, given: argparse.Namespace) -> int:
    folder = Path(tempfile.mkdtemp(prefix="mailroom-faults-"))
    if what == "planted":
        return await plant_bugs(given, folder)
    verdict = await RUNS[what](given, folder)
    sys.stdout.write(f"\n{what}\n{table(verdict)}\n(events and verdict: {kept(folder, verdict).parent})\n")
    return 0 if verdict.holds else 1


async def trouble_system(given: argparse.Namespace, folder: Path) -> Verdict:
    """The deployment on RabbitMQ and PostgreSQL."""
    with a_small_disk(900) as disk, _services(disk) as (postgres, rabbitmq):
        async with a_system(folder, postgres, rabbitmq, small_disk=disk, jumping_clocks=True) as system:
            return await carry_out(_campaign(faults.EVERY, given, share=1.0), system)


async def trouble_embedded(given: argparse.Namespace, folder: Path) -> Verdict:
    """`mailroom up`."""
    with a_small_disk(300) as disk:
        async with embedded.an_embedded_system(folder, disk) as system:
            return await carry_out(_campaign(embedded.EVERY, given), system)


async def trouble_cluster(given: argparse.Namespace, folder: Path) -> Verdict:
    """The deployment on a cluster of three brokers."""
    with _services(None) as (postgres, alone), cluster.three_nodes() as nodes:
        async with a_system(folder, postgres, alone, queue_url=cluster.url_of(nodes)) as system:
            return await carry_out(_campaign(cluster.every(nodes), given), system)


async def plant_bugs(given: argparse.Namespace, folder: Path) -> int:
    """Each planted bug under its faults, and the same faults without it: 0 when all were caught, and nothing else."""
    missed = []
    for number, bug in enumerate(one for one in planted.BUGS if given.only in one.name):
        for source in (bug.planted(folder / f"source-{number}"), ROOT):
            place = folder / f"{number}-{'right' if source == ROOT else 'wrong'}"
            place.mkdir()
            with _services(None) as (postgres, rabbitmq):
                async with a_system(place, postgres, rabbitmq, source=source) as system:
                    verdict = await carry_out(bug.campaign, system)
            sys.stdout.write(f"\n{bug.name}: {'not planted' if source == ROOT else 'PLANTED'}\n{table(verdict)}\n")
            if (source == ROOT and not verdict.holds) or (source != ROOT and not bug.is_caught(verdict)):
                missed.append(f"{bug.name} ({place})")
    sys.stdout.write(
        "\n" + ("NOT TOLD APART: " + ", ".join(missed) if missed else "every planted bug was caught") + "\n"
    )
    return 1 if missed else 0


def _campaign(every: Sequence[Fault[AnySystem]], given: argparse.Namespace, share: float = 0.2) -> Campaign[AnySystem]:
    return Campaign(
        faults=[one for one in every if given.only in one.name], per_second=given.per_second,
        seconds=given.minutes * 60 * share, seed=given.seed,
    )  # fmt: skip


@contextlib.contextmanager
def _services(disk: Path | None) -> Iterator[tuple[Postgres, RabbitMQ]]:
    postgres, rabbitmq = Postgres(fsync="on", within=disk), RabbitMQ()
    try:
        postgres.start()
        rabbitmq.start()
        yield postgres, rabbitmq
    finally:
        rabbitmq.close()
        postgres.close()


RUNS: dict[str, Callable[[argparse.Namespace, Path], Coroutine[Any, Any, Verdict]]] = {
    "system": trouble_system,
    "embedded": trouble_embedded,
    "cluster": trouble_cluster,
}

if __name__ == "__main__":
    sys.exit(main())
