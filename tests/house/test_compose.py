"""docker-compose.yml, the Dockerfile and what belongs to them, held to the code they start. No container is needed."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from mailroom.settings import LimitSettings, require_deployment
from mailroom.settings_file import CONFIG_VARIABLE, PREFIX, TOP_LEVEL, load_settings
from worker.app import DRAIN_SECONDS

ROOT = Path(__file__).parents[2]
COMPOSE: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: Mapping[str, Any] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()

OURS = [name for name, service in SERVICES.items() if "build" in service]
ONE_SHOT = ["prepare", "migrate"]
LASTING = [name for name in SERVICES if name not in ONE_SHOT]
#: Those that keep or read messages, and so attachments.
KEEPERS = ["migrate", "gateway", "worker"]

KNOWN_VARIABLES = {
    CONFIG_VARIABLE,
    *(PREFIX + name.upper() for name in TOP_LEVEL),
    *(f"{PREFIX}{name.upper()}_FILE" for name, key in TOP_LEVEL.items() if key.secret),
}

#: What compose-lint says and we leave so: digests could not be looked up where the file was written; how much a service
#: may take depends on the machine; whether PostgreSQL and RabbitMQ can live on a read-only disk was not tried.
LEFT_SO = {"CL-0019", "CL-0026", "CL-0007"}


def tool(name: str) -> str:
    """A program that came with the tests' requirements."""
    return str(Path(sys.executable).parent / name)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in the project's folder."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def seconds(duration: str) -> int:
    """A duration of the compose file."""
    match = re.fullmatch(r"(\d+)(s|m)", duration)
    assert match is not None
    return int(match[1]) * {"s": 1, "m": 60}[match[2]]


def test_hadolint_finds_nothing() -> None:
    """The Dockerfile passes hadolint without an exception."""
    said = run(tool("hadolint"), "Dockerfile")

    assert said.returncode == 0, said.stdout


def test_compose_lint_finds_nothing_else() -> None:
    """compose-lint finds in the compose file nothing but what is left so for a reason."""
    said = run(tool("compose-lint"), "check", "--format", "json", "docker-compose.yml")
    findings = json.loads(said.stdout)["findings"]

    assert said.returncode == 0, said.stdout
    assert {finding["rule_id"] for finding in findings} <= LEFT_SO


def test_the_proxy_understands_its_configuration() -> None:
    """HAProxy accepts deploy/haproxy.cfg as it stands."""
    said = run("/usr/sbin/haproxy", "-c", "-f", "deploy/haproxy.cfg")

    assert said.returncode == 0, said.stderr


def test_ovl_4_the_proxy_leaves_room_for_its_own_checks() -> None:
    """HAProxy brings a gateway fewer connections than it takes: a full one is asked for its health all the same."""
    bounds = re.findall(r"\bmaxconn (\d+) resolvers", (ROOT / "deploy/haproxy.cfg").read_text())
    limits = tomllib.loads((ROOT / "deploy/mailroom.toml").read_text())["limits"]

    assert len(bounds) == 2
    assert max(map(int, bounds)) < limits.get("connections", LimitSettings().connections)


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_is_watched_and_comes_back(name: str) -> None:
    """Every lasting service has a health check and is started again when it ended by itself."""
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", ONE_SHOT)
def test_what_runs_once_is_waited_for(name: str) -> None:
    """A one-shot service is not started again, and others wait until it went well."""
    conditions = [service.get("depends_on", {}).get(name, {}).get("condition") for service in SERVICES.values()]

    assert SERVICES[name]["restart"] == "no"
    assert "service_completed_successfully" in conditions


@pytest.mark.parametrize("name", OURS)
def test_ops_7_nobody_is_killed_while_draining(name: str) -> None:
    """A process of ours gets more time to stop than a worker gives to what it has begun."""
    assert seconds(SERVICES[name]["stop_grace_period"]) > DRAIN_SECONDS


@pytest.mark.parametrize("name", SERVICES)
def test_nobody_has_more_rights_than_needed(name: str) -> None:
    """No container runs as root, has capabilities, or can gain any."""
    service = SERVICES[name]

    assert service["user"] not in ("root", "0")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", OURS)
def test_our_user_is_the_images(name: str) -> None:
    """Compose file and image agree on the user, who is not root, on a disk that cannot be written."""
    users = re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE)

    assert users == [SERVICES[name]["user"]]
    assert int(users[0].partition(":")[0]) > 0
    assert SERVICES[name]["read_only"] is True


def test_all_keepers_share_the_attachments() -> None:
    """Gateways and workers see one attachments volume, at the place that their settings name."""
    for name in KEEPERS:
        place = SERVICES[name]["environment"]["MAILROOM_ATTACHMENTS_URL"].removeprefix("file:")
        assert f"attachments:{place}" in SERVICES[name]["volumes"]


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting(name: str) -> None:
    """No variable is set for a process of ours that its settings do not know."""
    assert set(SERVICES[name]["environment"]) <= KNOWN_VARIABLES


@pytest.mark.parametrize("name", [name for name in OURS if SERVICES[name]["command"][0] == "mailroom"])
def test_every_command_exists(name: str) -> None:
    """The command line knows each command that a service starts, with its options."""
    command = SERVICES[name]["command"]
    said = run(sys.executable, "-m", "cli", command[1], "--help")
    script = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["mailroom"]

    assert script.startswith("cli.__main__:")
    assert said.returncode == 0, said.stderr
    assert f"mailroom {command[1]}" in said.stdout
    assert all(option.partition("=")[0] in said.stdout for option in command[2:])


