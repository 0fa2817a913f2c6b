"""Queries about drafts: the one letter that is being written in a conversation, and its files."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.message import Correspondent
from mailroom.store import conversations
from mailroom.store.schema import draft_files, drafts

#: Files that a draft may have, also those that were only announced.
MOST_FILES = 50

#: A file that was announced and has not come after this time may be forgotten.
ANNOUNCED_FOR = timedelta(hours=1)


class State(StrEnum):
    """How far a draft is, in the vendor's words."""

    CREATED = "Created"
    EDITED = "Edited"


class Type(StrEnum):
    """What a draft is to become, in the vendor's words."""

    REPLY = "Reply"
    REPLY_ALL = "ReplyAll"
    FORWARD = "Forward"


class FileGone(Exception):
    """The files of the draft are not those it was read with: one was removed, sent with another letter, or came since."""


class TooManyFiles(Exception):
    """A draft has no room for another file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """What a draft says so far."""

    sender: Correspondent | None = None
    to: tuple[Correspondent, ...] = ()
    cc: tuple[Correspondent, ...] = ()
    bcc: tuple[Correspondent, ...] = ()
    reply_to: Correspondent | None = None
    subject: str = ""
    text: str = ""
    html: str | None = None
    history_included: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A draft as it is kept."""

    conversation_id: UUID
    state: State
    type: Type
    changed_at: datetime
    sketch: Sketch


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftFile:
    """A file of a draft: announced, and there once it has a key."""

    id: UUID
    conversation_id: UUID
    name: str
    media_type: str
    size: int
    inline: bool
    announced_at: datetime
    md5: str | None = None
    key: str | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Sketch)


def get(tx: Connection, conversation_id: UUID) -> Draft | None:
    """The draft of a conversation; None when nobody has begun one."""
    row = tx.execute(sa.select(drafts).where(drafts.c.conversation_id == conversation_id)).one_or_none()
    if row is None:
        return None
    return Draft(
        conversation_id=row.conversation_id, state=State(row.state), type=Type(row.type), changed_at=row.changed_at,
        sketch=_decoder.decode(row.body),
    )  # fmt: skip


def put(tx: Connection, draft: Draft) -> None:
    """Keep a draft, in the place of the one there was. Raises UnknownConversation."""
    conversations.touch(tx, draft.conversation_id)
    values: dict[str, Any] = {
        "state": draft.state, "type": draft.type, "changed_at": draft.changed_at, "body": _encoder.encode(draft.sketch),
    }  # fmt: skip
    mine = drafts.c.conversation_id == draft.conversation_id
    if tx.execute(sa.update(drafts).where(mine).values(values)).rowcount == 0:
        tx.execute(sa.insert(drafts).values(conversation_id=draft.conversation_id, **values))


def discard(tx: Connection, conversation_id: UUID) -> list[str]:
    """Forget the draft with its files; the keys of the files, which nobody needs any more. Raises UnknownConversation."""
    conversations.touch(tx, conversation_id)
    tx.execute(sa.delete(drafts).where(drafts.c.conversation_id == conversation_id))
    gone = tx.execute(
        sa.delete(draft_files).where(draft_files.c.conversation_id == conversation_id).returning(draft_files.c.key)
    ).scalars()
    return [key for key in gone if key is not None]


def clear(tx: Connection, conversation_id: UUID, sent: Collection[UUID], *, whole: bool = False) -> list[str]:
    """The draft was sent with these of its files: forget it; the keys of the files that were not sent.

    Raises FileGone when one of them is not there, or (`whole`) when others are.
    """
    tx.execute(sa.delete(drafts).where(drafts.c.conversation_id == conversation_id))
    gone = tx.execute(
        sa.delete(draft_files)
        .where(draft_files.c.conversation_id == conversation_id)
        .returning(draft_files.c.id, draft_files.c.key)
    ).all()
    there = {row.id for row in gone if row.key is not None}
    if missing := set(sent) ^ there if whole else set(sent) - there:
        raise FileGone(", ".join(map(str, missing)))
    return [row.key for row in gone if row.key is not None and row.id not in sent]


# --- files ------------------------------------------------------------------------------------------------------------


def announce(tx: Connection, file: DraftFile) -> None:
    """Make room for a file. Raises UnknownConversation, TooManyFiles."""
    conversations.touch(tx, file.conversation_id)
    mine = draft_files.c.conversation_id == file.conversation_id
    late = draft_files.c.announced_at < file.announced_at - ANNOUNCED_FOR
    tx.execute(sa.delete(draft_files).where(mine, draft_files.c.key.is_(None), late))
    count = tx.execute(sa.select(sa.func.count()).select_from(draft_files).where(mine)).scalar_one()
    if count >= MOST_FILES:
        raise TooManyFiles(str(file.conversation_id))
    values = {name: getattr(file, name) for name in _FILE_COLUMNS}
    tx.execute(sa.insert(draft_files).values(values))


def file(tx: Connection, file_id: UUID) -> DraftFile | None:
    """A file of a draft by its id."""
    row = tx.execute(sa.select(draft_files).where(draft_files.c.id == file_id)).one_or_none()
    return None if row is None else _file(row)


def arrived(tx: Connection, file_id: UUID, key: str, size: int) -> bool:
    """The bytes of an announced file are in the attachment store. False when they were there before, or nobody waits."""
    changed = tx.execute(
        sa.update(draft_files)
        .where(draft_files.c.id == file_id, draft_files.c.key.is_(None))
        .values(key=key, size=size)
    )
    return changed.rowcount == 1


def files(tx: Connection, conversation_id: UUID) -> list[DraftFile]:
    """The files of a conversation's draft that are there, in the order they were announced."""
    return files_of(tx, [conversation_id])[conversation_id]


def files_of(tx: Connection, conversation_ids: Collection[UUID]) -> dict[UUID, list[DraftFile]]:
    """The same for each of these conversations."""
    found: dict[UUID, list[DraftFile]] = {one: [] for one in conversation_ids}
    rows = tx.execute(
        sa.select(draft_files)
        .where(draft_files.c.conversation_id.in_(conversation_ids), draft_files.c.key.is_not(None))
        .order_by(draft_files.c.announced_at, draft_files.c.id)
    )
    for row in rows:
        found[row.conversation_id].append(_file(row))
    return found


def remove(tx: Connection, conversation_id: UUID, file_id: UUID) -> DraftFile | None:
    """Take a file out of a draft; it as it was, None when it was not there."""
    row = tx.execute(
        sa.delete(draft_files)
        .where(draft_files.c.conversation_id == conversation_id, draft_files.c.id == file_id)
        .returning(*draft_files.c)
    ).one_or_none()
    return None if row is None else _file(row)


_FILE_COLUMNS = ("id", "conversation_id", "name", "media_type", "size", "md5", "inline", "key", "announced_at")


def _file(row: Any) -> DraftFile:
    return DraftFile(**{name: getattr(row, name) for name in _FILE_COLUMNS} | {"inline": bool(row.inline)})
