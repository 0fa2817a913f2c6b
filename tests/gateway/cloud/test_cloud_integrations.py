"""Integrations over the platform API: their life, their configuration, lists."""

from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.cloud.integrations import MESSAGE_CODES, PROPERTIES
from mailroom.integration import Cause, ReportedState
from mailroom.store import credentials, integrations
from mailroom.store.credentials import NewCredential
from tests.gateway.cloud.caller import Caller
from tests.journeys.office import VAULT

TYPE = {"integrationType": {"id": "custom-smtp-server"}}


async def created(caller: Caller, name: str | None = None) -> str:
    """A new integration; its id."""
    told = await caller.call("POST", "/integrations", TYPE | ({"name": name} if name else {}))
    assert told.status == 200, told
    return str(told.body["id"])


async def put(caller: Caller, integration_id: str, **members: Any) -> Any:
    """What is answered to a configuration of the current version with these members."""
    current = await caller.call("GET", f"/integrations/{integration_id}/config/current")
    return await caller.call(
        "PUT", f"/integrations/{integration_id}/config/current", {"version": current.body["version"], **members}
    )


async def history(caller: Caller, integration_id: str) -> list[tuple[str, str]]:
    """Who did what to it, newest first."""
    row = next(row for row in await caller.office.store.read(integrations.all_rows) if str(row.id) == integration_id)
    return [(one.who, one.action) for one in await caller.office.store.read(integrations.history, row.id)]


# --- life -------------------------------------------------------------------------------------------------------------


async def test_a_new_integration_waits_to_be_configured(caller: Caller) -> None:
    """It is DISABLED and INACTIVE, has the name of its type, and every member that clients read unasked."""
    told = await caller.call("POST", "/integrations", TYPE)
    current = told.body["config"]["current"]

    assert (told.body["intendedState"], told.body["reportedState"]["code"]) == ("DISABLED", "INACTIVE")
    assert told.body["name"] == "Custom SMTP Server"
    assert told.body["selfUri"] == f"/api/v2/integrations/{told.body['id']}"
    assert current.keys() >= {"name", "notes", "properties", "advanced", "credentials", "version"}
    assert (await caller.call("GET", f"/integrations/{told.body['id']}")).body == told.body


async def test_names_of_their_own_accord_differ(caller: Caller) -> None:
    """Without a name each gets the type's, numbered; a name that is taken is refused, but not as a clash of versions."""
    ids = [await created(caller) for _ in range(3)]
    names = [(await caller.call("GET", f"/integrations/{one}")).body["name"] for one in ids]
    taken = await caller.call("POST", "/integrations", TYPE | {"name": names[0]})

    assert names == ["Custom SMTP Server", "Custom SMTP Server 2", "Custom SMTP Server 3"]
    assert (taken.status, taken.body["code"], taken.body["details"][0]["fieldName"]) == (400, "duplicate.name", "name")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "integrationType.id"),
        ({"integrationType": {"id": "imap-server"}}, "integrationType.id"),
        ({"integrationType": "custom-smtp-server"}, "integrationType"),
        ({**TYPE, "name": 5}, "name"),
        ({**TYPE, "name": "x" * 257}, "name"),
    ],
)
async def test_what_cannot_be_created_is_told(caller: Caller, body: dict[str, Any], field: str) -> None:
    """The refusal names the member that cannot be, and nothing is created."""
    told = await caller.call("POST", "/integrations", body)

    assert (told.status, told.body["code"]) == (400, "invalid.value")
    assert field in {one["fieldName"] for one in told.body["details"]}
    assert (await caller.call("GET", "/integrations")).body["total"] == 0


@pytest.mark.parametrize("state", ["ENABLED", "enabled"])
async def test_enabling_is_a_reset(caller: Caller, state: str) -> None:
    """ENABLED leads to ACTIVATING, until a worker has tested it; the audit names the client."""
    one = await caller.integration()
    told = await caller.call("PATCH", f"/integrations/{one}", {"intendedState": state})
    off = await caller.call("PATCH", f"/integrations/{one}", {"intendedState": "DISABLED", "name": "ignored"})

    assert (told.status, told.body["intendedState"], told.body["reportedState"]["code"]) == (
        200, "ENABLED", "ACTIVATING",
    )  # fmt: skip
    assert (off.body["intendedState"], off.body["reportedState"]["code"]) == ("DISABLED", "INACTIVE")
    assert off.body["name"] != "ignored"
    assert (await history(caller, one))[:2] == [("client admin", "disabled"), ("client admin", "reset")]


