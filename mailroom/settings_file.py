"""Reads the settings: one TOML file, overridden by the environment. Every problem is told at once."""

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from email.utils import parseaddr
from ipaddress import ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from mailroom.destinations import relay
from mailroom.gate import Enforcement
from mailroom.integration import MOST_CONNECTIONS, MOST_PER_DAY, Security
from mailroom.pace import LEAST_RATE
from mailroom.rates import Rate
from mailroom.settings import (
    BESIDE_FILES,
    BadSettings,
    EmailOptions,
    IntegrationSettings,
    LimitSettings,
    Origin,
    RetrySettings,
    ScannerSettings,
    Settings,
    SmtpSettings,
    ThresholdSettings,
)

PREFIX = "MAILROOM_"
CONFIG_VARIABLE = "MAILROOM_CONFIG"
DEFAULT_CONFIG = "mailroom.toml"

#: `[enforcement] acd = true`: in force since ever.
SINCE_EVER = datetime.min.replace(tzinfo=UTC)

SIZE = re.compile(r"(\d+)\s*(b|kb|mb|gb)?", re.IGNORECASE)
#: The Email API document's "10 MB" is 10,485,760 bytes.
SIZE_UNITS = {"b": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3}
RATE = re.compile(r"(\d+)\s*/\s*(second|minute|hour|day)", re.IGNORECASE)
RATE_UNITS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
ADDRESS = re.compile(r"[^@\s<>,;\"]+@[^@\s<>,;\"]+")
ORIGIN = re.compile(r"\*|https?://[^/\s]+")
EXTENSION = re.compile(r"[a-z0-9]{1,16}")
#: A service is part of a path, an integration part of logs and commands: nothing that must be quoted in either.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LARGEST_PORT = 65535
#: How alike an unknown `MAILROOM_…` variable must be to a known one to be called a mistake. Others are let pass: an
#: orchestrator with a service named "mailroom" sets MAILROOM_PORT and MAILROOM_SERVICE_HOST unasked.
LIKENESS = 0.75


class _Wrong(ValueError):
    """A value that cannot be used; the text says what is wrong and what to write instead."""


# What a value may look like: each takes what TOML or the environment gave and returns what the settings hold.


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"{value!r} is not a text; put it in quotes")
    if not value.strip():
        raise _Wrong("is empty; write a value or leave the key out")
    return value.strip()


def _secret(value: object) -> str:
    """The text as it is; a wrong one is not repeated."""
    if not isinstance(value, str) or not value:
        raise _Wrong("is no text; write one in quotes")
    return value


def _items(value: object) -> tuple[str, ...]:
    parts = re.split(r"[,\n]", value) if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise _Wrong('is not a list of texts; write ["a", "b"] or "a,b"')
    return tuple(part.strip() for part in parts if part.strip())


def _some_items(value: object) -> tuple[str, ...]:
    items = _items(value)
    if not items:
        raise _Wrong("holds nothing; name at least one or leave the key out")
    return items


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(f"{value!r} is neither true nor false; write one of them without quotes")
    return value


def _whole_number(least: int, most: int | None = None) -> Callable[[object], int]:
    wanted = f"a whole number from {least}" + (f" to {most}" if most is not None else "")

    def parse(value: object) -> int:
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or value < least
            or (most is not None and value > most)
        ):
            raise _Wrong(f"{value!r} is not possible here; write {wanted}")
        return value

    return parse