def test_the_settings_of_the_deployment_load(tmp_path: Path) -> None:
    """deploy/mailroom.toml and the environment make settings of a deployment; it trusts the proxy's network."""
    environment = dict(SERVICES["gateway"]["environment"]) | {CONFIG_VARIABLE: str(ROOT / "deploy" / "mailroom.toml")}
    for name, value in {
        "MAILROOM_DATABASE_URL_FILE": "postgresql://mailroom@postgres/mailroom",
        "MAILROOM_QUEUE_URL_FILE": "amqp://mailroom@rabbitmq/",
        "MAILROOM_SECRET_KEY_FILE": "a key",
    }.items():
        (tmp_path / name).write_text(value)
        environment[name] = str(tmp_path / name)
    settings = load_settings(environment)
    require_deployment(settings)

    assert list(settings.limits.trusted_proxies) == [COMPOSE["networks"]["front"]["ipam"]["config"][0]["subnet"]]
    assert settings.integrations["main"].host in SERVICES
    assert set(SERVICES["proxy"]["networks"]) & set(SERVICES["gateway"]["networks"]) == {"front"}


def test_ports_are_published_to_this_machine_only() -> None:
    """Nothing is offered to the outside before somebody decides so."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert {port.split(":")[1] for port in ports} == {"8080", "8081", "8082", "15672"}
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_volume_is_declared() -> None:
    """A mount names a declared volume or a file of the project, and no declared volume is left over."""
    sources = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    files = {source for source in sources if source.startswith("./")}

    assert sources - files == set(COMPOSE["volumes"])
    assert all((ROOT / file).is_file() for file in files)


def test_our_volumes_belong_to_our_user() -> None:
    """Each folder where a volume of ours is mounted is made in the image for its user: a new volume takes that over."""
    made = set(re.findall(r"/srv/mailroom/\w+", DOCKERFILE))
    mounted = {
        volume.split(":")[1]
        for name in OURS
        for volume in SERVICES[name]["volumes"]
        if not volume.startswith("./") and not volume.endswith(":ro")
    }

    assert mounted == made


def test_the_image_gets_all_it_needs() -> None:
    """What the Dockerfile copies exists, .dockerignore lets it through, and all packages are among it."""
    copied = [
        source.removeprefix("./")
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for source in re.sub(r"--\S+ ", "", line).split()[:-1]
    ]
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    let_through = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)

    assert all((ROOT / source).exists() for source in copied)
    assert sorted(let_through) == sorted(copied)
    assert set(packages["packages"]) <= set(copied)


#: As in the image, where the packages are installed.
RUN_FROM_PROJECT = (
    "import runpy, sys; sys.argv[0] = 'prepare'; sys.path.insert(0, '.'); "
    "runpy.run_path('deploy/prepare.py', run_name='__main__')"
)


def prepare(folder: Path, *options: str) -> str:
    """Run the one-shot service's script on a folder, with its own options unless told others; what it printed."""
    script, _, *urls = SERVICES["prepare"]["command"][1:]
    assert script == "/opt/mailroom/prepare.py"
    said = run(sys.executable, "-c", RUN_FROM_PROJECT, str(folder), *(options or urls))
    assert said.returncode == 0, said.stderr
    return said.stdout


def contents(folder: Path) -> dict[str, str]:
    """Every file below the folder."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_secrets_are_made_once(tmp_path: Path) -> None:
    """The first run makes every secret that the services read; the next one changes nothing."""
    prepare(tmp_path)
    first = contents(tmp_path)
    again = prepare(tmp_path)

    assert set(first) == {
        "secrets/secret_key", "secrets/database_url", "secrets/queue_url", "database/password", "broker/password",
        "broker/rabbitmq.conf",
    }  # fmt: skip
    assert f":{first['database/password']}@postgres" in first["secrets/database_url"]
    assert f":{first['broker/password']}@rabbitmq" in first["secrets/queue_url"]
    assert first["broker/rabbitmq.conf"] == f"default_user = mailroom\ndefault_pass = {first['broker/password']}\n"
    assert contents(tmp_path) == first
    assert again == ""


def test_what_is_made_from_a_password_follows_it(tmp_path: Path) -> None:
    """A password that was replaced by hand, with a line's end, is in the URL after the next run."""
    prepare(tmp_path)
    (tmp_path / "database" / "password").unlink()
    (tmp_path / "database" / "password").write_text("new/one\n")
    prepare(tmp_path)

    assert ":new%2Fone@postgres" in (tmp_path / "secrets" / "database_url").read_text()


def test_a_new_secret_key_comes_first(tmp_path: Path) -> None:
    """A new secret key is put before the old one, and settings read both."""
    prepare(tmp_path)
    path = tmp_path / "secrets" / "secret_key"
    old = path.read_text()
    prepare(tmp_path, "--add-secret-key")
    keys = load_settings({"MAILROOM_SECRET_KEY_FILE": str(path)}).secret_keys

    assert len(keys) == 2
    assert keys[1] == old


def test_secrets_of_ours_are_ours_alone(tmp_path: Path) -> None:
    """Only what PostgreSQL and RabbitMQ must read under their own users can be read by others."""
    prepare(tmp_path)
    readable = {path.name for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_mode & 0o077}

    assert readable == {"rabbitmq.conf"} | {path.name for path in (tmp_path / "database").iterdir()}
    assert (tmp_path / "broker" / "password").stat().st_mode & 0o777 == 0o400
