"""Settings: read once, from one file and the environment, with every problem told at once and no secret repeated."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailroom.integration import Security
from mailroom.rates import Rate
from mailroom.settings import BadSettings, IntegrationSettings, Settings, require_deployment
from mailroom.settings_file import SINCE_EVER, load_settings

Load = Callable[..., Settings]
Problems = Callable[..., tuple[str, ...]]

MAIN = """
[integrations.main]
host = "smtp.company.com"
from = "forms@company.com"
"""


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Settings from the text of a file and some variables."""

    def load(toml: str = "", **variables: str) -> Settings:
        config = tmp_path / "mailroom.toml"
        config.write_text(toml)
        return load_settings({"MAILROOM_CONFIG": str(config), **variables})

    return load


@pytest.fixture
def problems(load: Load) -> Problems:
    """The problems of settings that must not load."""

    def problems(toml: str = "", **variables: str) -> tuple[str, ...]:
        with pytest.raises(BadSettings) as caught:
            load(toml, **variables)
        return caught.value.problems

    return problems


def test_nothing_said_means_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file and without variables everything has its default."""
    monkeypatch.chdir(tmp_path)

    assert load_settings({"PATH": "/bin"}) == Settings()


def test_the_default_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mailroom.toml in the working directory is read unasked."""
    monkeypatch.chdir(tmp_path)
    Path("mailroom.toml").write_text('listen = "0.0.0.0:80"')

    assert load_settings({}).listen == "0.0.0.0:80"


def test_a_named_file_must_be_there() -> None:
    """A file that was named and is missing is a problem; only the default one may be."""
    with pytest.raises(BadSettings, match=r"MAILROOM_CONFIG: there is no file nowhere\.toml"):
        load_settings({"MAILROOM_CONFIG": "nowhere.toml"})


def test_the_environment_wins(load: Load) -> None:
    """A variable overrides the file; an empty one does not."""
    toml = 'listen = "0.0.0.0:80"\nadmin_listen = "0.0.0.0:81"'
    settings = load(toml, MAILROOM_LISTEN="[::1]:8888", MAILROOM_ADMIN_LISTEN="")

    assert (settings.listen, settings.admin_listen) == ("[::1]:8888", "0.0.0.0:81")


def test_a_service_stands_on_the_options_of_all(load: Load) -> None:
    """[email.billing] lies over [email], which lies over the defaults; lists are replaced wholly."""
    settings = load("""
        [email]
        max_files = 3
        max_size = "2MB"
        mailbox = "support@company.com"
        [email.billing]
        mailbox = "billing@company.com"
        file_types = ".PDF, txt"
    """)
    billing = settings.options_of("billing")

    assert billing is not None
    assert (billing.max_files, billing.max_size, billing.mailbox) == (3, 2_097_152, "billing@company.com")
    assert billing.file_types == ("pdf", "txt")
    assert settings.email.file_types[0:2] == ("pdf", "doc")


def test_services_exist_when_named(load: Load) -> None:
    """An unnamed service exists only with any_service, and has the options of [email] then."""
    assert load("[email.billing]").options_of("other") is None
    settings = load("[email]\nany_service = true\nmax_files = 3")
    assert settings.options_of("other") == settings.email


def test_an_integration_is_read_whole(load: Load, tmp_path: Path) -> None:
    """Every key of an integration arrives; its password may stand in a file."""
    (tmp_path / "smtp").write_text("pass word \n")
    settings = load(f"""
        [integrations.main]
        host = "smtp.company.com"
        port = 465
        security = "tls"
        username = "forms"
        password_file = "{tmp_path}/smtp"
        from = "Our forms <forms@company.com>"
        mailbox = "support@company.com"
        max_connections = 4
        per_second = 2
        per_day = 500
    """)

    assert settings.integrations["main"] == IntegrationSettings(
        host="smtp.company.com",
        port=465,
        security=Security.TLS,
        username="forms",
        password="pass word ",
        from_address="forms@company.com",
        from_name="Our forms",
        mailbox="support@company.com",
        max_connections=4,
        per_second=2.0,
        per_day=500,
    )


