"""Whatever a client sends, it is never our own fault: odd values in every place are refused or taken, never 500."""

import json
from typing import Any

import pytest
from yarl import URL

from tests.gateway.cloud.caller import Caller

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 2**63 - 1, -(2**63), 1.5, "", " ", "x" * 5000, "\u202e\u0007", "é" * 300, "💣", "1", [], [None],
    [[]], {}, {"": None}, {"id": None}, {"id": []}, {"id": {}}, {"id": "💣"}, {"email": 5}, [{"email": "a@b.test"}] * 3,
    {"basicAuth": 5}, {"basicAuth": {"id": 5}}, {"smtpHost": {}, "smtpPort": "99999999999999999999", "x": {"y": []}},
)  # fmt: skip

MEMBERS = {
    "/integrations": ("POST", ["name", "integrationType"]),
    "/integrations/{one}": ("PATCH", ["intendedState"]),
    "/integrations/{one}/config/current": (
        "PUT", ["version", "name", "notes", "properties", "advanced", "credentials"],
    ),
    "/integrations/credentials": ("POST", ["name", "type", "credentialFields"]),
    "/routing/email/domains": ("POST", ["id", "subDomain", "customSMTPServer"]),
    "/routing/email/domains/company.test": ("PATCH", ["customSMTPServer"]),
    "/routing/email/domains/company.test/testconnection": ("POST", ["from", "to", "subject", "textBody", "htmlBody"]),
    "/routing/email/outbound/domains": ("POST", ["id", "name", "senderType", "customSMTPServer"]),
}  # fmt: skip


@pytest.mark.parametrize("path", MEMBERS)
async def test_odd_members_are_never_our_fault(caller: Caller, path: str) -> None:
    """Every member of every body takes or refuses whatever JSON can say, and the answer can be read."""
    one = await caller.integration()
    await caller.call("POST", "/routing/email/domains", {"id": "company.test"})
    method, members = MEMBERS[path]
    right = {"integrationType": {"id": "custom-smtp-server"}, "id": "a.test", "type": {"id": "basicAuth"},
             "credentialFields": {"userName": "u", "password": "p"}, "from": {"email": "a@company.test"},
             "to": [{"email": "a@b.test"}]}  # fmt: skip
    for member in members:
        for value in ODD:
            version = (await caller.call("GET", f"/integrations/{one}/config/current")).body["version"]
            told = await caller.call(method, path.format(one=one), {"version": version, **right, member: value})

            assert told.status < 500, (member, value, told)
            assert json.loads(told.text)


ODD_PARTS = ("%00", "%ED%A0%80", "%FF", "..%2F..", "%2e%2e", "a%20b", "%F0%9F%92%A3", "a@b", "x" * 3000, "%25")


@pytest.mark.parametrize(
    "place",
    [
        "/integrations/{odd}", "/integrations/{odd}/config/current", "/integrations/credentials/{odd}",
        "/integrations/types/{odd}", "/integrations/types/custom-smtp-server/configschemas/{odd}",
        "/routing/email/domains/{odd}", "/routing/email/outbound/domains/{odd}", "/integrations?ids={odd}",
        "/integrations?reportedState={odd}", "/integrations?sortBy={odd}", "/integrations?pageSize={odd}",
        "/integrations?credentialId={odd}&integrationType={odd}", "/{odd}",
    ],
)  # fmt: skip
async def test_odd_paths_and_queries_are_never_our_fault(caller: Caller, place: str) -> None:
    """An id, a filter or a path of any bytes is not found, refused or met by nothing."""
    address, headers = caller.office.addresses[0], {"Authorization": f"Bearer {await caller.token()}"}
    for odd in ODD_PARTS:
        url = URL(f"http://{address}/api/v2{place.format(odd=odd)}", encoded=True)
        async with caller.office.session.get(url, headers=headers) as answer:
            body = await answer.json()

        assert answer.status in (200, 400, 404), (odd, body)
        assert body