async def test_without_a_host_it_cannot_be_enabled(caller: Caller) -> None:
    """An integration that is not configured is refused with a code of its own, and stays DISABLED."""
    one = await created(caller)
    told = await caller.call("PATCH", f"/integrations/{one}", {"intendedState": "ENABLED"})

    assert (told.status, told.body["code"], told.body["entityId"]) == (400, "integration.not.configured", one)
    assert (await caller.call("GET", f"/integrations/{one}")).body["intendedState"] == "DISABLED"


@pytest.mark.parametrize("state", ["DELETED", "RESTORED", "ON", None, 5, ["ENABLED"]])
async def test_other_states_cannot_be_wanted(caller: Caller, state: Any) -> None:
    """Deleting has its own method, and nothing comes back from it; what is no state is told."""
    one = await caller.integration()
    told = await caller.call("PATCH", f"/integrations/{one}", {"intendedState": state})

    assert (told.status, told.body["details"][0]["fieldName"]) == (400, "intendedState")


async def test_what_is_deleted_is_gone(caller: Caller) -> None:
    """DELETE tells what is left, then every call about it is 404, and its name is free."""
    one = await created(caller, "Post")
    told = await caller.call("DELETE", f"/integrations/{one}")
    after = [
        await caller.call(method, f"/integrations/{one}{rest}", body)
        for method, rest, body in (
            ("GET", "", None), ("DELETE", "", None), ("PATCH", "", {"intendedState": "ENABLED"}),
            ("GET", "/config/current", None), ("PUT", "/config/current", {"version": 1}),
        )
    ]  # fmt: skip

    assert (told.status, told.body["name"], told.body["intendedState"]) == (200, "Post", "DELETED")
    assert {(answer.status, answer.body["code"]) for answer in after} == {(404, "not.found")}
    assert await created(caller, "Post") != one


@pytest.mark.parametrize("cause", Cause)
async def test_error_tells_its_cause(caller: Caller, cause: Cause) -> None:
    """Each of the four causes has a code, a sentence and parameters; the server's own words stay inside."""
    one = await caller.integration(smtpHost="mail.test")
    await caller.call("PATCH", f"/integrations/{one}", {"intendedState": "ENABLED"})
    name = (await caller.call("GET", f"/integrations/{one}")).body["name"]
    await caller.office.reconfigure(
        name, reported_state=ReportedState.ERROR, cause=cause, transcript="220 secret-banner"
    )
    told = await caller.call("GET", f"/integrations/{one}")
    detail = told.body["reportedState"]["detail"]

    assert told.body["reportedState"]["code"] == "ERROR"
    assert detail["localizableMessageCode"] == MESSAGE_CODES[cause]
    assert detail["messageParams"] == {"server": "mail.test:587", "cause": cause}
    assert "secret-banner" not in told.text


# --- configuration ----------------------------------------------------------------------------------------------------

FULL = {
    "smtpHost": "mail.company.test",
    "smtpPort": 465,
    "smtpSecurity": "tls",
    "fromAddress": "forms@company.test",
    "fromName": "Company",
    "defaultMailbox": "support@company.test",
    "maxConnections": 4,
    "messagesPerSecond": 2.5,
    "messagesPerDay": 1000,
}


async def test_a_configuration_comes_back_as_it_was_put(caller: Caller) -> None:
    """Every property of ours, and whatever else a client keeps there, is given back; the version goes up by one."""
    one, others = await created(caller), {"theirs": {"deep": [1, None, "ä"]}}
    told = await put(
        caller, one, name="Renamed", notes="two\nlines", properties=FULL | others, advanced={"a": 1}, credentials={}
    )
    read = await caller.call("GET", f"/integrations/{one}/config/current")

    assert FULL.keys() == {known.name for known in PROPERTIES}
    assert read.body == told.body
    assert told.body == {
        "id": one, "name": "Renamed", "version": 2, "properties": FULL | others, "advanced": {"a": 1},
        "notes": "two\nlines", "credentials": {}, "selfUri": f"/api/v2/integrations/{one}/config/current",
    }  # fmt: skip


