"""Journeys of `mailroom up`: a newcomer's first minutes, with real processes."""

import asyncio
import io
import json
import re
import resource
import shlex
import shutil
import signal
import socket
import stat
import subprocess
from pathlib import Path

import aiohttp
import pytest

from tests.processes import becomes, first_password, letters_of_up, mailroom, running, signed_in
from tests.services import free_port

SERVES = "Ctrl-C ends it."


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """Ports of the test's own; everything else is the default."""
    return {"MAILROOM_LISTEN": f"127.0.0.1:{free_port()}", "MAILROOM_ADMIN_LISTEN": f"127.0.0.1:{free_port()}"}


async def follow(printed: str) -> dict[str, object]:
    """Run the curl command that was printed; its answer."""
    found = re.search(r"^ *(curl .*)$", printed, re.MULTILINE)
    assert found is not None
    command = shlex.split(found[1])
    if shutil.which("curl"):
        ran = await asyncio.to_thread(subprocess.run, [*command, "--silent"], capture_output=True, timeout=30)
        answer: dict[str, object] = json.loads(ran.stdout)
        return answer
    form = aiohttp.FormData()
    for field in command[2:-1:2]:
        name, _, value = field.partition("=")
        content, _, filename = value.partition(";filename=")
        form.add_field(name, content, filename=filename or None)
    async with aiohttp.ClientSession() as session, session.post(command[-1], data=form) as posted:
        return dict(await posted.json())


async def test_the_printed_curl_arrives(tmp_path: Path, variables: dict[str, str]) -> None:
    """With nothing configured `mailroom up` serves, and the curl it prints is answered 0 and read in the mailbox."""
    with running(tmp_path, variables, "up") as up:
        printed = await up.prints(SERVES)
        answer = await follow(printed)
        pages = variables["MAILROOM_ADMIN_LISTEN"]
        cookie = await signed_in(pages, first_password(printed))
        (letter,) = await letters_of_up(pages, cookie)
        source = await source_of(pages, cookie, letter["id"])
        code = await up.stop()

    assert f"http://{variables['MAILROOM_LISTEN']}/genesys/2/email/support" in printed
    assert f"http://{pages}/mailbox/" in printed
    assert answer["statusCode"] == 0
    assert letter["subject"] == "A question"
    assert letter["to"] == ["support@example.test"]
    assert "order.txt" in source
    assert (code, up.said) == (0, "")


async def source_of(pages: str, cookie: str, letter_id: str) -> str:
    """A letter as it came."""
    async with (
        aiohttp.ClientSession(headers={"Cookie": cookie}) as session,
        session.get(f"http://{pages}/mailbox/letters/{letter_id}/source") as answer,
    ):
        return await answer.text()


async def test_the_first_password_is_told_once(tmp_path: Path, variables: dict[str, str]) -> None:
    """The first start tells the first administrator's password; a later one how another is set, and that one works."""
    pages = variables["MAILROOM_ADMIN_LISTEN"]
    (tmp_path / "password").write_text("another horse battery staple\n")
    with running(tmp_path, variables, "up") as up:
        told = first_password(await up.prints(SERVES))
        await up.stop()
    with running(tmp_path, variables, "up") as up:
        later = await up.prints(SERVES)
        changed = await mailroom(tmp_path, variables, "users", "password", "admin", "--password-file", "password")
        cookie = await signed_in(pages, "another horse battery staple")
        await up.stop()

    assert told not in later
    assert "users password admin" in later
    assert (changed.returncode, changed.stderr) == (0, "")
    assert cookie.startswith("mailroom=")


async def test_ctrl_c_ends_it(tmp_path: Path, variables: dict[str, str]) -> None:
    """Ctrl-C ends it in order, also when it is pressed twice, and leaves no socket behind."""
    with running(tmp_path, variables, "up") as up:
        await up.prints(SERVES)
        up.process.send_signal(signal.SIGINT)
        code = await up.stop(signal.SIGINT)

    assert (code, up.said) == (0, "")
    assert not (tmp_path / "var" / "mailroom.sock").exists()


async def test_sto_3_a_second_one_is_refused(tmp_path: Path, variables: dict[str, str]) -> None:
    """A second `mailroom up` on the same data is told in one line why it cannot run."""
    with running(tmp_path, variables, "up") as up:
        await up.prints(SERVES)
        second = await mailroom(tmp_path, variables, "up")
        await up.stop()

    assert second.returncode == 1
    assert "another process has the database" in second.stderr
    assert len(second.stderr.splitlines()) == 1


