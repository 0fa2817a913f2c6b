"""Queries about letters: what one side of a conversation wrote once, and what became of its copies.

The letter of a form is the form's message itself, under the same id; all others have rows.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import NAMESPACE_OID, UUID, uuid5

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.message import Attachment, Correspondent, Kind, Status
from mailroom.store import conversations, drafts, messages
from mailroom.store.audit import Entry, note
from mailroom.store.content import UnreadableContent, decode_content
from mailroom.store.conversations import Conversation
from mailroom.store.drafts import Draft, DraftFile
from mailroom.store.messages import NewMessage
from mailroom.store.requests import Repeatable, first_of
from mailroom.store.schema import contents, copies, integrations, letter_files, letters, live
from mailroom.store.schema import messages as message_rows
from mailroom.threads import message_id_of

#: Letters of a conversation that are read at once; older ones are left out.
MOST_AT_ONCE = 200

#: Bytes of what copies say in one statement. The driver puts it together in one step, in which nobody else is served: for
#: 64 MB that takes 0.15 s.
BYTES_AT_ONCE = 8 * 1024 * 1024

_VERSION = b"\x01"


class ConversationEnded(Exception):
    """Nobody writes in this conversation any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFile:
    """A file of a letter, by its id; `file.key` is where its bytes lie, `file.content` has those of a small one."""

    id: UUID
    file: Attachment

    @property
    def inline(self) -> bool:
        """Whether the HTML shows it."""
        return self.file.content_id is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a letter says."""

    sender: Correspondent
    subject: str
    text: str
    to: tuple[Correspondent, ...] = ()
    cc: tuple[Correspondent, ...] = ()
    bcc: tuple[Correspondent, ...] = ()
    reply_to: Correspondent | None = None
    html: str | None = None
    files: tuple[LetterFile, ...] = ()
    history_included: bool = False
    #: The Message-ID it goes out with; None for what came in some other way.
    message_id: str | None = None
    #: The Message-IDs of the letters before it, oldest first.
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A letter of a conversation."""

    id: UUID
    conversation_id: UUID
    #: FORM for the one a conversation began with, ACD and AGENTLESS for ours; None for what else came in.
    kind: Kind | None
    at: datetime
    author: str | None
    written: Written


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One recipient's copy, and what became of it."""

    letter_id: UUID
    message_id: UUID
    recipient: str
    status: Status
    ended_at: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A conversation and who wrote how often in it: its letters, oldest first, by their ids, and the kind of each."""

    conversation: Conversation
    letters: list[tuple[UUID, Kind | None]]
    copies: dict[UUID, list[Copy]]
    draft_files: list[DraftFile]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """A letter about to be accepted: a message for each recipient, and what else changes with it."""

    letter: Letter
    group: Sequence[NewMessage]
    #: The conversation that begins with it; None when it goes into one that exists.
    opens: Conversation | None = None
    #: The files of the draft that go with it: the draft is over then. None when it has nothing to do with the draft.
    takes: frozenset[UUID] | None = None
    #: Whether these must be all that the draft has: what came in the meantime is not to be lost unseen.
    whole: bool = False
    #: What has to be on record about it.
    noted: Entry | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The letter a request made; `unused` are the keys of files that nobody needs any more."""

    letter_id: UUID
    done_now: bool
    unused: tuple[str, ...] = ()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Written)


def accept(tx: Connection, sending: Sending, request: Repeatable, *, now: datetime) -> Accepted:
    """Commit a letter with all its copies, once: a repeated request only hears of the letter it made the first time.

    Raises UnknownConversation, ConversationEnded, FileGone, KeyTaken. Running it again after a commit in doubt is the way
    to settle that doubt.
    """
    letter = sending.letter
    first = first_of(tx, request, letter.id, now)
    if first != letter.id or _exists(tx, letter.id):
        return Accepted(first, done_now=False)
    if sending.opens is not None:
        conversations.open_one(tx, sending.opens)
    elif conversations.touch(tx, letter.conversation_id).ended_at is not None:
        raise ConversationEnded(str(letter.conversation_id))
    unused = (
        () if sending.takes is None else drafts.clear(tx, letter.conversation_id, sending.takes, whole=sending.whole)
    )
    enter(tx, letter)
    for some in _portions(sending.group):
        messages.accept(tx, some)
    numbered = enumerate(sending.group)
    tx.execute(sa.insert(copies), [{"message_id": one.id, "letter_id": letter.id, "number": n} for n, one in numbered])
    if sending.noted is not None:
        note(tx, sending.noted)
    return Accepted(first, done_now=True, unused=tuple(unused))


