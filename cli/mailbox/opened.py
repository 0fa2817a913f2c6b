"""A letter taken apart for reading. Whatever bytes came in, something readable comes out and nothing is raised."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.errors import MessageError
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from email.policy import EmailPolicy
from typing import Any, cast

#: What the standard library's parser and codecs raise on garbage. Each was seen or is in their source; a letter that
#: meets one is still shown, with less of it taken apart.
GARBAGE = (
    MessageError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    RuntimeError,
)

#: Structured headers are parsed in time that grows with the square of their length; nobody reads on beyond this.
LONGEST_HEADER = 8 * 1024
#: How far into a letter the list looks for its subject.
HEADER_BYTES = 64 * 1024
#: Every line that may open a part costs the parser an object; beyond this only the source is shown.
MOST_BOUNDARIES = 10_000
#: Characters of a body on a page; the source has the rest.
LONGEST_BODY = 1_000_000

#: Control characters, lone surrogates (bytes that were no text) and marks that reorder the text around them.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text with everything that could not be encoded, or would deceive a reader, replaced."""
    return _UNPRINTABLE.sub("\ufffd", text)


class _ReadingPolicy(EmailPolicy):
    """The standard policy, with bounded work per header and raw UTF-8 in headers (RFC 6532) understood."""

    def header_fetch_parse(self, name: str, value: str) -> Any:
        if hasattr(value, "name"):  # parsed before
            return value
        text = value[:LONGEST_HEADER].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return super().header_fetch_parse(name, text)


_POLICY = _ReadingPolicy(linesep="\r\n", refold_source="none")


@dataclass(frozen=True, slots=True)
class File:
    """An attachment, or an image the HTML shows: the bytes the sender attached."""

    name: str
    media_type: str
    content: bytes
    content_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a reader sees of a letter. `trouble` says in words why it could not be taken apart, if so."""

    headers: tuple[tuple[str, str], ...] = ()
    text: str | None = None
    html: str | None = None
    files: tuple[File, ...] = ()
    trouble: str | None = None

    def header(self, name: str) -> str:
        """The first header of this name, or nothing."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


@dataclass(frozen=True, slots=True)
class Headline:
    """What the list shows of a letter's header."""

    subject: str
    author: str


def headline(source: bytes) -> Headline:
    """Subject and From, read from the beginning of the letter only."""
    try:
        message = BytesHeaderParser(policy=_POLICY).parsebytes(source[:HEADER_BYTES])
    except GARBAGE:
        return Headline("", "")
    return Headline(_header(message, "Subject")[:300], _header(message, "From")[:300])


def open_letter(source: bytes) -> Opened:
    """Take the letter apart as far as it can be."""
    if source.count(b"\n--") > MOST_BOUNDARIES:
        return Opened(trouble="It has too many parts to be taken apart.")
    try:
        # The policy makes EmailMessages; the annotation of the standard library does not know that.
        message = cast("EmailMessage", message_from_bytes(source, policy=_POLICY))
        headers = tuple(_headers(message))
    except GARBAGE:
        return Opened(trouble="It is not a mail that can be taken apart.")
    try:
        return _with_parts(message, headers)
    except GARBAGE:
        return Opened(headers=headers, trouble="Its parts cannot be told from each other.")


def _with_parts(message: EmailMessage, headers: tuple[tuple[str, str], ...]) -> Opened:
    text: str | None = None
    html: str | None = None
    files: list[File] = []
    for part in _leaves(message):
        kind = _media_type(part)
        if text is None and kind == "text/plain" and not _is_file(part):
            text = _text(part)
        elif html is None and kind == "text/html" and not _is_file(part):
            html = _text(part)
        else:
            files.append(_file(part, kind, number=len(files) + 1))
    return Opened(headers=headers, text=text, html=html, files=tuple(files))


def _leaves(message: EmailMessage) -> Iterator[EmailMessage]:
    """The parts that have content, in order; a mail that is attached to the mail stays whole."""
    waiting = [message]
    while waiting:
        part = waiting.pop()
        if part.is_multipart() and part.get_content_maintype() == "multipart":
            waiting.extend(reversed(cast("list[EmailMessage]", part.get_payload())))
        else:
            yield part


def _headers(message: EmailMessage) -> Iterator[tuple[str, str]]:
    """Every header in order, decoded where it can be."""
    for name, value in message.raw_items():
        try:
            decoded = str(_POLICY.header_fetch_parse(name, value))
        except GARBAGE:
            decoded = str(value)
        yield printable(name), printable(" ".join(decoded.split()))


def _header(message: Any, name: str) -> str:
    try:
        return printable(" ".join(str(message.get(name, "")).split()))
    except GARBAGE:
        return ""


def _media_type(part: EmailMessage) -> str:
    try:
        return printable(part.get_content_type())
    except GARBAGE:
        return "application/octet-stream"


def _is_file(part: EmailMessage) -> bool:
    try:
        return part.get_content_disposition() == "attachment" or part.get_filename() is not None
    except GARBAGE:
        return True


def _text(part: EmailMessage) -> str:
    content = _bytes(part)
    charset = part.get_content_charset("utf-8")
    # Many senders say us-ascii and mean UTF-8, which contains it.
    charset = "utf-8" if charset == "us-ascii" else charset
    try:
        text = content.decode(charset, "replace")
    except GARBAGE:
        text = content.decode("utf-8", "replace")
    return printable(text.replace("\r\n", "\n")[:LONGEST_BODY])


def _file(part: EmailMessage, media_type: str, number: int) -> File:
    try:
        name = part.get_filename() or ""
        content_id = str(part.get("Content-ID", "")).strip().strip("<>") or None
    except GARBAGE:
        name, content_id = "", None
    return File(_clean_name(name) or f"attachment-{number}", media_type, _bytes(part), content_id)


def _clean_name(name: str) -> str:
    """The last component of the name on one line, so that no folder can be named."""
    last = re.split(r"[/\\]", printable(" ".join(name.split())))[-1]
    return last.strip(". ")[:200]


def _bytes(part: EmailMessage) -> bytes:
    if part.is_multipart():  # an attached mail: the parser has taken it apart, so put it together unchanged
        inner = cast("list[EmailMessage]", part.get_payload())
        return b"".join(one.as_bytes() for one in inner)
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""