async def test_properties_are_replaced_as_a_whole(caller: Caller) -> None:
    """A property that is not put again has its default, and those with the default are not given back unasked."""
    one = await created(caller)
    await put(caller, one, properties=FULL | {"theirs": 1})
    told = await put(caller, one, properties={"smtpHost": "mail.test", "maxConnections": 8})
    row = await caller.office.store.read(integrations.named, "Custom SMTP Server")

    assert told.body["properties"] == {"smtpHost": "mail.test", "maxConnections": 8}
    assert (row.port, row.security, row.per_second, row.from_address) == (587, "starttls", None, "")


async def test_members_that_are_not_put_stay(caller: Caller) -> None:
    """Clients leave out what has no value: such a member of the configuration stays as it was."""
    one = await created(caller)
    before = (await put(caller, one, name="Kept", notes="kept", properties=FULL, advanced={"a": 1})).body
    after = (await put(caller, one)).body

    assert after == before | {"version": 3}


async def test_what_commands_change_is_shown(caller: Caller) -> None:
    """A property that was put and then changed in another way is shown as it is now."""
    one = await created(caller)
    await put(caller, one, properties={"smtpHost": "mail.test", "smtpPort": 587})
    await caller.office.reconfigure("Custom SMTP Server", port=2525, max_connections=3)
    told = await caller.call("GET", f"/integrations/{one}/config/current")

    assert told.body["properties"] == {"smtpHost": "mail.test", "smtpPort": 2525, "maxConnections": 3}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("smtpHost", 5),
        ("smtpHost", "mail test"),
        ("smtpHost", "x" * 300),
        ("smtpPort", 0),
        ("smtpPort", 65_536),
        ("smtpPort", True),
        ("smtpPort", "many"),
        ("smtpSecurity", "if-available"),
        ("fromAddress", "nobody"),
        ("fromAddress", "a@b.test, c@d.test"),
        ("fromName", "x" * 65),
        ("defaultMailbox", "Support <support@company.test>"),
        ("maxConnections", 1.5),
        ("messagesPerSecond", 0),
        ("messagesPerSecond", 1e-12),
        ("messagesPerDay", -1),
    ],
)
async def test_a_property_that_cannot_be_is_named(caller: Caller, name: str, value: Any) -> None:
    """The refusal names the property, and nothing is changed."""
    one = await created(caller)
    told = await put(caller, one, properties={name: value})

    assert (told.status, told.body["code"]) == (400, "invalid.value")
    assert [detail["fieldName"] for detail in told.body["details"]] == [f"properties.{name}"]
    assert (await caller.call("GET", f"/integrations/{one}/config/current")).body["version"] == 1


async def test_all_that_is_wrong_is_told_at_once(caller: Caller) -> None:
    """Whoever corrects a configuration need not try once for each mistake."""
    one = await created(caller)
    told = await put(caller, one, name="", properties={"smtpPort": "x", "smtpHost": []}, credentials={"oauth": {}})

    assert {detail["fieldName"] for detail in told.body["details"]} == {
        "name", "properties.smtpPort", "properties.smtpHost", "credentials.oauth",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "kept"), [("a\r\nBcc: x", "a Bcc: x"), ("  a\u202eb ", "ab")])
async def test_names_are_cleaned(caller: Caller, name: str, kept: str) -> None:
    """Nothing in a name can end a line or turn round what is shown after it."""
    one = await created(caller)

    assert (await put(caller, one, name=name)).body["name"] == kept


@pytest.mark.parametrize("version", [None, 0, 1, 3, "two"])
async def test_another_version_is_refused(caller: Caller, version: Any) -> None:
    """Who does not know the current version changes nothing; a clash is 409 in the words that clients know it by."""
    one = await caller.integration()
    told = await caller.call("PUT", f"/integrations/{one}/config/current", {"version": version, "name": "x"})

    assert told.status == (409 if version in (1, 3) else 400)
    if told.status == 409:
        assert told.body["code"] == "invalid.update.wrong.version"
        assert "does not match the current version 2" in told.body["message"]
        assert told.body["messageParams"] == {"version": str(version), "currentVersion": "2"}


