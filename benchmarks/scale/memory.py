"""Whether gateway and worker need more memory the more messages they have seen."""

import os
import subprocess
from pathlib import Path

from benchmarks.deployment import deployment
from benchmarks.scale.measuring import concluded, pause, resident, show, slope

MESSAGES = 100_000

#: Forms a second, from so many connections, which is less than either process can do; milliseconds between two of one.
RATE, CONNECTIONS = 1500, 90
BETWEEN_MS = CONNECTIONS * 1000 // RATE

#: Seconds between two looks, and those after which nobody waits any longer for what is not delivered.
LOOK_SECONDS, DRAIN_SECONDS = 5.0, 300.0

#: Of all that comes, what is there before anything counts. Pools, caches and the allocator's own fill up: the worker's took
#: forty thousand messages, in which it grew by 20 MB, and then nothing more was added.
WARM = 0.5

#: What the rest may add, as a part of what there is: a look at the same process a minute later differs by less.
GROWS = 0.03

_SCRIPT = Path(__file__).parents[1] / "overload.lua"


def main(messages: int = MESSAGES) -> int:
    """Measure and print."""
    looks: list[tuple[float, float, float]] = []
    with deployment() as made:
        gateway, worker = made.gateway(), made.worker()
        pause(3)
        url = f"http://127.0.0.1:{made.listen_port}/genesys/2/email/support"
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{messages // RATE}s", "-s", str(_SCRIPT), url]
        environment = {"BETWEEN_MS": str(BETWEEN_MS), "PATH": os.defpath}
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as load:
            left = DRAIN_SECONDS
            while left > 0:
                pause(LOOK_SECONDS)
                delivered = made.sink.count()
                looks.append((delivered, resident(gateway.popen.pid), resident(worker.popen.pid)))
                accepted = gateway.figures()["mailroom_accepted_total"]
                if load.poll() is not None:
                    left = left - LOOK_SECONDS if delivered < accepted else 0
    return _concluded(looks, int(accepted))


def _concluded(looks: list[tuple[float, float, float]], accepted: int) -> int:
    counted = [look for look in looks if look[0] >= accepted * WARM]
    show(["delivered", "MB of the gateway", "MB of the worker"], looks[:: max(1, len(looks) // 20)])
    seen, figures, good = counted[-1][0] - counted[0][0], {}, True
    for at, name in ((1, "gateway"), (2, "worker")):
        each = slope((look[0], look[at]) for look in counted)
        figures[name] = {"MB": counted[-1][at], "MB more with each million": each * 1e6}
        good = good and each * seen <= GROWS * counted[-1][at]
    words = ", ".join(f"the {name} has {one['MB']:.0f} MB, and {one['MB more with each million']:+.1f} MB with each million"
                      for name, one in figures.items())  # fmt: skip
    return concluded("memory", {"looks": looks} | figures, good=good, words=f"after {accepted:,} messages {words}")
