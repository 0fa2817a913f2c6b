"""The file in which a mailbox keeps its faults."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from cli.mailbox.faults import Deed, Fault, Faults, Standing, Step
from cli.mailbox.kept_faults import keeping_faults

A_FAULT = Fault(at=Step.RCPT, do=Deed.ANSWER, address="a.example", times=3)


def strike(faults: Faults) -> None:
    """One more RCPT."""
    faults.strike(Step.RCPT, ("jane@a.example",), 0.0, lambda: 0.0)


async def test_faults_are_there_after_a_restart(tmp_path: Path) -> None:
    """What was set is set again, with how often it struck: three times are three, over all restarts."""
    path = tmp_path / "faults.json"
    async with keeping_faults(path) as faults:
        faults.add(A_FAULT)
        strike(faults)
    async with keeping_faults(path) as faults:
        strike(faults)

    async with keeping_faults(path) as faults:
        assert list(faults.standing) == [Standing(1, A_FAULT, struck=2)]
        faults.replace(())
    async with keeping_faults(path) as faults:
        assert faults.standing == ()


async def test_nothing_is_written_while_nothing_is_set(tmp_path: Path) -> None:
    """A mailbox without faults has no file."""
    path = tmp_path / "faults.json"
    async with keeping_faults(path) as faults:
        strike(faults)

    assert not path.exists()


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff", b"[1]", b'[{"at": "RCPT"}]', b'[{"at": "RCPT", "do": "answer", "code": 1}]']
)
async def test_a_damaged_file_is_no_fault(
    tmp_path: Path, content: bytes, logged: list[MutableMapping[str, Any]]
) -> None:
    """What cannot be read sets nothing, is said in the log, and the next change replaces it."""
    path = tmp_path / "faults.json"
    path.write_bytes(content)
    async with keeping_faults(path) as faults:
        assert faults.standing == ()
        faults.add(A_FAULT)

    assert [one["event"] for one in logged] == ["faults not understood, so none are set"]
    async with keeping_faults(path) as faults:
        assert len(faults.standing) == 1


async def test_a_full_disk_does_not_stop_the_mailbox(tmp_path: Path, logged: list[MutableMapping[str, Any]]) -> None:
    """Faults that cannot be written work all the same, and the log says that they will be gone."""
    async with keeping_faults(tmp_path / "nowhere" / "faults.json") as faults:
        faults.add(A_FAULT)
        strike(faults)
        assert faults.standing[0].struck == 1

    assert {one["event"] for one in logged} == {"faults not kept"}
