"""What a fault run has shown, from what three observers wrote who do not know of each other. Pure rules.

The names are those of Jepsen's checkers of queues, as RabbitMQ's own tests use them.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.faults.events import Copied, Ended, Happened, Submitted

#: Seconds in which an answer is wanted, whatever it says, and the share of requests that must get theirs.
ANSWERED_WITHIN = 5.0
ANSWERED_SHARE = 0.99

#: A message is over when it stands so.
TERMINAL = frozenset({"sent", "failed", "expired", "uncertain"})

#: What is over without the message having left, each with its reason on record.
NOT_SENT = frozenset({"failed", "expired", "uncertain"})

#: What the API knows nothing of.
UNKNOWN = "unknown"

#: Clocks of two observers, and what was on its way when a door closed.
SLACK = 0.5


@dataclass(frozen=True, slots=True)
class During:
    """How requests fared while a fault lasted."""

    name: str
    seconds: float
    requests: int
    answered: int
    #: Whether nobody was left to answer.
    mute: bool = False

    @property
    def share(self) -> float:
        """Of the requests that got an answer in time."""
        return self.answered / self.requests if self.requests else 1.0

    @property
    def is_enough(self) -> bool:
        """Whether enough did; of few requests one may always be missed."""
        return self.mute or self.share >= ANSWERED_SHARE or self.requests - self.answered <= 1


@dataclass(slots=True)
class Verdict:
    """The findings. All but `duplicated` and `recovered` must be empty."""

    submitted: int = 0
    accepted: int = 0
    refused: int = 0
    unanswered: int = 0
    aborted: int = 0
    copies: int = 0
    #: Answered 0, never sent, and no failure is on record; or on record as sent without ever having left.
    lost: list[str] = field(default_factory=list)
    #: Sent without having been submitted, or not as it was submitted.
    unexpected: list[str] = field(default_factory=list)
    #: Answered 1 and sent all the same.
    contradicted: list[str] = field(default_factory=list)
    #: Sent twice, with a fault between the first copy and its record, and marked.
    duplicated: list[str] = field(default_factory=list)
    #: Sent twice without such a fault, more than twice, or without a mark.
    unexcused: list[str] = field(default_factory=list)
    #: Accepted and not over at the end.
    stuck: list[str] = field(default_factory=list)
    #: On record as not sent, without a doubt, though the server said that it has it.
    misreported: list[str] = field(default_factory=list)
    #: Begun to be sent while its integration was closed.
    ungated: list[str] = field(default_factory=list)
    #: Sent, though its client never saw the answer.
    recovered: list[str] = field(default_factory=list)
    #: Processes of ours that ended although nobody had told them to.
    died: list[str] = field(default_factory=list)
    #: Faults that could not be inflicted.
    undone: list[str] = field(default_factory=list)
    during: list[During] = field(default_factory=list)

    @property
    def unserved(self) -> list[During]:
        """The faults during which too many requests got no answer in time."""
        return [one for one in self.during if not one.is_enough]

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        broken = (
            self.lost, self.unexpected, self.contradicted, self.unexcused, self.stuck, self.misreported, self.ungated,
            self.died, self.undone,
        )  # fmt: skip
        return not any(broken) and not self.unserved


def check(
    submitted: Sequence[Submitted], copied: Sequence[Copied], ended: Sequence[Ended], happened: Sequence[Happened]
) -> Verdict:
    """The verdict over one run."""
    requests = {one.number: one for one in submitted}
    copies_of = taken(copied)
    standing = {one.id: one for one in ended}
    verdict = Verdict(copies=len(copied))
    _count(submitted, verdict)
    for request in submitted:
        _judge_request(request, copies_of.get(request.number, []), standing, verdict)
    for number, copies in copies_of.items():
        _judge_copies(requests.get(number), copies, standing, happened, verdict)
    verdict.ungated = [_named(one) for one in copied if _is_ungated(one, happened)]
    verdict.undone = [f"{fault.name}: {fault.undone}" for fault in happened if fault.undone]
    verdict.during = [_fared(fault, submitted) for fault in happened if not fault.undone]
    return verdict


def taken(copied: Iterable[Copied]) -> dict[int, list[Copied]]:
    """The copies that a server has, or may have: it said so, or the answer was lost. By number, oldest first."""
    found = defaultdict(list)
    for one in sorted(copied, key=lambda copy: copy.at):
        if one.said is None or one.said // 100 == 2:
            found[one.number].append(one)
    return found


def _count(submitted: Sequence[Submitted], verdict: Verdict) -> None:
    verdict.submitted = len(submitted)
    verdict.accepted = sum(one.said == 0 for one in submitted)
    verdict.refused = sum(one.said == 1 for one in submitted)
    verdict.aborted = sum(one.aborted for one in submitted)
    verdict.unanswered = sum(one.said is None and not one.aborted for one in submitted)


def _judge_request(
    request: Submitted, copies: Sequence[Copied], standing: Mapping[str, Ended], verdict: Verdict
) -> None:
    name = f"{request.number} {request.id or ''}".strip()
    if request.said == 1 and copies:
        verdict.contradicted.append(name)
    if request.said is None and copies:
        verdict.recovered.append(name)
    if request.said != 0:
        return
    end = standing.get(request.id or "")
    if end is None or end.status == UNKNOWN:
        verdict.lost.append(f"{name}: nobody knows it")
    elif end.status not in TERMINAL:
        verdict.stuck.append(f"{name}: {end.status}")
    elif not copies and end.status not in NOT_SENT:
        verdict.lost.append(f"{name}: told as {end.status}")
    elif end.status in NOT_SENT and not end.marked and any(one.said for one in copies):
        verdict.misreported.append(f"{name}: told as {end.status}")


def _judge_copies(
    request: Submitted | None,
    copies: Sequence[Copied],
    standing: Mapping[str, Ended],
    happened: Sequence[Happened],
    verdict: Verdict,
) -> None:
    name = _named(copies[0])
    if request is None:
        verdict.unexpected.append(f"{name}: never submitted")
        return
    if any(one.digest != request.digest for one in copies):
        verdict.unexpected.append(f"{name}: not as it was submitted")
    if len(copies) == 1:
        return
    excused = len(copies) == 2 and _is_excused(copies[0], copies[1], happened)
    end = standing.get(copies[0].id)
    if excused and end is not None and end.marked:
        verdict.duplicated.append(name)
    else:
        why = "not marked" if excused else f"{len(copies)} copies without a fault that explains them"
        verdict.unexcused.append(f"{name}: {why}")


def _is_excused(first: Copied, second: Copied, happened: Iterable[Happened]) -> bool:
    """Whether something came between the first copy and its record: its answer was lost, or a fault that cuts records."""
    if first.said is None:
        return True
    return any(
        fault.cuts_records and fault.since <= second.at and fault.until >= first.at - SLACK for fault in happened
    )


def _is_ungated(copy: Copied, happened: Iterable[Happened]) -> bool:
    return any(fault.closed and fault.closed[0] <= copy.mail_at <= fault.closed[1] for fault in happened)


def _fared(fault: Happened, submitted: Iterable[Submitted]) -> During:
    here = [one for one in submitted if fault.since <= one.at <= fault.until and not one.aborted]
    answered = sum(one.said is not None and one.seconds <= ANSWERED_WITHIN for one in here)
    return During(fault.name, fault.until - fault.since, len(here), answered, fault.mute)


def _named(copy: Copied) -> str:
    return f"{copy.number} {copy.id}"


def table(verdict: Verdict) -> str:
    """The verdict for a person: the faults first, then the figures, then what is wrong."""
    lines = [f"{'fault':42} {'lasted':>8} {'requests':>9} {'answered within 5 s':>20}"]
    lines += [
        f"{one.name:42} {one.seconds:6.1f} s {one.requests:9} {one.share:19.2%}{'' if one.is_enough else ' !'}"
        for one in verdict.during
    ]
    figures = {
        "faults": len(verdict.during),
        "submitted": verdict.submitted,
        "accepted (answered 0)": verdict.accepted,
        "refused (answered 1)": verdict.refused,
        "unanswered": verdict.unanswered,
        "aborted by their client": verdict.aborted,
        "copies at the mail server": verdict.copies,
        "recovered": len(verdict.recovered),
        "duplicated, explained and marked": len(verdict.duplicated),
        "duplicated otherwise": len(verdict.unexcused),
        "lost": len(verdict.lost),
        "unexpected": len(verdict.unexpected),
        "contradicted": len(verdict.contradicted),
        "stuck": len(verdict.stuck),
        "misreported": len(verdict.misreported),
        "begun while closed": len(verdict.ungated),
        "processes that ended by themselves": len(verdict.died),
        "faults that could not be inflicted": len(verdict.undone),
        "faults with too few answers": len(verdict.unserved),
    }
    lines += ["", *(f"{name:42} {figure:8}" for name, figure in figures.items())]
    for name in (
        "lost",
        "unexpected",
        "contradicted",
        "unexcused",
        "stuck",
        "misreported",
        "ungated",
        "died",
        "undone",
    ):
        lines += [f"{name}: {one}" for one in getattr(verdict, name)[:20]]
    return "\n".join([*lines, "", "every promise was kept" if verdict.holds else "A PROMISE WAS BROKEN"])