@pytest.mark.parametrize(
    ("written", "size"), [('"10MB"', 10_485_760), ('"10 mb"', 10_485_760), ('"512kb"', 524_288), ("2048", 2048)]
)
def test_sizes_are_bytes_or_texts(load: Load, written: str, size: int) -> None:
    """10MB is what the Email API document means by it: 10,485,760 bytes."""
    assert load(f"[email]\nmax_size = {written}").email.max_size == size


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        ('"60/minute"', Rate(count=60, seconds=60)),
        ('"5 / second"', Rate(count=5, seconds=1)),
        ('"1000/day"', Rate(count=1000, seconds=86400)),
        ("false", None),
    ],
)
def test_rates_are_words_or_off(load: Load, written: str, rate: Rate | None) -> None:
    """A rate is so many per unit of time, or false for none."""
    assert load(f"[email]\nrate_limit = {written}").email.rate_limit == rate


@pytest.mark.parametrize(
    ("written", "since"),
    [
        ("true", SINCE_EVER),
        ("false", None),
        ('"2026-01-06"', datetime(2026, 1, 6, tzinfo=UTC)),
        ("2026-01-06", datetime(2026, 1, 6, tzinfo=UTC)),
    ],
)
def test_enforcement_begins_at_a_midnight(load: Load, written: str, since: datetime | None) -> None:
    """A date means its first moment in UTC."""
    assert load(f"[enforcement]\nacd = {written}").enforcement.acd_from == since


@pytest.mark.parametrize(
    "written", ['apikey = "one"', 'api_keys = ["one"]', 'api_keys = "one,"', 'api_keys_file = "{keys}"']
)
def test_api_keys_can_be_said_four_ways(load: Load, tmp_path: Path, written: str) -> None:
    """One key, several, or a file of them."""
    (tmp_path / "keys").write_text("one\n")

    assert load("[email]\n" + written.format(keys=tmp_path / "keys")).email.api_keys == ("one",)


def test_secrets_can_stand_in_files(load: Load, tmp_path: Path) -> None:
    """Every secret variable has a _FILE twin, and keys are given newest first."""
    (tmp_path / "url").write_text("postgresql://user:word@host/name\n")
    (tmp_path / "key").write_text("new key, old key\n")
    settings = load(MAILROOM_DATABASE_URL_FILE=str(tmp_path / "url"), MAILROOM_SECRET_KEY_FILE=str(tmp_path / "key"))

    assert settings.database_url == "postgresql://user:word@host/name"
    assert settings.secret_keys == ("new key", "old key")


