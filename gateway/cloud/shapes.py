"""What conversations, letters and drafts look like to the platform's clients. Pure; the caller brings what is known.

What is ours alone (`deliveries`) their models leave unread.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from gateway.cloud.answers import date, uri, without_nulls
from gateway.cloud.previews import preview
from gateway.html import shown
from mailroom.encoding import on_the_wire
from mailroom.message import Correspondent, Kind, Status
from mailroom.store.conversations import Conversation, Direction
from mailroom.store.drafts import Draft, DraftFile
from mailroom.store.letters import Copy, Letter, LetterFile, Seen

PLACE = ("conversations", "emails")

#: Copies that ended like this were not delivered, or nobody knows.
NOT_DELIVERED = frozenset({Status.FAILED, Status.EXPIRED, Status.UNCERTAIN})

#: What an agent is told about a letter that was accepted and could not be delivered.
_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "integration.error": "The mail account was not able to send at that moment. Once an administrator has set it to "
        "active again, this letter can be sent again.",
        "expired": "It could not be delivered in time.",
        "attempts.exhausted": "The recipient's mail server did not take it, however often it was tried.",
        "uncertain": "It may or may not have arrived: the mail server's last answer was lost.",
        "session_lost": "It may or may not have arrived: the process that was sending it was lost.",
        "crashed": "It could not be sent: the process that tried failed each time.",
        "rejected.recipient": "The mail server refused the recipient's address.",
        "rejected.message": "The mail server refused what it says, or its size.",
    }
)

#: The link under which a file can be fetched: what it belongs to, its id.
Link = Callable[[UUID, UUID], str]


# --- conversations ----------------------------------------------------------------------------------------------------


def conversation(seen: Seen) -> dict[str, Any]:
    """An EmailConversation, which also reads as a Conversation."""
    found = seen.conversation
    return without_nulls(
        {
            "id": str(found.id),
            "name": found.subject,
            "startTime": date(found.opened_at),
            "endTime": date(found.ended_at) if found.ended_at else None,
            "participants": [
                _customer(seen),
                *_us(seen),
            ],
            "otherMediaUris": [],
            "recentTransfers": [],
            "divisions": [],
            "selfUri": uri(*PLACE, str(found.id)),
        }
    )


def _customer(seen: Seen) -> dict[str, Any]:
    found = seen.conversation
    return _participant(found, "customer", found.customer) | {
        "direction": str(found.direction),
        "attributes": dict(found.attributes),
        "messagesSent": len([kind for _, kind in seen.letters if kind in (None, Kind.FORM)]),
    }


def _us(seen: Seen) -> list[dict[str, Any]]:
    """One participant for the agents, one for what a program sent: those who wrote, and whoever is expected to."""
    found = seen.conversation
    expected = Kind.AGENTLESS if any(kind is Kind.AGENTLESS for _, kind in seen.letters) else Kind.ACD
    told = []
    for kind, purpose in ((Kind.ACD, "agent"), (Kind.AGENTLESS, "outbound")):
        written = [one for one, of_kind in seen.letters if of_kind is kind]
        if not written and kind is not expected:
            continue
        drafted = seen.draft_files if kind is Kind.ACD else []
        participant = _participant(found, purpose, found.ours) | {
            "direction": str(Direction.OUTBOUND),
            "messagesSent": len(written),
            "draftAttachments": [_draft_file(file) for file in drafted],
            "errorInfo": _error_info([copy for one in written for copy in seen.copies[one]]),
            "messageId": str(written[-1]) if written else None,
        }
        told.append(without_nulls(participant))
    return told


def _participant(found: Conversation, purpose: str, who: Correspondent | None) -> dict[str, Any]:
    return without_nulls(
        {
            "id": str(uuid5(NAMESPACE_OID, f"mailroom conversation {found.id} {purpose}")),
            "name": who.name if who else None,
            "address": who.address if who else None,
            "startTime": date(found.opened_at),
            "connectedTime": date(found.opened_at),
            "endTime": date(found.ended_at) if found.ended_at else None,
            "purpose": purpose,
            "state": "disconnected" if found.ended_at else "connected",
            "disconnectType": "client" if found.ended_at else None,
            "held": False,
            "wrapupRequired": False,
            "mediaRoles": ["full"],
            "queue": {"id": str(found.queue_id)} if found.queue_id else None,
            "provider": found.provider,
            "subject": found.subject,
            "autoGenerated": False,
            "spam": False,
        }
    )


def _error_info(copies: Sequence[Copy]) -> dict[str, str] | None:
    """An ErrorInfo for the last copy that was not delivered."""
    failed = [one for one in copies if one.status in NOT_DELIVERED]
    if not failed:
        return None
    return {"code": _code(failed[-1]), "message": f"To {failed[-1].recipient}: {in_words(failed[-1])}"}


def in_words(copy: Copy) -> str:
    """Why a copy was not delivered, for an agent."""
    return _WORDS.get(copy.reason or "", "It could not be delivered.")


def _code(copy: Copy) -> str:
    return f"email.error.{copy.reason or copy.status}"


# --- letters ----------------------------------------------------------------------------------------------------------


def letter(found: Letter, copies: Sequence[Copy], link: Link) -> dict[str, Any]:
    """An EmailMessage with its bodies; the HTML of others is made harmless."""
    written = found.written
    return without_nulls(
        _head(found)
        | {
            "textBody": written.text,
            "htmlBody": shown(written.html) if written.html is not None else None,
            "attachments": [_letter_file(found, file, link) for file in written.files],
            "deliveries": deliveries(copies),
        }
    )


def letter_preview(found: Letter, copies: Sequence[Copy], link: Link) -> dict[str, Any]:
    """An EmailMessagePreview."""
    return without_nulls(
        _head(found)
        | {
            "textBodyPreview": preview(found.written.text),
            "attachments": [_letter_file(found, file, link) for file in found.written.files],
            "deliveries": deliveries(copies),
        }
    )


def letter_reply(found: Letter, link: Link) -> dict[str, Any]:
    """An EmailMessageReply: what was sent, with its id, which the vendor's does not tell."""
    told = letter(found, (), link)
    told.pop("deliveries")
    return told


