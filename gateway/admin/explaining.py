"""The page that explains: what happens to a message, or would to a submission, and why."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.admin.console import TOLD, Visit
from gateway.admin.wording import sentence
from mailroom.message import Kind
from mailroom.operating import explaining

_SUBMISSION = ("kind", "service", "from_address", "mailbox", "size")


async def show(visit: Visit) -> web.Response:
    """Every decision about what is asked for."""
    given = {name: visit.request.query.get(name, "").strip() for name in ("message", *_SUBMISSION)}
    wrong, explained = "", None
    try:
        explained = await _explained(visit, given)
    except TOLD as error:
        wrong = sentence(error)
    return visit.page(
        "explain.html", status=400 if wrong else 200, given=given, explained=explained, wrong=wrong,
        services=sorted(visit.console.settings.services), kinds=[Kind.FORM, Kind.ACD, Kind.AGENTLESS],
    )  # fmt: skip


async def _explained(visit: Visit, given: Mapping[str, str]) -> dict[str, Any] | None:
    if given["message"]:
        return await explaining.explain_message(visit.operator, given["message"])
    if not given["kind"]:
        return None
    size = int(given["size"]) if given["size"].isascii() and given["size"].isdigit() and len(given["size"]) < 12 else 0  # noqa: PLR2004 - digits
    asked = {name: given[name] for name in ("service", "from_address", "mailbox") if given[name]}
    return await explaining.explain_submission(visit.operator, kind=given["kind"], size=size, **asked)
