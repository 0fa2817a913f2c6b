"""The page of the audit: who changed what, when, and why."""

from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from gateway.admin.console import TOLD, Visit
from gateway.admin.wording import sentence
from mailroom.operating import audit as operating

ON_A_PAGE = 50

_FILTERS = ("since", "until", "who", "subject", "action", "integration")


async def show(visit: Visit) -> web.Response:
    """The newest entries that fit."""
    given = {name: visit.request.query.get(name, "").strip() for name in _FILTERS}
    asked = {name: value for name, value in given.items() if value}
    wrong = ""
    found: dict[str, Any] = {"entries": [], "next": None}
    try:
        async with visit.console.turns:
            before = visit.request.query.get("before")
            found = await operating.list_audit(visit.operator, **asked, before=before, limit=ON_A_PAGE)
    except TOLD as error:
        wrong = sentence(error)
    older = f"/audit?{urlencode({**asked, 'before': found['next']}, errors='replace')}" if found["next"] else None
    return visit.page(
        "audit.html", status=400 if wrong else 200, given=given, entries=found["entries"], older=older, wrong=wrong,
        begun="before" in visit.request.query,
    )  # fmt: skip
