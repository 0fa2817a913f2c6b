"""MIME: a message's content as the bytes that go on the wire. Pure, and safe against whatever a client put in a field.

The standard library's writer is not used: CPython 3.11.7 lets an encoded word in a subject, a name or a file name put a
header line of its own on the wire (CVE-2024-6923), and it costs 2 ms a message. What is written here is read back by an
independent reader and compared, name by name and value by value, with what was meant.
"""

import asyncio
import binascii
import functools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, unquote
from uuid import UUID

import idna
import pybase64

from mailroom import threads
from mailroom.message import Attachment, Content, Correspondent

#: RFC 5322 section 2.1.1: lines should be no longer than this, and must not be longer than the next.
LINE = 76
HARD_LINE = 998
#: Messages above this are built in a thread; below it the hop would cost more than the work (SND-10).
BUILT_ON_THE_LOOP = 256 * 1024

#: "=?utf-8?b?" and "?=".
_WORD_FRAME = 12
#: Bytes in one encoded word, which must not exceed 75 characters (RFC 2047 section 2).
_WORD_BYTES = 45
#: Names of headers are ours and short.
_LONGEST_NAME = 60
#: When more than one byte in this many would be tripled by quoted-printable, base64 is shorter.
_BASE64_ABOVE = 6

_LINE_BREAKS_AND_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROLS_IN_A_BODY = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+(?: [A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+)*")
_SPACE_TO_FOLD_AT = re.compile(r"(?<! ) (?! )")

#: No quotes, comments, lists, routes, spaces or controls: what is checked is byte for byte what is written (SEC-2).
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~.\u00a1-\ud7ff\ue000-\U0010ffff]+@[A-Za-z0-9.\-]+")
_LONGEST_ADDRESS = 254
_HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*", re.IGNORECASE)
#: What no reader takes for anything but one id: no quotes, comments or escapes, which RFC 5322 section 3.6.4 has too.
_MESSAGE_ID = re.compile(r"<[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~.]+@[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~.:\[\]]+>")
#: None of these is ever escaped in a URL, so "cid:" and the id is all that HTML can call it by (RFC 2392).
_CONTENT_ID = re.compile(r"[A-Za-z0-9.\-]{1,100}")
_CALLED_BY_THE_HTML = re.compile(r"\bcid:([A-Za-z0-9.\-]+)", re.IGNORECASE)
_SAFE_FILE_NAME = re.compile(r"[A-Za-z0-9 !#$&'()+,\-.;=@\[\]^_`{}~]+")

#: Headers that only this file writes; `Content.headers` may not bring them.
_OURS = frozenset(
    {"from", "to", "cc", "bcc", "sender", "reply-to", "return-path", "subject", "date", "message-id", "mime-version"}
)


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

#: Headers that many messages have in common: those of one integration, of one second, or all.
_OF_MANY = frozenset({"From", "To", "Date", "MIME-Version"})

#: Headers whose value is message ids, which may not be written as encoded words.
_OF_IDS = frozenset({"in-reply-to", "references"})


class UnsafeMessage(Exception):
    """The finished bytes do not say what was meant, or an address or name cannot be written safely. It is not sent."""


class Mailbox(NamedTuple):
    """One of the addresses of an address header, and its display name, perhaps empty."""

    display: str
    address: str


@dataclass(frozen=True, slots=True)
class Ids:
    """The value of a header that names messages or parts, each id in its angle brackets."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Disposition:
    """The value of a part's Content-Disposition: "attachment" or "inline", and the name of the file."""

    shown: str
    name: str


#: Text, the mailboxes of an address header, ids, or what a file is.
Meaning = str | tuple[Mailbox, ...] | Ids | Disposition
Headers = list[tuple[str, Meaning]]


def compose(
    message_id: UUID,
    content: Content,
    from_address: str,
    from_name: str | None,
    accepted_at: datetime,
    attachments: Sequence[bytes | bytearray],
) -> bytes:
    """The whole message, 7-bit and CRLF only, the same bytes at every attempt; raises UnsafeMessage.

    All copies of a letter that were accepted at the same time are the same bytes too, unless their To is their own.
    `attachments` are the bytes of `content.attachments`, in the same order.
    """
    letter_id = content.letter_id or message_id
    meant = _headers(letter_id, content, from_address, from_name, accepted_at)
    return b"".join((_written(meant), *_body(letter_id, content, attachments)))


