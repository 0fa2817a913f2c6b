"""/api/v2/integrations: the SMTP accounts, their state and their configuration."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

from gateway.cloud import answers, credentials
from gateway.cloud.answers import date, listing, uri, without_nulls
from gateway.cloud.calls import Answer, Call, as_uuid
from gateway.cloud.errors import Code, Entity, Problem, Refusal, invalid, not_found
from gateway.cloud.members import Members
from mailroom.integration import (
    IN_PLAIN_WORDS,
    MOST_CONNECTIONS,
    MOST_PER_DAY,
    Cause,
    IntendedState,
    ReportedState,
    Security,
)
from mailroom.pace import LEAST_RATE
from mailroom.store import integrations as queries
from mailroom.store import platform
from mailroom.store.credentials import BASIC
from mailroom.store.integrations import (
    Configuration,
    NameTaken,
    NotConfigured,
    Sort,
    UnknownCredential,
    UnknownIntegration,
    WrongVersion,
)

TYPE = "custom-smtp-server"
TYPE_NAME = "Custom SMTP Server"

NOUN = "integration"
PATH = "/integrations"

LARGEST_PORT = 65_535
MOST_PER_SECOND = 10_000
#: Characters, as the vendor's campaigns have it.
LONGEST_FROM_NAME = 64
LONGEST_NOTES = 10_000
#: RFC 1035 section 2.3.4.
LONGEST_HOST = 253


class Wanted(StrEnum):
    """What a client can ask an integration to be. RESTORED is a word of the vendor's that leads nowhere here."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"
    DELETED = "DELETED"
    RESTORED = "RESTORED"


class SortedBy(StrEnum):
    """What a list can be ordered by."""

    NAME = "name"
    REPORTED_STATE = "reportedState"
    LAST_UPDATED = "lastUpdated"


_SORT: Mapping[SortedBy, Sort] = MappingProxyType(
    {SortedBy.NAME: Sort.NAME, SortedBy.REPORTED_STATE: Sort.STATE, SortedBy.LAST_UPDATED: Sort.SINCE}
)

#: reportedState.detail.localizableMessageCode of an integration in ERROR.
MESSAGE_CODES: Mapping[Cause, str] = MappingProxyType(
    {
        Cause.HOST_INVALID: "custom.smtp.server.host.invalid",
        Cause.TIMED_OUT: "custom.smtp.server.timed.out",
        Cause.AUTHENTICATION_REFUSED: "custom.smtp.server.authentication.refused",
        Cause.CANNOT_CONNECT: "custom.smtp.server.cannot.connect",
    }
)

_EFFECTIVE: Mapping[ReportedState, str] = MappingProxyType(
    {
        ReportedState.ACTIVE: "Active",
        ReportedState.ACTIVATING: "Activating",
        ReportedState.INACTIVE: "Inactive",
        ReportedState.DEACTIVATING: "Deactivating",
        ReportedState.ERROR: "Error",
    }
)

_IN_WORDS: Mapping[ReportedState, str] = MappingProxyType(
    {
        ReportedState.ACTIVE: "it may send",
        ReportedState.ACTIVATING: "it is being tested; it may send when the test has passed",
        ReportedState.INACTIVE: "it is switched off",
        ReportedState.DEACTIVATING: "it is switched off; what is just being sent is finished",
        ReportedState.ERROR: "it is in error",
    }
)


# --- properties -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Property:
    """One of the `properties` of a configuration: the field it sets, how it is read, and its JSON Schema."""

    name: str
    field: str
    read: Callable[[Members, str], Any]
    schema: Mapping[str, Any]


def _host(members: Members, name: str) -> str | None:
    host = members.line(name, LONGEST_HOST)
    if host and any(mark in host for mark in " /@"):
        members.wrong(name, "is no host name; give the name or address alone, the port is in smtpPort")
    return host


