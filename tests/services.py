"""Real PostgreSQL, RabbitMQ and smtp-sink for one test run: free ports, folders of their own, ended by their pid.

Where the browser is, too; `tests/browser` starts it.
"""

import asyncio
import contextlib
import itertools
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

LOOPBACK = "127.0.0.1"
POSTGRES_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
RABBITMQ_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
SMTP_SINK = Path("/usr/sbin/smtp-sink")
CHROMIUM = Path("/usr/bin/chromium")
START_SECONDS = 90.0
STOP_SECONDS = 30.0
#: How often a node that runs is asked whether it takes a connection.
CONNECTS = 5
ROOT = os.geteuid() == 0


class ServiceFailed(Exception):
    """A service did not start, stop or answer; the text ends with what it said last."""


def missing_services(wanted: set[str]) -> list[str]:
    """The Debian packages that must be installed before these fixtures can work."""
    needs = {
        "postgres": ("postgresql", bool(POSTGRES_PROGRAMS)),
        "rabbitmq": ("rabbitmq-server", RABBITMQ_SERVER.exists() and shutil.which("erl_call") is not None),
        "smtp_sink": ("postfix", SMTP_SINK.exists()),
        "browser": ("chromium", CHROMIUM.exists()),
    }
    return [package for fixture, (package, there) in needs.items() if fixture in wanted and not there]


#: Where ports are given out: below those that the system gives to outgoing connections, so that nobody takes one
#: before it is listened at. Each process of a run that is spread over several has a part of its own.
PORTS_FROM, PORTS_EACH, PARTS = 12000, 1000, 20


def _ports() -> Iterator[int]:
    number = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")  # noqa: TID251  pytest-xdist's, not ours
    part = int(number) % PARTS
    first = PORTS_FROM + part * PORTS_EACH
    # Another run on this machine has most likely begun elsewhere.
    begin = secrets.randbelow(PORTS_EACH)
    return (first + (begin + number) % PORTS_EACH for number in itertools.count())


_next_ports = _ports()


#: The state of a socket that waits for connections, as the kernel writes it.
_LISTENING = "0A"


def free_port() -> int:
    """A port of the loopback interface that nobody listens at, and nobody else in this test run is given."""
    for port in itertools.islice(_next_ports, PORTS_EACH):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                listener.bind((LOOPBACK, port))
                return port
    raise ServiceFailed(f"no port is free among the {PORTS_EACH} of this process")


def listening_at(port: int) -> int:
    """How many sockets of this machine's IPv4 wait for connections at this port: several where processes share it."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(row[1].endswith(f":{port:04X}") and row[3] == _LISTENING for row in rows)


class _Program:
    """One process that we started, with what it printed."""

    def __init__(self, command: Sequence[str | Path], printed: Path, environment: Mapping[str, str]) -> None:
        self.printed = printed
        with printed.open("ab") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Signal the process alone."""
        if self.running:
            self.process.send_signal(number)

    def kill_session(self) -> None:
        """Kill the process and all it started, without a chance to clean up."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_SECONDS)

    def wait_ended(self) -> None:
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill_session()
            raise ServiceFailed(f"did not stop\n{self.last_words()}") from None

    def wait_until(self, ready: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Return once it is ready; raise ServiceFailed when it ends first or takes too long."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running or time.monotonic() > deadline:
                self.kill_session()
                raise ServiceFailed(f"{self.process.args!r} did not become ready\n{self.last_words()}")
            time.sleep(0.02)  # noqa: TID251  there is no event loop to stop: fixtures are set up between tests

    def last_words(self) -> str:
        return self.printed.read_text(errors="replace")[-2000:]


def _pid_of(program: _Program | None) -> int:
    assert program is not None, "it was not started"
    return program.process.pid


def listens(port: int) -> bool:
    """Whether somebody takes connections at this port of the loopback interface."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _ask(command: Sequence[str | Path], question: str, environment: Mapping[str, str] | None = None) -> str:
    """What a command answers to a question on its standard input; ServiceFailed when it fails."""
    answer = subprocess.run(
        [str(part) for part in command],
        input=question,
        capture_output=True,
        text=True,
        timeout=STOP_SECONDS,
        check=False,
        env=None if environment is None else dict(environment),
    )
    if answer.returncode != 0:
        raise ServiceFailed(f"{answer.stderr.strip()} {answer.stdout.strip()} (asked: {question})")
    return answer.stdout.strip()


