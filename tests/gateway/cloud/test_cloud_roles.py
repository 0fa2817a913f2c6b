"""Who may call what: every endpoint has a row here, and every role is tried on every endpoint."""

import pytest
from aiohttp import web

from gateway.app import Gateway
from gateway.cloud.answers import PREFIX
from gateway.cloud.routes import ENDPOINTS
from mailroom.roles import Role
from tests.gateway.cloud.caller import Caller
from tests.journeys.office import Office

LOOKERS = frozenset({Role.ADMIN, Role.OPERATOR, Role.VIEWER})
ADMINS = frozenset({Role.ADMIN})

READERS = frozenset({Role.ADMIN, Role.OPERATOR, Role.AGENT, Role.VIEWER})
AGENTS = frozenset({Role.ADMIN, Role.AGENT})
SENDERS = frozenset({Role.ADMIN, Role.AGENT, Role.SENDER})

#: Served without a token: the link itself says who may, and until when.
LINKS = {("PUT", "/uploads/emails/{fileId}"), ("GET", "/downloads/emails/{ownerId}/{fileId}")}

#: Who may call each endpoint. An endpoint that is missing here fails the tests below.
MATRIX = {
    ("GET", "/integrations"): LOOKERS,
    ("POST", "/integrations"): ADMINS,
    ("GET", "/integrations/{integrationId}"): LOOKERS,
    ("PATCH", "/integrations/{integrationId}"): ADMINS,
    ("DELETE", "/integrations/{integrationId}"): ADMINS,
    ("GET", "/integrations/{integrationId}/config/current"): LOOKERS,
    ("PUT", "/integrations/{integrationId}/config/current"): ADMINS,
    ("GET", "/integrations/types"): LOOKERS,
    ("GET", "/integrations/types/{typeId}"): LOOKERS,
    ("GET", "/integrations/types/{typeId}/configschemas/{configType}"): LOOKERS,
    ("GET", "/integrations/credentials"): LOOKERS,
    ("POST", "/integrations/credentials"): ADMINS,
    ("GET", "/integrations/credentials/types"): LOOKERS,
    ("GET", "/integrations/credentials/{credentialId}"): LOOKERS,
    ("PUT", "/integrations/credentials/{credentialId}"): ADMINS,
    ("DELETE", "/integrations/credentials/{credentialId}"): ADMINS,
    ("GET", "/routing/email/domains"): LOOKERS,
    ("POST", "/routing/email/domains"): ADMINS,
    ("GET", "/routing/email/domains/{domainId}"): LOOKERS,
    ("PATCH", "/routing/email/domains/{domainId}"): ADMINS,
    ("DELETE", "/routing/email/domains/{domainId}"): ADMINS,
    ("POST", "/routing/email/domains/{domainId}/testconnection"): ADMINS,
    ("GET", "/routing/email/outbound/domains"): LOOKERS,
    ("POST", "/routing/email/outbound/domains"): ADMINS,
    ("GET", "/routing/email/outbound/domains/{domainId}"): LOOKERS,
    ("PATCH", "/routing/email/outbound/domains/{domainId}"): ADMINS,
    ("DELETE", "/routing/email/outbound/domains/{domainId}"): ADMINS,
    ("POST", "/routing/email/outbound/domains/{domainId}/testconnection"): ADMINS,
    ("POST", "/conversations/emails/agentless"): SENDERS,
    ("GET", "/conversations/emails/agentless/{sendId}"): SENDERS,
    ("GET", "/conversations/emails"): READERS,
    ("POST", "/conversations/emails"): AGENTS,
    ("GET", "/conversations/emails/{conversationId}"): READERS,
    ("PATCH", "/conversations/emails/{conversationId}"): AGENTS,
    ("GET", "/conversations/emails/{conversationId}/settings"): READERS,
    ("GET", "/conversations/emails/{conversationId}/messages/draft"): READERS,
    ("PUT", "/conversations/emails/{conversationId}/messages/draft"): AGENTS,
    ("PATCH", "/conversations/emails/{conversationId}/messages/draft"): AGENTS,
    ("POST", "/conversations/emails/{conversationId}/messages/draft/attachments/uploads"): AGENTS,
    ("POST", "/conversations/emails/{conversationId}/messages/draft/attachments/copy"): AGENTS,
    ("DELETE", "/conversations/emails/{conversationId}/messages/draft/attachments/{attachmentId}"): AGENTS,
    ("GET", "/conversations/emails/{conversationId}/messages"): READERS,
    ("POST", "/conversations/emails/{conversationId}/messages"): AGENTS,
    ("GET", "/conversations/emails/{conversationId}/messages/{messageId}"): READERS,
}


