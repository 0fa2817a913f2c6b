"""A form as it was read: nothing is judged yet, but all of it is bounded."""

from dataclasses import dataclass

from gateway.forms.problems import Problem
from mailroom.attachments import AttachmentStore


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFile:
    """A file as it arrived: its bytes, or its key in the attachment store, or neither when a limit had been passed."""

    #: As the client wrote it; not to be trusted.
    name: str
    #: All bytes that arrived, kept or not.
    size: int
    #: The first bytes, also of a file that was not kept.
    head: bytes
    content: bytes | None = None
    key: str | None = None


# Nobody changes one, but it is not frozen: to make a frozen one takes three times as long, thousands of times a second.
@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class RawForm:
    """The fields and files of a form in the order they came, and the problems that could only be seen on the way."""

    fields: tuple[tuple[str, str], ...] = ()
    files: tuple[RawFile, ...] = ()
    problems: tuple[Problem, ...] = ()

    async def discard(self, attachments: AttachmentStore) -> None:
        """Delete what lies in the attachment store: no row will ever name it."""
        for file in self.files:
            if file.key is not None:
                await attachments.delete(file.key)
