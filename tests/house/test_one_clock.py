"""What is decided by what stands in rows is decided by one clock, which `watch.now()` reads."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Who decides what is due, has expired, is old, or is written for others to decide by.
DECIDING = (
    "worker/sweep.py", "worker/deliver.py", "worker/consumer.py", "worker/probe.py", "gateway/cloud/routes.py",
    "gateway/cloud/sending.py", "mailroom/tickets.py", "mailroom/operating/messages.py",
    "mailroom/operating/copying.py", "mailroom/operating/dead_letters.py", "mailroom/operating/integrations.py",
    "gateway/cloud/files.py", "gateway/cloud/drafts.py", "gateway/cloud/conversations.py",
    "worker/leftovers.py", "mailroom/operating/explaining.py",
)  # fmt: skip


@pytest.mark.parametrize("path", DECIDING)
def test_ops_6_nobody_decides_by_the_clock_of_its_machine(path: str) -> None:
    """Where a jump of one machine's clock would expire or resend mail in bulk, that clock is not read."""
    source = (ROOT / path).read_text()

    assert "datetime.now(" not in source
    assert "time.time" not in source


def test_ops_6_ids_are_of_the_time_that_is_shared() -> None:
    """Ids order what is released and shown, so none is made without saying whose time it tells."""
    sources = [path for part in ("gateway", "mailroom", "worker", "cli") for path in (ROOT / part).rglob("*.py")]

    assert sources
    assert [str(path) for path in sources if "new_message_id()" in path.read_text()] == []
