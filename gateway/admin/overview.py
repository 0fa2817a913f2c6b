"""The first page: what needs a person, what comes in and goes out, what waits."""

from aiohttp import web

from gateway.admin import integrations
from gateway.admin.console import Visit
from gateway.admin.layout import NAVIGATION
from gateway.admin.live import live
from mailroom.roles import Permission


async def show(visit: Visit) -> web.Response:
    """What is so now; who may not see that is taken to the first page they may see."""
    if not visit.may(Permission.PAGES_VIEW):
        return visit.see_other(next((where for where, _, asks in NAVIGATION if visit.may(asks)), "/account"))
    return visit.page("overview.html", fragment=await _now(visit))


async def watch(visit: Visit) -> web.StreamResponse:
    """The same, as it changes."""
    return await live(visit, _now)


async def _now(visit: Visit) -> str:
    return visit.text("_overview.html", rows=await integrations.glance(visit))