#: `smtpHost` is the vendor's; the others are ours.
PROPERTIES = (
    Property("smtpHost", "host", _host, {"type": "string", "title": "Host name of the SMTP server"}),
    Property(
        "smtpPort", "port", lambda members, name: members.whole(name, 1, LARGEST_PORT),
        {"type": "integer", "title": "Its port", "minimum": 1, "maximum": LARGEST_PORT, "default": 587},
    ),
    Property(
        "smtpSecurity", "security", lambda members, name: members.choice(name, Security),
        {"type": "string", "title": "How the connection is protected", "enum": list(Security), "default": "starttls"},
    ),
    Property(
        "fromAddress", "from_address", lambda members, name: members.address(name),
        {"type": "string", "format": "email", "title": "The address that mail of forms is from"},
    ),
    Property(
        "fromName", "from_name", lambda members, name: members.line(name, LONGEST_FROM_NAME) or None,
        {"type": "string", "title": "The name before it", "maxLength": LONGEST_FROM_NAME},
    ),
    Property(
        "defaultMailbox", "default_mailbox", lambda members, name: members.address(name),
        {"type": "string", "format": "email", "title": "Where forms go that name no mailbox"},
    ),
    Property(
        "maxConnections", "max_connections", lambda members, name: members.whole(name, 1, MOST_CONNECTIONS),
        {"type": "integer", "title": "Connections at once", "minimum": 1, "maximum": MOST_CONNECTIONS, "default": 8},
    ),
    Property(
        "messagesPerSecond", "per_second", lambda members, name: members.rate(name, LEAST_RATE, MOST_PER_SECOND),
        {"type": "number", "title": "Most messages a second", "minimum": LEAST_RATE, "maximum": MOST_PER_SECOND},
    ),
    Property(
        "messagesPerDay", "per_day", lambda members, name: members.whole(name, 1, MOST_PER_DAY),
        {"type": "integer", "title": "Most messages a day (UTC)", "minimum": 1, "maximum": MOST_PER_DAY},
    ),
)  # fmt: skip

_NEW = Configuration(name="")


def properties_of(row: Any) -> dict[str, Any]:
    """The properties of an integration: what its clients put there, and whatever differs from the default.

    What has the default, and that nobody put there, is left out: clients that compare find just what they put.
    """
    shown: dict[str, Any] = _kept(row.properties)
    for one in PROPERTIES:
        value = getattr(row, one.field)
        if value in (None, ""):
            shown.pop(one.name, None)
        elif one.name in shown or value != getattr(_NEW, one.field):
            shown[one.name] = value
    return shown


def configuration(body: Members, row: Any) -> Configuration:
    """The configuration that a body asks for; members that it does not have stay. Raises Refusal."""
    wanted: dict[str, Any] = {}
    if body.all.get("name") is not None:
        wanted["name"] = body.line("name")
        if not wanted["name"]:
            body.wrong("name", "is empty")
    if body.has("notes"):
        wanted["notes"] = body.text("notes", LONGEST_NOTES) or None
    if body.has("properties"):
        wanted |= _wanted_properties(body.within("properties"))
    if body.has("advanced"):
        wanted["advanced"] = _written(body.within("advanced").all)
    if body.has("credentials"):
        wanted["credential_id"] = _credential(body.within("credentials"))
    body.checked()
    return queries.configuration_of(row, **wanted)


def _wanted_properties(members: Members) -> dict[str, Any]:
    wanted: dict[str, Any] = {"properties": _written(members.all)}
    for one in PROPERTIES:
        value = one.read(members, one.name)
        wanted[one.field] = getattr(_NEW, one.field) if value is None else value
    return wanted


def _credential(members: Members) -> UUID | None:
    """The credential to log in with; an empty id, or none, is no log-in."""
    for name in members.all.keys() - {BASIC}:
        members.wrong(name, f"is no credential of this type of integration, which has only {BASIC}")
    basic = members.within(BASIC)
    wanted = basic.line("id")
    if not wanted:
        return None
    found = as_uuid(wanted)
    if found is None:
        basic.wrong("id", f"there is no credential {wanted!r}; create it at /api/v2/integrations/credentials")
    return found


def _written(members: Mapping[str, Any]) -> str | None:
    return json.dumps(members) if members else None


def _kept(text: str | None) -> dict[str, Any]:
    return dict(json.loads(text)) if text else {}


# --- what they look like ----------------------------------------------------------------------------------------------


def _configuration(row: Any) -> dict[str, Any]:
    """An IntegrationConfiguration; clients read every one of its members unasked."""
    place = uri("integrations", str(row.id))
    return {
        "id": str(row.id),
        "name": row.name,
        "version": row.version,
        "properties": properties_of(row),
        "advanced": _kept(row.advanced),
        "notes": row.notes or "",
        "credentials": _credentials(row),
        "selfUri": f"{place}/config/current",
    }


def _credentials(row: Any) -> dict[str, Any]:
    if row.credential_id is None:
        return {}
    return {
        BASIC: without_nulls(
            {
                "id": str(row.credential_id),
                "name": row.credential_name,
                "type": credentials.type_reference(row.credential_type or BASIC),
                "selfUri": uri("integrations", "credentials", str(row.credential_id)),
            }
        )
    }


def _reported(row: Any) -> dict[str, Any]:
    state = ReportedState(row.reported_state)
    cause = Cause(row.cause) if row.cause and state is ReportedState.ERROR else None
    server = f"{row.host}:{row.port}" if row.host else "none"
    return {
        "code": str(state),
        "effective": _EFFECTIVE[state],
        "detail": {
            "localizableMessageCode": MESSAGE_CODES[cause] if cause else f"custom.smtp.server.{state.lower()}",
            "message": IN_PLAIN_WORDS[cause] if cause else _IN_WORDS[state],
            "messageParams": {"server": server} | ({"cause": str(cause)} if cause else {}),
        },
        "lastUpdated": date(row.since),
    }


