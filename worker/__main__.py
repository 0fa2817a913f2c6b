"""`python -m worker`: the same as `mailroom worker`."""

import sys

from mailroom.logs import configure_logs
from mailroom.process import run_process
from mailroom.settings_file import from_environment
from worker.process import run_worker


def main() -> int:
    """Work until told to stop."""
    configure_logs()
    return run_process(run_worker, from_environment)


if __name__ == "__main__":
    sys.exit(main())
