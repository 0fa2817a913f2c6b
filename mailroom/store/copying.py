"""Sending a dead letter again, to somebody else: a new message in its place."""

from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.message import DEAD_LETTERS
from mailroom.store import dead_letters, messages
from mailroom.store.audit import Entry, note
from mailroom.store.messages import NewMessage
from mailroom.store.schema import bundles, copies, files
from mailroom.store.schema import messages as message_rows


class NotCopied(Exception):
    """The message is no dead letter any more: somebody re-drove it, or it turned out to have been sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """A dead letter that is about to be sent again as a new message."""

    original: UUID
    message: NewMessage
    who: str
    why: str | None = None
    #: What has to be on record about letting it pass the gate.
    noted: Entry | None = None


def files_of(tx: Connection, message_id: UUID) -> set[str]:
    """The keys of the files that are the message's own; those of a letter are shared by all its copies."""
    return {
        key
        for table in (files, bundles)
        for key in tx.execute(sa.select(table.c.key).where(table.c.message_id == message_id)).scalars()
    }


def send_again(tx: Connection, again: Again) -> None:
    """Accept the new message in the old one's place, once: its dead letter is dismissed, and both say so on record.

    Raises NotCopied. Running it again after a commit in doubt is the way to settle that doubt.
    """
    new, now = again.message, again.message.accepted_at
    if tx.execute(sa.select(message_rows.c.id).where(message_rows.c.id == new.id)).first() is not None:
        return
    original = sa.select(message_rows.c.id).where(
        message_rows.c.id == again.original, message_rows.c.status.in_(DEAD_LETTERS)
    )
    if tx.execute(original.with_for_update()).first() is None:
        raise NotCopied(
            f"{again.original} is no dead letter any more; `mailroom messages show` tells what became of it"
        )
    messages.accept(tx, [new])
    _join_letter(tx, again.original, new.id)
    dead_letters.replaced(tx, again.original, who=again.who, why=f"sent again as {new.id} to {new.recipient}", now=now)
    for subject_id, action, before, after in (
        (again.original, "sent again", None, str(new.id)),
        (new.id, "copied", str(again.original), None),
    ):
        entry = Entry(subject="message", subject_id=subject_id, action=action, who=again.who, at=now, before=before,
                      after=after, why=again.why)  # fmt: skip
        note(tx, entry)
    if again.noted is not None:
        note(tx, again.noted)


def _join_letter(tx: Connection, original: UUID, new: UUID) -> None:
    """A copy of a letter stays one: its conversation shows it behind the others."""
    letter_id = sa.select(copies.c.letter_id).where(copies.c.message_id == original).scalar_subquery()
    last = tx.execute(
        sa.select(copies.c.letter_id, copies.c.number)
        .where(copies.c.letter_id == letter_id)
        .order_by(copies.c.number.desc())
        .limit(1)
    ).one_or_none()
    if last is not None:
        tx.execute(sa.insert(copies).values(message_id=new, letter_id=last.letter_id, number=last.number + 1))