def deliveries(copies: Iterable[Copy]) -> list[dict[str, Any]]:
    """What became of each recipient's copy."""
    return [
        without_nulls(
            {
                "id": str(one.message_id),
                "address": one.recipient,
                "status": str(one.status),
                "endTime": date(one.ended_at) if one.ended_at else None,
                "errorInfo": _error_info([one]),
            }
        )
        for one in copies
    ]


def _head(found: Letter) -> dict[str, Any]:
    written = found.written
    return {
        "id": str(found.id),
        "to": people(written.to),
        "cc": people(written.cc),
        "bcc": people(written.bcc),
        "from": person(written.sender),
        "replyTo": person(written.reply_to) if written.reply_to else None,
        "subject": written.subject,
        "time": date(found.at),
        "historyIncluded": written.history_included,
        "emailSizeBytes": wire_size(written.text, written.html, [one.file.size for one in written.files]),
        "selfUri": uri(*PLACE, str(found.conversation_id), "messages", str(found.id)),
    }


def person(who: Correspondent) -> dict[str, Any]:
    """An EmailAddress."""
    return without_nulls({"email": who.address, "name": who.name})


def people(all_of_them: Iterable[Correspondent]) -> list[dict[str, Any]]:
    """A list of EmailAddress."""
    return [person(one) for one in all_of_them]


def _letter_file(found: Letter, one: LetterFile, link: Link) -> dict[str, Any]:
    return {
        "attachmentId": str(one.id),
        "name": one.file.name,
        "contentUri": link(found.id, one.id),
        "contentType": one.file.media_type,
        "contentLength": one.file.size,
        "inlineImage": one.inline,
    }


# --- drafts -----------------------------------------------------------------------------------------------------------


def draft(found: Draft, files: Sequence[DraftFile], room: int) -> dict[str, Any]:
    """An EmailMessage that has not been sent. Its HTML is as the agent left it."""
    sketch = found.sketch
    return without_nulls(
        {
            "id": str(found.conversation_id),
            "to": people(sketch.to),
            "cc": people(sketch.cc),
            "bcc": people(sketch.bcc),
            "from": person(sketch.sender) if sketch.sender else None,
            "replyTo": person(sketch.reply_to) if sketch.reply_to else None,
            "subject": sketch.subject,
            "attachments": [_draft_file(file) for file in files],
            "textBody": sketch.text,
            "htmlBody": sketch.html,
            "time": date(found.changed_at),
            "historyIncluded": sketch.history_included,
            "state": str(found.state),
            "draftType": str(found.type),
            "emailSizeBytes": wire_size(sketch.text, sketch.html, [file.size for file in files]),
            "maxEmailSizeBytes": room,
            "selfUri": uri(*PLACE, str(found.conversation_id), "messages", "draft"),
        }
    )


def _draft_file(file: DraftFile) -> dict[str, Any]:
    return {
        "attachmentId": str(file.id),
        "name": file.name,
        "contentType": file.media_type,
        "contentLength": file.size,
        "inlineImage": file.inline,
    }


# --- sizes ------------------------------------------------------------------------------------------------------------

#: Bytes of headers and of what stands around each part, generously.
_AROUND = 4096
_AROUND_EACH = 512


def wire_size(text: str, html: str | None, files: Sequence[int]) -> int:
    """Bytes that a letter will have on its way to the server; an upper bound, since text may need no encoding."""
    bodies = [len(text.encode("utf-8", "replace")), len((html or "").encode("utf-8", "replace"))]
    raw = sum(bodies) + sum(files)
    return _AROUND + _AROUND_EACH * len(files) + on_the_wire(raw)