async def compose_off_loop(
    message_id: UUID,
    content: Content,
    from_address: str,
    from_name: str | None,
    accepted_at: datetime,
    attachments: Sequence[bytes | bytearray],
) -> bytes:
    """As `compose`, but a large message does not stop the event loop."""
    size = len(content.text) + len(content.html or "") + sum(map(len, attachments))
    if size <= BUILT_ON_THE_LOOP:
        return compose(message_id, content, from_address, from_name, accepted_at, attachments)
    return await asyncio.to_thread(compose, message_id, content, from_address, from_name, accepted_at, attachments)


def message_id_of(message_id: UUID, sender: str) -> str:
    """The Message-ID that a message from this address has; raises UnsafeMessage."""
    return threads.message_id_of(message_id, ascii_address(sender))


@functools.lru_cache(maxsize=4096)
def ascii_address(address: str) -> str:
    """The address with its domain in A-labels (RFC 5891); raises UnsafeMessage when it is none we would write."""
    if not address.isascii():
        local, at, domain = address.rpartition("@")
        try:
            address = f"{local}{at}{idna.encode(domain, uts46=True).decode('ascii')}"
        except idna.IDNAError as error:
            raise UnsafeMessage("an address has a domain that no host can have") from error
    safe = "=?" not in address and address.isprintable() and _ADDRESS.fullmatch(address) is not None
    if not safe or len(address) > _LONGEST_ADDRESS:
        raise UnsafeMessage("an address is not one that can be written safely")
    return address


# --- What is meant ---------------------------------------------------------------------------------------------------


def _headers(
    letter_id: UUID, content: Content, from_address: str, from_name: str | None, accepted_at: datetime
) -> Headers:
    """Every header of the message but those that describe its body."""
    sender = ascii_address(content.from_address or from_address)
    display = content.from_name if content.from_name is not None else from_name
    # The recipient goes into the envelope: it is judged here too where To and Cc name others.
    recipient = Mailbox("", ascii_address(content.to))
    headers: Headers = [
        ("From", (Mailbox(_one_line(display or ""), sender),)),
        ("To", tuple(map(_mailbox_of, content.to_all)) if content.to_all else (recipient,)),
    ]
    if content.cc:
        headers.append(("Cc", tuple(map(_mailbox_of, content.cc))))
    if content.reply_to:
        answers = Mailbox(_one_line(content.reply_to_name or ""), ascii_address(content.reply_to))
        headers.append(("Reply-To", (answers,)))
    headers += [
        ("Subject", _one_line(content.subject)),
        ("Date", _date(accepted_at)),
        ("Message-ID", Ids((threads.message_id_of(letter_id, sender),))),
        ("MIME-Version", "1.0"),
    ]
    headers.extend(_extra(name, value) for name, value in content.headers)
    return headers


def _date(moment: datetime) -> str:
    """RFC 5322 section 3.3, in UTC."""
    return _date_of(math.floor(moment.timestamp()))


@functools.lru_cache(maxsize=64)
def _date_of(second: int) -> str:
    """Written once for all that was accepted in it; `strftime` would write the names in the language of the machine."""
    utc = datetime.fromtimestamp(second, UTC)
    day, month = _DAYS[utc.weekday()], _MONTHS[utc.month - 1]
    return f"{day}, {utc.day:02} {month} {utc.year:04} {utc.hour:02}:{utc.minute:02}:{utc.second:02} +0000"


def _mailbox_of(person: Correspondent) -> Mailbox:
    return Mailbox(_one_line(person.name or ""), ascii_address(person.address))


def _extra(name: str, value: str) -> tuple[str, Meaning]:
    """A header that the content brings; raises UnsafeMessage."""
    return name, _ids(name, value) if _extra_holds_ids(name) else _one_line(value)


def _ids(name: str, value: str) -> Ids:
    ids = tuple(value.split())
    safe = ids and "=?" not in value and all(_MESSAGE_ID.fullmatch(one) for one in ids)
    if not safe:
        raise UnsafeMessage(f"the header {name} holds something that is no message id")
    return Ids(ids)