def _per_second(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not LEAST_RATE <= value < float("inf"):
        raise _Wrong(
            f"{value!r} is no number of messages a second; write a number from {LEAST_RATE:g} (for fewer there is "
            "per_day), or leave the key out"
        )
    return float(value)


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise _Wrong(f"{value!r} is no number of seconds; write a number over 0")
    return float(value)


def _size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise _Wrong(f'{value!r} is not a size; write a number of bytes over 0 or a text like "10MB"')
    return int(match[1]) * SIZE_UNITS[(match[2] or "b").lower()]


def _rate(value: object) -> Rate | None:
    if value is False:
        return None
    match = RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise _Wrong(f'{value!r} is not a rate; write "60/minute" (or /second, /hour, /day) or false for no limit')
    return Rate(count=int(match[1]), seconds=RATE_UNITS[match[2].lower()])


def _one_of(*choices: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in choices:
            raise _Wrong(f"{value!r} is unknown{_did_you_mean(str(value), choices)}; write one of {', '.join(choices)}")
        return str(value)

    return parse


def _security(value: object) -> Security:
    return Security(_one_of(*Security)(value))


def _listen_address(value: object) -> str:
    text = _text(value)
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > LARGEST_PORT:
        raise _Wrong(f'{text!r} is no place to listen at; write an address and a port, like "127.0.0.1:8080"')
    return text


def _database_url(value: object) -> str:
    return _url_of(
        _text(value), ("sqlite:///", "postgresql://"), "sqlite:///var/mailroom.db or postgresql://user@host/name"
    )


def _queue_url(value: object) -> str:
    return _url_of(_secret(value), ("memory:", "amqp://", "amqps://"), "memory: or amqp://user:password@host/")


def _attachments_url(value: object) -> str:
    return _url_of(_text(value), ("file:",), "file:/srv/mailroom/attachments")


def _scanner_url(value: object) -> str:
    text = _url_of(_text(value), ("unix:/", "tcp://"), "unix:/run/clamav/clamd.ctl or tcp://127.0.0.1:3310")
    place = urlsplit(text)
    try:
        is_one = place.scheme == "unix" or (bool(place.hostname and place.port) and not place.path)
    except ValueError:  # of a port that cannot be
        is_one = False
    if not is_one:
        raise _Wrong(
            f"{text!r} has no port that can be, or more than a port, after the host; write for example "
            "tcp://127.0.0.1:3310"
        )
    return text


def _url_of(text: str, schemes: tuple[str, ...], example: str) -> str:
    """The URL; what is wrong with it is told without repeating it, because it may hold a password."""
    if not text.startswith(schemes):
        raise _Wrong(f"does not begin with {' or '.join(schemes)}; write for example {example}")
    if text in schemes and text != "memory:":
        raise _Wrong(f"names nothing after {text}; write for example {example}")
    return text


def _host(value: object) -> str:
    text = _text(value)
    if re.search(r"[\s/@]", text):
        raise _Wrong(f"{text!r} is no host name; write the name or address alone, the port has its own key")
    return text


def _address(value: object) -> str:
    text = _text(value)
    if not ADDRESS.fullmatch(text):
        raise _Wrong(f'{text!r} is no address; write it like "support@company.com"')
    return text


def _name(value: object) -> str:
    text = _text(value)
    if not NAME.fullmatch(text):
        raise _Wrong(f"{text!r} is no good name; use up to 64 letters, digits, dots, dashes and underscores")
    return text


def _sender(value: object) -> tuple[str, str | None]:
    """The address and, when given, the name before it."""
    name, address = parseaddr(_text(value))
    if not ADDRESS.fullmatch(address):
        raise _Wrong(f'{value!r} is no sender; write "forms@company.com" or "Our forms <forms@company.com>"')
    return address, name or None


def _mailbox_patterns(value: object) -> tuple[str, ...]:
    for item in (items := _items(value)):
        # `*` alone, or in the domain, would let any caller send mail to anybody in our name.
        if not ADDRESS.fullmatch(item) or "*" in item.removeprefix("*@"):
            raise _Wrong(f'{item!r} is no pattern; write an address or "*@" and one domain, like "*@company.com"')
    return items


def _origins(value: object) -> tuple[str, ...]:
    for item in (items := _items(value)):
        if not ORIGIN.fullmatch(item):
            raise _Wrong(f'{item!r} is no origin; write it like "https://www.company.com", without a path, or "*"')
    return items


def _file_types(value: object) -> tuple[str, ...]:
    extensions = tuple(item.removeprefix(".").lower() for item in _items(value))
    for extension in extensions:
        if not EXTENSION.fullmatch(extension):
            raise _Wrong(f'{extension!r} is no file extension; write "pdf,jpg,png"')
    return extensions


def _networks(value: object) -> tuple[str, ...]:
    for item in (items := _items(value)):
        try:
            ip_network(item)
        except ValueError as error:
            raise _Wrong(f'{item!r} is no network ({error}); write "10.0.0.7" or "10.0.0.0/8"') from None
    return items


def _relays(value: object) -> tuple[str, ...]:
    for item in (items := _items(value)):
        try:
            relay(item)
        except ValueError as error:
            raise _Wrong(
                f"{item!r} is no relay ({error}); write a network or a name, and a port where it is another than those "
                'for mail: "10.1.2.0/24", "relay.internal:2526", "[fd00::/8]:*"'
            ) from None
    return items


def _enforced_from(value: object) -> datetime | None:
    if isinstance(value, bool):
        return SINCE_EVER if value else None
    try:
        day = date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        day = None
    if not isinstance(day, date) or isinstance(day, datetime):
        raise _Wrong(f'{value!r} is no date; write true, false or a date like "2026-01-06"')
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the file: the field it fills and what its value may look like."""

    field: str
    parse: Callable[[object], Any]
    #: Whether `<key>_file` may name a file that holds it; its value is never repeated in a problem.
    secret: bool = False


def _keys(**keys: Key) -> Mapping[str, Key]:
    return MappingProxyType(keys)


#: The keys before the first table. Each is also a variable: MAILROOM_ and its name in capitals.
TOP_LEVEL = _keys(
    database_url=Key("database_url", _database_url, secret=True),
    queue_url=Key("queue_url", _queue_url, secret=True),
    listen=Key("listen", _listen_address),
    admin_listen=Key("admin_listen", _listen_address),
    health_listen=Key("health_listen", _listen_address),
    data_dir=Key("data_dir", lambda value: Path(_text(value))),
    attachments_url=Key("attachments_url", _attachments_url),
    secret_key=Key("secret_keys", _some_items, secret=True),
    log_level=Key("log_level", _one_of("debug", "info", "warning", "error")),
)
EMAIL = _keys(
    max_files=Key("max_files", _whole_number(0)),
    max_size=Key("max_size", _size),
    file_types=Key("file_types", _file_types),
    mailbox=Key("mailbox", _address),
    tenant=Key("tenant", _text),
    integration=Key("integration", _text),
    allowed_mailboxes=Key("allowed_mailboxes", _mailbox_patterns),
    apikey=Key("api_keys", lambda value: (_secret(value),), secret=True),
    api_keys=Key("api_keys", _items, secret=True),
    acknowledge=Key("acknowledge", _one_of("accepted", "delivered")),
    wait_seconds=Key("wait_seconds", _seconds),
    when_inactive=Key("when_inactive", _one_of("refuse", "hold")),
    from_policy=Key("from_policy", _one_of("integration", "customer")),
    allowed_origins=Key("allowed_origins", _origins),
    rate_limit=Key("rate_limit", _rate),
    mailbox_rate=Key("mailbox_rate", _rate),
)
#: Keys of [email] itself; its sub-tables are services.
ANY_SERVICE = _keys(any_service=Key("any_service", _flag))
INTEGRATION = _keys(
    host=Key("host", _host),
    port=Key("port", _whole_number(1, LARGEST_PORT)),
    security=Key("security", _security),
    username=Key("username", _text),
    password=Key("password", _secret, secret=True),
    mailbox=Key("mailbox", _address),
    max_connections=Key("max_connections", _whole_number(1, MOST_CONNECTIONS)),
    per_second=Key("per_second", _per_second),
    per_day=Key("per_day", _whole_number(1, MOST_PER_DAY)),
    **{"from": Key("sender", _sender)},
)
SMTP = _keys(private_relays=Key("private_relays", _relays))
ENFORCEMENT = _keys(acd=Key("acd_from", _enforced_from))
RETRY = _keys(
    first_delay=Key("first_delay", _seconds),
    longest_delay=Key("longest_delay", _seconds),
    max_attempts=Key("max_attempts", _whole_number(1)),
)
THRESHOLDS = _keys(
    credentials=Key("credentials", _whole_number(1)),
    host=Key("host", _whole_number(1)),
    connection=Key("connection", _whole_number(1)),
    timeout=Key("timeout", _whole_number(1)),
    apart=Key("apart", _seconds),
)
LIMITS = _keys(
    requests_in_flight=Key("requests_in_flight", _whole_number(1)),
    bytes_in_flight=Key("bytes_in_flight", _size),
    connections=Key("connections", _whole_number(1)),
    connections_per_client=Key("connections_per_client", _whole_number(1)),
    body_seconds=Key("body_seconds", _seconds),
    idle_read_seconds=Key("idle_read_seconds", _seconds),
    trusted_proxies=Key("trusted_proxies", _networks),
)
SCANNER = _keys(
    url=Key("url", _scanner_url),
    when_absent=Key("when_absent", _one_of("refuse", "accept")),
    seconds=Key("seconds", _seconds),
)
TABLES = ("email", "integrations", "smtp", "enforcement", "retry", "thresholds", "limits", "scanner")


def from_environment(*, embedded: bool = False) -> Settings:
    """The settings of this process; raises BadSettings with every problem."""
    return load_settings(os.environ, embedded=embedded)  # noqa: TID251  the one place where the environment is read


def load_settings(environ: Mapping[str, str], *, embedded: bool = False) -> Settings:
    """Checked settings, or BadSettings with every problem. `embedded`: for everything in one process, on SQLite."""
    problems: list[str] = []
    path, document = _document(environ, problems)
    file = _Source(f"{path}: ", problems)
    variables = _Source("", problems, prefix=PREFIX)
    top = file.read({name: value for name, value in document.items() if name not in TABLES}, TOP_LEVEL, also=TABLES)
    top |= variables.read(_variables(environ, problems), TOP_LEVEL)
    _follow_the_data_dir(top)
    email, any_service, services, origins = _email(file, document, path)
    settings = replace(
        Settings(),
        **top,
        email=email,
        any_service=any_service,
        services=services,
        integrations=_integrations(file, document),
        smtp=replace(SmtpSettings(), **file.table(document, "smtp", SMTP)),
        enforcement=replace(Enforcement(), **file.table(document, "enforcement", ENFORCEMENT)),
        retry=replace(RetrySettings(), **file.table(document, "retry", RETRY)),
        thresholds=replace(ThresholdSettings(), **file.table(document, "thresholds", THRESHOLDS)),
        limits=replace(LimitSettings(), **file.table(document, "limits", LIMITS)),
        scanner=replace(ScannerSettings(), **file.table(document, "scanner", SCANNER)),
        origins=origins,
    )
    problems += _contradictions(settings)
    if embedded:
        problems += _not_for_one_process(settings)
    if problems:
        raise BadSettings(problems)
    return settings


def integration_fields(given: Mapping[str, object]) -> dict[str, Any]:
    """The fields that keys of an `[integrations]` table (and its name) fill, whoever gives them. Raises BadSettings."""
    problems: list[str] = []
    values = _Source("", problems).read(given, {**INTEGRATION, "name": Key("name", _name)})
    if problems:
        raise BadSettings(problems)
    if "sender" in values:
        values["from_address"], values["from_name"] = values.pop("sender")
    if "mailbox" in values:
        values["default_mailbox"] = values.pop("mailbox")
    return values


def _document(environ: Mapping[str, str], problems: list[str]) -> tuple[str, dict[str, Any]]:
    """The file's name and content; only the default file may be missing."""
    named = environ.get(CONFIG_VARIABLE)
    path = named or DEFAULT_CONFIG
    try:
        return path, tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            problems.append(f"{CONFIG_VARIABLE}: there is no file {path}; correct the path or unset the variable")
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}; correct its permissions")
    except UnicodeDecodeError:
        problems.append(f"{path}: is not UTF-8; save it as UTF-8")
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path}: is not TOML: {error}; correct that place")
    return path, {}


