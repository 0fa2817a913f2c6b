"""The faults of the development mailbox as a rule: what is a good one, and which strikes when."""

from collections.abc import Sequence
from typing import Any

import pytest

from cli.mailbox.faults import Deed, Fault, Faults, Step, Struck, covers, problems


def a_fault(**other: Any) -> Fault:
    """Refuses every recipient, unless told otherwise."""
    return Fault(**{"at": Step.RCPT, "do": Deed.ANSWER, **other})


def strikes(faults: Faults, times: int, *, every: float = 1.0, luck: Sequence[float] = (0.0,)) -> str:
    """What becomes of so many RCPTs for jane@a.example from bob@b.example: x for a fault, . for none."""
    said = ""
    for number in range(times):
        roll = luck[number % len(luck)]
        struck = faults.strike(Step.RCPT, ("bob@b.example", "jane@a.example"), number * every, lambda: roll)  # noqa: B023 - called at once
        said += "x" if struck.fault else "."
    return said


@pytest.mark.parametrize(
    ("fault", "wrong"),
    [
        (a_fault(), set()),
        (a_fault(code=599, text="5.7.8 No", address="*@a.example", above_per_minute=0, times=1, odds=1), set()),
        (a_fault(do=Deed.DELAY, seconds=60.0), set()),
        (a_fault(at=Step.DOT, do=Deed.LOSE_ANSWER), set()),
        (a_fault(code=250), {"code"}),
        (a_fault(code=600), {"code"}),
        (a_fault(text="two\r\nlines"), {"text"}),
        (a_fault(text="ü"), {"text"}),
        (a_fault(text="x" * 201), {"text"}),
        (a_fault(seconds=60.1), {"seconds"}),
        (a_fault(seconds=float("nan")), {"seconds"}),
        (a_fault(seconds=-1.0), {"seconds"}),
        (a_fault(address="a b"), {"address"}),
        (a_fault(address="*a*b*c*d"), {"address"}),
        (a_fault(at=Step.AUTH, address="a.example"), {"address"}),
        (a_fault(do=Deed.LOSE_ANSWER), {"do"}),
        (a_fault(times=0, odds=0, above_per_minute=-1), {"times", "odds", "above_per_minute"}),
        (a_fault(odds=101, code=0, text="\0"), {"odds", "code", "text"}),
    ],
)
def test_everything_wrong_is_found_at_once(fault: Fault, wrong: set[str]) -> None:
    """A fault that could not be carried out, or would break the conversation, is told field by field."""
    assert set(problems(fault)) == wrong


@pytest.mark.parametrize(
    ("pattern", "address", "meant"),
    [
        ("jane@a.example", "Jane@A.example", True),
        ("jane@a.example", "jane@a.example.org", False),
        ("a.example", "anybody@a.example", True),
        ("a.example", "anybody@b.a.example", False),
        ("*.example", "anybody@a.example", True),
        ("jane@*", "jane@anywhere", True),
        ("*+test@a.example", "jane+test@a.example", True),
        ("*", "", True),
        ("a.example", "", False),
        ("j.ne@a.example", "jane@a.example", False),
    ],
)
def test_who_is_meant(pattern: str, address: str, meant: bool) -> None:  # noqa: FBT001 - a column of the table
    """An address, a domain, or either with stars; case means nothing, and nothing but a star stands for another."""
    assert covers(pattern, address) is meant


@pytest.mark.parametrize(
    ("fault", "luck", "said"),
    [
        (a_fault(), [0.0], "xxxxx"),
        (a_fault(at=Step.MAIL), [0.0], "....."),
        (a_fault(address="a.example"), [0.0], "xxxxx"),
        (a_fault(address="b.example"), [0.0], "xxxxx"),
        (a_fault(address="c.example"), [0.0], "....."),
        (a_fault(times=2), [0.0], "xx..."),
        (a_fault(odds=50), [0.0, 0.499, 0.5, 0.999, 0.3], "xx..x"),
        (a_fault(odds=50, times=1), [0.6, 0.4, 0.1], ".x..."),
        (a_fault(above_per_minute=3), [0.0], "...xx"),
        (a_fault(above_per_minute=0), [0.0], "xxxxx"),
        (a_fault(above_per_minute=2, times=1), [0.0], "..x.."),
    ],
)
def test_when_it_strikes(fault: Fault, luck: Sequence[float], said: str) -> None:
    """Always, for some, so many times, by chance or above a rate, and all of these together."""
    faults = Faults()
    faults.add(fault)

    assert strikes(faults, 5, luck=luck) == said
    assert faults.standing[0].struck == said.count("x")


def test_a_rate_is_of_the_last_minute() -> None:
    """Two a minute pass, however many are refused: a client that slows down is served again."""
    faults = Faults()
    faults.add(a_fault(above_per_minute=2))

    assert strikes(faults, 10, every=15.0) == "..xx..xx.."


def test_delays_add_up_and_the_first_of_the_others_decides() -> None:
    """Every delay that strikes is waited, a minute at most; of the rest the first is carried out and counted alone."""
    faults = Faults()
    for fault in (
        a_fault(do=Deed.DELAY, seconds=40.0),
        a_fault(code=450),
        a_fault(do=Deed.DROP),
        a_fault(do=Deed.DELAY, seconds=40.0),
    ):
        faults.add(fault)
    struck = faults.strike(Step.RCPT, ("a@b",), 0.0, lambda: 0.0)

    assert struck == Struck(60.0, a_fault(code=450))
    assert [one.struck for one in faults.standing] == [1, 1, 0, 1]


def test_no_id_is_given_twice() -> None:
    """An old page cannot take back a fault that it never showed."""
    faults = Faults()
    faults.add(a_fault())
    faults.remove(1)
    faults.add(a_fault(code=550))
    faults.remove(1)
    faults.replace([*(one.fault for one in faults.standing), a_fault(code=551)])

    assert [(one.id, one.fault.code) for one in faults.standing] == [(3, 550), (4, 551)]