def integration(row: Any) -> dict[str, Any]:
    """An Integration."""
    return without_nulls(
        {
            "id": str(row.id),
            "name": row.name,
            "integrationType": answers.reference(("integrations", "types"), TYPE, TYPE_NAME),
            "notes": row.notes,
            "intendedState": row.intended_state,
            "config": {"current": _configuration(row)},
            "reportedState": _reported(row),
            "attributes": {},
            "selfUri": uri("integrations", str(row.id)),
        }
    )


def _type() -> dict[str, Any]:
    place = uri("integrations", "types", TYPE)
    return {
        "id": TYPE,
        "name": TYPE_NAME,
        "description": "Mail leaves through an SMTP server of your own.",
        "provider": "Mailroom",
        "category": "Email",
        "images": [],
        "configPropertiesSchemaUri": f"{place}/configschemas/properties",
        "configAdvancedSchemaUri": f"{place}/configschemas/advanced",
        "helpLinks": [],
        "credentials": {
            BASIC: {
                "required": False,
                "title": "User name and password",
                "credentialTypes": [BASIC],
            }
        },
        "nonInstallable": False,
        "userPermissions": [],
        "vendorOAuthClientIds": [],
        "selfUri": place,
    }


_SCHEMAS: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "properties": {
            "properties": {one.name: dict(one.schema) for one in PROPERTIES},
            "required": ["smtpHost"],
            "description": "Properties that are not listed are kept and given back.",
        },
        "advanced": {"properties": {}, "required": [], "description": "It is kept and given back."},
    }
)


# --- endpoints --------------------------------------------------------------------------------------------------------


async def list_all(call: Call) -> Answer:
    """The integrations that meet every filter, by pages."""
    page, filters = call.page(), _Filters(call)
    rows: Sequence[Any] = ()
    total = 0
    if filters.can_match:
        rows, total = await call.platform.store.read(
            queries.listed, ids=filters.ids, reported_state=filters.state, credential_id=filters.credential_id,
            limit=page.size, offset=page.offset, sort=filters.sort,
        )  # fmt: skip
    return Answer(listing(map(integration, rows), total, page, uri("integrations"), filters.given))


class _Filters:
    """What a list is limited to. What cannot exist (an id that is none, another type) is met by nothing."""

    def __init__(self, call: Call) -> None:
        names = ("ids", "integrationType", "reportedState", "credentialId", "sortBy")
        self.given = [(name, value) for name in names for value in call.query.getall(name, ()) if value]
        values = {name: [one for key, one in self.given if key == name] for name in names}
        ids = [one.strip() for value in values["ids"] for one in value.split(",") if one.strip()]
        known = [found for one in ids if (found := as_uuid(one)) is not None]
        self.ids = known if ids else None
        credential = values["credentialId"][0] if values["credentialId"] else None
        self.credential_id = as_uuid(credential) if credential else None
        types = values["integrationType"]
        self.can_match = (
            (not ids or bool(known))
            and (credential is None or self.credential_id is not None)
            and (not types or TYPE in types)
        )
        words = Members({name: values[name][0] for name in ("reportedState", "sortBy") if values[name]})
        self.state = words.choice("reportedState", ReportedState)
        self.sort = _SORT[words.choice("sortBy", SortedBy) or SortedBy.NAME]
        words.checked()


async def create(call: Call) -> Answer:
    """A new integration, DISABLED and not configured."""
    body = Members(call.body)
    kind = body.within("integrationType")
    name = body.line("name")
    wanted = kind.line("id")
    if wanted is None:
        kind.wrong("id", f"is missing; it is {TYPE}")
    elif wanted != TYPE:
        kind.wrong("id", f"there is no type of integration {wanted!r}; there is {TYPE}")
    body.checked()
    try:
        row = await call.platform.store.transaction(
            platform.create_integration, name or None, TYPE_NAME, who=call.who, now=call.now
        )
    except NameTaken as error:
        raise _name_taken(error) from None
    await call.platform.queue.nudge()
    return Answer(integration(row))


async def get(call: Call) -> Answer:
    """One integration."""
    return Answer(integration(await _found(call)))


