"""From figures to what they say: medians of the rounds, ratios, and whether each ratio holds."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

#: A figure's name and its value, of one stack in one case.
Figures = Mapping[str, float]
#: By stack, then by case.
Round = Mapping[str, Mapping[str, Figures]]

#: What people would build instead; Postfix takes no forms, and stands in the tables only.
PEERS = ("flask", "fastapi", "express")

#: Cases whose mails take no time of their own on the way; one with 9 MB is 12 MB on the wire.
SMALL = ("urlencoded", "fields", "96kb")

#: Milliseconds from the answer to the 250 of a mail of which nothing else is under way.
DELIVERED_ALONE_MS = 30.0


class Holds(StrEnum):
    """What a ratio has come to."""

    YES = "holds"
    NO = "DOES NOT HOLD"


@dataclass(frozen=True, slots=True)
class Claim:
    """One of our figures against the best of others', in some cases: at least, or at most, so many times as much."""

    title: str
    figure: str
    ours: str
    others: tuple[str, ...]
    floor: float
    at_most: bool = False
    #: What we would like it to be.
    goal: float | None = None
    #: All of them where none is named.
    cases: tuple[str, ...] = ()


CLAIMS = (
    Claim("intake, to the fastest peer", "intake", "mailroom", PEERS, 1.2, goal=2.0),
    Claim("drain, to the fastest peer", "drain", "mailroom", PEERS, 1.1, goal=1.5),
    Claim("end to end, to the fastest peer", "end_to_end", "mailroom", PEERS, 1.0, goal=1.3),
    Claim("intake, to the bare program", "intake", "mailroom", ("bare",), 0.75),
    Claim("drain, to the bare program", "drain", "mailroom", ("bare",), 0.75),
    Claim("end to end, to the bare program", "end_to_end", "mailroom", ("bare",), 0.75),
    Claim("intake, `mailroom up` to PostgreSQL", "intake", "embedded", ("mailroom",), 0.6),
    Claim("end to end, `mailroom up` to PostgreSQL", "end_to_end", "embedded", ("mailroom",), 0.6),
    Claim("accept alone, to the bare program", "alone_accept_p50", "mailroom", ("bare",), 1.5, at_most=True),
    Claim(
        "answer to 250 alone, ms", "alone_delivered_p50", "mailroom", (), DELIVERED_ALONE_MS, at_most=True, cases=SMALL
    ),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a claim has come to in one case."""

    title: str
    case: str
    ratio: float
    floor: float
    goal: float | None
    at_most: bool

    @property
    def holds(self) -> Holds:
        """Whether it is within its floor."""
        within = self.ratio <= self.floor if self.at_most else self.ratio >= self.floor
        return Holds.YES if within else Holds.NO


def medians(rounds: Sequence[Round]) -> dict[str, dict[str, dict[str, float]]]:
    """The median of each figure over the rounds that have it."""
    gathered: dict[str, dict[str, dict[str, list[float]]]] = {}
    for one in rounds:
        for stack, cases in one.items():
            for case, figures in cases.items():
                for name, value in figures.items():
                    gathered.setdefault(stack, {}).setdefault(case, {}).setdefault(name, []).append(value)
    return {
        stack: {
            case: {name: statistics.median(values) for name, values in figures.items()}
            for case, figures in cases.items()
        }
        for stack, cases in gathered.items()
    }


def verdicts(found: Round, claims: Iterable[Claim] = CLAIMS) -> list[Verdict]:
    """What each claim has come to in each case that was measured on both sides."""
    return [
        verdict
        for claim in claims
        for case in found.get(claim.ours, {})
        if (not claim.cases or case in claim.cases) and (verdict := _verdict(claim, case, found)) is not None
    ]


def _verdict(claim: Claim, case: str, found: Round) -> Verdict | None:
    ours = found[claim.ours][case].get(claim.figure)
    others = [value for other in claim.others if (value := found.get(other, {}).get(case, {}).get(claim.figure))]
    if ours is None or (claim.others and not others):
        return None
    best = (min(others) if claim.at_most else max(others)) if others else 1.0
    return Verdict(claim.title, case, ours / best, claim.floor, claim.goal, claim.at_most)


def verdict_lines(found: Sequence[Verdict]) -> list[str]:
    """A line for each."""
    return [
        f"  {one.case:<12}{one.title:<42}{one.ratio:>8.2f}  {'at most' if one.at_most else 'at least'} {one.floor:<6g}"
        f"{f'goal {one.goal:g}' if one.goal else '':<10}{one.holds}"
        for one in found
    ]


#: Rows of a case's table: what they are called, and the figures behind.
ROWS = (
    ("intake /s", "intake"),
    ("drain /s", "drain"),
    ("end to end /s", "end_to_end"),
    ("accept under load, p50 ms", "accept_p50"),
    ("accept under load, p99 ms", "accept_p99"),
    ("accept alone, p50 ms", "alone_accept_p50"),
    ("accept alone, p99 ms", "alone_accept_p99"),
    ("answer to 250 alone, p50 ms", "alone_delivered_p50"),
    ("answer to 250 alone, p99 ms", "alone_delivered_p99"),
    ("accept at a steady rate, p50 ms", "steady_accept_p50"),
    ("accept at a steady rate, p99 ms", "steady_accept_p99"),
    ("answer to 250, steady, p50 ms", "steady_delivered_p50"),
    ("answer to 250, steady, p99 ms", "steady_delivered_p99"),
    *(
        (f"{phase}, CPU of {role}, ms each", f"{key}_cpu_{role}")
        for phase, key in (("intake", "intake"), ("drain", "drain"), ("end to end", "end_to_end"))
        for role in ("gateway", "worker", "relay", "postgresql", "rabbitmq", "sink")
    ),
    *(
        (f"most memory of {role}, MB", f"memory_{role}")
        for role in ("gateway", "worker", "relay", "postgresql", "rabbitmq")
    ),
    ("intake, statements each", "intake_statements"),
    ("drain, statements each", "drain_statements"),
    ("end to end, statements each", "end_to_end_statements"),
    ("intake, publishes each", "intake_publishes"),
    ("end to end, publishes each", "end_to_end_publishes"),
)


def table(found: Round, case: str, titles: Mapping[str, str]) -> list[str]:
    """A case's figures: a row each, a column for each stack."""
    stacks = [stack for stack in titles if case in found.get(stack, {})]
    lines = [" " * 38 + "".join(f"{titles[stack]:>21}" for stack in stacks)]
    for title, figure in ROWS:
        values = [found[stack][case].get(figure) for stack in stacks]
        if any(values):
            lines.append(f"  {title:<36}" + "".join(f"{_shown(value):>21}" for value in values))
    return lines


def _shown(value: float | None) -> str:
    """With as many digits as mean something."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3f}"