def test_the_database_follows_the_data_folder(load: Load) -> None:
    """A database that nobody placed lives in the data folder."""
    assert load(MAILROOM_DATA_DIR="/srv/mail").database_url == "sqlite:////srv/mail/mailroom.db"


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("lisen = 1", "lisen: is unknown (did you mean listen?); correct or remove it"),
        ("[emial]", "emial: is unknown (did you mean email?)"),
        ("[email]\nmax_filez = 1", "[email] max_filez: is unknown (did you mean max_files?)"),
        ("[email.billing]\nany_service = true", "[email.billing] any_service: is unknown"),
        ("[email]\nmailbox_file = 'x'", "[email] mailbox_file: is unknown"),
        ("email = 3", "email: is not a table; write [email] above its keys"),
        ("listen = '8080'", "listen: '8080' is no place to listen at"),
        ("listen = ':8080'", "listen: ':8080' is no place to listen at"),
        ("listen = '127.0.0.1:70000'", "listen: '127.0.0.1:70000' is no place to listen at"),
        ("database_url = 'mysql://host/name'", "database_url: does not begin with sqlite:/// or postgresql://"),
        ("queue_url = 'redis://host'", "queue_url: does not begin with memory: or amqp:// or amqps://"),
        ("attachments_url = 's3://bucket'", "attachments_url: does not begin with file:"),
        ("data_dir = ' '", "data_dir: is empty"),
        ("[email]\nmax_files = -1", "[email] max_files: -1 is not possible here; write a whole number from 0"),
        ("[email]\nmax_files = true", "[email] max_files: True is not possible here"),
        ("[email]\nmax_size = -1", "[email] max_size: -1 is not a size"),
        ("[email]\nmax_size = '0MB'", "[email] max_size: '0MB' is not a size"),
        ("[email]\nmax_size = 'big'", "[email] max_size: 'big' is not a size"),
        ("[email]\nmax_size = '1GB'", "[email] max_size: is more than [limits] bytes_in_flight"),
        ("[email.a]\nmax_size = '1GB'", "[email.a] max_size: is more than [limits] bytes_in_flight"),
        ("[email]\nfile_types = 'pdf,*'", "[email] file_types: '*' is no file extension"),
        ("[email]\nfile_types = 3", "[email] file_types: is not a list of texts"),
        ("[email]\nmailbox = 'support'", "[email] mailbox: 'support' is no address"),
        ("[email]\nallowed_mailboxes = ['*']", "[email] allowed_mailboxes: '*' is no pattern"),
        ("[email]\nallowed_mailboxes = ['*@*']", "[email] allowed_mailboxes: '*@*' is no pattern"),
        ("[email]\nallowed_mailboxes = ['a*@b.c']", "[email] allowed_mailboxes: 'a*@b.c' is no pattern"),
        ("[email]\nacknowledge = 'deliverd'", "'deliverd' is unknown (did you mean delivered?); write one of"),
        ("[email]\nwhen_inactive = 'drop'", "[email] when_inactive: 'drop' is unknown; write one of refuse, hold"),
        ("[email]\nfrom_policy = 1", "[email] from_policy: 1 is unknown"),
        ("[email]\nwait_seconds = 0", "[email] wait_seconds: 0 is no number of seconds"),
        ("[email]\nwait_seconds = nan", "[email] wait_seconds: nan is no number of seconds"),
        ("[email]\nrate_limit = '60'", "[email] rate_limit: '60' is not a rate"),
        ("[email]\nrate_limit = true", "[email] rate_limit: True is not a rate"),
        ("[email]\nallowed_origins = ['company.com']", "[email] allowed_origins: 'company.com' is no origin"),
        ("[email]\nallowed_origins = ['null']", "[email] allowed_origins: 'null' is no origin"),
        ("[email]\nany_service = 'yes'", "[email] any_service: 'yes' is neither true nor false"),
        ("[email]\napikey = 'a'\napi_keys = ['b']", "[email] api_keys: says the same as [email] apikey; keep one"),
        ("[email.'a b']", "[email] a b: is no good name"),
        ("[integrations.'a/b']", "[integrations] a/b: is no good name"),
        ("[integrations]\nmain = 1", "integrations.main: is not a table"),
        ("[integrations.a]\nfrom = 'a@b.c'", "[integrations.a] host: is missing"),
        ("[integrations.a]\nhost = 'a'", "[integrations.a] from: is missing"),
        (f"{MAIN}port = 0", "[integrations.main] port: 0 is not possible here; write a whole number from 1 to 65535"),
        (f"{MAIN}security = 'ssl'", "[integrations.main] security: 'ssl' is unknown"),
        (f"{MAIN}password = 'x'", "[integrations.main] username: is missing beside a password"),
        (f"{MAIN}username = 'x'", "[integrations.main] password: is missing beside a username"),
        (f"{MAIN}per_second = 0", "[integrations.main] per_second: 0 is no number of messages a second"),
        (f"{MAIN}per_second = 1e-12", "[integrations.main] per_second: 1e-12 is no number of messages a second"),
        (f"{MAIN}per_day = 0.5", "[integrations.main] per_day: 0.5 is not possible here"),
        ("[smtp]\nprivate_relays = ['10.0.0.1/8']", "[smtp] private_relays: '10.0.0.1/8' is no relay"),
        ("[smtp]\nprivate_relays = ['relay:0']", "[smtp] private_relays: 'relay:0' is no relay"),
        (
            f"{MAIN}max_connections = 1001",
            "[integrations.main] max_connections: 1001 is not possible here; write a whole number from 1 to 1000",
        ),
        (f"{MAIN}per_day = 3000000000", "[integrations.main] per_day: 3000000000 is not possible here"),
        (f"{MAIN}max_connections = 0", "[integrations.main] max_connections: 0 is not possible here"),
        ("[integrations.a]\nhost = ''\nfrom = 'a@b.c'", "[integrations.a] host: is empty"),
        ("[integrations.a]\nhost = 'a:25/x'\nfrom = 'a@b.c'", "[integrations.a] host: 'a:25/x' is no host name"),
        ("[integrations.a]\nhost = 'a'\nfrom = 'Forms'", "[integrations.a] from: 'Forms' is no sender"),
        ("[enforcement]\nacd = 'soon'", "[enforcement] acd: 'soon' is no date"),
        ("[enforcement]\nacd = 2026-01-06T10:00:00Z", "[enforcement] acd: "),
        ("[enforcement]\nform = true", "[enforcement] form: is unknown"),
        ("[retry]\nmax_attempts = 0", "[retry] max_attempts: 0 is not possible here"),
        ("[retry]\nfirst_delay = 9000", "[retry] longest_delay: is shorter than first_delay"),
        ("[thresholds]\nhost = 1.5", "[thresholds] host: 1.5 is not possible here"),
        ("[scanner]\nurl = 'clamd:3310'", "[scanner] url: does not begin with unix:/ or tcp://"),
        ("[scanner]\nurl = 'tcp://clamd'", "[scanner] url: 'tcp://clamd' has no port"),
        ("[scanner]\nurl = 'tcp://clamd:65536'", "[scanner] url: 'tcp://clamd:65536' has no port that can be"),
        ("[scanner]\nurl = 'unix:/'", "[scanner] url: names nothing after unix:/"),
        ("[scanner]\nwhen_absent = 'hold'", "[scanner] when_absent: 'hold' is unknown"),
        ("[limits]\ntrusted_proxies = ['10.0.0.1/8']", "[limits] trusted_proxies: '10.0.0.1/8' is no network"),
        ("listen = ", "is not TOML"),
    ],
)
def test_what_cannot_be_used_is_a_problem(problems: Problems, toml: str, problem: str) -> None:
    """A problem names the key, what is wrong with it and what to do."""
    [told] = problems(toml)

    assert problem in told
    assert ";" in told, "it must say what to do"