async def change_state(call: Call) -> Answer:
    """ENABLED (also the way out of ERROR; a live test decides) or DISABLED. Other members are not looked at."""
    integration_id, body = call.id("integrationId", NOUN), Members(call.body)
    wanted = body.choice("intendedState", Wanted)
    if wanted is None and not body.problems:
        body.wrong("intendedState", "is missing; it is ENABLED or DISABLED")
    elif wanted is Wanted.DELETED:
        body.wrong("intendedState", "cannot be set to DELETED; use the method DELETE")
    elif wanted is Wanted.RESTORED:
        body.wrong("intendedState", "cannot be RESTORED: a deleted integration does not come back; create another")
    body.checked()
    try:
        row = await call.platform.store.transaction(
            platform.intend, integration_id, IntendedState(str(wanted)), who=call.who, now=call.now
        )
    except UnknownIntegration:
        raise not_found(NOUN, str(integration_id)) from None
    except NotConfigured as error:
        raise not_configured(error, integration_id) from None
    await call.platform.queue.nudge()
    return Answer(integration(row))


async def delete(call: Call) -> Answer:
    """Delete an integration: it never sends again."""
    integration_id = call.id("integrationId", NOUN)
    try:
        row, left = await call.platform.store.transaction(
            platform.delete_integration, integration_id, who=call.who, now=call.now
        )
    except UnknownIntegration:
        raise not_found(NOUN, str(integration_id)) from None
    await call.platform.queue.nudge()
    return Answer(integration(row) | {"intendedState": left.intended_state, "reportedState": _reported(left)})


async def get_configuration(call: Call) -> Answer:
    """The configuration, with the version that a change must repeat."""
    return Answer(_configuration(await _found(call)))


async def put_configuration(call: Call) -> Answer:
    """Put a configuration in the place of the one of this version."""
    body, row = Members(call.body), await _found(call)
    body.need(["version"])
    version = body.whole("version", 1, 2**31 - 1)
    wanted = configuration(body, row)
    if version is None or version != row.version:
        raise _wrong_version(row.name, row.id, row.version, version)
    try:
        changed = await call.platform.store.transaction(
            queries.configure, row.id, wanted, version=version, who=call.who, now=call.now
        )
    except UnknownIntegration:
        raise not_found(NOUN, str(row.id)) from None
    except WrongVersion:
        raise _wrong_version(row.name, row.id, (await _found(call)).version, version) from None
    except NameTaken as error:
        raise _name_taken(error) from None
    except NotConfigured as error:
        raise not_configured(error, row.id) from None
    except UnknownCredential as error:
        raise invalid([Problem(f"credentials.{BASIC}.id", str(error))]) from None
    await call.platform.queue.nudge()
    return Answer(_configuration(changed))


async def list_types(call: Call) -> Answer:
    """The types of integrations: one."""
    page = call.page()
    return Answer(listing([_type()] if page.number == 1 else [], 1, page, uri("integrations", "types")))


async def get_type(call: Call) -> Answer:
    """One type."""
    _check_type(call)
    return Answer(_type())


async def get_schema(call: Call) -> Answer:
    """The JSON Schema of a type's properties, or of its advanced part."""
    _check_type(call)
    wanted = call.path["configType"]
    schema = _SCHEMAS.get(wanted.lower())
    if schema is None:
        raise not_found("configuration schema", wanted)
    titled = {"id": f"{TYPE}.{wanted.lower()}", "$schema": "http://json-schema.org/draft-04/schema#"}
    return Answer(titled | {"title": TYPE_NAME, "type": "object", "additionalProperties": True} | schema)


# --- steps ------------------------------------------------------------------------------------------------------------


async def _found(call: Call) -> Any:
    integration_id = call.id("integrationId", NOUN)
    row = await call.platform.store.read(queries.find, integration_id)
    if row is None:
        raise not_found(NOUN, str(integration_id))
    return row


def _check_type(call: Call) -> None:
    if call.path["typeId"] != TYPE:
        raise not_found("type of integration", call.path["typeId"])


def _name_taken(error: NameTaken) -> Refusal:
    # Not 409: clients take that for a clash of versions and repeat it.
    return Refusal(400, Code.DUPLICATE_NAME, str(error), problems=[Problem("name", str(error))])


def not_configured(error: NotConfigured, integration_id: UUID) -> Refusal:
    """It cannot be ENABLED or tested yet."""
    return Refusal(400, Code.INTEGRATION_NOT_CONFIGURED, str(error), entity=Entity(str(integration_id), NOUN))


def _wrong_version(name: str, integration_id: UUID, current: int, given: int | None) -> Refusal:
    # Clients know a clash by 409 or by these words.
    return Refusal(
        409, Code.WRONG_VERSION,
        f"Version {given} of {name} does not match the current version {current}: somebody else changed it meanwhile. "
        "Read it again and repeat the change on that.",
        params={"version": str(given), "currentVersion": str(current)}, entity=Entity(str(integration_id), NOUN),
    )  # fmt: skip