def _plain_environment(**more: str) -> dict[str, str]:
    """Nothing of ours: no setting of the machine may change what a service does."""
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **more}


#: Prepares an empty database, as a migration does.
Preparation = Callable[[str], Coroutine[Any, Any, None]]


#: Nobody is connected any more, and there is no row in any table but the one that tells the tables' version.
_EMPTY = """
DO $$
DECLARE one regclass;
BEGIN
  PERFORM pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid();
  SET LOCAL session_replication_role = replica;
  FOR one IN SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
    AND relname <> 'alembic_version'
  LOOP
    EXECUTE 'DELETE FROM ' || one;
  END LOOP;
  FOR one IN SELECT oid FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace
  LOOP
    EXECUTE 'ALTER SEQUENCE ' || one || ' RESTART';
  END LOOP;
END $$;
"""

#: Everything that a test may have changed, as one value: tables, columns, what holds them together, what the planner
#: knows of them, settings, rows; and whether its files are still small.
_LOOKS = """
SELECT md5(concat_ws(';',
  (SELECT string_agg(concat_ws(',', relname, relkind, relpages, reltuples, reloptions::text), ';' ORDER BY relname)
     FROM pg_class WHERE relnamespace = 'public'::regnamespace),
  (SELECT string_agg(concat_ws(',', relname, attname, atttypid, attnotnull, attnum), ';' ORDER BY relname, attnum)
     FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid WHERE relnamespace = 'public'::regnamespace),
  (SELECT string_agg(conname || pg_get_constraintdef(oid), ';' ORDER BY conname, conrelid::regclass::text)
     FROM pg_constraint WHERE connamespace = 'public'::regnamespace),
  (SELECT string_agg(indexdef, ';' ORDER BY indexname) FROM pg_indexes WHERE schemaname = 'public'),
  (SELECT string_agg(tgname || pg_get_triggerdef(oid), ';' ORDER BY tgname) FROM pg_trigger WHERE NOT tgisinternal),
  (SELECT string_agg(proname || prosrc, ';' ORDER BY proname) FROM pg_proc
     WHERE pronamespace = 'public'::regnamespace),
  (SELECT string_agg(nspname, ';' ORDER BY nspname) FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'),
  (SELECT string_agg(extname, ';' ORDER BY extname) FROM pg_extension),
  (SELECT string_agg(setconfig::text, ';' ORDER BY setconfig::text) FROM pg_db_role_setting),
  (SELECT string_agg(relname || query_to_xml('SELECT count(*) FROM ' || oid::regclass, false, true, '')::text, ';'
     ORDER BY relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace),
  pg_database_size(current_database()) < 14000000
)) AS looks
"""

#: It fails unless the database looks like new, and renames it, so that whoever still has its old address is refused.
_KEEP = """ \\gset
SELECT 1 / (:'looks' = '{fresh}')::int;
\\connect postgres
ALTER DATABASE "{name}" RENAME TO "{new}";
"""


