"""Under which names the mailbox alone is shown: no page elsewhere reads it by DNS rebinding (SEC-8)."""

from pathlib import Path

import aiohttp
import pytest

from cli.mailbox.frame import leads_nowhere_else
from tests.processes import letters, running
from tests.services import free_port


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1:8081", True),
        ("[::1]:8081", True),
        ("192.168.1.7", True),
        ("localhost:8081", True),
        ("mailbox:8081", True),
        ("mail.localhost", True),
        ("mail.laptop.test:80", True),
        ("Mail.Company.com:8081", True),
        ("mail.company.com.:8081", True),
        ("evil.example:8081", False),
        ("127.0.0.1.evil.example:8081", False),
        ("127.0.0.1.nip.io", False),
        ("localhost.evil.example", False),
        ("evil.example@127.0.0.1", False),
        ("company.com", False),
    ],
)
def test_sec_8_the_mailbox_is_shown_under_names_nobody_else_can_have(host: str, shown: bool) -> None:  # noqa: FBT001 - a column of the table
    """An address, a name without a dot, a name that nobody can register, and what the operator named; no other."""
    assert leads_nowhere_else(host, {"mail.company.com"}) is shown


async def test_sec_8_a_name_that_was_made_to_lead_here_reads_nothing(tmp_path: Path) -> None:
    """Every route of `mailroom mailbox` refuses a foreign name, and serves its address and a name it was given."""
    smtp, pages = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    arguments = ("mailbox", f"--smtp={smtp}", f"--pages={pages}", "--name=mail.company.com")
    with running(tmp_path, {}, *arguments) as mailbox:
        await mailbox.prints("showing it")
        await letters(pages, 0)
        async with aiohttp.ClientSession() as session:
            told = {
                (method, path, host): (await session.request(method, f"http://{pages}{path}", headers={"Host": host})).status
                for method, path in (("GET", "/"), ("GET", "/letters.json"), ("DELETE", "/letters"), ("GET", "/faults.json"))
                for host in (pages, "mail.company.com", "evil.example")
            }  # fmt: skip
        await mailbox.stop()

    assert {status for (_, _, host), status in told.items() if host == "evil.example"} == {403}
    assert {status for (_, _, host), status in told.items() if host != "evil.example"} <= {200, 204}
