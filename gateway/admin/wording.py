"""Words for a person: why a message ended as it did, and what was refused."""

from collections.abc import Mapping
from types import MappingProxyType

_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "rejected.recipient": "the server refuses the recipient",
        "rejected.message": "the server refuses the message",
        "rejected.us": "it cannot be sent as it is",
        "integration.error": "its integration could not send",
        "attempts.exhausted": "it was tried as often as allowed",
        "expired": "its time was over before it could be sent",
        "uncertain": "the answer was lost: the server may have it",
        "session_lost": "its worker was lost: the server may have it",
        "crashed": "workers died over it, one after the other",
    }
)


def because(reason: str | None) -> str:
    """A reason as the tables have it, in words; one that is not known here as it is."""
    if not reason:
        return "nobody recorded why"
    refused, _, by = reason.partition(".")
    return _REASONS.get(reason) or (f"refused, blaming the {by}" if refused == "rejected" and by else reason)


def sentence(refusal: Exception) -> str:
    """A refusal, which is told to commands as a clause, as a page has it."""
    said = str(refusal)
    return f"{said[:1].upper()}{said[1:]}."
