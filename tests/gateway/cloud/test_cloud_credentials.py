"""Credentials over the platform API: what goes in never comes out."""

from collections.abc import MutableMapping
from typing import Any

import pytest
import sqlalchemy as sa

from mailroom.store import audit, schema
from tests.gateway.cloud.caller import Caller
from tests.journeys.office import VAULT

CANARY = "canary-of-a-password"
BODY = {"name": "forms", "type": {"id": "basicAuth"}, "credentialFields": {"userName": "forms", "password": CANARY}}
PATH = "/integrations/credentials"


async def row_of(caller: Caller, credential_id: str) -> Any:
    """The credential as it is kept."""
    rows = await caller.office.store.read(lambda tx: tx.execute(sa.select(schema.credentials)).all())
    return next(row for row in rows if str(row.id) == credential_id)


async def test_sec_6_a_password_goes_in_and_never_comes_out(
    caller: Caller, logged: list[MutableMapping[str, Any]]
) -> None:
    """No answer, log line or audit row has it, and the database only sealed."""
    created = await caller.call("POST", PATH, BODY)
    place = f"{PATH}/{created.body['id']}"
    answers = [
        created, await caller.call("GET", place), await caller.call("GET", PATH), await caller.call("PUT", place, BODY),
        await caller.call("PUT", place, {"credentialFields": {"password": [CANARY]}}),
        await caller.call("POST", PATH, {**BODY, "credentialFields": {"password": CANARY * 100}}),
    ]  # fmt: skip
    row = await row_of(caller, created.body["id"])
    written = await caller.office.store.read(audit.history, "credential", row.id)

    assert [answer.status for answer in answers] == [200, 200, 200, 200, 400, 400]
    assert not [answer for answer in answers if CANARY in answer.text or CANARY in str(answer.headers)]
    assert CANARY not in repr([logged, written, row])
    assert VAULT.open(row.sealed_password) == CANARY


async def test_a_credential_is_told_without_its_fields(caller: Caller) -> None:
    """Its name, type and dates are what can be read."""
    created = (await caller.call("POST", PATH, BODY)).body
    listed = (await caller.call("GET", PATH)).body

    assert created["type"] == {"id": "basicAuth", "name": "basicAuth"}
    assert created["createdDate"].endswith("Z")
    assert created["selfUri"] == f"/api/v2{PATH}/{created['id']}"
    assert "credentialFields" not in created
    assert (await caller.call("GET", f"{PATH}/{created['id']}")).body == created
    assert (listed["entities"], listed["total"]) == ([created], 1)


@pytest.mark.parametrize("named", [{"name": "basicAuth"}, {"id": "basicAuth", "name": "x"}])
async def test_the_type_may_be_named_either_way(caller: Caller, named: dict[str, str]) -> None:
    """Some clients name a type by its id, others by its name."""
    assert (await caller.call("POST", PATH, {**BODY, "type": named})).status == 200


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"type": None}, "type.id"),
        ({"type": {"id": "oauth"}}, "type.id"),
        ({"credentialFields": {"userName": "x"}}, "credentialFields.password"),
        ({"credentialFields": None}, "credentialFields.userName"),
        ({"credentialFields": {"userName": "x", "password": "y", "token": "z"}}, "credentialFields.token"),
        ({"credentialFields": {"userName": 5, "password": "y"}}, "credentialFields.userName"),
        ({"credentialFields": {"userName": " \u202e", "password": "y"}}, "credentialFields.userName"),
    ],
)
async def test_sec_6_what_cannot_be_kept_is_told(caller: Caller, changes: dict[str, Any], field: str) -> None:
    """The refusal names the member, never the value of a field."""
    told = await caller.call("POST", PATH, BODY | changes)

    assert (told.status, told.body["code"]) == (400, "invalid.value")
    assert field in {detail["fieldName"] for detail in told.body["details"]}
    assert (await caller.call("GET", PATH)).body["total"] == 0


async def test_what_is_not_given_stays(caller: Caller) -> None:
    """A change of the name alone keeps user name and password; a password alone keeps the user name."""
    one = (await caller.call("POST", PATH, BODY)).body["id"]
    renamed = await caller.call("PUT", f"{PATH}/{one}", {"name": "renamed"})
    first = await row_of(caller, one)
    await caller.call("PUT", f"{PATH}/{one}", {"credentialFields": {"password": "new"}})
    second = await row_of(caller, one)

    assert renamed.body["name"] == "renamed"
    assert (first.username, VAULT.open(first.sealed_password)) == ("forms", CANARY)
    assert (second.name, second.username, VAULT.open(second.sealed_password)) == ("renamed", "forms", "new")


async def test_a_new_password_is_tested_at_once(caller: Caller) -> None:
    """An ENABLED integration that logs in with it is ACTIVATING again; nobody has to switch it off and on."""
    credential_id = (await caller.call("POST", PATH, BODY)).body["id"]
    one = await caller.integration()
    current = {"version": 2, "credentials": {"basicAuth": {"id": credential_id}}}
    await caller.call("PUT", f"/integrations/{one}/config/current", current)
    await caller.call("PATCH", f"/integrations/{one}", {"intendedState": "ENABLED"})
    name = (await caller.call("GET", f"/integrations/{one}")).body["name"]
    await caller.office.reconfigure(name, reported_state="ACTIVE")
    await caller.call("PUT", f"{PATH}/{credential_id}", {"name": "only the name"})
    before = (await caller.call("GET", f"/integrations/{one}")).body["reportedState"]["code"]
    await caller.call("PUT", f"{PATH}/{credential_id}", {"credentialFields": {"password": "new"}})
    after = (await caller.call("GET", f"/integrations/{one}")).body["reportedState"]["code"]

    assert (before, after) == ("ACTIVE", "ACTIVATING")


async def test_a_credential_in_use_stays(caller: Caller) -> None:
    """It is deleted only when no integration logs in with it."""
    credential_id = (await caller.call("POST", PATH, BODY)).body["id"]
    one = await caller.integration()
    current = {"version": 2, "credentials": {"basicAuth": {"id": credential_id}}}
    await caller.call("PUT", f"/integrations/{one}/config/current", current)
    refused = await caller.call("DELETE", f"{PATH}/{credential_id}")
    await caller.call("DELETE", f"/integrations/{one}")
    deleted = await caller.call("DELETE", f"{PATH}/{credential_id}")

    assert (refused.status, refused.body["code"], refused.body["entityId"]) == (
        409, "credential.in.use", credential_id,
    )  # fmt: skip
    assert (deleted.status, deleted.text) == (204, "")


@pytest.mark.parametrize("wanted", ["nonsense", "e0d1a2c4-0000-4000-8000-000000000000"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_unknown_ones_are_not_found(caller: Caller, method: str, wanted: str) -> None:
    """An id that names nothing, or is none, is 404."""
    told = await caller.call(method, f"{PATH}/{wanted}", {"name": "x"} if method == "PUT" else None)

    assert (told.status, told.body["code"], told.body["entityId"]) == (404, "not.found", wanted)


async def test_types_are_told(caller: Caller) -> None:
    """There is one type, with its two fields in the order to ask for them; the answer is a bare list."""
    [kind] = (await caller.call("GET", f"{PATH}/types")).body

    assert (kind["id"], kind["displayOrder"], kind["required"]) == (
        "basicAuth", ["userName", "password"], ["userName", "password"],
    )  # fmt: skip