def served(app: web.Application) -> set[tuple[str, str]]:
    """Every method and path below /api/v2 that a gateway really serves, however it was registered."""
    return {
        (route.method, route.resource.canonical.removeprefix(PREFIX))
        for route in app.router.routes()
        if route.resource is not None and route.resource.canonical.startswith(PREFIX)
    }


async def test_every_endpoint_has_a_row(office: Office) -> None:
    """What the gateway serves, the table of endpoints and this matrix are the same; nothing gets in beside them."""
    async with office.gateway() as gateway:
        assert isinstance(gateway, Gateway)
        assert served(gateway.app) == MATRIX.keys() | LINKS

    assert {(one.method, one.path) for one in ENDPOINTS} == MATRIX.keys()


@pytest.mark.parametrize("role", Role)
async def test_sec_12_a_role_may_call_what_its_row_says(caller: Caller, role: Role) -> None:
    """Each role is let in where the matrix says so, and is answered 403 with the missing permission everywhere else."""
    told = {endpoint: (await caller.call(endpoint[0], _filled(endpoint[1]), role=role)) for endpoint in sorted(MATRIX)}

    assert {endpoint for endpoint, answer in told.items() if answer.status == 403} == {
        endpoint for endpoint, roles in MATRIX.items() if role not in roles
    }
    assert not [answer for answer in told.values() if answer.status in (401, 500)]
    assert all(
        answer.body["code"] == "missing.permissions" and ":" in answer.body["messageParams"]["permissions"]
        for answer in told.values() if answer.status == 403
    )  # fmt: skip


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer"}])
async def test_sec_12_without_a_token_nothing_is_answered(caller: Caller, headers: dict[str, str]) -> None:
    """Every endpoint answers 401 to who brings no token."""
    for method, path in sorted(MATRIX):
        told = await caller.raw(method, f"{PREFIX}{_filled(path)}?access_token=x", headers=headers)

        assert (told.status, told.body["code"]) == (401, "authentication.required")
        assert told.headers["WWW-Authenticate"].startswith("Bearer")


async def test_roles_are_judged_before_bodies(caller: Caller) -> None:
    """Who may not call an endpoint learns nothing from what it would say of a body."""
    headers = {"Authorization": f"Bearer {await caller.token(Role.VIEWER)}", "Content-Type": "application/json"}
    told = await caller.raw("POST", f"{PREFIX}/integrations", data="{", headers=headers)

    assert told.status == 403


def _filled(path: str) -> str:
    return (
        path.replace("{integrationId}", "e0d1a2c4-0000-4000-8000-000000000000")
        .replace("{credentialId}", "e0d1a2c4-0000-4000-8000-000000000001")
        .replace("{typeId}", "custom-smtp-server")
        .replace("{configType}", "properties")
        .replace("{domainId}", "company.test")
        .replace("{conversationId}", "e0d1a2c4-0000-4000-8000-000000000002")
        .replace("{messageId}", "e0d1a2c4-0000-4000-8000-000000000003")
        .replace("{sendId}", "e0d1a2c4-0000-4000-8000-000000000004")
        .replace("{attachmentId}", "e0d1a2c4-0000-4000-8000-000000000005")
    )