def _portions(group: Sequence[NewMessage]) -> Iterator[Sequence[NewMessage]]:
    """All of these in turn, in pieces of about BYTES_AT_ONCE at most."""
    start = size = 0
    for at, one in enumerate(group):
        if at > start and size + len(one.body) > BYTES_AT_ONCE:
            yield group[start:at]
            start, size = at, 0
        size += len(one.body)
    yield group[start:]


def open_conversation(
    tx: Connection, conversation: Conversation, letter: Letter | None, draft: Draft | None, request: Repeatable, *,
    now: datetime,
) -> UUID:  # fmt: skip
    """Enter a conversation with what it begins with, once: the id of the one that this request opened the first time.

    Raises KeyTaken. Running it again after a commit in doubt is the way to settle that doubt.
    """
    opened = first_of(tx, request, conversation.id, now)
    if opened != conversation.id or conversations.get(tx, conversation.id) is not None:
        return opened
    conversations.open_one(tx, conversation)
    if letter is not None:
        enter(tx, letter)
    if draft is not None:
        drafts.put(tx, draft)
    return opened


def enter(tx: Connection, letter: Letter) -> None:
    """Put a letter into its conversation."""
    tx.execute(
        sa.insert(letters).values(
            id=letter.id, conversation_id=letter.conversation_id, kind=letter.kind, author=letter.author,
            at=letter.at, body=_VERSION + _encoder.encode(letter.written),
        )
    )  # fmt: skip
    keys = [{"key": one.file.key, "letter_id": letter.id} for one in letter.written.files if one.file.key is not None]
    if keys:
        tx.execute(sa.insert(letter_files), keys)


def get(tx: Connection, letter_id: UUID) -> Letter | None:
    """A letter by its id; None when there is none."""
    row = tx.execute(sa.select(letters).where(letters.c.id == letter_id)).one_or_none()
    return _of_form(tx, letter_id) if row is None else _of_row(row)


def of_conversation(tx: Connection, conversation_id: UUID) -> list[Letter]:
    """The letters of a conversation, oldest first; of very many the newest."""
    newest = sa.select(letters).where(letters.c.conversation_id == conversation_id)
    rows = tx.execute(newest.order_by(letters.c.at.desc(), letters.c.id.desc()).limit(MOST_AT_ONCE)).all()
    form = _of_form(tx, conversation_id)
    return [*([form] if form else []), *(_of_row(row) for row in reversed(rows))]


def seen(tx: Connection, conversation_id: UUID) -> Seen | None:
    """A conversation, its letters, and what became of them; None when there is none of this id."""
    found = conversations.get(tx, conversation_id)
    return None if found is None else _seen(tx, [found])[0]


def going_on(tx: Connection, *, limit: int, offset: int = 0) -> tuple[list[Seen], int]:
    """A page of the conversations that have not ended, the newest first, and how many there are (up to MOST_COUNTED)."""
    found, total = conversations.going_on(tx, limit=limit, offset=offset)
    return _seen(tx, found), total


