"""The platform API over HTTP: every endpoint in one table, with the permission it asks for."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import hdrs, web

from gateway.cloud import agentless, conversations, credentials, domains, drafts, files, integrations, letters, tokens
from gateway.cloud.access import require
from gateway.cloud.answers import PREFIX
from gateway.cloud.bodies import most_that_comes, read_json
from gateway.cloud.calls import Answer, Call, Endpoint, Platform
from gateway.cloud.correlation import correlation_id, mark
from gateway.cloud.errors import Code, Refusal, busy, error_body
from gateway.cloud.letters import MOST_BYTES as LARGE
from mailroom.logs import get_logger
from mailroom.roles import Permission
from mailroom.serving import expect
from mailroom.store.port import BadRow, CommitUnknown, StoreUnavailable

log = get_logger(__name__)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_VIEW, _ADD = Permission.INTEGRATION_VIEW, Permission.INTEGRATION_ADD
_EDIT, _DELETE = Permission.INTEGRATION_EDIT, Permission.INTEGRATION_DELETE
_SEE, _MANAGE = Permission.ROUTING_VIEW, Permission.ROUTING_MANAGE

_ONE = "/integrations/{integrationId}"
_CURRENT = f"{_ONE}/config/current"
_TYPE = "/integrations/types/{typeId}"
_CREDENTIALS = "/integrations/credentials"
_CREDENTIAL = f"{_CREDENTIALS}/{{credentialId}}"
_INBOUND = "/routing/email/domains"
_OUTBOUND = "/routing/email/outbound/domains"
_DOMAIN = "{domainId}"

_READ, _CREATE = Permission.CONVERSATION_VIEW, Permission.CONVERSATION_CREATE
_SEND, _NOTIFY = Permission.CONVERSATION_SEND, Permission.AGENTLESS_SEND

_EMAILS = "/conversations/emails"
_EMAIL = f"{_EMAILS}/{{conversationId}}"
_MESSAGES = f"{_EMAIL}/messages"
_DRAFT = f"{_MESSAGES}/draft"
_FILES = f"{_DRAFT}/attachments"
_AGENTLESS = f"{_EMAILS}/agentless"

#: Every endpoint below /api/v2. The test of roles and docs/platform-api.md have a row for each.
ENDPOINTS = (
    Endpoint("GET", "/integrations", _VIEW, integrations.list_all, "list, with filters"),
    Endpoint("POST", "/integrations", _ADD, integrations.create, "create one, DISABLED"),
    Endpoint("GET", _ONE, _VIEW, integrations.get, "one with its state"),
    Endpoint("PATCH", _ONE, _EDIT, integrations.change_state, "enable (reset) or disable"),
    Endpoint("DELETE", _ONE, _DELETE, integrations.delete, "delete"),
    Endpoint("GET", _CURRENT, _VIEW, integrations.get_configuration, "its configuration"),
    Endpoint("PUT", _CURRENT, _EDIT, integrations.put_configuration, "change its configuration"),
    Endpoint("GET", "/integrations/types", _VIEW, integrations.list_types, "list the types"),
    Endpoint("GET", _TYPE, _VIEW, integrations.get_type, "one type"),
    Endpoint("GET", f"{_TYPE}/configschemas/{{configType}}", _VIEW, integrations.get_schema, "its JSON Schema"),
    Endpoint("GET", _CREDENTIALS, _VIEW, credentials.list_all, "list"),
    Endpoint("POST", _CREDENTIALS, _ADD, credentials.create, "create"),
    Endpoint("GET", f"{_CREDENTIALS}/types", _VIEW, credentials.list_types, "list the types"),
    Endpoint("GET", _CREDENTIAL, _VIEW, credentials.get, "one, without its secret"),
    Endpoint("PUT", _CREDENTIAL, _EDIT, credentials.put, "change"),
    Endpoint("DELETE", _CREDENTIAL, _DELETE, credentials.delete, "delete one that is not used"),
    Endpoint("GET", _INBOUND, _SEE, domains.list_inbound, "list"),
    Endpoint("POST", _INBOUND, _MANAGE, domains.create_inbound, "add"),
    Endpoint("GET", f"{_INBOUND}/{_DOMAIN}", _SEE, domains.get_inbound, "one"),
    Endpoint("PATCH", f"{_INBOUND}/{_DOMAIN}", _MANAGE, domains.change_inbound, "choose its integration"),
    Endpoint("DELETE", f"{_INBOUND}/{_DOMAIN}", _MANAGE, domains.delete_inbound, "delete"),
    Endpoint("POST", f"{_INBOUND}/{_DOMAIN}/testconnection", _MANAGE, domains.test_inbound, "test, and send a letter"),
    Endpoint("GET", _OUTBOUND, _SEE, domains.list_outbound, "list"),
    Endpoint("POST", _OUTBOUND, _MANAGE, domains.create_outbound, "add"),
    Endpoint("GET", f"{_OUTBOUND}/{_DOMAIN}", _SEE, domains.get_outbound, "one"),
    Endpoint("PATCH", f"{_OUTBOUND}/{_DOMAIN}", _MANAGE, domains.change_outbound, "choose its integration"),
    Endpoint("DELETE", f"{_OUTBOUND}/{_DOMAIN}", _MANAGE, domains.delete_outbound, "delete"),
    Endpoint("POST", f"{_OUTBOUND}/{_DOMAIN}/testconnection", _MANAGE, domains.test_outbound, "test, and send a letter"),
    Endpoint("POST", _AGENTLESS, _NOTIFY, agentless.post, "send without an agent", LARGE),
    Endpoint("GET", f"{_AGENTLESS}/{{sendId}}", _NOTIFY, agentless.get, "what became of one"),
    Endpoint("GET", _EMAILS, _READ, conversations.list_all, "list those that go on"),
    Endpoint("POST", _EMAILS, _CREATE, conversations.create, "open one", LARGE),
    Endpoint("GET", _EMAIL, _READ, conversations.get, "one with its participants"),
    Endpoint("PATCH", _EMAIL, _SEND, conversations.patch, "disconnect"),
    Endpoint("GET", f"{_EMAIL}/settings", _READ, conversations.settings, "how large a reply may be"),
    Endpoint("GET", _DRAFT, _READ, drafts.get, "the draft"),
    Endpoint("PUT", _DRAFT, _SEND, drafts.put, "keep the draft", LARGE),
    Endpoint("PATCH", _DRAFT, _SEND, drafts.patch, "fill it in, or begin anew"),
    Endpoint("POST", f"{_FILES}/uploads", _SEND, drafts.announce_upload, "a link to upload a file to"),
    Endpoint("POST", f"{_FILES}/copy", _SEND, drafts.copy_attachments, "take files of an earlier message"),
    Endpoint("DELETE", f"{_FILES}/{{attachmentId}}", _SEND, drafts.delete_attachment, "take a file out"),
    Endpoint("GET", _MESSAGES, _READ, letters.list_all, "list, without bodies"),
    Endpoint("POST", _MESSAGES, _SEND, letters.post, "send an agent's letter", LARGE),
    Endpoint("GET", f"{_MESSAGES}/{{messageId}}", _READ, letters.get, "one with its bodies"),
)  # fmt: skip

#: Nothing here may be kept on the way, or taken for something else.
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def add_routes(app: web.Application, platform: Platform) -> None:
    """`/oauth/token`, the links to files, and every endpoint of the table below /api/v2."""

    async def token(request: web.Request) -> web.Response:
        return await tokens.give_token(platform, request)

    app.router.add_route("POST", tokens.PATH, token, expect_handler=expect)

    async def upload(request: web.Request) -> web.StreamResponse:
        return await files.upload(platform, request)

    async def download(request: web.Request) -> web.StreamResponse:
        return await files.download(platform, request)

    app.router.add_route("PUT", files.UPLOAD, upload, expect_handler=expect)
    app.router.add_route("GET", files.DOWNLOAD, download, expect_handler=expect)
    for endpoint in ENDPOINTS:
        path, handler = f"{PREFIX}{endpoint.path}", _handler(platform, endpoint)
        app.router.add_route(endpoint.method, path, handler, expect_handler=expect)


def _handler(platform: Platform, endpoint: Endpoint) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        # Before the database is asked about the token: whoever invents tokens must not crowd out the rest (OVL-4).
        with platform.admitted(most_that_comes(request, endpoint.most_bytes)):
            client = await platform.access.caller(request.headers.get(hdrs.AUTHORIZATION, ""))
            require(client, endpoint.permission)
            body = await read_json(request, platform.settings.limits, endpoint.most_bytes)
            call = Call(
                platform=platform, client=client, endpoint=f"{request.method} {request.path}", path=request.match_info,
                query=request.query, body=body, key=request.headers.get("Idempotency-Key"),
                origin=platform.origin_of(request), now=platform.watch.now(),
            )  # fmt: skip
            return _as_response(await endpoint.answer(call))

    return handle


@web.middleware
async def platform_answers(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Whatever is below /api/v2 and /oauth is answered as the platform's clients expect it, failures too."""
    if not is_platform(request.path):
        return await handler(request)
    response = await _answered(request, handler)
    mark(response.headers, request)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