@functools.lru_cache(maxsize=64)
def _extra_holds_ids(name: str) -> bool:
    """Whether a header of this name holds message ids; raises UnsafeMessage for one that may not be added."""
    lower = name.lower()
    known = lower in _OURS or lower.startswith("content-")
    if known or len(name) > _LONGEST_NAME or _HEADER_NAME.fullmatch(name) is None:
        raise UnsafeMessage(f"no header {name!r} may be added")
    return lower in _OF_IDS


def _one_line(value: str) -> str:
    """Line breaks and control characters become spaces, which is all they could mean in a header."""
    if value.isascii() and value.isprintable():
        return value.strip(" ")
    return _whole(_LINE_BREAKS_AND_CONTROLS.sub(" ", value)).strip(" ")


def _whole(value: str) -> str:
    """Half a surrogate pair has no bytes in UTF-8."""
    return _LONE_SURROGATES.sub("\ufffd", value)


# --- Writing headers -------------------------------------------------------------------------------------------------


def _written(headers: Headers) -> bytes:
    """The lines of these headers, each read back; raises UnsafeMessage."""
    lines = [(_line_of_many if _is_of_many(name, meaning) else _line)(name, meaning) for name, meaning in headers]
    return "".join(lines).encode("utf-8")


def _is_of_many(name: str, meaning: Meaning) -> bool:
    """Whether other messages will have this line too; a long one is not kept for them."""
    if name not in _OF_MANY:
        return False
    return type(meaning) is str or (type(meaning) is tuple and len(meaning) == 1 and len(meaning[0].display) <= LINE)


def _line(name: str, meaning: Meaning) -> str:
    """One header as it goes over the wire, which says what was meant and nothing more; raises UnsafeMessage."""
    line = f"{name}:{_value(name, meaning)}\r\n"
    _must_say(name, meaning, line)
    return line


_line_of_many = functools.lru_cache(maxsize=256)(_line)


def _value(name: str, meaning: Meaning) -> str:
    """What follows the colon."""
    match meaning:
        case str():
            return _text(len(name) + 1, meaning)
        case tuple():
            return _address_list(len(name) + 1, meaning)
        case Ids(ids=ids):
            chain = _folded(len(name) + 1, " ".join(ids))
            if chain is None:
                raise UnsafeMessage(f"the header {name} holds an id that is longer than a line may be")
            return chain
        case Disposition():
            return f" {meaning.shown};\r\n {_file_name(meaning.name)}"


def _text(used: int, value: str) -> str:
    """Unstructured text (RFC 5322 section 2.2.1) that follows `used` characters on its line."""
    if not value:
        return ""
    # "=?" in plain text would be read as the start of an encoded word: the way in of CVE-2024-6923.
    if value.isascii() and value.isprintable() and "=?" not in value:
        if used + 1 + len(value) <= LINE:
            return f" {value}"
        folded = _folded(used, value)
        if folded is not None:
            return folded
    return _encoded_words(used, value)


def _folded(used: int, value: str) -> str | None:
    """The text on lines broken at single spaces; None when a word is longer than any line may be."""
    lines, line = [], ""
    for word in _SPACE_TO_FOLD_AT.split(value):
        if line and used + 1 + len(line) + 1 + len(word) > LINE:
            lines.append(line)
            line, used = word, 0
        else:
            line = f"{line} {word}" if line else word
        if used + 1 + len(line) > HARD_LINE:
            return None
    lines.append(line)
    return " " + "\r\n ".join(lines)