def _seen(tx: Connection, found: Sequence[Conversation]) -> list[Seen]:
    """All of them with the same few statements."""
    ids = [one.id for one in found]
    mine = sa.select(letters.c.conversation_id, letters.c.id, letters.c.kind).where(letters.c.conversation_id.in_(ids))
    written: dict[UUID, list[tuple[UUID, Kind | None]]] = {
        one.id: [(one.id, Kind.FORM)] if one.from_form else [] for one in found
    }
    for row in tx.execute(mine.order_by(letters.c.at, letters.c.id)):
        written[row.conversation_id].append((row.id, Kind(row.kind) if row.kind else None))
    sent = {one for told in written.values() for one, kind in told if kind not in (None, Kind.FORM)}
    copies_by_letter, files = copies_of(tx, sent), drafts.files_of(tx, ids)
    return [
        Seen(
            conversation=one,
            letters=written[one.id],
            copies={letter: copies_by_letter[letter] for letter, _ in written[one.id] if letter in sent},
            draft_files=files[one.id],
        )
        for one in found
    ]


def copies_of(tx: Connection, letter_ids: Iterable[UUID]) -> dict[UUID, list[Copy]]:
    """The copies of each of these letters, in the order they were made."""
    wanted = list(letter_ids)
    found: dict[UUID, list[Copy]] = {one: [] for one in wanted}
    status = sa.func.coalesce(live.c.status, message_rows.c.status).label("status")
    rows = tx.execute(
        sa.select(
            copies.c.letter_id, message_rows.c.id, message_rows.c.recipient, status, message_rows.c.ended_at,
            message_rows.c.reason,
        )
        .select_from(copies)
        .join(message_rows, message_rows.c.id == copies.c.message_id)
        .outerjoin(live, live.c.id == copies.c.message_id)
        .where(copies.c.letter_id.in_(wanted))
        .order_by(copies.c.number)
    )  # fmt: skip
    for row in rows:
        found[row.letter_id].append(
            Copy(
                letter_id=row.letter_id, message_id=row.id, recipient=row.recipient, status=Status(row.status),
                ended_at=row.ended_at, reason=row.reason,
            )
        )  # fmt: skip
    return found


def file_id(message_id: UUID, number: int) -> UUID:
    """The id of a form's file, which has none of its own: always the same."""
    return uuid5(NAMESPACE_OID, f"mailroom form {message_id} file {number}")


# --- rows -------------------------------------------------------------------------------------------------------------


def _exists(tx: Connection, letter_id: UUID) -> bool:
    return tx.execute(sa.select(letters.c.id).where(letters.c.id == letter_id)).first() is not None


def _of_row(row: sa.Row[tuple[object, ...]]) -> Letter:
    return Letter(
        id=row.id, conversation_id=row.conversation_id, kind=Kind(row.kind) if row.kind else None, at=row.at,
        author=row.author, written=_decoded(row.body),
    )  # fmt: skip


def _decoded(body: bytes) -> Written:
    if body[:1] != _VERSION:
        raise UnreadableContent(f"the letter has version {body[:1].hex() or 'none'}, this Mailroom reads 01")
    try:
        return _decoder.decode(memoryview(body)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableContent(f"the letter is damaged: {error}") from error


def _of_form(tx: Connection, message_id: UUID) -> Letter | None:
    """What the customer wrote: the form's message, as from them."""
    row = tx.execute(
        sa.select(message_rows.c.accepted_at, contents.c.body, integrations.c.from_address)
        .join(contents, contents.c.message_id == message_rows.c.id)
        .outerjoin(integrations, integrations.c.id == message_rows.c.integration_id)
        .where(message_rows.c.id == message_id, message_rows.c.kind == Kind.FORM)
    ).one_or_none()
    if row is None:
        return None
    content = decode_content(row.body)
    left_as = content.from_address or row.from_address
    customer = Correspondent(content.reply_to or "", content.reply_to_name)
    return Letter(
        id=message_id,
        conversation_id=message_id,
        kind=Kind.FORM,
        at=row.accepted_at,
        author=None,
        written=Written(
            sender=customer,
            to=(Correspondent(content.to),),
            subject=content.subject,
            # Without what was put below it for the mailbox: that is not the customer's, nor for them to read in a quote.
            text=content.text[: content.words],
            html=content.html,
            files=tuple(
                LetterFile(id=file_id(message_id, number), file=file) for number, file in enumerate(content.attachments)
            ),
            message_id=message_id_of(message_id, left_as) if left_as else None,
        ),
    )