async def _answered(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as error:
        refusal = error
    except web.HTTPMethodNotAllowed as error:
        told = f"{request.path} does not know {request.method}, only {', '.join(sorted(error.allowed_methods))}."
        allow = {"Allow": ",".join(sorted(error.allowed_methods))}
        refusal = Refusal(405, Code.METHOD_NOT_ALLOWED, told, headers=allow)
    except web.HTTPException as error:
        refusal = _of_aiohttp(request, error)
    except StoreUnavailable as error:
        log.warning("call not answered", path=request.path, error=str(error), correlation_id=correlation_id(request))
        refusal = busy("The database does not answer at the moment; nothing was done.")
    except CommitUnknown as error:
        log.warning("call in doubt", path=request.path, error=str(error), correlation_id=correlation_id(request))
        told = "Contact with the database was lost: this may or may not have been done. Read it before repeating."
        refusal = Refusal(504, Code.OUTCOME_UNKNOWN, told)
    except BadRow as error:
        log.error("call refused by the database", path=request.path, error=str(error),
                  correlation_id=correlation_id(request))  # fmt: skip
        refusal = Refusal(400, Code.BAD_REQUEST, "The database cannot keep what this says.")
    except ConnectionError:
        # The client went away while it was sending; nobody reads this.
        refusal = Refusal(400, Code.BAD_REQUEST, "The request ended too soon.")
    except Exception:
        log.exception("call failed by our own fault", path=request.path, correlation_id=correlation_id(request))
        refusal = Refusal(500, Code.INTERNAL_SERVER_ERROR, "This failed by our own fault; the logs have the contextId.")
    return _refused(request, refusal)


def _refused(request: web.Request, refusal: Refusal) -> web.Response:
    log.info("call refused", path=request.path, method=request.method, status=refusal.status, code=str(refusal.code),
             correlation_id=correlation_id(request))  # fmt: skip
    response = _json(refusal.status, error_body(refusal, correlation_id(request)))
    response.headers.update(refusal.headers)
    if refusal.headers.get(hdrs.CONNECTION) == "close":
        response.force_close()
    return response


def _of_aiohttp(request: web.Request, error: web.HTTPException) -> Refusal:
    match error.status:
        case 404:
            return Refusal(404, Code.NOT_FOUND, f"{request.method} {request.path} is not part of this API.")
        case 413:
            return Refusal(413, Code.REQUEST_TOO_LARGE, "The body is too large.")
        case _:
            return Refusal(error.status, Code.BAD_REQUEST, error.reason)


def is_platform(path: str) -> bool:
    """Whether this path is of the platform API."""
    return path.startswith((f"{PREFIX}/", "/oauth/")) or path in (PREFIX, "/oauth")


def _as_response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status) if answer.body is None else _json(answer.status, answer.body)


def _json(status: int, body: Any) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json", charset="utf-8")
