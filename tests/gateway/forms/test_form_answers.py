"""The answers as the clients of the Email API Version 2 read them."""

import json

from gateway.forms.answers import accepted, again_later, refused, unknown_service
from gateway.forms.problems import Code, Problem


def test_accepted() -> None:
    """Success is statusCode 0 with an interactionId: clients show the one without the other as an error."""
    assert accepted("abc") == {"statusCode": 0, "interactionId": "abc"}


def test_again_later() -> None:
    """Worth trying again is statusCode 1 and nothing else, above all no interactionId."""
    assert again_later() == {"statusCode": 1}


def test_refused() -> None:
    """Every problem is listed with a numeric code; the advice of 201 and 202 is a number."""
    body = refused([Problem(Code.TOO_MANY_FILES, 10), Problem(Code.TEXT_MISSING, "text is missing.")])

    assert json.loads(json.dumps(body)) == {
        "statusCode": 1,
        "errors": [{"code": 201, "advice": 10}, {"code": 182, "advice": "text is missing."}],
    }
    assert [type(error["code"]) for error in body["errors"]] == [int, int]


def test_unknown_service() -> None:
    """A service that nobody configured is code 306, with a sentence."""
    body = unknown_service()

    assert body["statusCode"] == 1
    assert body["errors"][0]["code"] == 306
    assert body["errors"][0]["advice"]