def test_every_problem_is_told_at_once(problems: Problems) -> None:
    """Whoever corrects the settings corrects them once."""
    toml = "[email]\nmax_files = -1\nmailbox = 'x'\n[retry]\nfirst_delay = 0\n[integrations.a]"
    told = problems(toml, MAILROOM_LISTEN="x", MAILROOM_SECRET_KEY_FILE="/nowhere/key")

    assert len(told) == 7


def test_a_problem_says_where(problems: Problems, tmp_path: Path) -> None:
    """A problem of the file names the file, a problem of a variable the variable."""
    told = problems("[email]\nmax_files = -1", MAILROOM_LISTEN="x")

    assert told[0].startswith("MAILROOM_LISTEN: ")
    assert told[1].startswith(f"{tmp_path}/mailroom.toml: [email] max_files: ")


def test_a_mistyped_variable_is_a_problem(problems: Problems) -> None:
    """A variable that looks like one of ours is no longer silently without effect."""
    assert problems(MAILROOM_DATABSE_URL="x") == (
        "MAILROOM_DATABSE_URL: is unknown; did you mean MAILROOM_DATABASE_URL?",
    )


def test_an_orchestrators_variables_are_let_pass(load: Load) -> None:
    """What Kubernetes sets for a service named mailroom is no mistake."""
    variables = {
        "MAILROOM_PORT": "tcp://10.0.0.1:80",
        "MAILROOM_SERVICE_HOST": "10.0.0.1",
        "MAILROOM_SERVICE_PORT": "80",
    }

    assert load(**variables) == Settings()