@pytest.mark.parametrize("variable", ["MAILROOM_LISTEN", "MAILROOM_ADMIN_LISTEN"])
async def test_a_taken_port_names_its_variable(tmp_path: Path, variables: dict[str, str], variable: str) -> None:
    """When a port is taken it says which, and which variable chooses another."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        ended = await mailroom(tmp_path, {**variables, variable: taken}, "up")

    assert ended.returncode == 1
    assert taken in ended.stderr
    assert variable in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_sec_6_its_secrets_are_its_users_alone(tmp_path: Path, variables: dict[str, str]) -> None:
    """The data folder, the key made at the first start and the socket are for the user who started it."""
    with running(tmp_path, variables, "up") as up:
        await up.prints(SERVES)
        var = tmp_path / "var"
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (var, *var.iterdir())}
        await up.stop()

    assert (modes["var"], modes["secret_key"], modes["mailroom.sock"]) == (0o700, 0o600, 0o600)


async def test_the_integration_follows_the_mailbox(tmp_path: Path, variables: dict[str, str]) -> None:
    """When the mailbox's port is taken at the next start, it takes another and mail goes there."""
    with running(tmp_path, variables, "up") as up:
        password = first_password(await up.prints(SERVES))
        await up.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int((tmp_path / "var" / "mailbox_port").read_text())))
        other.listen()
        with running(tmp_path, variables, "up") as up:
            answer = await follow(await up.prints(SERVES))
            cookie = await signed_in(variables["MAILROOM_ADMIN_LISTEN"], password)
            found = await letters_of_up(variables["MAILROOM_ADMIN_LISTEN"], cookie)
            await up.stop()

    assert answer["statusCode"] == 0
    assert len(found) == 1


async def test_dlv_14_what_was_accepted_survives_a_kill(tmp_path: Path, variables: dict[str, str]) -> None:
    """A message accepted while its integration may not send is held, and goes out after a kill, a start and a reset."""
    (tmp_path / "mailroom.toml").write_text('[email]\nany_service = true\nwhen_inactive = "hold"\n')
    with running(tmp_path, variables, "up") as up:
        printed = await up.prints(SERVES)
        await mailroom(tmp_path, variables, "integrations", "disable", "main")
        answer = await until_listed(tmp_path, variables, printed)
        up.process.kill()
        await up.ended()
    with running(tmp_path, variables, "up") as up:
        await up.prints(SERVES)
        reset = await mailroom(tmp_path, variables, "integrations", "reset", "main")
        cookie = await signed_in(variables["MAILROOM_ADMIN_LISTEN"], first_password(printed))
        found = await letters_of_up(variables["MAILROOM_ADMIN_LISTEN"], cookie)
        await up.stop()

    assert answer["statusCode"] == 0
    assert reset.returncode == 0
    assert len(found) == 1


