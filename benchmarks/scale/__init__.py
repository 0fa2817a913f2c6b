"""`python -m benchmarks scale [workers|rows|integrations|backlog|memory]`: what more of everything costs.

Without a name all of them run, one after the other; each prints a table and a verdict, and keeps both in `build`.
"""

import argparse
import asyncio

from benchmarks.scale import backlog, integrations, memory, rows, workers
from benchmarks.scale.far import be_far


def main(arguments: list[str]) -> int:
    """Measure and print; 0 when everything was good."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale")
    parser.add_argument("what", nargs="*", help="workers, rows, integrations, backlog, memory; all without one")
    parser.add_argument("--workers", type=int, nargs="+", default=workers.NUMBERS, help="how many, in turn")
    parser.add_argument("--rows", type=int, nargs="+", default=rows.SIZES, help="of the store, in turn")
    parser.add_argument("--integrations", type=int, default=integrations.NUMBER, help="how many there are")
    parser.add_argument("--waiting", type=int, default=backlog.NUMBER, help="how many forms wait")
    parser.add_argument("--messages", type=int, default=memory.MESSAGES, help="how many come while memory is looked at")
    parser.add_argument(
        "--be-far", type=int, nargs=3, metavar=("LISTEN", "PORT", "MS"), help="delay a server's replies"
    )
    chosen = parser.parse_args(arguments)
    if chosen.be_far:
        asyncio.run(be_far(*chosen.be_far))
        return 0
    measures = {
        "workers": lambda: workers.main(chosen.workers),
        "rows": lambda: rows.main(chosen.rows),
        "integrations": lambda: integrations.main(chosen.integrations),
        "backlog": lambda: backlog.main(chosen.waiting),
        "memory": lambda: memory.main(chosen.messages),
    }
    return max(measures[name]() for name in chosen.what or measures)
