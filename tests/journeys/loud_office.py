"""A gateway and a worker that log everything there is to log: `python -m tests.journeys.loud_office`, told by its stdin.

As a process of its own, because its loggers must not be those of the tests. The first line of stdin is JSON: the folder,
the database, the queue. It prints its address, and ends with its stdin.
"""

import asyncio
import json
import sys
from pathlib import Path

from mailroom.logs import LogLevel, LogStyle, configure_logs
from tests.journeys.office import an_office


async def main() -> None:
    """Work until stdin ends."""
    told = json.loads(sys.stdin.readline())
    async with (
        an_office(Path(told["folder"]), told["database"], told["queue"], **told["email"]) as office,
        office.gateway(),
        office.worker(),
    ):
        sys.stdout.write(f"{office.addresses[0]}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    configure_logs(LogStyle.JSON, LogLevel.DEBUG)
    asyncio.run(main())