def _encoded_words(used: int, value: str) -> str:
    """RFC 2047: all of the value as UTF-8 in base64 words, none of them split inside a character."""
    first = min(_WORD_BYTES, max(LINE - used - 1 - _WORD_FRAME, 16) // 4 * 3)
    pieces = _pieces(value.encode("utf-8"), first)
    return "\r\n".join([f" =?utf-8?b?{pybase64.b64encode_as_string(piece)}?=" for piece in pieces])


def _pieces(data: bytes, first: int) -> Iterator[bytes]:
    """Cut before the first byte of a character, never inside one."""
    start, room = 0, first
    while start < len(data):
        end = min(start + room, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:  # noqa: PLR2004  # 10xxxxxx continues a character in UTF-8
            end -= 1
        yield data[start:end]
        start, room = end, _WORD_BYTES


def _address_list(used: int, mailboxes: tuple[Mailbox, ...]) -> str:
    """Mailboxes with commas between them (RFC 5322 section 3.4); one that does not fit begins a line of its own."""
    if len(mailboxes) == 1:
        return _mailbox(used, mailboxes[0], "")
    column, written = used, ""
    for number, mailbox in enumerate(mailboxes, start=1):
        end = "," if number < len(mailboxes) else ""
        piece = _mailbox(column, mailbox, end)
        if written and column + len(piece) > LINE:
            piece = "\r\n" + _mailbox(0, mailbox, end)
        column = _column_after(column, piece)
        written += piece
    return written


def _mailbox(used: int, mailbox: Mailbox, end: str) -> str:
    """An address, with its name before it where it has one."""
    if not mailbox.display:
        return f" {mailbox.address}{end}"
    phrase = _phrase(used, mailbox.display)
    address = f"<{mailbox.address}>{end}"
    gap = " " if _column_after(used, phrase) + 1 + len(address) <= LINE else "\r\n "
    return f"{phrase}{gap}{address}"


def _column_after(used: int, written: str) -> int:
    """How many characters are on the line when this is written after so many."""
    lines_before = written.rfind("\n") + 1
    return len(written) - lines_before if lines_before else used + len(written)


def _phrase(used: int, display: str) -> str:
    """A display name (RFC 5322 section 3.2.5): bare atoms, a quoted string, or encoded words."""
    plain = display.isascii() and display.isprintable() and "=?" not in display
    if plain and used + len(display) + len(' ""') <= LINE:
        if _ATOMS.fullmatch(display):
            return f" {display}"
        escaped = display.replace("\\", "\\\\").replace('"', '\\"')
        return f' "{escaped}"'
    return _encoded_words(used, display)


def _file_name(name: str) -> str:
    """Plain where that says it all, else by RFC 2231 alone: of two forms many readers show the mangled one."""
    if len(name) < LINE - len(' filename=""') and _SAFE_FILE_NAME.fullmatch(name):
        return f'filename="{name}"'
    return ";\r\n ".join(_continued(quote(name, safe="")))


def _continued(escaped: str) -> Iterator[str]:
    """`filename*0*=…; filename*1*=…` (RFC 2231 section 4.1), never cutting a %XX in two."""
    room = LINE - len(" filename*00*=UTF-8'';")
    if len(escaped) <= room:
        yield f"filename*=UTF-8''{escaped}"
        return
    start, number = 0, 0
    while start < len(escaped):
        end = min(start + room, len(escaped))
        cut = escaped.rfind("%", max(start, end - 2), end)
        if end < len(escaped) and cut > start:
            end = cut
        charset = "" if number else "UTF-8''"
        yield f"filename*{number}*={charset}{escaped[start:end]}"
        start, number = end, number + 1


# --- The body --------------------------------------------------------------------------------------------------------


def _body(letter_id: UUID, content: Content, attachments: Sequence[bytes | bytearray]) -> list[bytes]:
    """From the Content-Type on: text, or text and html as alternatives, and the attachments beside them.

    What the HTML shows goes with it, so that a reader who chooses the text is not shown its images as files.
    """
    shown = _shown_in_the_html(content)
    images, files = [], []
    for file, data in zip(content.attachments, attachments, strict=True):
        if file.content_id in shown:
            images.append(_inline_part(file, file.content_id, data))
        else:
            files.append(_file_part(file, data))
    letter = _text_part("plain", content.text)
    if content.html is not None:
        html = _text_part("html", content.html)
        if images:
            # RFC 2387: the root is the first part, and its type is said.
            html = _multipart("related", letter_id, [html, *images], parameter=' type="text/html";')
        letter = _multipart("alternative", letter_id, [letter, html])
    return _multipart("mixed", letter_id, [letter, *files]) if files else letter


def _shown_in_the_html(content: Content) -> frozenset[str]:
    """The content ids that the HTML mentions; raises UnsafeMessage for one that cannot be written safely."""
    ids = [file.content_id for file in content.attachments if file.content_id is not None]
    if not ids:
        return frozenset()
    if not all(map(_CONTENT_ID.fullmatch, ids)) or len(set(ids)) < len(ids):
        raise UnsafeMessage("a file has a content id that cannot be written safely, or another file has the same")
    return frozenset(ids).intersection(_CALLED_BY_THE_HTML.findall(content.html or ""))


def _multipart(subtype: str, letter_id: UUID, parts: Sequence[list[bytes]], *, parameter: str = "") -> list[bytes]:
    """The parts between boundaries. No part can hold one: "=_" is in no line that an encoding made (RFC 2045, 6.7)."""
    boundary = f"=_{subtype[0]}_{letter_id.hex}"
    pieces = [f'Content-Type: multipart/{subtype};{parameter}\r\n boundary="{boundary}"\r\n\r\n'.encode("ascii")]
    delimiter = f"--{boundary}\r\n".encode("ascii")
    for part in parts:
        pieces.append(delimiter)
        pieces.extend(part)
        pieces.append(b"\r\n")  # it belongs to the delimiter after it, not to the part (RFC 2046 section 5.1.1)
    pieces.append(f"--{boundary}--\r\n".encode("ascii"))
    return pieces


def _text_part(subtype: str, text: str) -> list[bytes]:
    """Text as it is where mail can carry it, else in the shorter of the two encodings. Ends with a line break."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    if not lines.endswith("\n"):
        lines += "\n"
    encoding, data = _encoded_text(lines)
    charset = "us-ascii" if encoding == "7bit" else "utf-8"
    head = f"Content-Type: text/{subtype}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return [head.encode("ascii"), data]


def _encoded_text(lines: str) -> tuple[str, bytes]:
    # "=_" could only begin one of our boundaries: such a text is never carried as it is.
    if lines.isascii() and "=_" not in lines and not _CONTROLS_IN_A_BODY.search(lines):
        if max(map(len, lines.split("\n"))) <= HARD_LINE:
            return "7bit", lines.replace("\n", "\r\n").encode("ascii")
        return "quoted-printable", _quoted_printable(lines.encode("ascii"))
    data = _whole(lines).encode("utf-8")
    if (len(data) - len(lines)) * _BASE64_ABOVE > len(data):
        return "base64", _base64(data.replace(b"\n", b"\r\n"))
    return "quoted-printable", _quoted_printable(data)


def _quoted_printable(data: bytes) -> bytes:
    return binascii.b2a_qp(data, istext=True).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _base64(data: bytes | bytearray) -> bytes:
    return pybase64.encodebytes(data).replace(b"\n", b"\r\n")


def _file_part(file: Attachment, data: bytes | bytearray) -> list[bytes]:
    """A file beside the letter."""
    return _part(file, data, [("Content-Disposition", Disposition("attachment", _name_of(file)))])


def _inline_part(file: Attachment, content_id: str, data: bytes | bytearray) -> list[bytes]:
    """A file that the HTML shows by its content id."""
    meant: Headers = [
        ("Content-ID", Ids((f"<{content_id}>",))),
        ("Content-Disposition", Disposition("inline", _name_of(file))),
    ]
    return _part(file, data, meant)


def _name_of(file: Attachment) -> str:
    return _one_line(file.name) or "attachment"


def _part(file: Attachment, data: bytes | bytearray, meant: Headers) -> list[bytes]:
    """One file, always in base64."""
    head: Headers = [("Content-Type", _carried_as(file.media_type)), ("Content-Transfer-Encoding", "base64"), *meant]
    return [_written(head) + b"\r\n", _base64(data)]


def _carried_as(media_type: str) -> str:
    """message/* and multipart/* may not be base64 (RFC 2046 sections 5.1 and 5.2.1): such a file is just bytes."""
    if _MEDIA_TYPE.fullmatch(media_type) is None or len(media_type) > LINE - len("Content-Type: "):
        raise UnsafeMessage(f"{media_type!r} is no media type")
    composite = media_type.lower().startswith(("message/", "multipart/"))
    return "application/octet-stream" if composite else media_type


# --- Reading back ----------------------------------------------------------------------------------------------------

_FOLD = re.compile(r"\r\n(?=[ \t])")
_BETWEEN_WORDS = re.compile(r"(=\?[^?\s]+\?[bqBQ]\?[^?\s]*\?=)[ \t]+(?==\?[^?\s]+\?[bqBQ]\?[^?\s]*\?=)")
_WORD = re.compile(r"=\?([^?\s]+)\?([bqBQ])\?([^?\s]*)\?=")
_QUOTED_PAIR = re.compile(r"\\(.)")
_QUOTED = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
#: One mailbox of a list: commas end it, but not those in a quoted string. A quote without its other half is in none.
_LISTED = r'(?:[^",]|"(?:[^"\\]|\\.)*")+'
_ONE_OF_A_LIST = re.compile(_LISTED)
_ADDRESS_LIST = re.compile(rf"{_LISTED}(?:,{_LISTED})*")
#: A bare name with one of these is not a name: it is a comment, a group, a route or a second address.
_SPECIALS = re.compile(r'[()<>\[\]:;@\\,"]')
_CONTINUED = re.compile(r"filename\*(?:\d+\*)?=(?:UTF-8'')?([^;\s]*)")


def _must_say(name: str, meaning: Meaning, line: str) -> None:
    """Read the line and compare: one header of this name and value, and nothing more (SEC-1)."""
    if not line.count("\n") == line.count("\r") == line.count("\r\n"):
        raise UnsafeMessage(f"the header {name} has a bare line break")
    text = _FOLD.sub("", line) if "\r\n " in line or "\r\n\t" in line else line
    if text.find("\r\n") != len(text) - 2:
        raise UnsafeMessage(f"the header {name} would begin another one")
    there, _, value = text[:-2].partition(":")
    if there != name or not _reads_as(meaning, value.strip(" ")):
        raise UnsafeMessage(f"the header {name} would be read differently from what was meant")


def _reads_as(meaning: Meaning, value: str) -> bool:
    """Whether a reader of mail understands what was meant."""
    if type(meaning) is str and "=?" not in value:
        return value == meaning  # text without an encoded word reads as it stands
    return _read(meaning, value) == meaning


def _read(expected: Meaning, raw: str) -> Meaning:
    """The value of an unfolded header as a reader of mail understands it."""
    match expected:
        case str():
            return _decoded(raw)
        case tuple():
            if "," not in raw:
                return (_read_mailbox(raw),)
            if _ADDRESS_LIST.fullmatch(raw) is None:
                return ()
            return tuple(_read_mailbox(one.strip(" ")) for one in _ONE_OF_A_LIST.findall(raw))
        case Ids():
            return Ids(tuple(raw.split(" ")))
        case Disposition():
            shown, _, parameters = raw.partition(";")
            continued = _CONTINUED.findall(parameters)
            plain = parameters.partition('filename="')[2].partition('"')[0]
            return Disposition(shown, unquote("".join(continued)) if continued else plain)


def _read_mailbox(raw: str) -> Mailbox:
    if not raw.endswith(">"):
        return Mailbox("", raw)
    phrase, _, address = raw[:-1].rpartition("<")
    phrase = phrase.rstrip(" ")
    if phrase.startswith('"') and _QUOTED.fullmatch(phrase):
        name = phrase[1:-1]
        return Mailbox(_decoded(_QUOTED_PAIR.sub(r"\1", name) if "\\" in name else name), address)
    if _SPECIALS.search(phrase):
        return Mailbox("", raw)
    return Mailbox(_decoded(phrase), address)


def _decoded(raw: str) -> str:
    """RFC 2047: every encoded word is decoded, and white space between two of them is dropped."""
    if "=?" not in raw:
        return raw
    return _WORD.sub(_decoded_word, _BETWEEN_WORDS.sub(r"\1", raw))


def _decoded_word(word: re.Match[str]) -> str:
    charset, encoding, text = word.groups()
    try:
        data = pybase64.b64decode(text) if encoding in "bB" else binascii.a2b_qp(text, header=True)
        return data.decode(charset, "replace")
    except (LookupError, ValueError):
        return word.group()  # what cannot be decoded is shown as it is
