"""What can be wrong with a submission, in the numbers that the clients of the Email API Version 2 know."""

from dataclasses import dataclass
from enum import IntEnum


class Code(IntEnum):
    """The code of a problem.

    Up to 383 they are those of the Email and Chat APIs. The others are for what those APIs have no number for: like
    the chat's own 401, 404, 500 and 503 they are the fitting HTTP status.
    """

    FIRST_NAME_MISSING = 102
    LAST_NAME_MISSING = 103
    SUBJECT_MISSING = 104
    FROM_ADDRESS_MISSING = 181
    TEXT_MISSING = 182
    TOO_MANY_FILES = 201
    FILES_TOO_LARGE = 202
    FILE_TYPE_NOT_ALLOWED = 203
    TOO_LONG = 204
    UNKNOWN_SERVICE = 306
    FROM_ADDRESS_INVALID = 381
    MAILBOX_INVALID = 383
    MALFORMED = 400
    NOT_AUTHORISED = 401
    NOT_FOUND = 404
    TOO_SLOW = 408
    UNSUPPORTED = 415
    NOT_DELIVERED = 500


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why a submission is refused; the advice of 201 and 202 is the limit as a number, else a sentence."""

    code: Code
    advice: int | str
