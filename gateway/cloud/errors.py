"""What the platform API answers when it does not do what it was asked: ErrorBody, as the vendor's clients know it."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

#: Seconds after which to ask again where we cannot at the moment; spread, so that not all come back at once.
SOONEST_RETRY, LATEST_RETRY = 3, 10


class Code(StrEnum):
    """The code of an error. The first group is the vendor's; for the second the vendor has none that is known."""

    BAD_REQUEST = "bad.request"
    INVALID_VALUE = "invalid.value"
    AUTHENTICATION_REQUIRED = "authentication.required"
    BAD_CREDENTIALS = "bad.credentials"
    MISSING_PERMISSIONS = "missing.permissions"
    NOT_FOUND = "not.found"
    UNSUPPORTED_MEDIA_TYPE = "unsupported.media.type"
    TOO_MANY_REQUESTS = "too.many.requests.retry.after"
    INTERNAL_SERVER_ERROR = "internal.server.error"
    SERVICE_UNAVAILABLE = "service.unavailable"
    REQUEST_TIMEOUT = "request.timeout"
    DUPLICATE_NAME = "duplicate.name"
    WRONG_VERSION = "invalid.update.wrong.version"
    CONVERSATION_NOT_FOUND = "conversation.error.conversation.not.found"
    QUEUE_REQUIRED = "email.outbound.queue.required"
    QUEUE_ADDRESS_REQUIRED = "email.outbound.queue.address.required"
    INVALID_QUEUE = "email.error.invalid.queue"
    BAD_FLOW_ID = "bad.flow.id"
    TOO_MANY_PARAMETERS = "too.many.create.email.parameters"
    PROVIDER_REQUIRED = "postino.error.notnull.createconversationrequest.provider"
    REPLY_NO_TO = "postino.error.reply.no.to"
    REPLY_NO_BODY = "postino.error.reply.no.body"
    REPLY_NO_SENDER = "postino.error.reply.no.sender"
    UPLOAD_SIZE = "postino.error.attachments.upload.size"
    DOMAIN_NOT_VERIFIED = "email.error.domain.not.verified"
    FORBIDDEN = "postino.error.forbidden"

    METHOD_NOT_ALLOWED = "method.not.allowed"
    REQUEST_TOO_LARGE = "request.too.large"
    OUTCOME_UNKNOWN = "outcome.unknown"
    INTEGRATION_NOT_CONFIGURED = "integration.not.configured"
    INTEGRATION_NOT_ACTIVE = "integration.not.active"
    CREDENTIAL_IN_USE = "credential.in.use"
    DUPLICATE_DOMAIN = "duplicate.domain"
    DOMAIN_WITHOUT_INTEGRATION = "domain.without.integration"
    CONNECTION_TEST_FAILED = "connection.test.failed"
    INTEGRATION_IN_ERROR = "email.error.integration.error"
    INTEGRATION_MAY_NOT_SEND = "email.error.integration.not.active"
    TOO_MANY_RECIPIENTS = "email.error.too.many.recipients"
    TOO_MANY_ATTACHMENTS = "email.error.too.many.attachments"
    ATTACHMENT_CHANGED = "email.error.attachment.changed"
    ATTACHMENT_HARMFUL = "email.error.attachment.harmful"
    LINK_NOT_VALID = "link.not.valid"
    KEY_USED_DIFFERENTLY = "idempotency.key.used.differently"


@dataclass(frozen=True, slots=True)
class Problem:
    """One member of a request that cannot be as it is: where it stands, and a sentence."""

    field: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Entity:
    """What an error is about."""

    id: str
    name: str


class Refusal(Exception):
    """The request ends here, with this error. `retry_after` is in seconds: clients wait so long and ask again."""

    def __init__(
        self, status: int, code: str, message: str, *, problems: Sequence[Problem] = (),
        params: Mapping[str, str] | None = None, entity: Entity | None = None, retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.problems = tuple(problems)
        self.params = dict(params or {})
        self.entity = entity
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)


def error_body(refusal: Refusal, context_id: str) -> dict[str, Any]:
    """The ErrorBody of a refusal; `context_id` is that of the header ININ-Correlation-Id."""
    body: dict[str, Any] = {
        "message": refusal.message,
        "code": str(refusal.code),
        "status": refusal.status,
        "contextId": context_id,
        "details": [{"errorCode": str(Code.INVALID_VALUE), "fieldName": one.field} for one in refusal.problems],
        "errors": [
            {"message": one.sentence, "code": str(Code.INVALID_VALUE), "status": refusal.status}
            for one in refusal.problems
        ],
    }
    if refusal.params:
        body["messageParams"] = refusal.params
    if refusal.entity is not None:
        body |= {"entityId": refusal.entity.id, "entityName": refusal.entity.name}
    return body


def busy(sentence: str) -> Refusal:
    """We cannot at the moment; asking again later may help. Clients of the vendor do so by themselves."""
    wait = SOONEST_RETRY + secrets.randbelow(LATEST_RETRY - SOONEST_RETRY + 1)
    return Refusal(503, Code.SERVICE_UNAVAILABLE, f"{sentence} Ask again later.", retry_after=wait)


def invalid(problems: Iterable[Problem]) -> Refusal:
    """What the request says cannot be; all that is wrong with it at once."""
    found = tuple(problems)
    told = "; ".join(f"{one.field}: {one.sentence}" for one in found)
    return Refusal(400, Code.INVALID_VALUE, told, problems=found)


def not_found(noun: str, wanted: str) -> Refusal:
    """There is nothing of this id."""
    return Refusal(404, Code.NOT_FOUND, f"There is no {noun} {wanted!r}.", entity=Entity(wanted, noun))
