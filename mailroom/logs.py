"""The logs: one event a line on stderr. The only importer of structlog; what libraries log takes the same way."""

import contextlib
import io
import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TextIO, cast

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger, Processor

Event = MutableMapping[str, Any]

#: Never shown, whoever logs them: a guard behind the rule that nobody does (SEC-14).
HIDDEN = frozenset({"password", "secret", "secret_key", "apikey", "api_key", "authorization", "cookie", "token"})

#: What stands before an @ says who somebody is, or is the password in a URL; what stands behind it says where, which an
#: operator must know. Servers quote addresses in their replies, and databases in their errors.
_OF_A_NAME = r'[^\s"<>()\[\],;:/\\@]'
_WHO = re.compile(rf'(?:"[^"\n]*"|(?<!{_OF_A_NAME}){_OF_A_NAME}+)@')
_SOMEBODY = "***@"

#: What a terminal or a line reader would act on: C0, DEL, C1, line and paragraph separators, changes of direction.
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
#: The same where a traceback keeps its lines.
CONTROLS_BUT_LINES = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class LogStyle(StrEnum):
    """For whom the lines are."""

    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    """The least that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


_LEVELS: Mapping[LogLevel, int] = MappingProxyType(
    {
        LogLevel.DEBUG: logging.DEBUG,
        LogLevel.INFO: logging.INFO,
        LogLevel.WARNING: logging.WARNING,
        LogLevel.ERROR: logging.ERROR,
    }
)


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose events carry this name as `source`: `log.info("attempt ended", message_id=…, attempt=1)`."""
    return cast(FilteringBoundLogger, structlog.get_logger(source=name))


def configure_logs(style: LogStyle = LogStyle.JSON, level: LogLevel = LogLevel.INFO) -> None:
    """From now on every event goes to stderr in this style, those of the standard library's loggers too."""
    stderr = cast(TextIO, _Stderr())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide_secrets,
    ]
    ending = _json_ending() if style is LogStyle.JSON else _console_ending()
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
            foreign_pre_chain=[*shared, _name_of_the_library],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])


class _Stderr(io.TextIOBase):
    """Whatever stderr is at the moment of writing; a cached logger must not keep one that was replaced.

    A line that cannot be written (the disk is full, its reader is gone) is lost: what it tells about must go on.
    """

    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


def _name_of_the_library(logger: Any, method: str, event: Event) -> Event:
    record = event.get("_record")
    event["source"] = record.name if record is not None else "root"
    return event


def _hide_secrets(logger: Any, method: str, event: Event) -> Event:
    for name in event.keys() & HIDDEN:
        event[name] = "[hidden]"
    return event


def _hide_people(logger: Any, method: str, event: Event) -> Event:
    """Leave of each address only its domain, in whatever field it stands."""
    for name, value in event.items():
        if name != "exc_info":  # becomes text further on
            event[name] = _without_people(value)
    return event


def _without_people(value: Any) -> Any:
    shown = value if isinstance(value, str) else repr(value)
    if "@" not in shown:
        return value
    match value:
        case dict():
            return {_without_people(name): _without_people(one) for name, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_without_people(one) for one in value]
        case _:
            return _WHO.sub(_SOMEBODY, shown)


def _json_ending() -> list[Processor]:
    return [structlog.processors.format_exc_info, _hide_people, _as_json]


def _as_json(logger: Any, method: str, event: Event) -> str:
    """One line of JSON, whatever the fields hold: a log line must not be what fails."""
    try:
        line = msgspec.json.encode(event, enc_hook=repr).decode()
    except (TypeError, ValueError, OverflowError):
        # Lone surrogates, keys that are no text, numbers beyond 64 bits.
        line = json.dumps({str(name): value for name, value in event.items()}, default=repr)
    if line.isascii() and "\x7f" not in line:
        return line
    return CONTROLS.sub(_escaped, line)


def _console_ending() -> list[Processor]:
    return [
        _hide_people,
        _escape_controls,
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_plain_traceback),
    ]


def _escape_controls(logger: Any, method: str, event: Event) -> Event:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = CONTROLS.sub(_escaped, value)
    return event


def _plain_traceback(stream: TextIO, exc_info: Any) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    stream.write(CONTROLS_BUT_LINES.sub(_escaped, _without_people(text.getvalue())))


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
