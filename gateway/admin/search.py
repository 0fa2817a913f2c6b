"""The page that finds messages: one box for ids, addresses, domains and words, and what it can be narrowed to."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from urllib.parse import urlencode

from aiohttp import web

from gateway.admin.console import TOLD, Visit
from gateway.admin.wording import sentence
from mailroom.integration import IntendedState
from mailroom.message import Kind, Status
from mailroom.operating import messages as operating

ON_A_PAGE = 50

#: How far back it looks, as the page offers it.
RANGES: Mapping[str, timedelta] = MappingProxyType(
    {
        "hour": timedelta(hours=1),
        "day": timedelta(days=1),
        "week": timedelta(days=7),
        "month": timedelta(days=31),
        "year": timedelta(days=366),
    }
)
USUAL_RANGE = "week"

_FILTERS = ("text", "status", "kind", "service", "integration", "range", "from", "to")


async def show(visit: Visit) -> web.Response:
    """The newest messages that fit."""
    given = {name: visit.request.query.get(name, "").strip() for name in _FILTERS}
    given["range"] = given["range"] if given["range"] in RANGES else USUAL_RANGE
    wrong, found = "", None
    try:
        async with visit.console.turns:
            found = await operating.search_messages(
                visit.operator,
                given["text"] or None,
                _narrowed(visit, given),
                ON_A_PAGE,
                visit.request.query.get("before"),
            )
    except TOLD as error:
        wrong = sentence(error)
    return visit.page(
        "messages.html", status=400 if wrong else 200, given=given, wrong=wrong, found=found, ranges=list(RANGES),
        statuses=[one for one in Status if one is not Status.REFUSED], kinds=list(Kind),
        services=sorted(visit.console.settings.services),
        integrations=sorted(
            one.name for one in visit.console.watch.all.values() if one.intended_state is not IntendedState.DELETED
        ),
        older=_older(given, found["older"] if found else None), begun="before" in visit.request.query,
        first=_link(given), is_narrowed=any(given[name] for name in _FILTERS if name != "range"),
    )  # fmt: skip


def _narrowed(visit: Visit, given: Mapping[str, str]) -> dict[str, str | None]:
    names = ("status", "kind", "service", "integration")
    since = given["from"] or (visit.now - RANGES[given["range"]]).isoformat()
    until = f"{given['to']}T23:59:59.999999" if given["to"] else None
    return {name: given[name] or None for name in names} | {"since": since, "until": until}


def _older(given: Mapping[str, str], older: object) -> str | None:
    return None if older is None else _link({**given, "before": str(older)})


def _link(given: Mapping[str, str]) -> str:
    return "/messages?" + urlencode({name: value for name, value in given.items() if value}, errors="replace")
