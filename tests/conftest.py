"""What every test may ask for: real services, started when first asked for, and the events that were logged."""

import asyncio
import faulthandler
import gc
import logging
import shutil
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from _pytest.faulthandler import fault_handler_stderr_fd_key
from hypothesis import settings
from structlog.testing import capture_logs

from mailroom.process import RUBBISH, quick_loop
from mailroom.store.sqlite import SqliteStore
from tests.builders import migrated
from tests.order import spread
from tests.services import Postgres, RabbitMQ, Services, Sink, missing_services

# How long an example takes depends on who else is at work on this machine; the time limit of the test is enough.
settings.register_profile("mailroom", deadline=None)
settings.load_profile("mailroom")

#: Seconds in which what a test, or the whole run, had must be cleaned up.
CLEAN_UP_SECONDS = 120

SERVICES = frozenset({"postgres", "rabbitmq", "smtp_sink", "browser"})


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the event loop that our processes have."""
    return {"our loop": quick_loop}


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--screenshots` takes the pictures of the documents anew."""
    parser.addoption("--screenshots", action="store_true", help="write the pictures in docs/screenshots anew")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with those that are allowed more time than the usual."""
    longest = [item for item in items if item.get_closest_marker("timeout")]
    others = [item for item in items if not item.get_closest_marker("timeout")]
    items[:] = spread(longest, others, getattr(config, "workerinput", {}).get("workercount", 1))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Say in one line what is not installed, before the first test runs; nothing is skipped for it."""
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ()) if name in SERVICES}
    if missing := missing_services(wanted):
        raise pytest.UsageError(_not_installed(missing))
    # Thousands of tests were collected, and stay: who looks for rubbish, as our processes do, need not look at them.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*RUBBISH)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """End the process of a test that hangs while it is cleaned up, and tell where; its time limit may be spent by then."""
    stderr = item.config.stash[fault_handler_stderr_fd_key]
    faulthandler.dump_traceback_later(CLEAN_UP_SECONDS, exit=True, file=stderr)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _not_installed(packages: list[str]) -> str:
    names = " ".join(packages)
    return f"these tests need services that are not installed: {names} (as root: apt-get install {names})"


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """All services of this run; ended with it."""
    services = Services()
    yield services
    services.close()


@pytest.fixture(autouse=True)
def tidy_services(services: Services) -> Iterator[None]:
    """After each test what it stopped runs again, and its databases and virtual hosts are gone."""
    yield
    services.tidy()


@pytest.fixture(scope="session")
def postgres(services: Services) -> Postgres:
    """One PostgreSQL server for the run; `postgres.new_database()` is a database for the test alone."""
    _require("postgres")
    return services.postgres()


@pytest.fixture(scope="session")
def rabbitmq(services: Services) -> RabbitMQ:
    """One RabbitMQ node for the run; `rabbitmq.new_vhost()` is a virtual host for the test alone."""
    _require("rabbitmq")
    return services.rabbitmq()


@pytest.fixture
def smtp_sink(tmp_path: Path) -> Iterator[Sink]:
    """An SMTP server for the test alone; the test starts it with the faults it wants."""
    _require("smtp_sink")
    sink = Sink(tmp_path / "smtp-sink")
    yield sink
    sink.stop()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Where the one SQLite file with tables is, once somebody made it."""
    return []


@pytest.fixture
async def sqlite_file(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, sqlite_template: list[Path]) -> Path:
    """A SQLite database with our tables, which nobody has open."""
    if not sqlite_template:
        template = tmp_path_factory.mktemp("template") / "mailroom.db"
        await migrated(f"sqlite:///{template}")
        sqlite_template.append(template)
    return Path(shutil.copy(sqlite_template[0], tmp_path / "mailroom.db"))


@pytest.fixture
async def store(sqlite_file: Path) -> AsyncIterator[SqliteStore]:
    """A store of the test's own, with our tables and nothing in them."""
    store = SqliteStore(sqlite_file)
    yield store
    await store.aclose()


@pytest.fixture(autouse=True, scope="session")
def loggers_that_listen() -> Iterator[None]:
    """A logger that keeps the configuration of its first event, as ours do, would not tell `logged` of any further test."""
    configure = structlog.configure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", lambda **how: configure(**how | {"cache_logger_on_first_use": False}))
        yield


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """What a test has logged in its way, the others log as they did."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """The events logged during the test, as dictionaries."""
    with capture_logs() as events:
        yield events


def _require(fixture: str) -> None:
    """For fixtures asked for by `getfixturevalue`, which collection cannot see."""
    if missing := missing_services({fixture}):
        pytest.fail(_not_installed(missing), pytrace=False)
