"""What every command shares: settings, one sentence instead of a traceback, and the exit code."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from cli.desk import Refused
from cli.printing import complain
from cli.reach import NotRunning, request
from mailroom.logs import LogLevel, LogStyle, configure_logs
from mailroom.operating.operations import REFUSALS
from mailroom.process import TOLD, Stopped
from mailroom.settings_file import from_environment
from mailroom.store.opening import SchemaMismatch
from mailroom.store.port import CommitUnknown, StoreUnavailable

#: What ends a command with a sentence.
COMPLAINTS = (*TOLD, *REFUSALS, Refused, NotRunning, SchemaMismatch)

#: As a shell says it of a program that was interrupted.
INTERRUPTED = 130


class Complained(SystemExit):
    """What was asked could not be done, and the person has been told why: the command ends with this code."""


def run(story: Coroutine[Any, Any, Any], runner: Callable[[], asyncio.Runner] = asyncio.Runner) -> Any:
    """The story's result; raises Complained when it ended with a sentence for people."""
    try:
        with runner() as running:
            return running.run(story)
    except COMPLAINTS as error:
        complain(f"{error}{_advice(error)}")
        raise Complained(1) from error
    except KeyboardInterrupt:
        raise Complained(INTERRUPTED) from None
    except Stopped:
        raise Complained(0) from None


def _advice(error: Exception) -> str:
    if isinstance(error, StoreUnavailable | CommitUnknown):
        return "; check MAILROOM_DATABASE_URL, and whether the database runs"
    return ""


def asked(operation: str, **args: Any) -> Any:
    """What Mailroom answers to an operator, wherever it runs; raises Complained."""
    configure_logs(LogStyle.CONSOLE, LogLevel.WARNING)

    async def story() -> Any:
        return await request(from_environment(), operation, args)

    return run(story())
