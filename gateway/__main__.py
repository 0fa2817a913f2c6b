"""`python -m gateway [--processes N]`: the same as `mailroom gateway`."""

import argparse
import functools
import sys

from gateway.process import Place, run_gateway
from gateway.supervisor import CANNOT_START, run_gateways
from mailroom.logs import configure_logs
from mailroom.process import run_process
from mailroom.settings_file import from_environment


def serve(processes: int) -> int:
    """Serve with so many processes until told to stop; the exit code."""
    configure_logs()
    if processes == 1:
        return run_process(run_gateway, from_environment)
    return run_process(functools.partial(run_gateways, processes=processes), from_environment)


def serve_at(place: Place) -> int:
    """Be one of the processes of a supervisor; the exit code."""
    configure_logs()
    return CANNOT_START if run_process(functools.partial(run_gateway, place=place), from_environment) else 0


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m gateway", description="Takes submissions in over HTTP.")
    parser.add_argument("--processes", type=int, default=1, help="how many processes share the port (default: 1)")
    parser.add_argument("--place", type=Place, default=Place.ALONE, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.processes < 1:
        parser.error("--processes must be 1 or more")
    return serve(options.processes) if options.place is Place.ALONE else serve_at(options.place)


if __name__ == "__main__":
    sys.exit(main())