async def test_sto_6_a_disk_that_takes_nothing(tmp_path: Path, variables: dict[str, str]) -> None:
    """While nothing can be written forms are answered 1, large files too; afterwards 0. Only what was answered 0 arrives.

    Not even a kill straight after it brings back what was answered 1.
    """
    with running(tmp_path, variables, "up") as up:
        printed = await up.prints(SERVES)
        cookie = await signed_in(variables["MAILROOM_ADMIN_LISTEN"], first_password(printed))
        answers = [await submit(variables, "before")]
        _, hard = resource.prlimit(up.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(up.process.pid, resource.RLIMIT_FSIZE, (1, hard))
        answers += [
            await submit(variables, "meanwhile"),
            await submit(variables, "with a file", b"%PDF-" + b"x" * 2_000_000),
        ]
        resource.prlimit(up.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        async with asyncio.timeout(30):
            while answers[-1] != 0:
                answers.append(await submit(variables, "after"))
        up.process.kill()
        await up.ended()
    with running(tmp_path, variables, "up") as up:
        await up.prints(SERVES)
        found = await letters_of_up(variables["MAILROOM_ADMIN_LISTEN"], cookie, 2)
        await up.stop()

    assert answers[:3] == [0, 1, 1]
    assert sorted(one["subject"] for one in found) == ["after", "before"]


async def submit(variables: dict[str, str], subject: str, file: bytes | None = None) -> int:
    """Send a form; its statusCode."""
    form = aiohttp.FormData({"firstName": "J", "lastName": "D", "fromAddress": "j@customer.test", "text": "Where?"})
    form.add_field("subject", subject)
    if file is not None:
        form.add_field("file", io.BytesIO(file), filename="a.pdf", content_type="application/pdf")
    url = f"http://{variables['MAILROOM_LISTEN']}/genesys/2/email/support"
    async with aiohttp.ClientSession() as session, session.post(url, data=form) as posted:
        return int((await posted.json())["statusCode"])


async def until_listed(tmp_path: Path, variables: dict[str, str], printed: str) -> dict[str, object]:
    """Send the form; return once a held message is listed."""
    answer = await follow(printed)
    async with asyncio.timeout(30):
        while (
            str(answer["interactionId"])
            not in (await mailroom(tmp_path, variables, "messages", "list", "--status", "held")).stdout
        ):
            await asyncio.sleep(0.1)
    return answer


async def test_the_operators_hands(tmp_path: Path, variables: dict[str, str]) -> None:
    """Beside a running `mailroom up` every operator's command works, for people and as JSON."""

    async def told(*arguments: str) -> str:
        ended = await mailroom(tmp_path, variables, *arguments)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    with running(tmp_path, variables, "up") as up:
        printed = await up.prints(SERVES)
        answer = await follow(printed)
        cookie = await signed_in(variables["MAILROOM_ADMIN_LISTEN"], first_password(printed))
        await letters_of_up(variables["MAILROOM_ADMIN_LISTEN"], cookie)
        message_id = str(answer["interactionId"])
        test = json.loads(await told("integrations", "test", "main", "--json"))
        disabled = await told("integrations", "disable", "main", "--why", "for a test")
        reset = json.loads(await told("integrations", "reset", "main", "--why", "it is over", "--json"))
        shown = await told("integrations", "show", "main")
        listed = json.loads(await told("integrations", "list", "--json"))
        message = json.loads(await told("messages", "show", message_id, "--json"))
        listed_messages = await told("messages", "list", "--limit", "1")
        redriven = await mailroom(tmp_path, variables, "messages", "redrive", message_id)
        unknown = await mailroom(tmp_path, variables, "integrations", "show", "nobody")
        await up.stop()

    assert test["passed"]
    assert any("EHLO" in line for line in test["transcript"])
    assert "DISABLED" in disabled
    assert (reset["intended_state"], reset["reported_state"]) == ("ENABLED", "ACTIVE")
    assert re.search(r"cli \S+ +reset .*\(it is over\)", shown)
    assert [one["name"] for one in listed] == ["main"]
    assert (message["status"], message["recipient"]) == ("sent", "support@example.test")
    assert message_id in listed_messages
    assert (redriven.returncode, redriven.stdout) == (1, "")
    assert "it is sent" in redriven.stderr
    assert "there is no integration 'nobody'; there are: main" in unknown.stderr


async def test_a_dead_letter_is_redriven(tmp_path: Path, variables: dict[str, str]) -> None:
    """A refused message is listed with the server's words, and a re-drive tries it again."""
    (tmp_path / "mailroom.toml").write_text('[email.support]\nmailbox = "reply-550@example.test"\n')
    with running(tmp_path, variables, "up") as up:
        answer = await follow(await up.prints(SERVES))
        message_id = str(answer["interactionId"])
        await failed(tmp_path, variables, message_id)
        redriven = await mailroom(tmp_path, variables, "messages", "redrive", message_id)
        message = await failed(tmp_path, variables, message_id)
        await up.stop()

    assert redriven.returncode == 0, redriven.stderr
    assert [attempt["code"] for attempt in message["attempts"]] == [550, 550]


async def failed(tmp_path: Path, variables: dict[str, str], message_id: str) -> dict[str, list[dict[str, object]]]:
    """The message, once it has failed."""
    async with asyncio.timeout(60):
        while True:
            shown = await mailroom(tmp_path, variables, "messages", "show", message_id, "--json")
            message = json.loads(shown.stdout)
            if message["status"] == "failed":
                return dict(message)
            await asyncio.sleep(0.1)


async def test_commands_when_it_does_not_run(tmp_path: Path, variables: dict[str, str]) -> None:
    """When it does not run, what only looks still works, and what acts says that it must be started."""
    before = await mailroom(tmp_path, variables, "messages", "list")
    with running(tmp_path, variables, "up") as up:
        await up.prints(SERVES)
        await up.stop()
    looked = await mailroom(tmp_path, variables, "integrations", "list")
    acted = await mailroom(tmp_path, variables, "integrations", "disable", "main")

    assert before.returncode == 1
    assert "`mailroom up` is not running here" in before.stderr
    assert (looked.returncode, "ACTIVE" in looked.stdout) == (0, True)
    assert (acted.returncode, "start it" in acted.stderr) == (1, True)


async def test_it_reports_its_health(tmp_path: Path, variables: dict[str, str]) -> None:
    """Beside the mailbox's pages it tells whether it can work."""
    with running(tmp_path, variables, "up") as up:
        await up.prints(SERVES)
        ready = await becomes(f"http://{variables['MAILROOM_ADMIN_LISTEN']}/readyz", 200)
        await up.stop()

    assert ready == {"status": "ready"}