def _variables(environ: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    """Our variables by their key. An empty one is an unset one: compose files write them so."""
    found: dict[str, str] = {}
    known = {*TOP_LEVEL, *(f"{name}_file" for name, key in TOP_LEVEL.items() if key.secret)}
    for variable, value in environ.items():
        name = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE or not value:
            continue
        if name in known:
            found[name] = value
        elif likely := difflib.get_close_matches(name, known, n=1, cutoff=LIKENESS):
            problems.append(f"{variable}: is unknown; did you mean {PREFIX}{likely[0].upper()}?")
    return found


def _follow_the_data_dir(top: dict[str, Any]) -> None:
    """A database that nobody placed lives in the data folder."""
    if "data_dir" in top:
        top.setdefault("database_url", f"sqlite:///{top['data_dir']}/mailroom.db")


def _email(
    file: "_Source", document: Mapping[str, Any], path: str
) -> tuple[EmailOptions, bool, Mapping[str, EmailOptions], Mapping[str, Mapping[str, Origin]]]:
    """The options of `[email]`, its `any_service`, each named service's options laid over them, and their origins."""
    table = file.sub_table(document, "email")
    keys = {**EMAIL, **ANY_SERVICE}
    named = {name: value for name, value in table.items() if isinstance(value, dict) and name not in keys}
    own = file.read({name: value for name, value in table.items() if name not in named}, keys, section="email")
    any_service = bool(own.pop("any_service", False))
    email = replace(EmailOptions(), **own)
    given = {
        name: file.read(value, EMAIL, section=f"email.{name}")
        for name, value in named.items()
        if file.good_name(name, "email")
    }
    services = {name: replace(email, **fields) for name, fields in given.items()}
    origins = {name: dict.fromkeys(fields, Origin(f"[email.{name}]", path)) for name, fields in given.items()}
    origins[""] = dict.fromkeys(own, Origin("[email]", path))
    return email, any_service, MappingProxyType(services), MappingProxyType(origins)


def _integrations(file: "_Source", document: Mapping[str, Any]) -> Mapping[str, IntegrationSettings]:
    found: dict[str, IntegrationSettings] = {}
    tables = file.sub_table(document, "integrations")
    for name in tables:
        if file.good_name(name, "integrations") and (one := _integration(file, tables, name)):
            found[name] = one
    return MappingProxyType(found)


def _integration(file: "_Source", tables: Mapping[str, Any], name: str) -> IntegrationSettings | None:
    """The integration, or None when it lacks what it cannot be without."""
    section = f"integrations.{name}"
    table = file.sub_table(tables, name, section=section)
    if not isinstance(tables[name], dict):
        return None
    values = file.read(table, INTEGRATION, section=section)
    if {"password", "password_file"} & table.keys() and "username" not in table:
        file.problem(section, "username", "is missing beside a password; add it or remove the password")
    if "username" in table and not {"password", "password_file"} & table.keys():
        file.problem(section, "password", "is missing beside a username; add password or password_file")
    for needed in ("host", "from"):
        if needed not in table:
            file.problem(section, needed, "is missing; an integration cannot be without it")
    if "host" not in values or "sender" not in values:
        return None
    address, sender_name = values.pop("sender")
    return IntegrationSettings(from_address=address, from_name=sender_name, **values)


def _contradictions(settings: Settings) -> Iterator[str]:
    """What is wrong only together."""
    if settings.retry.longest_delay < settings.retry.first_delay:
        yield "[retry] longest_delay: is shorter than first_delay; raise it or lower first_delay"
    for section, options in [("email", settings.email), *((f"email.{n}", o) for n, o in settings.services.items())]:
        if options.max_size + BESIDE_FILES > settings.limits.bytes_within_reach:
            yield (
                f"[{section}] max_size: is more than [limits] bytes_in_flight leaves to one form (three quarters, "
                "less 1MB), so that such a submission would always be turned away; lower it or raise bytes_in_flight"
            )


def _not_for_one_process(settings: Settings) -> Iterator[str]:
    """`mailroom up` takes over every claim it finds, which on a shared database would be other workers' claims."""
    if not settings.database_url.startswith("sqlite:"):
        yield "MAILROOM_DATABASE_URL: is not sqlite:; unset it, or run mailroom gateway and mailroom worker instead"
    if settings.queue_url != "memory:":
        yield "MAILROOM_QUEUE_URL: is not memory:; unset it, or run mailroom gateway and mailroom worker instead"


def _did_you_mean(name: str, known: Iterator[str] | tuple[str, ...] | list[str]) -> str:
    likely = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {likely[0]}?)" if likely else ""


