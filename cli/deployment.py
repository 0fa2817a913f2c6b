"""`mailroom gateway` and `mailroom worker`: the processes of a deployment."""

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from gateway.__main__ import serve
from worker.__main__ import main as work


def gateway(
    *,
    processes: Annotated[
        int, Parameter(help="How many processes share the port; one a core.", validator=Number(gte=1, lte=256))
    ] = 1,
) -> int:
    """Take submissions in over HTTP at MAILROOM_LISTEN."""
    return serve(processes)


def worker() -> int:
    """Deliver what was accepted. Start as many as wanted, on as many machines."""
    return work()
