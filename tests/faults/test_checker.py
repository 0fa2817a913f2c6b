"""The rules of a fault run's verdict: each finding is found, and nothing else."""

from typing import Any

import pytest

from tests.faults.checker import Verdict, check
from tests.faults.events import Copied, Ended, Happened, Submitted

FINDINGS = (
    "lost", "unexpected", "contradicted", "duplicated", "unexcused", "stuck", "misreported", "ungated", "recovered",
)  # fmt: skip


def asked(number: int = 1, **changes: Any) -> Submitted:
    """A request that was answered 0 at once."""
    values: dict[str, Any] = {
        "number": number,
        "at": 100.0,
        "seconds": 0.1,
        "said": 0,
        "id": f"id{number}",
        "digest": "whole",
    }
    return Submitted(**(values | changes))


def copy(number: int = 1, **changes: Any) -> Copied:
    """A copy that the server took."""
    values: dict[str, Any] = {
        "number": number, "id": f"id{number}", "at": 101.0, "mail_at": 100.9, "recipient": "a@b.test", "digest": "whole",
        "said": 250,
    }  # fmt: skip
    return Copied(**(values | changes))


def stands(status: str, number: int = 1, *, marked: bool = False) -> Ended:
    """Where a message stands at the end."""
    return Ended(id=f"id{number}", status=status, said=0, marked=marked)


def fault(since: float, until: float, **changes: Any) -> Happened:
    """Something that happened meanwhile."""
    return Happened(name="something", since=since, until=until, **changes)


def found(verdict: Verdict) -> set[str]:
    """The kinds of findings."""
    return {name for name in FINDINGS if getattr(verdict, name)}


CUT = fault(101.2, 105.0, cuts_records=True)
TWICE = [copy(), copy(at=110.0)]
WITHOUT_ANSWER = [copy(said=None), copy(at=110.0)]

CASES: dict[str, tuple[list[Submitted], list[Copied], list[Ended], list[Happened], set[str]]] = {
    "sent": ([asked()], [copy()], [stands("sent")], [], set()),
    "refused": ([asked(said=1, id=None)], [], [], [], set()),
    "failed, with its reason": ([asked()], [], [stands("failed")], [], set()),
    "refused by the server at the dot": ([asked()], [copy(said=550)], [stands("failed")], [], set()),
    "failed, and the server has it": ([asked()], [copy()], [stands("failed")], [], {"misreported"}),
    "failed, and the server may have it": ([asked()], [copy()], [stands("failed", marked=True)], [], set()),
    "nobody knows it": ([asked()], [], [], [], {"lost"}),
    "told as sent, and never seen": ([asked()], [], [stands("sent")], [], {"lost"}),
    "told as sent, and refused": ([asked()], [copy(said=450)], [stands("sent")], [], {"lost"}),
    "still queued": ([asked()], [], [stands("queued")], [], {"stuck"}),
    "still held": ([asked()], [], [stands("held")], [], {"stuck"}),
    "from nobody": ([], [copy()], [], [], {"unexpected"}),
    "cut short": ([asked()], [copy(digest="half")], [stands("sent")], [], {"unexpected"}),
    "answered 1 and sent": ([asked(said=1, id=None)], [copy()], [], [], {"contradicted"}),
    "unanswered and sent": ([asked(said=None, id=None)], [copy()], [], [], {"recovered"}),
    "unanswered and not sent": ([asked(said=None, id=None)], [], [], [], set()),
    "twice for no reason": ([asked()], TWICE, [stands("sent", marked=True)], [], {"unexcused"}),
    "twice, a fault between, marked": ([asked()], TWICE, [stands("sent", marked=True)], [CUT], {"duplicated"}),
    "twice, a fault between, not marked": ([asked()], TWICE, [stands("sent")], [CUT], {"unexcused"}),
    "twice, a fault that cuts nothing": (
        [asked()], TWICE, [stands("sent", marked=True)], [fault(101.2, 105.0)], {"unexcused"},
    ),
    "twice, a fault before": (
        [asked()], TWICE, [stands("sent", marked=True)], [fault(90.0, 99.0, cuts_records=True)], {"unexcused"},
    ),
    "twice, the answer lost": ([asked()], WITHOUT_ANSWER, [stands("sent", marked=True)], [], {"duplicated"}),
    "three times": ([asked()], [*WITHOUT_ANSWER, copy(at=120.0)], [stands("sent", marked=True)], [CUT], {"unexcused"}),
    "begun while closed": ([asked()], [copy()], [stands("sent")], [fault(99.0, 103.0, closed=(100.0, 103.0))], {"ungated"}),
    "begun before it closed": ([asked()], [copy()], [stands("sent")], [fault(99.0, 103.0, closed=(101.0, 103.0))], set()),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_finding_is_found(case: str) -> None:
    """What one observer saw, against what the others did."""
    submitted, copied, ended, happened, expected = CASES[case]
    verdict = check(submitted, copied, ended, happened)

    assert found(verdict) == expected
    assert verdict.holds == (not expected - {"duplicated", "recovered"})


@pytest.mark.parametrize(("late", "holds"), [(1, True), (2, False)])
def test_one_in_a_hundred_may_be_late(late: int, holds: bool) -> None:  # noqa: FBT001 - a column of the table
    """Of the requests during one fault 99 in 100 must be answered within five seconds, whatever with."""
    requests = [asked(number, said=1, id=None, seconds=6.0 if number < late else 0.1) for number in range(100)]
    verdict = check(requests, [], [], [fault(99.0, 101.0)])

    assert verdict.holds is holds
    assert verdict.during[0].requests == 100


def test_who_is_dead_need_not_answer() -> None:
    """A fault that leaves nobody is no reason to miss answers."""
    requests = [asked(number, said=None, id=None) for number in range(100)]

    assert check(requests, [], [], [fault(99.0, 101.0, mute=True)]).holds


def test_what_was_not_done_proves_nothing() -> None:
    """A fault that could not be inflicted breaks the run."""
    assert not check([], [], [], [fault(1.0, 2.0, undone="nobody came there")]).holds