async def test_a_credential_is_chosen_by_its_id(caller: Caller) -> None:
    """The configuration names the credential, never what is in it; an empty id takes it away; an unknown one is refused."""
    one = await created(caller)
    credential_id = str(
        await caller.office.store.transaction(
            credentials.create, NewCredential(name="c", username="u", password="p-canary"), VAULT, who="test",
            now=datetime.now(UTC),
        )
    )  # fmt: skip
    chosen = await put(caller, one, credentials={"basicAuth": {"id": credential_id}})
    shown = await caller.call("GET", f"/integrations?credentialId={credential_id}")
    unknown = await put(caller, one, credentials={"basicAuth": {"id": one}})
    none = await put(caller, one, credentials={"basicAuth": {"id": ""}})

    assert chosen.body["credentials"]["basicAuth"] == {
        "id": credential_id, "name": "c", "type": {"id": "basicAuth", "name": "basicAuth"},
        "selfUri": f"/api/v2/integrations/credentials/{credential_id}",
    }  # fmt: skip
    assert [entity["id"] for entity in shown.body["entities"]] == [one]
    assert "canary" not in shown.text
    assert (unknown.status, unknown.body["details"][0]["fieldName"]) == (400, "credentials.basicAuth.id")
    assert none.body["credentials"] == {}


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_lists_come_in_pages(caller: Caller) -> None:
    """Every integration is on exactly one page, and the pages lead to each other."""
    names = [f"n{number}" for number in range(5)]
    for name in names:
        await created(caller, name)
    found, path = [], "/integrations?pageSize=2&sortBy=name"
    while path:
        page = (await caller.call("GET", path)).body
        found += [entity["name"] for entity in page["entities"]]
        path = page.get("nextUri", "").removeprefix("/api/v2")

    assert found == names
    assert (page["total"], page["pageCount"], page["pageNumber"]) == (5, 3, 3)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 3),
        ("integrationType=custom-smtp-server", 3),
        ("integrationType=imap-server", 0),
        ("reportedState=inactive", 2),
        ("reportedState=ACTIVATING", 1),
        ("credentialId=e0d1a2c4-0000-4000-8000-000000000000", 0),
        ("credentialId=nonsense", 0),
        ("ids=nonsense", 0),
        ("ids=nonsense,{first}", 1),
        ("ids={first}%2C{second}", 2),
        ("ids={first}&ids={second}&reportedState=INACTIVE", 1),
        ("pageSize=999", 3),
        ("expand=config&nextPage=x&previousPage=y&sortBy=", 3),
    ],
)
async def test_filters_are_met(caller: Caller, query: str, count: int) -> None:
    """A list has what meets every filter; what cannot exist is met by nothing, unknown parameters change nothing."""
    first, second = await caller.integration(), await created(caller)
    await created(caller)
    await caller.call("PATCH", f"/integrations/{first}", {"intendedState": "ENABLED"})
    told = await caller.call("GET", f"/integrations?{query.format(first=first, second=second)}")

    assert (told.status, told.body["total"], len(told.body["entities"])) == (200, count, count)


@pytest.mark.parametrize(
    "query",
    ["pageSize=0", "pageSize=1000", "pageSize=x", "pageNumber=0", "pageNumber=99999999999999", "pageSize=-1",
     "reportedState=BROKEN", "sortBy=colour"],
)  # fmt: skip
async def test_queries_that_cannot_be_are_told(caller: Caller, query: str) -> None:
    """A size, number, state or order that does not exist is an invalid value, named by its parameter."""
    told = await caller.call("GET", f"/integrations?{query}")

    assert (told.status, told.body["code"]) == (400, "invalid.value")
    assert told.body["details"][0]["fieldName"] == query.partition("=")[0]


async def test_types_are_listed(caller: Caller) -> None:
    """There is one type, with the schemas of its configuration and the credential it can have."""
    listed = await caller.call("GET", "/integrations/types")
    one = await caller.call("GET", "/integrations/types/custom-smtp-server")
    schema = await caller.call("GET", one.body["configPropertiesSchemaUri"].removeprefix("/api/v2"))
    advanced = await caller.call("GET", one.body["configAdvancedSchemaUri"].removeprefix("/api/v2"))
    unknown = [
        await caller.call("GET", f"/integrations/types/{rest}")
        for rest in ("imap-server", "custom-smtp-server/configschemas/colour", "imap-server/configschemas/properties")
    ]

    assert listed.body["entities"] == [one.body]
    assert one.body["credentials"]["basicAuth"]["credentialTypes"] == ["basicAuth"]
    assert schema.body["properties"].keys() == {known.name for known in PROPERTIES}
    assert (schema.body["type"], advanced.body["properties"]) == ("object", {})
    assert {answer.status for answer in unknown} == {404}
