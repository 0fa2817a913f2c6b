"""What a process can be told at start, with its defaults. mailroom.settings_file reads it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from mailroom.gate import Enforcement
from mailroom.integration import Security
from mailroom.rates import Rate

DEFAULT_RATE_LIMIT = Rate(count=60, seconds=60)


class BadSettings(Exception):
    """The settings cannot be used; `problems` names each key, what is wrong with it and what to do."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(["These settings cannot be used:", *(f"  {problem}" for problem in self.problems)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailOptions:
    """The options of one form service: `[email.<service>]` laid over `[email]` laid over these defaults."""

    max_files: int = 10
    #: Bytes, the sum of the files' contents.
    max_size: int = 10 * 1024 * 1024
    #: Allowed extensions, lower case, without the dot.
    file_types: tuple[str, ...] = ("pdf", "doc", "txt", "jpg", "png", "gif", "bmp", "zip")
    mailbox: str | None = None
    tenant: str | None = None
    integration: str = "main"
    #: Patterns a caller's own `mailbox` must match (`*` stands for any local part); without them only the configured
    #: one.
    allowed_mailboxes: tuple[str, ...] = ()
    #: Keys of which the header `apikey` must be one; empty = no key is asked for.
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    #: "accepted" answers at the commit, "delivered" waits for the outcome.
    acknowledge: str = "accepted"
    wait_seconds: float = 2.0
    #: "refuse" answers 1 while the integration may not send, "hold" accepts and holds.
    when_inactive: str = "refuse"
    #: "integration" puts the customer in Reply-To only, "customer" also in From.
    from_policy: str = "integration"
    #: Origins whose pages may post here (CORS); "*" stands for any.
    allowed_origins: tuple[str, ...] = ()
    #: Submissions per client address; None = no limit.
    rate_limit: Rate | None = DEFAULT_RATE_LIMIT
    #: Submissions to each mailbox, whoever sends them; None = no limit.
    mailbox_rate: Rate | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the value of an option comes from: a table as it is written in a file, or what there is without one."""

    where: str
    file: str | None = None


BY_DEFAULT = Origin("default")

#: What the services of a start without configuration have.
BY_EXAMPLE = Origin("an example of mailroom up")


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrationSettings:
    """`[integrations.<name>]`: created at start when absent; from then on its row in the database counts."""

    host: str
    port: int = 587
    security: Security = Security.STARTTLS
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    from_address: str = ""
    from_name: str | None = None
    #: Where form mail goes when neither the request nor its service names a mailbox.
    mailbox: str | None = None
    max_connections: int = 8
    #: Messages a second, and a day (UTC), for all workers together; None = no limit.
    per_second: float | None = None
    per_day: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpSettings:
    """Which servers workers connect to."""

    #: Relays that are not public, or not at a port for mail, and may be used all the same (mailroom.destinations).
    private_relays: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """When a deferred message is tried again (RFC 5321 section 4.5.4.1), in seconds."""

    first_delay: float = 300.0
    longest_delay: float = 4000.0
    #: Attempts that failed for the recipient's or the message's sake before it is given up.
    max_attempts: int = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdSettings:
    """How many consecutive failures of a kind set an integration to ERROR.

    Failures less than `apart` seconds after one that was counted are the same trouble once more, and are not counted: a
    server that restarts refuses every connection at once. A refused password needs no such patience.
    """

    credentials: int = 1
    host: int = 3
    connection: int = 5
    timeout: int = 5
    apart: float = 5.0


#: One in so many of what a gateway takes on at once is out of reach for forms, and one for the platform API: whoever
#: floods the one keeps nobody out of the other (OVL-4).
KEPT_ONE_IN = 4

#: Bytes that a form may have beside its files, generously; for what is in hand at once, not for what is refused.
BESIDE_FILES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """What one gateway process takes on at once; beyond it answers at once that trying again may help."""

    requests_in_flight: int = 256
    bytes_in_flight: int = 256 * 1024 * 1024
    #: Open connections, and those of one client address; trusted proxies have no limit of their own.
    connections: int = 2000
    connections_per_client: int = 500
    body_seconds: float = 120.0
    idle_read_seconds: float = 15.0
    #: Addresses and networks of proxies whose X-Forwarded-For is believed.
    trusted_proxies: tuple[str, ...] = ()

    @property
    def requests_within_reach(self) -> int:
        """How many requests of one API may be in hand."""
        return self.requests_in_flight - self.requests_in_flight // KEPT_ONE_IN

    @property
    def bytes_within_reach(self) -> int:
        """How many bytes those of one API may bring."""
        return self.bytes_in_flight - self.bytes_in_flight // KEPT_ONE_IN


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannerSettings:
    """A scanner for viruses (clamd) that files are shown to before they are accepted."""

    #: `unix:/run/clamav/clamd.ctl` or `tcp://127.0.0.1:3310`; None = nobody is asked.
    url: str | None = None
    #: While it does not answer: "refuse" tells callers to come again, "accept" takes files that nobody has seen.
    when_absent: str = "refuse"
    #: For all files of one submission.
    seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a process was told at start; a held instance has been checked. What may hold a secret is not shown."""

    database_url: str = field(default="sqlite:///var/mailroom.db", repr=False)
    queue_url: str = field(default="memory:", repr=False)
    listen: str = "127.0.0.1:8080"
    admin_listen: str = "127.0.0.1:8081"
    health_listen: str = "127.0.0.1:8082"
    data_dir: Path = Path("var")
    #: The least that gateways and workers log; what was sent is logged at "debug".
    log_level: str = "info"
    attachments_url: str | None = None
    #: Newest first; the others only decrypt.
    secret_keys: tuple[str, ...] = field(default=(), repr=False)
    email: EmailOptions = field(default_factory=EmailOptions)
    #: `[email] any_service`: a service nobody named exists too, with the options of `[email]`.
    any_service: bool = False
    services: Mapping[str, EmailOptions] = field(default_factory=lambda: MappingProxyType({}))
    integrations: Mapping[str, IntegrationSettings] = field(default_factory=lambda: MappingProxyType({}))
    smtp: SmtpSettings = field(default_factory=SmtpSettings)
    enforcement: Enforcement = field(default_factory=Enforcement)
    retry: RetrySettings = field(default_factory=RetrySettings)
    thresholds: ThresholdSettings = field(default_factory=ThresholdSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    scanner: ScannerSettings = field(default_factory=ScannerSettings)
    #: Where the options that were given come from, by service ("" is [email] itself) and field of EmailOptions.
    origins: Mapping[str, Mapping[str, Origin]] = field(default_factory=lambda: MappingProxyType({}), compare=False)

    def options_of(self, service: str) -> EmailOptions | None:
        """The effective options of a service; None when there is no such service."""
        if service in self.services:
            return self.services[service]
        return self.email if self.any_service else None

    def origin_of(self, service: str, option: str) -> Origin:
        """Where the effective value of a service's option comes from; `option` is a field of EmailOptions."""
        own = self.origins.get(service, {}) if service in self.services else {}
        return own.get(option) or self.origins.get("", {}).get(option) or BY_DEFAULT


def require_deployment(settings: Settings) -> None:
    """Raise BadSettings unless several processes can share what these settings name."""
    problems = []
    if settings.database_url.startswith("sqlite:"):
        problems.append(
            "MAILROOM_DATABASE_URL: sqlite: serves one process only; set it to postgresql://user:password@host/name"
        )
    if settings.queue_url.startswith("memory:"):
        problems.append("MAILROOM_QUEUE_URL: memory: ends with its process; set it to amqp://user:password@host/")
    if not settings.secret_keys:
        problems.append(
            "MAILROOM_SECRET_KEY: is missing, and stored SMTP passwords are encrypted with it; set it to the same long "
            "random text (or MAILROOM_SECRET_KEY_FILE to its file) for every process"
        )
    if problems:
        raise BadSettings(problems)
