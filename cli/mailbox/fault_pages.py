"""The fault panel: a page on which somebody sets what shall go wrong, and the same for programs."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from aiohttp import web

from cli.mailbox.faults import (
    CERTAIN,
    KNOWS_ADDRESSES,
    MOST_FAULTS,
    Deed,
    Fault,
    Faults,
    Step,
    problems,
)
from cli.mailbox.frame import Frame, Problem, number, told
from cli.mailbox.kept_faults import BadFaults, as_json, read_faults

#: How the form names what a fault can do.
DEEDS: Mapping[Deed, str] = MappingProxyType(
    {
        Deed.ANSWER: "Answer with the code",
        Deed.DELAY: "Wait, then go on",
        Deed.DROP: "Lose the connection unanswered",
        Deed.DROP_AFTER: "Answer as usual, then lose the connection",
        Deed.LOSE_ANSWER: "Keep the letter, lose the answer (dot)",
    }
)

#: What people want most often, set with one click.
READY_MADE: Mapping[str, Fault] = MappingProxyType(
    {
        "Refuse the log-in": Fault(
            at=Step.AUTH, do=Deed.ANSWER, code=535, text="5.7.8 Authentication credentials invalid"
        ),
        "Be out of service": Fault(at=Step.CONNECT, do=Deed.ANSWER, code=554, text="5.3.2 No service here"),
        "Put three letters off": Fault(
            at=Step.RCPT, do=Deed.ANSWER, code=451, text="4.7.1 Greylisted, try again later", times=3
        ),
        "Ask to slow down above 10 a minute": Fault(
            at=Step.MAIL, do=Deed.ANSWER, code=421, text="4.7.0 Too many messages", above_per_minute=10
        ),
        "Lose one answer to the dot": Fault(at=Step.DOT, do=Deed.LOSE_ANSWER, times=1),
        "Wait 10 s at the dot": Fault(at=Step.DOT, do=Deed.DELAY, seconds=10.0),
    }
)

#: What an empty form shows.
_BLANK: Mapping[str, str] = MappingProxyType(
    {
        "at": Step.RCPT, "do": Deed.ANSWER, "code": "451", "text": "", "seconds": "",
        "address": "", "above_per_minute": "", "times": "", "odds": "",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Filled:
    """A form as somebody filled it in: a good fault, or what is wrong with it by field."""

    fault: Fault | None
    wrong: Mapping[str, str]


class FaultPages:
    """The handlers of faults."""

    def __init__(self, faults: Faults, frame: Frame) -> None:
        self._faults = faults
        self._frame = frame

    async def show(self, request: web.Request) -> web.StreamResponse:
        """What is set, and a form for one more."""
        return self._page(request, _BLANK, {}, status=200)

    async def add(self, request: web.Request) -> web.StreamResponse:
        """Set one, ready-made or filled in; what is wrong with it is said beside its fields."""
        self._frame.refuse_other_sites(request)
        given = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        ready = READY_MADE.get(given.get("ready", ""))
        filled = Filled(ready, {}) if ready else read_form(given)
        if filled.fault is None:
            return self._page(request, {**_BLANK, **given}, filled.wrong, status=422)
        self._refuse_when_full()
        self._faults.add(filled.fault)
        return self._frame.see_other(request, "faults")

    async def remove(self, request: web.Request) -> web.StreamResponse:
        """Take one back."""
        self._frame.refuse_other_sites(request)
        self._faults.remove(number(request.match_info["id"], 0))
        return self._frame.see_other(request, "faults")

    async def clear(self, request: web.Request) -> web.StreamResponse:
        """Take all back."""
        self._frame.refuse_other_sites(request)
        self._faults.replace(())
        return self._frame.see_other(request, "faults")

    async def list_as_json(self, request: web.Request) -> web.StreamResponse:
        """What is set, for programs."""
        return web.json_response({"faults": as_json(self._faults.standing)}, headers=told())

    async def replace(self, request: web.Request) -> web.StreamResponse:
        """Set these and no others, for programs."""
        self._frame.refuse_other_sites(request)
        try:
            self._faults.replace(read_faults(await request.read()))
        except BadFaults as error:
            return web.json_response({"error": str(error)}, status=422, headers=told())
        return await self.list_as_json(request)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Take all back, for programs."""
        self._frame.refuse_other_sites(request)
        self._faults.replace(())
        return web.Response(status=204, headers=told())

    def _refuse_when_full(self) -> None:
        if self._faults.is_full:
            raise Problem(409, f"There are {MOST_FAULTS} faults already; remove some first.")

    def _page(
        self, request: web.Request, given: Mapping[str, str], wrong: Mapping[str, str], *, status: int
    ) -> web.Response:
        standing = [(one, in_words(one.fault), how_often(one.fault)) for one in self._faults.standing]
        return self._frame.page(
            request,
            "faults.html",
            "Faults · Mailbox",
            status=status,
            standing=standing,
            given=given,
            wrong=wrong,
            steps=[(one, one) for one in Step],
            deeds=DEEDS,
            ready_made=READY_MADE,
            knows_addresses=sorted(KNOWS_ADDRESSES, key=list(Step).index),
        )


def read_form(given: Mapping[str, str]) -> Filled:
    """The fault of a filled-in form, or everything that is wrong with it."""
    wrong: dict[str, str] = {}

    def whole(name: str, otherwise: int | None) -> int | None:
        text = given.get(name, "").strip()
        if text and not (text.isascii() and text.isdigit() and len(text) < 10):  # noqa: PLR2004 - no field needs more
            wrong[name] = "must be a whole number"
        return int(text) if text and name not in wrong else otherwise

    def choice(name: str, choices: type[Step] | type[Deed]) -> str:
        if given.get(name) not in set(choices):
            wrong[name] = "must be one of the list"
        return given.get(name, "")

    at, do = choice("at", Step), choice("do", Deed)
    code, seconds, odds = whole("code", 0), _seconds(given.get("seconds", ""), wrong), whole("odds", CERTAIN)
    above, times = whole("above_per_minute", None), whole("times", None)
    if wrong:
        return Filled(None, wrong)
    fault = Fault(
        at=Step(at),
        do=Deed(do),
        text=given.get("text", "").strip(),
        seconds=seconds,
        address=given.get("address", "").strip(),
        above_per_minute=above,
        times=times,
        **{name: value for name, value in (("code", code), ("odds", odds)) if value is not None},
    )
    found = problems(fault)
    return Filled(None if found else fault, found)


def _seconds(text: str, wrong: dict[str, str]) -> float:
    try:
        return float(text.strip() or 0)
    except ValueError:
        wrong["seconds"] = "must be a number"
        return 0.0


def in_words(fault: Fault) -> str:
    """What it does: answer “451 Later”."""
    match fault.do:
        case Deed.ANSWER:
            return f"answer “{fault.answer}”"
        case Deed.DELAY:
            return f"wait {fault.seconds:g} s"
        case Deed.DROP:
            return "lose the connection unanswered"
        case Deed.DROP_AFTER:
            return "answer as usual, then lose the connection"
        case Deed.LOSE_ANSWER:
            return "keep the letter, lose the answer"


def how_often(fault: Fault) -> str:
    """When it does it: for a.example, the next 3 times."""
    said = [
        f"for {fault.address}" if fault.address else "",
        f"above {fault.above_per_minute} a minute" if fault.above_per_minute is not None else "",
        f"{fault.times} {'time' if fault.times == 1 else 'times'}" if fault.times is not None else "",
        f"in {fault.odds} of 100 cases" if fault.odds < CERTAIN else "",
    ]
    return ", ".join(filter(None, said)) or "always"
