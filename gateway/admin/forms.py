"""The pages of form services: their options and where each comes from, a live test, the HTML to paste, their numbers."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web

from gateway.admin.console import NotFound, Visit
from gateway.admin.wording import sentence
from mailroom.operating import forms as operating
from mailroom.operating.forms import PLACE, UnknownService

#: Seconds that a live test may take: a service that waits for the outcome takes its time.
TEST_SECONDS = 20.0

#: What a live test says unless somebody types something else.
EXAMPLE = {
    "firstName": "Jane",
    "lastName": "Doe",
    "fromAddress": "jane@example.com",
    "subject": "A test of this form",
    "text": "This was sent from the page of the form.",
}


async def show_all(visit: Visit) -> web.Response:
    """Every service with what came in through it."""
    return visit.page(
        "forms.html",
        services=await operating.list_forms(visit.operator),
        numbers=await visit.console.pulse.services.now(),
    )


async def show(visit: Visit) -> web.Response:
    """One service."""
    return await _page(visit)


async def _page(
    visit: Visit, answer: Mapping[str, Any] | None = None, given: Mapping[str, str] | None = None
) -> web.Response:
    name = visit.request.match_info["service"]
    try:
        service = await operating.show_form(visit.operator, name)
        pasted = await operating.form_to_paste(visit.operator, name, _endpoint(visit, name))
    except UnknownService as error:
        raise NotFound(sentence(error)) from None
    return visit.page(
        "form.html", service=service, pasted=pasted, numbers=(await visit.console.pulse.services.now()).get(name, {}),
        endpoint=_endpoint(visit, name), answer=answer, given=given or EXAMPLE,
    )  # fmt: skip


async def try_it(visit: Visit) -> web.Response:
    """Submit a form as a client does, to this gateway's own port, and show what it answers."""
    name = visit.request.match_info["service"]
    options = visit.console.settings.options_of(name)
    if options is None:
        raise NotFound("There is no such service.")
    form = await visit.form()
    fields = {field: form.get(field, "") for field in EXAMPLE}
    return await _page(visit, await _submitted(visit, name, fields, next(iter(options.api_keys), None)), fields)


async def _submitted(visit: Visit, name: str, fields: Mapping[str, str], key: str | None) -> dict[str, Any]:
    url = f"http://{_own_address(visit)}{PLACE}/{quote(name, safe='')}"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TEST_SECONDS)) as session,
            session.post(url, data=dict(fields), headers={"apikey": key} if key else {}) as answer,
        ):
            body = await answer.text()
            found = await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return {"status": None, "body": f"{type(error).__name__}: {error}", "id": None, "accepted": False}
    message_id = found.get("interactionId") if isinstance(found, dict) else None
    return {"status": answer.status, "body": body, "id": message_id, "accepted": message_id is not None}


# --- addresses --------------------------------------------------------------------------------------------------------


def _own_address(visit: Visit) -> str:
    """Where this very process takes forms."""
    host, _, port = visit.console.settings.listen.rpartition(":")
    if host.strip("[]") in {"0.0.0.0", "::", ""}:  # noqa: S104 - nobody listens here: it is where to connect to
        host = "127.0.0.1"
    return f"{host}:{port}"


def _endpoint(visit: Visit, name: str) -> str:
    """Where a browser that sees this page may find the form API: the same host, at the API's port."""
    try:
        host = visit.request.url.host or "127.0.0.1"
    except ValueError:
        host = "127.0.0.1"  # the request's own Host is none
    port = visit.console.settings.listen.rpartition(":")[2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{PLACE}/{quote(name, safe='')}"
