"""Figures of rounds become medians, ratios and what they say."""

from dataclasses import replace

import pytest

from benchmarks.figures import CLAIMS, Claim, Holds, medians, table, verdict_lines, verdicts

FASTER = Claim("intake, to the fastest peer", "intake", "mailroom", ("flask", "express"), 1.2, goal=2.0)
QUICK = Claim("accept alone, to the bare program", "alone", "mailroom", ("bare",), 1.5, at_most=True)
SOON = Claim("answer to 250", "delivered", "mailroom", (), 30.0, at_most=True)


def figures_of(**stacks: dict[str, float]) -> dict[str, dict[str, dict[str, float]]]:
    """What was found in one case."""
    return {stack: {"fields": figures} for stack, figures in stacks.items()}


def test_medians_are_of_each_figure_by_itself() -> None:
    """A slow round spoils one figure and not the others; a figure that a round lacks is the median of the rest."""
    rounds = [
        figures_of(bare={"intake": 10.0, "drain": 1.0}),
        figures_of(bare={"intake": 30.0, "drain": 3.0}),
        figures_of(bare={"intake": 20.0}),
    ]

    assert medians(rounds) == figures_of(bare={"intake": 20.0, "drain": 2.0})


@pytest.mark.parametrize(
    ("claim", "found", "ratio", "holds"),
    [
        (
            FASTER,
            figures_of(mailroom={"intake": 240.0}, flask={"intake": 100.0}, express={"intake": 200.0}),
            1.2,
            "holds",
        ),
        (FASTER, figures_of(mailroom={"intake": 239.0}, express={"intake": 200.0}), 1.195, "DOES NOT HOLD"),
        (QUICK, figures_of(mailroom={"alone": 3.0}, bare={"alone": 2.0}), 1.5, "holds"),
        (QUICK, figures_of(mailroom={"alone": 3.2}, bare={"alone": 2.0}), 1.6, "DOES NOT HOLD"),
        (SOON, figures_of(mailroom={"delivered": 12.0}), 12.0, "holds"),
        (SOON, figures_of(mailroom={"delivered": 31.0}), 31.0, "DOES NOT HOLD"),
    ],
    ids=["at the floor", "below the floor", "at the most", "above the most", "within a bound", "beyond a bound"],
)
def test_claims_are_held_against_the_best_of_the_others(
    claim: Claim, found: dict[str, dict[str, dict[str, float]]], ratio: float, holds: str
) -> None:
    """At least so many times the fastest, or at most so many times the quickest; the floor itself is enough."""
    [verdict] = verdicts(found, [claim])

    assert verdict.ratio == pytest.approx(ratio)
    assert verdict.holds == holds
    assert holds in verdict_lines([verdict])[0]


@pytest.mark.parametrize(
    "found",
    [
        figures_of(mailroom={"intake": 1.0}),
        figures_of(flask={"intake": 1.0}),
        figures_of(mailroom={"drain": 1.0}, flask={"intake": 1.0}),
    ],
    ids=["nobody else", "not us", "not this figure"],
)
def test_what_was_not_measured_is_not_claimed(found: dict[str, dict[str, dict[str, float]]]) -> None:
    """A claim needs both sides; with one of them there is nothing to say."""
    assert verdicts(found, [FASTER]) == []


def test_a_claim_is_only_about_its_cases() -> None:
    """How soon a mail is delivered is not said of one so large that the way itself takes longer."""
    found = {"mailroom": {"fields": {"delivered": 40.0}, "9mb": {"delivered": 90.0}}}

    assert [one.case for one in verdicts(found, [replace(SOON, cases=("fields",))])] == ["fields"]


def test_every_claim_holds_for_somebody_who_is_fast_enough() -> None:
    """The claims name figures that are shown, so a claim that could never be looked up is found here."""
    everybody = figures_of(
        **{name: {claim.figure: 1.0 for claim in CLAIMS} for name in ("flask", "fastapi", "express", "bare")},
        mailroom={claim.figure: 1.0 if claim.at_most else 2.0 for claim in CLAIMS},
        embedded={claim.figure: 2.0 for claim in CLAIMS},
    )

    found = verdicts(everybody)

    assert len(found) == len(CLAIMS)
    assert {one.holds for one in found} == {Holds.YES}


def test_tables_have_a_column_for_each_stack_that_was_measured() -> None:
    """A row stands there when one of them has the figure; who lacks it has a dash."""
    found = figures_of(bare={"intake": 1234.5, "drain": 12.34}, postfix={"intake": 0.5678})

    heading, *rows = table(found, "fields", {"bare": "bare program", "flask": "Flask", "postfix": "Postfix"})

    assert heading.split() == ["bare", "program", "Postfix"]
    assert [row.split() for row in rows] == [["intake", "/s", "1,234", "0.568"], ["drain", "/s", "12.3", "-"]]