class Postgres:
    """A PostgreSQL server. `fsync` is off: a test machine's power is not among the faults tested, unless asked for."""

    def __init__(
        self, fsync: str = "off", within: Path | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self.port = free_port()
        self._fsync = fsync
        self._settings = settings or {}
        self._programs = POSTGRES_PROGRAMS[-1]
        self._folder = Path(tempfile.mkdtemp(prefix="mailroom-postgres-", dir=within))
        # postgres refuses to run as root, and initdb too: both run as Debian's own user then.
        self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if ROOT else []
        if ROOT:
            shutil.chown(self._folder, "postgres", "postgres")
        self._program: _Program | None = None
        self._numbers = itertools.count(1)
        self._templates: dict[Preparation, str] = {}
        #: Databases that tests were given, with what prepared them; and those that are as good as new again.
        self._given: dict[str, Preparation | None] = {}
        self._spare: dict[Preparation, list[str]] = {}
        #: What a database looks like that the preparation has just made.
        self._fresh: dict[Preparation, str] = {}
        self._initialise()

    def _initialise(self) -> None:
        initdb = self._programs / "initdb"
        options = ["--auth=trust", "--username=mailroom", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        _ask([*self._as_user, initdb, *options, "-D", self._folder / "data"], "", _plain_environment())

    @property
    def running(self) -> bool:
        return self._program is not None and self._program.running

    @property
    def pid(self) -> int:
        """Of the process that is the parent of all of it; it must have been started."""
        return _pid_of(self._program)

    def url(self, database: str = "postgres", port: int | None = None) -> str:
        """Where to find a database; another port when a proxy stands before the server."""
        return f"postgresql://mailroom@{LOOPBACK}:{port or self.port}/{database}"

    def start(self) -> None:
        """Return once it answers; nothing happens when it runs already."""
        if self.running:
            return
        options = {
            "fsync": self._fsync,
            "shared_buffers": "64MB",
            "max_connections": "200",
            "max_wal_size": "256MB",
            "log_min_messages": "fatal",
            **self._settings,
        }
        flags = itertools.chain.from_iterable(("-c", f"{name}={value}") for name, value in options.items())
        places: list[str | Path] = [
            "-D",
            self._folder / "data",
            "-p",
            str(self.port),
            "-h",
            LOOPBACK,
            "-k",
            self._folder,
        ]
        self._program = _Program(
            [*self._as_user, self._programs / "postgres", *places, *flags],
            self._folder / "printed",
            _plain_environment(),
        )
        self._program.wait_until(self._answers)

    def _answers(self) -> bool:
        try:
            self.run_sql("SELECT 1")
        except ServiceFailed:
            return False
        return True

    def stop(self) -> None:
        """Let every session go and end in order (a "fast" shutdown)."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """End at once, without a checkpoint; the next start recovers from the log (an "immediate" shutdown)."""
        self._end(signal.SIGQUIT)

    def _end(self, number: signal.Signals) -> None:
        if self._program is not None:
            self._program.signal(number)
            self._program.wait_ended()

    def restart(self) -> None:
        self.stop()
        self.start()

    def run_sql(self, sql: str, database: str = "postgres") -> str:
        """What psql prints for this, without headings; fields separated by `|`."""
        options = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.url(database)]
        return _ask([self._programs / "psql", *options], sql, _plain_environment())

    def new_database(self, prepared_by: Preparation | None = None) -> str:
        """The URL of a database of the caller's own, gone when the test ends.

        The preparation runs once per test run, on a template; every later database with it is a copy of that, or one
        that a test has left and that looks like a copy again: a copy has a thousand files, and takes longer than most
        tests.
        """
        if prepared_by is not None and self._spare.get(prepared_by):
            name = self._spare[prepared_by].pop()
        else:
            template = "template0" if prepared_by is None else self._template(prepared_by)
            name = self._new_name()
            self.run_sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        self._given[name] = prepared_by
        return self.url(name)

    def _new_name(self) -> str:
        return f"test_{next(self._numbers)}"

    def _template(self, prepared_by: Preparation) -> str:
        if prepared_by not in self._templates:
            name = f"template_{next(self._numbers)}"
            self.run_sql(f'CREATE DATABASE "{name}" TEMPLATE template0')
            _run_elsewhere(prepared_by(self.url(name)))
            # A copy is refused while the preparation's last connection is still on its way out.
            self._templates[prepared_by] = name
            self._fresh[prepared_by] = self.run_sql(_LOOKS, name)
        return self._templates[prepared_by]

    def tidy(self) -> None:
        """Run again, without the databases of the last test."""
        if self._given or not self.running:
            self.start()
            for name, prepared_by in self._given.items():
                if prepared_by is None or not self._emptied(name, prepared_by):
                    self.run_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            self._given.clear()

    def _emptied(self, name: str, prepared_by: Preparation) -> bool:
        """Keep a database for another test, without its rows and under another name; False when it is no longer as new."""
        new_name, fresh = self._new_name(), self._fresh[prepared_by]
        try:
            self.run_sql(_EMPTY + _LOOKS + _KEEP.format(name=name, new=new_name, fresh=fresh), name)
        except ServiceFailed:
            return False
        self._spare.setdefault(prepared_by, []).append(new_name)
        return True

    def close(self) -> None:
        """Leave nothing behind."""
        try:
            self.crash()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)


def _run_elsewhere(work: Coroutine[Any, Any, None]) -> None:
    """Run it to its end in a thread with a loop of its own: this one may have a loop already."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


class RabbitMQ:
    """A RabbitMQ node of its own, with its own epmd, cookie and folders.

    It is asked through `erl_call`, which answers in milliseconds where rabbitmqctl needs seconds to start. `beside`
    another one it knows that one's epmd and cookie, so that it can join it.
    """

    def __init__(self, beside: "RabbitMQ | None" = None) -> None:
        self.port = free_port()
        self._distribution_port = free_port()
        self._epmd_port: int = beside._epmd_port if beside else free_port()
        self._cookie: str = beside._cookie if beside else secrets.token_hex(10)
        self._node = f"mailroom-{self.port}@localhost"
        self._folder = Path(tempfile.mkdtemp(prefix="mailroom-rabbitmq-"))
        cookie = self._folder / ".erlang.cookie"
        cookie.write_text(self._cookie)
        cookie.chmod(0o400)
        (self._folder / "plugins").touch()
        (self._folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {LOOPBACK}:{self.port}\n"
            # A shared machine with little room left must not block publishers.
            "disk_free_limit.absolute = 50MB\nvm_memory_high_watermark.relative = 0.9\n"
        )
        self._program: _Program | None = None
        self._epmd: _Program | None = None
        self._numbers = itertools.count(1)
        self._disposable: list[str] = []

    @property
    def _environment(self) -> dict[str, str]:
        return _plain_environment(
            HOME=str(self._folder),
            ERL_EPMD_PORT=str(self._epmd_port),
            # Else one that cannot start leaves it where the tests were started.
            ERL_CRASH_DUMP=str(self._folder / "erl_crash.dump"),
            RABBITMQ_NODENAME=self._node,
            RABBITMQ_DIST_PORT=str(self._distribution_port),
            RABBITMQ_MNESIA_BASE=str(self._folder / "mnesia"),
            RABBITMQ_LOG_BASE=str(self._folder / "log"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(self._folder / "plugins"),
            RABBITMQ_CONFIG_FILE=str(self._folder / "rabbitmq.conf"),
            RABBITMQ_PID_FILE=str(self._folder / "pid"),
        )

    @property
    def running(self) -> bool:
        """Whether clients can connect."""
        return self._program is not None and self._program.running and listens(self.port)

    @property
    def pid(self) -> int:
        """Of the process that is the parent of all of it; it must have been started."""
        return _pid_of(self._program)

    def url(self, vhost: str = "%2F", port: int | None = None) -> str:
        """Where to find a virtual host; another port when a proxy stands before the node."""
        return f"amqp://guest:guest@{LOOPBACK}:{port or self.port}/{vhost}"

    def start(self) -> None:
        """Return once it answers; nothing happens when it runs already."""
        if not listens(self._epmd_port):
            # Erlang would start one itself, and leave it behind.
            command = ["epmd", "-address", LOOPBACK, "-port", str(self._epmd_port)]
            self._epmd = _Program(command, self._folder / "epmd-printed", self._environment)
            self._epmd.wait_until(lambda: listens(self._epmd_port))
        if self._program is None or not self._program.running:
            self._program = _Program([RABBITMQ_SERVER], self._folder / "printed", self._environment)
        self._program.wait_until(self._booted)

    def _booted(self) -> bool:
        if not listens(self.port):
            return False
        try:
            return self.evaluate("rabbit:is_running().") == "true"
        except ServiceFailed:
            return False

    def kill(self) -> None:
        """End it at once, as a lost machine would; `start` brings it back with what was on its disk."""
        if self._program is not None:
            self._program.kill_session()

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    def stop_app(self) -> None:
        """Close every connection and the listener, in order; the node's process stays. Much quicker than `kill`."""
        self.evaluate("rabbit:stop().")

    def start_app(self) -> None:
        """Undo `stop_app`."""
        assert self._program is not None
        self._program.wait_until(self._booted_when_told)

    def _booted_when_told(self) -> bool:
        """Told again each time, because a node that has only just stopped says ok to `start` and does nothing."""
        self.evaluate("rabbit:start().")
        return self._booted()

    def join(self, other: "RabbitMQ") -> None:
        """Become a member of the other one's cluster; what this one had is gone."""
        self.evaluate(
            f"rabbit:stop(), rabbit_mnesia:reset(), ok = rabbit_mnesia:join_cluster('{other._node}', disc), rabbit:start()."
        )
        self.start_app()

    def close_all_connections(self) -> None:
        """Close the clients' connections as an operator would (320 CONNECTION_FORCED)."""
        self.evaluate(
            'lists:foreach(fun(Pid) -> rabbit_networking:close_connection(Pid, <<"closed by a test">>) end, '
            "rabbit_networking:connections())."
        )

    def new_vhost(self) -> str:
        """The URL of a virtual host of the caller's own, gone when the test ends."""
        name = f"test-{next(self._numbers)}"
        self.evaluate(
            f'ok = rabbit_vhost:add(<<"{name}">>, <<"mailroom">>), rabbit_auth_backend_internal:set_permissions('
            f'<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"mailroom">>).'
        )
        self._disposable.append(name)
        return self.url(name)

    def list_queues(self, url: str) -> dict[str, int]:
        """The queues of a virtual host, by its URL, with the messages each holds (also those not yet acknowledged)."""
        vhost = url.rpartition("/")[2].replace("%2F", "/")
        listing = self.evaluate(
            "lists:flatten([begin [{name, {resource, _, queue, Name}}, {messages, Count}] = "
            "rabbit_amqqueue:info(Q, [name, messages]), "
            f'io_lib:format("~ts=~b;", [Name, Count]) end || Q <- rabbit_amqqueue:list(<<"{vhost}">>)]).'
        )
        return {name: int(count) for name, count in re.findall(r'([^=;"]+)=(\d+);', listing)}

    def evaluate(self, expressions: str) -> str:
        """What the node answers to Erlang expressions; ServiceFailed when they fail or it does not answer."""
        answer = self._asked(expressions)
        match = re.fullmatch(r"\{ok, (.*)\}", answer, re.DOTALL)
        if match is None:
            raise ServiceFailed(f"{answer} (asked: {expressions})")
        return match[1]

    def _asked(self, expressions: str) -> str:
        """A node that runs may not take the connection in time on a busy machine: nothing was asked then, so ask again."""
        command = ["erl_call", "-e", "-c", self._cookie, "-n", self._node]
        for left in range(CONNECTS - 1, -1, -1):
            try:
                return _ask(command, expressions + "\n", self._environment)
            except ServiceFailed as error:
                if "failed to connect" not in str(error) or not left or not self.running:
                    raise
            time.sleep(1)  # noqa: TID251  as above
        raise AssertionError

    def tidy(self) -> None:
        """Run again, without the virtual hosts of the last test."""
        if self._disposable or not self.running:
            if self._program is not None and self._program.running and not self.running:
                self.start_app()
            self.start()
            for name in self._disposable:
                self.evaluate(f'rabbit_vhost:delete(<<"{name}">>, <<"mailroom">>).')
            self._disposable.clear()

    def close(self) -> None:
        """Leave nothing behind."""
        try:
            for program in (self._program, self._epmd):
                if program is not None:
                    program.kill_session()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One mail transaction that smtp-sink kept: its envelope, and the message as it came."""

    sender: str
    recipients: tuple[str, ...]
    message: str


#: Bytes at the end of what smtp-sink prints that have its last count in them.
_LAST_COUNTS = 500


class Sink:
    """Postfix' smtp-sink: takes everything, fast, or fails as told by its options (-f, -q, -Q, -r, -w …)."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._dumps = folder / "dumps"
        self._dumps.mkdir(parents=True)
        self._program: _Program | None = None

    @property
    def running(self) -> bool:
        return self._program is not None and self._program.running

    @property
    def pid(self) -> int:
        """Of its process; it must have been started."""
        return _pid_of(self._program)

    def start(self, *options: str) -> None:
        """Keep every mail; see `deliveries`. After a `stop` it comes back on the same port."""
        self._start("-d", f"{self._dumps}/mail.", *options)

    def start_counting(self, *options: str) -> None:
        """Throw every mail away and only count it: several times faster."""
        self._start(*options)

    def _start(self, *options: str) -> None:
        self.stop()
        (self._folder / "printed").unlink(missing_ok=True)
        privileges = ["-u", "root"] if ROOT else []
        command: list[str | Path] = [SMTP_SINK, "-c", *privileges, *options, f"{LOOPBACK}:{self.port}", "1000"]
        self._program = _Program(command, self._folder / "printed", _plain_environment())
        self._program.wait_until(lambda: listens(self.port))

    def stop(self) -> None:
        """Drop every connection and stop listening; what was kept stays readable."""
        if self._program is not None:
            self._program.kill_session()

    def count(self) -> int:
        """The mails taken since the last start, each counted before its 250 is sent."""
        with (self._folder / "printed").open("rb") as printed:
            # It prints a line for every mail; only the last one counts.
            printed.seek(max(0, printed.seek(0, os.SEEK_END) - _LAST_COUNTS))
            counts = re.findall(rb"mesg=(\d+)(?=\D)", printed.read())
        return int(counts[-1]) if counts else 0

    def deliveries(self) -> list[Delivery]:
        """The mails kept since the first start, oldest first."""
        dumps = sorted(self._dumps.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        return [delivery for dump in dumps if (delivery := _delivery(dump.read_text(errors="replace")))]

    def recipients(self) -> list[str]:
        """The recipients of the mails kept, one entry for each time."""
        return [recipient for delivery in self.deliveries() for recipient in delivery.recipients]


def _delivery(dump: str) -> Delivery | None:
    """A dump file's mail (smtp-sink(1), "dump file format"); None while it is still being written."""
    about, received, message = dump.partition("\nReceived: ")
    if not received or not dump.endswith("\n\n"):
        return None
    return Delivery(
        sender="".join(re.findall(r"^X-Mail-Args: <(.*?)>", about, re.MULTILINE)),
        recipients=tuple(re.findall(r"^X-Rcpt-Args: <(.*?)>", about, re.MULTILINE)),
        # Three lines of trace are the sink's own.
        message=message.split("\n", 3)[3].removesuffix("\n"),
    )


class _Service(Protocol):
    def start(self) -> None: ...
    def tidy(self) -> None: ...
    def close(self) -> None: ...


AnyService = TypeVar("AnyService", bound=_Service)


class Services:
    """The services of one test run: each time one is asked for, another one starts."""

    def __init__(self) -> None:
        self._started: list[_Service] = []

    def postgres(self) -> Postgres:
        """A running server of its own."""
        return self._start(Postgres())

    def rabbitmq(self) -> RabbitMQ:
        """A running node of its own."""
        return self._start(RabbitMQ())

    def _start(self, service: AnyService) -> AnyService:
        self._started.append(service)
        service.start()
        return service

    def tidy(self) -> None:
        """After a test: what it stopped runs again, and what it made is gone."""
        for service in self._started:
            service.tidy()

    def close(self) -> None:
        """End all of them."""
        with contextlib.ExitStack() as endings:
            for service in self._started:
                endings.callback(service.close)
