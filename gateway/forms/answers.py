"""The bodies of the answers of the Email API Version 2, as its clients read them.

They take any answer with an `interactionId` for success, and compare codes as numbers.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from gateway.forms.problems import Code, Problem
from mailroom.message import Status


def accepted(interaction_id: str) -> dict[str, Any]:
    """HTTP 200: the submission is safe, and this is its name."""
    return {"statusCode": 0, "interactionId": interaction_id}


def again_later() -> dict[str, Any]:
    """HTTP 200: nothing was taken in; the same request may succeed later."""
    return {"statusCode": 1}


def refused(problems: Iterable[Problem]) -> dict[str, Any]:
    """HTTP 400: the request can never succeed, and all that is wrong with it."""
    return {
        "statusCode": 1,
        "errors": [{"code": int(problem.code), "advice": problem.advice} for problem in problems],
    }


def not_http(status: int) -> dict[str, Any]:
    """What cannot even be read as a request, in the words of both APIs: nobody knows whom it was for."""
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        sentence = "There are too many connections at the moment; come again later."
        return again_later() | {"message": sentence, "code": "service.unavailable", "status": status}
    sentence = (
        "Nothing is known of what the header Expect asks for, but 100-continue; leave it out."
        if status == HTTPStatus.EXPECTATION_FAILED
        else "This is no HTTP request that can be taken: its headers are too long, or it breaks the rules of HTTP."
    )
    return refused([Problem(Code.MALFORMED, sentence)]) | {"message": sentence, "code": "bad.request", "status": status}


def unknown_service() -> dict[str, Any]:
    """HTTP 404: there is no service of this name."""
    return refused([Problem(Code.UNKNOWN_SERVICE, "There is no e-mail service of this name.")])


def outcome(status: Status, reason: str | None, interaction_id: str) -> dict[str, Any]:
    """HTTP 200: where an accepted submission stands; a final failure is statusCode 1, and then without interactionId."""
    if status in (Status.FAILED, Status.EXPIRED):
        return {"statusCode": 1, "status": str(status), "reason": reason}
    return accepted(interaction_id) | {"status": str(status)}


def failed(status: Status, reason: str | None) -> dict[str, Any]:
    """HTTP 400: it was tried before answering, and can never be delivered like this."""
    about_mailbox = reason == "rejected.recipient"
    code = Code.MAILBOX_INVALID if about_mailbox else Code.NOT_DELIVERED
    advice = (
        "The mail server refused the mailbox." if about_mailbox else f"The message could not be delivered: {reason}."
    )
    return refused([Problem(code, advice)]) | {"status": str(status), "reason": reason}
