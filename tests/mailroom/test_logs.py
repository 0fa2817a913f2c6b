"""Logs: one event, one line, whatever is in it."""

import contextlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from mailroom.logs import LogLevel, LogStyle, configure_logs, get_logger

#: What ends a line or drives a terminal.
NASTY = "a\nb\rc\x1b[31md\x00e\x7ff\x85g\u2028h\u202ei"


def _lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def _events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _lines(capsys)]


def test_an_event_is_a_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    """An event carries its fields, its level, its source and its time."""
    configure_logs()
    get_logger("worker").info("attempt ended", message_id="1", attempt=2)

    [event] = _events(capsys)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "attempt ended",
        "level": "info",
        "source": "worker",
        "message_id": "1",
        "attempt": 2,
    }


@pytest.mark.parametrize("style", list(LogStyle))
def test_sec_14_an_event_is_one_line(capsys: pytest.CaptureFixture[str], style: LogStyle) -> None:
    """No field can begin a line of its own or speak to the terminal."""
    configure_logs(style)
    get_logger("worker").info("refused" + NASTY, reply=NASTY)

    [line] = _lines(capsys)
    assert line.isprintable()


def test_sec_14_json_keeps_what_it_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever reads the JSON gets the text as it was."""
    configure_logs()
    get_logger("worker").info("refused", reply=NASTY, name="Jürgen")

    [event] = _events(capsys)
    assert (event["reply"], event["name"]) == (NASTY, "Jürgen")


@pytest.mark.parametrize(
    "value",
    ["\ud800", 2**80, {1: 2}, {("a", "b"): 1}, object(), ValueError("x"), b"\xff", float("nan")],
    ids=lambda value: type(value).__name__,
)
def test_sec_14_any_value_can_be_logged(capsys: pytest.CaptureFixture[str], value: object) -> None:
    """A log line is never what fails."""
    configure_logs()
    get_logger("worker").info("odd", value=value)

    [event] = _events(capsys)
    assert event["event"] == "odd"


def test_libraries_log_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    """What the standard library's loggers say comes as the same kind of line, its traceback inside."""
    configure_logs()
    try:
        _fail_with(NASTY)
    except ValueError:
        logging.getLogger("asyncio").exception("task %s failed", "one")

    [event] = _events(capsys)
    assert (event["event"], event["level"], event["source"]) == ("task one failed", "error", "asyncio")
    assert "ValueError" in event["exception"]


def test_less_than_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Only what reaches the level is written, of ours and of libraries."""
    configure_logs(level=LogLevel.WARNING)
    for log in (get_logger("worker"), logging.getLogger("aiohttp")):
        log.info("quiet")
        log.warning("loud")

    assert [event["event"] for event in _events(capsys)] == ["loud", "loud"]


@pytest.mark.parametrize("style", list(LogStyle))
def test_sec_14_a_logged_secret_is_hidden(capsys: pytest.CaptureFixture[str], style: LogStyle) -> None:
    """Should somebody log a password by its name after all, it is not written."""
    configure_logs(style)
    get_logger("worker").info("connected", password="canary", username="forms")

    [line] = _lines(capsys)
    assert "canary" not in line
    assert "forms" in line


def _fail_with(words: str) -> None:
    raise ValueError(words)


def test_sec_14_a_terminal_gets_a_readable_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal a traceback keeps its lines, but nothing in it speaks to the terminal."""
    configure_logs(LogStyle.CONSOLE)
    try:
        _fail_with("\x1b[31m")
    except ValueError:
        get_logger("worker").exception("failed")

    text = capsys.readouterr().err
    assert "\\u001b[31m" in text
    assert all(line.isprintable() for line in text.splitlines())


def test_sto_6_a_line_that_cannot_be_written_stops_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    """On a full disk the line is lost, whoever logs it goes on, and later lines are written again."""
    configure_logs()
    with Path("/dev/full").open("w", buffering=1) as full, pytest.MonkeyPatch.context() as changed:
        changed.setattr(sys, "stderr", full)
        get_logger("worker").info("attempt ended")
        logging.getLogger("library").warning("something")
        with contextlib.suppress(OSError):
            full.close()
    get_logger("worker").info("afterwards")

    assert [event["event"] for event in map(json.loads, capfd.readouterr().err.splitlines())] == ["afterwards"]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("550 5.1.1 <jane.doe@customer.test>: unknown", "550 5.1.1 <***@customer.test>: unknown"),
        ("jane@customer.test, o'brien+x=y@customer.test", "***@customer.test, ***@customer.test"),
        ('"Jane Doe"@customer.test', "***@customer.test"),
        ('{"to": "jane@customer.test"}', '{"to": "***@customer.test"}'),
        ("bounce+jane=customer.test@lists.test", "***@lists.test"),
        ("jane@doe@customer.test", "***@***@customer.test"),
        ("jürgen@müller.test", "***@müller.test"),
        ("amqp://guest:canary@broker:5672/", "amqp://guest:***@broker:5672/"),
        ("a line with an @ alone", "a line with an @ alone"),
    ],
)
@pytest.mark.parametrize("style", list(LogStyle))
def test_sec_14_people_are_hidden(capsys: pytest.CaptureFixture[str], style: LogStyle, text: str, written: str) -> None:
    """Of an address that a server or a database quotes, only where it is at is written, as of a URL's password."""
    configure_logs(style)
    get_logger("worker").info("ended", detail=text)

    [line] = _lines(capsys)
    assert written in (json.loads(line)["detail"] if style is LogStyle.JSON else line)


@pytest.mark.parametrize(
    "value",
    [
        ["jane@customer.test"],
        {"jane@customer.test": ("jane@customer.test",)},
        b"jane@customer.test",
        ValueError("jane@x"),
    ],
    ids=["list", "dict", "bytes", "error"],
)
@pytest.mark.parametrize("style", list(LogStyle))
def test_sec_14_people_are_hidden_in_any_value(
    capsys: pytest.CaptureFixture[str], style: LogStyle, value: object
) -> None:
    """However deep in a value an address is, and in the words of an error with its traceback, it is not written."""
    configure_logs(style)
    try:
        _fail_with(f"refused: {value!r}")
    except ValueError:
        get_logger("worker").exception("failed", value=value)
        logging.getLogger("asyncio").exception("task of %s failed", value)

    written = capsys.readouterr().err
    assert "jane" not in written
    assert written.count("***@") >= 2


def test_sec_14_what_is_nobody_stays_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers, lists and nothing are written as before."""
    configure_logs()
    get_logger("worker").info("ended", number=1, much=1.5, so=True, nothing=None, ids=["a", 2])

    [event] = _events(capsys)
    assert [event[name] for name in ("number", "much", "so", "nothing", "ids")] == [1, 1.5, True, None, ["a", 2]]


def test_sec_14_no_text_takes_long_to_clean(capsys: pytest.CaptureFixture[str]) -> None:
    """A megabyte written to take for ever is written."""
    configure_logs()
    for text in ("a" * 1_000_000 + " @", '"' * 500_000 + "@", "a@" * 300_000, '"a' * 300_000 + "@"):
        get_logger("worker").info("ended", detail=text)

    assert len(_lines(capsys)) == 4