@dataclass(frozen=True, slots=True)
class _Source:
    """Where values come from, so that a problem can say so: a file's tables, or variables."""

    title: str
    problems: list[str]
    prefix: str = ""

    def problem(self, section: str, name: str, what: str) -> None:
        """Note what is wrong with a key."""
        self.problems.append(f"{self.title}{self.label(section, name)}: {what}")

    def label(self, section: str, name: str) -> str:
        """The key as it was written."""
        if self.prefix:
            return f"{self.prefix}{name.upper()}"
        return f"[{section}] {name}" if section else name

    def good_name(self, name: str, section: str) -> bool:
        """Whether a service or integration may be called so."""
        if NAME.fullmatch(name):
            return True
        self.problem(section, name, "is no good name; use up to 64 letters, digits, dots, dashes and underscores")
        return False

    def sub_table(self, table: Mapping[str, Any], name: str, section: str = "") -> dict[str, Any]:
        """The table of this name; empty when there is none."""
        value = table.get(name, {})
        if isinstance(value, dict):
            return value
        self.problem("", section or name, f"is not a table; write [{section or name}] above its keys")
        return {}

    def table(self, document: Mapping[str, Any], name: str, keys: Mapping[str, Key]) -> dict[str, Any]:
        """The fields that a table of the document fills."""
        return self.read(self.sub_table(document, name), keys, section=name)

    def read(
        self,
        table: Mapping[str, object],
        keys: Mapping[str, Key],
        section: str = "",
        also: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """The fields that these keys fill; whatever cannot be used is noted and left out."""
        fields: dict[str, Any] = {}
        given_by: dict[str, str] = {}
        for name, value in table.items():
            key = keys.get(name) or keys.get(name.removesuffix("_file"))
            if key is None or (name not in keys and not key.secret):
                known = [*keys, *(f"{known}_file" for known, key in keys.items() if key.secret), *also]
                self.problem(section, name, f"is unknown{_did_you_mean(name, known)}; correct or remove it")
            elif key.field in given_by:
                self.problem(section, name, f"says the same as {self.label(section, given_by[key.field])}; keep one")
            else:
                given_by[key.field] = name
                try:
                    fields[key.field] = key.parse(value if name in keys else _content_of(value))
                except _Wrong as wrong:
                    self.problem(section, name, str(wrong))
        return fields


def _content_of(value: object) -> str:
    """What a secret's file holds, without the line end that editors add."""
    path = Path(_text(value))
    try:
        content = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise _Wrong(f"{path} cannot be read: {error.strerror}; correct the path or its permissions") from None
    except UnicodeDecodeError:
        raise _Wrong(f"{path} is not UTF-8; write the secret as text") from None
    if not content:
        raise _Wrong(f"{path} is empty; write the secret into it")
    return content