@pytest.mark.parametrize(
    ("toml", "variables"),
    [
        ("database_url = 'mysql://user:canary@host/name'", {}),
        ("secret_key = 7\n[email]\napikey = ['canary']", {}),
        (f"{MAIN}username = 'a'\npassword = ['canary']", {}),
        ("", {"MAILROOM_QUEUE_URL": "http://user:canary@host"}),
    ],
)
def test_sec_6_a_problem_never_repeats_a_secret(problems: Problems, toml: str, variables: dict[str, str]) -> None:
    """Problems end in logs, so what may be a secret is not in them."""
    assert "canary" not in str(problems(toml, **variables))


def test_sec_6_settings_never_show_a_secret(load: Load) -> None:
    """The representation of the settings can be logged."""
    settings = load(
        f"{MAIN}username = 'a'\npassword = 'canary'\n[email]\napikey = 'canary'",
        MAILROOM_SECRET_KEY="canary",
        MAILROOM_DATABASE_URL="postgresql://canary@host/name",
        MAILROOM_QUEUE_URL="amqp://user:canary@host/",
    )

    assert "canary" not in repr(settings)


def test_a_secret_in_two_places_is_a_problem(problems: Problems, tmp_path: Path) -> None:
    """A secret and its file cannot both be given."""
    (tmp_path / "key").write_text("key")
    [told] = problems(MAILROOM_SECRET_KEY="key", MAILROOM_SECRET_KEY_FILE=str(tmp_path / "key"))

    assert told == "MAILROOM_SECRET_KEY_FILE: says the same as MAILROOM_SECRET_KEY; keep one"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_secret_file_must_hold_text(problems: Problems, tmp_path: Path, content: bytes) -> None:
    """An empty file is no password, and neither are bytes that are no text."""
    (tmp_path / "key").write_bytes(content)
    [told] = problems(MAILROOM_SECRET_KEY_FILE=str(tmp_path / "key"))

    assert told.startswith(f"MAILROOM_SECRET_KEY_FILE: {tmp_path}/key is ")


def test_a_deployment_needs_what_processes_share() -> None:
    """Gateway and worker refuse a database and a queue of one process, and a missing key, all at once."""
    with pytest.raises(BadSettings) as caught:
        require_deployment(Settings())

    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "MAILROOM_DATABASE_URL",
        "MAILROOM_QUEUE_URL",
        "MAILROOM_SECRET_KEY",
    ]


def test_a_deployment_starts_with_what_it_needs() -> None:
    """Database, queue and key are enough."""
    require_deployment(Settings(database_url="postgresql://host/name", queue_url="amqp://host/", secret_keys=("key",)))


def test_one_process_keeps_to_itself(tmp_path: Path) -> None:
    """`mailroom up` refuses a shared database and broker: it would take other workers' messages for its own."""
    config = tmp_path / "mailroom.toml"
    config.write_text("database_url = 'postgresql://host/name'\nqueue_url = 'amqp://host/'")
    with pytest.raises(BadSettings) as caught:
        load_settings({"MAILROOM_CONFIG": str(config)}, embedded=True)

    assert len(caught.value.problems) == 2


GIVEN = """
[email]
max_files = 3
mailbox = "support@company.com"
any_service = true
[email.billing]
mailbox = "billing@company.com"
apikey = "a key"
[email.plain]
"""


@pytest.mark.parametrize(
    ("service", "option", "where"),
    [
        ("billing", "mailbox", "[email.billing]"),
        ("billing", "api_keys", "[email.billing]"),
        ("billing", "max_files", "[email]"),
        ("billing", "tenant", "default"),
        ("plain", "mailbox", "[email]"),
        ("plain", "api_keys", "default"),
        ("nobody named it", "mailbox", "[email]"),
        ("nobody named it", "api_keys", "default"),
        ("", "max_files", "[email]"),
    ],
)
def test_every_option_has_its_origin(load: Load, service: str, option: str, where: str) -> None:
    """Of each option of each service it can be told which table of which file gave its value, or that none did."""
    origin = load(GIVEN).origin_of(service, option)

    assert origin.where == where
    assert (origin.file or "").endswith("mailroom.toml") == (where != "default")
