"""/api/v2/integrations/credentials: what integrations log in with. Secrets go in and never come out."""

from typing import Any

from gateway.cloud.answers import date, listing, uri
from gateway.cloud.calls import NOTHING, Answer, Call
from gateway.cloud.errors import Code, Entity, Refusal, not_found
from gateway.cloud.members import Members
from mailroom.store import credentials as queries
from mailroom.store import platform
from mailroom.store.credentials import BASIC, CredentialInUse, NewCredential
from mailroom.store.integrations import UnknownCredential
from mailroom.store.platform import CredentialChange

NOUN = "credential"

_FIELDS = ("userName", "password")


def type_reference(name: str) -> dict[str, Any]:
    """A CredentialType as other things refer to it."""
    return {"id": name, "name": name}


def _info(row: Any) -> dict[str, Any]:
    """A CredentialInfo."""
    return {
        "id": str(row.id),
        "name": row.name,
        "createdDate": date(row.created_at),
        "modifiedDate": date(row.modified_at),
        "type": type_reference(row.type),
        "selfUri": uri("integrations", "credentials", str(row.id)),
    }


async def list_all(call: Call) -> Answer:
    """Every credential, by pages."""
    page = call.page()
    rows, total = await call.platform.store.read(queries.listed, limit=page.size, offset=page.offset)
    return Answer(listing(map(_info, rows), total, page, uri("integrations", "credentials")))


async def get(call: Call) -> Answer:
    """One credential, without its fields."""
    credential_id = call.id("credentialId", NOUN)
    row = await call.platform.store.read(queries.get, credential_id)
    if row is None:
        raise not_found(NOUN, str(credential_id))
    return Answer(_info(row))


async def create(call: Call) -> Answer:
    """Keep a user name and a password."""
    body = Members(call.body)
    _check_type(body, needed=True)
    fields = body.within("credentialFields")
    fields.need(_FIELDS)
    change = _change(body)
    row = await call.platform.store.transaction(
        platform.create_credential,
        NewCredential(name=change.name or BASIC, username=change.username, password=change.password),
        call.platform.vault, who=call.who, now=call.now,
    )  # fmt: skip
    return Answer(_info(row))


async def put(call: Call) -> Answer:
    """Change a credential. A field that is not given stays; integrations that are ENABLED log in anew."""
    credential_id, body = call.id("credentialId", NOUN), Members(call.body)
    _check_type(body, needed=False)
    change = _change(body)
    try:
        row, used_by = await call.platform.store.transaction(
            platform.change_credential, credential_id, change, call.platform.vault, who=call.who, now=call.now
        )
    except UnknownCredential:
        raise not_found(NOUN, str(credential_id)) from None
    if used_by:
        await call.platform.queue.nudge()
    return Answer(_info(row))


async def delete(call: Call) -> Answer:
    """Forget a credential that no integration uses."""
    credential_id = call.id("credentialId", NOUN)
    try:
        await call.platform.store.transaction(queries.delete, credential_id, who=call.who, now=call.now)
    except UnknownCredential:
        raise not_found(NOUN, str(credential_id)) from None
    except CredentialInUse as error:
        raise Refusal(409, Code.CREDENTIAL_IN_USE, str(error), entity=Entity(str(credential_id), NOUN)) from None
    return NOTHING


async def list_types(call: Call) -> Answer:
    """The types of credentials: one."""
    titles = {"userName": "User name", "password": "Password"}
    return Answer(
        [
            type_reference(BASIC)
            | {
                "properties": {name: {"type": "string", "title": titles[name]} for name in _FIELDS},
                "displayOrder": list(_FIELDS),
                "required": list(_FIELDS),
            }
        ]
    )


def _check_type(body: Members, *, needed: bool) -> None:
    """Clients name the type by its id or by its name."""
    kind = body.within("type")
    named = kind.line("id") or kind.line("name")
    if not named and needed:
        kind.wrong("id", f"is missing; it is {BASIC}")
    elif named and named != BASIC:
        kind.wrong("id", f"there is no type of credential {named!r}; there is {BASIC}")


def _change(body: Members) -> CredentialChange:
    """What a body says of a credential. Raises Refusal."""
    name, fields = body.line("name"), body.within("credentialFields")
    for unknown in fields.all.keys() - set(_FIELDS):
        fields.wrong(unknown, f"is no field of {BASIC}; its fields are {', '.join(_FIELDS)}")
    username, password = fields.line("userName"), fields.secret("password")
    if username == "" and fields.all["userName"]:
        fields.wrong("userName", "has nothing but spaces and marks that cannot be seen")
    body.checked()
    return CredentialChange(name=name or None, username=username, password=password)
