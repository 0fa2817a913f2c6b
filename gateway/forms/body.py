"""Reading a form as a stream, within budgets of bytes, parts and time; the only door to `multipart`.

aiohttp's own `request.post()` decodes with whatever codec the client names (one of them takes 45 minutes for 10 MB),
ends in HTTP 500 for twenty kinds of broken body, and takes ten times as long for a small form.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Coroutine
from urllib.parse import unquote, unquote_to_bytes

import aiohttp
from multipart import (  # type: ignore[import-untyped]  # it has annotations, but no py.typed
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from gateway.filenames import clean_name, extension_of
from gateway.forms.filetypes import HEAD_SIZE
from gateway.forms.problems import Code, Problem
from gateway.forms.raw import RawFile, RawForm
from gateway.forms.regular import RegularPart, regular_parts
from mailroom.attachments import LARGEST_IN_A_ROW, AttachmentStore, Upload
from mailroom.http_connection import AnyRequest, BrokenBody
from mailroom.settings import EmailOptions, LimitSettings

#: Parts of a multipart body, and fields of an urlencoded one.
MOST_PARTS = 100
MOST_PART_HEADERS = 8
LONGEST_PART_HEADER = 4096
#: RFC 2046 section 5.1.1.
LONGEST_BOUNDARY = 70
_BARE_BOUNDARY = re.compile(r""";\s*boundary\s*=\s*([^\s";][^\s";]*)""", re.IGNORECASE)
#: Bytes of one text field in UTF-8, and of all together.
LONGEST_FIELD = 64 * 1024
MOST_TEXT = 512 * 1024
#: Bytes of one character in UTF-8.
_LONGEST_CHARACTER = 4
#: Bytes that boundaries, part headers and names of fields may take.
_OVERHEAD = 256 * 1024
#: No field of so short a body is too long, whatever its bytes turn out to be, nor are all together.
_WITHIN_ALL_BUDGETS = LONGEST_FIELD // _LONGEST_CHARACTER
#: A percent-encoded byte takes three.
_URLENCODED_BYTE = 3

#: Pieces of a file up to this are put together as they come; a larger one is given a block of the store's.
_SMALL_FILE = 16 * 1024
#: Parsing more than this of an urlencoded body takes so long that it is done beside the event loop.
_PARSED_AT_ONCE = 64 * 1024
#: A multipart body up to this that is here whole is taken apart in one pass; its files are none for the store.
_TAKEN_APART_AT_ONCE = LARGEST_IN_A_ROW // 2

#: After this many seconds a body has to have come at this many bytes per second on average.
_GRACE_SECONDS = 10.0
_SLOWEST_BYTES_PER_SECOND = 1000

#: Values of Content-Transfer-Encoding that change nothing; RFC 7578 section 4.7 deprecates the others.
_IDENTITY_ENCODINGS = frozenset({"7bit", "8bit", "binary"})

_HTTP_STATUS = {Code.TOO_SLOW: 408, Code.UNSUPPORTED: 415}


class BadForm(Exception):
    """The body is no form, or more than we read of one; code and advice say why."""

    def __init__(self, code: Code, advice: int | str) -> None:
        super().__init__(f"{code}: {advice}")
        self.code = code
        self.advice = advice

    @property
    def problem(self) -> Problem:
        """The same, for the answer."""
        return Problem(self.code, self.advice)

    @property
    def status(self) -> int:
        """The HTTP status to answer with."""
        return _HTTP_STATUS.get(self.code, 400)


async def read_form(
    request: AnyRequest, options: EmailOptions, limits: LimitSettings, attachments: AttachmentStore
) -> RawForm:
    """The whole form; its large files are synced in the attachment store, and are the caller's to use or discard.

    Raises BadForm, and what aiohttp raises when the client goes away; nothing is left in the store then.
    """
    boundary = _boundary_of(request)
    body = _Body(request.content, limits, _budget_of(boundary, options))
    body.refuse_length(request.content_length)
    if boundary is None:
        return await _read_urlencoded(body)
    return await _read_multipart(body, boundary, options, attachments)


def seconds_left(elapsed: float, received: int, limits: LimitSettings) -> float:
    """How long the next bytes of a body may take; nothing or less when it has been too slow already."""
    slowest = _GRACE_SECONDS + received / _SLOWEST_BYTES_PER_SECOND
    return min(limits.idle_read_seconds, limits.body_seconds - elapsed, slowest - elapsed)


def _boundary_of(request: AnyRequest) -> str | None:
    """The boundary of a multipart form, None for an urlencoded one."""
    if (
        "Content-Encoding" in request.headers
        or request.headers.get("Transfer-Encoding", "chunked").lower() != "chunked"
    ):
        raise BadForm(Code.UNSUPPORTED, "The body must not be compressed: Content-Encoding is not supported.")
    header = request.headers.get("Content-Type", "")
    media_type, parameters = parse_options_header(header)
    if media_type == "application/x-www-form-urlencoded":
        return None
    if media_type != "multipart/form-data":
        advice = "The body must be multipart/form-data or application/x-www-form-urlencoded."
        raise BadForm(Code.UNSUPPORTED, advice)
    # Some clients leave out the quotes that =, ( and their like ask for (RFC 2045 section 5.1); all they mean is there.
    bare = _BARE_BOUNDARY.search(header)
    boundary: str = bare[1] if bare is not None else parameters.get("boundary", "")
    if not 0 < len(boundary) <= LONGEST_BOUNDARY or not boundary.isascii() or not boundary.isprintable():
        raise BadForm(Code.MALFORMED, f"The boundary must have 1 to {LONGEST_BOUNDARY} printable ASCII characters.")
    if header.lower().count("boundary=") > 1:
        raise BadForm(Code.MALFORMED, "The boundary must be given once.")
    return boundary


def _budget_of(boundary: str | None, options: EmailOptions) -> tuple[int, Problem]:
    """How many bytes a body may have, and what to answer beyond."""
    if boundary is None:
        advice = f"The form has more than {MOST_TEXT} bytes of text."
        return MOST_TEXT * _URLENCODED_BYTE + _OVERHEAD, Problem(Code.TOO_LONG, advice)
    return options.max_size + MOST_TEXT + _OVERHEAD, Problem(Code.FILES_TOO_LARGE, options.max_size)


class _Body:
    """The bytes of a request, in time and within budget."""

    def __init__(self, content: aiohttp.StreamReader, limits: LimitSettings, budget: tuple[int, Problem]) -> None:
        self._content = content
        self._limits = limits
        self._budget, self._too_much = budget
        self._begun = time.monotonic()
        self._received = 0

    def refuse_length(self, length: int | None) -> None:
        """Raise BadForm for a body that says itself that it is beyond the budget."""
        if length is not None and length > self._budget:
            raise BadForm(self._too_much.code, self._too_much.advice)

    @property
    def is_read(self) -> bool:
        """Whether nothing will come any more; otherwise it is not known yet."""
        return self._content.at_eof()

    async def read(self) -> bytes:
        """The next bytes, none at the end."""
        left = seconds_left(time.monotonic() - self._begun, self._received, self._limits)
        if left <= 0:
            raise BadForm(Code.TOO_SLOW, "The body came too slowly.")
        try:
            # Most bodies are here by now, and what is here needs no timer.
            chunk = self._content.read_nowait()
            if not chunk and not self._content.is_eof():
                chunk = await self._waited_for(left)
        except BrokenBody:
            raise BadForm(Code.MALFORMED, "The body breaks the rules of HTTP.") from None
        self._received += len(chunk)
        self.refuse_length(self._received)
        return chunk

    async def _waited_for(self, seconds: float) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                return await self._content.readany()
        except TimeoutError:
            raise BadForm(Code.TOO_SLOW, "The body came too slowly.") from None


async def _read_urlencoded(body: _Body) -> RawForm:
    data = await body.read()
    if not body.is_read:
        data = await _with_the_rest(data, body)
    if len(data) > _PARSED_AT_ONCE:
        return await asyncio.to_thread(_parse_urlencoded, data)
    return _parse_urlencoded(data)


async def _with_the_rest(begun: bytes, body: _Body) -> bytes:
    data = bytearray(begun)
    while chunk := await body.read():
        data += chunk
    return bytes(data)


def _parse_urlencoded(data: bytes) -> RawForm:
    # What is no UTF-8 is replaced: a letter with a damaged character is worth more than none. `charset` and
    # `_charset_` are not looked at.
    text = data.decode(errors="replace").replace("+", " ")
    if text.count("&") >= MOST_PARTS:
        raise BadForm(Code.MALFORMED, f"The form has more than {MOST_PARTS} fields.")
    pairs = [pair.partition("=") for pair in text.split("&") if pair]
    # Most of what is sent has no percents, and to ask for them here takes half as long.
    read = [
        (_without_percents(name) if "%" in name else name, _without_percents(value) if "%" in value else value)
        for name, _, value in pairs
    ]
    if len(data) <= _WITHIN_ALL_BUDGETS:
        return RawForm(fields=tuple(read))
    fields = _Fields()
    for name, value in read:
        fields.add_text(name, value)
    return RawForm(fields=tuple(fields.kept), problems=tuple(fields.problems))


def _without_percents(text: str) -> str:
    # `unquote` takes longer to split what is one piece.
    if text.isascii():
        return unquote_to_bytes(text).decode(errors="replace")
    return unquote(text, errors="replace")


class _Fields:
    """Text fields within their budgets; one that is too long is kept in part, so that it does not also seem missing."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, str]] = []
        self.problems: list[Problem] = []
        self._size = 0

    def add_text(self, name: str, value: str) -> None:
        """A field that was read already; only a long one is looked at byte by byte."""
        if len(value) * _LONGEST_CHARACTER > LONGEST_FIELD or self._size > MOST_TEXT - LONGEST_FIELD:
            self.add(name, value.encode(errors="replace"))
            return
        self._size += len(value) if value.isascii() else len(value.encode(errors="replace"))
        self.kept.append((name, value))

    def add(self, name: str, value: bytes | bytearray) -> None:
        """A field as its bytes came."""
        if len(value) > LONGEST_FIELD:
            # The name is the client's own and may be long as well.
            advice = f"{name[:50]} is longer than {LONGEST_FIELD} bytes."
            self.problems.append(Problem(Code.TOO_LONG, advice))
            value = value[:LONGEST_FIELD]
        before = self._size
        self._size += len(value)
        if self._size <= MOST_TEXT:
            self.kept.append((name, value.decode(errors="replace")))
        elif before <= MOST_TEXT:
            self.problems.append(Problem(Code.TOO_LONG, f"The fields together are longer than {MOST_TEXT} bytes."))


async def _read_multipart(body: _Body, boundary: str, options: EmailOptions, attachments: AttachmentStore) -> RawForm:
    parts, chunk = _Parts(options, attachments), await body.read()
    regular = None
    if body.is_read and len(chunk) <= _TAKEN_APART_AT_ONCE:
        regular = regular_parts(chunk, boundary, MOST_PARTS)
    try:
        if regular is not None:
            await _take_all(regular, parts)
        else:
            await _parse(chunk, body, boundary, parts)
    except MultipartError as error:
        await parts.abandon()
        raise BadForm(Code.MALFORMED, "The body is not a well-formed, complete multipart form.") from error
    except BaseException:
        await parts.abandon()
        raise
    return parts.form()


async def _take_all(regular: list[RegularPart], parts: "_Parts") -> None:
    for part in regular:
        if not _is_file(part.name, part.filename):
            parts.take_field(part.name, part.content)
            continue
        parts.begin(part.name, part.filename)
        if part.content:
            await parts.take_of_file(part.content)
        await parts.end_file()


async def _parse(chunk: bytes, body: _Body, boundary: str, parts: "_Parts") -> None:
    """This chunk and all that follow. Raises MultipartError, BadForm."""
    parser = PushMultipartParser(
        boundary,
        max_header_size=LONGEST_PART_HEADER,
        max_header_count=MOST_PART_HEADERS,
        max_segment_count=MOST_PARTS,
    )
    start = _Start(boundary)
    while chunk:
        seen = start.without_preamble(chunk)
        # No bytes would be the end of the body to the parser.
        for event in parser.parse(seen) if seen else ():
            if isinstance(event, MultipartSegment):
                _refuse_odd_part(event)
                parts.begin(event.name or "", event.filename)
            elif parts.in_file:
                await (parts.end_file() if event is None else parts.take_of_file(event))
            elif event is None:
                parts.end_field()
            else:
                parts.take_of_field(event)
        chunk = await body.read()
    # Raises unless the closing boundary was seen: half a letter is none.
    parser.close()


#: The beginning of a body is the beginning of a line.
_NOTHING_BEFORE = b"\r\n"


class _Start:
    """Where a body begins: at the first boundary that begins a line.

    The parser takes one within a line of the preamble for the first, or not, depending on how the network cut the body.
    """

    def __init__(self, boundary: str) -> None:
        self._mark = b"\r\n--" + boundary.encode()
        self._before: bytes | None = _NOTHING_BEFORE

    def without_preamble(self, chunk: bytes) -> bytes:
        """What of this chunk the parser should see; the chunks before may be part of it."""
        if self._before is None:
            return chunk
        if self._before is _NOTHING_BEFORE and chunk.startswith(self._mark[2:]):
            # As every browser begins. The chunk may be large, and all below copies it.
            self._before = None
            return chunk
        seen = self._before + chunk
        at = seen.find(self._mark)
        if at < 0:
            self._before = seen[1 - len(self._mark) :]
            return b""
        self._before = None
        return seen[at + 2 :]


def _is_file(name: str, filename: str | None) -> bool:
    """A part with a file's name is a file, whatever its field is called, and so is every part called `files`."""
    return filename is not None or name == "files"


class _Parts:
    """The parts of a multipart form, one at a time."""

    def __init__(self, options: EmailOptions, attachments: AttachmentStore) -> None:
        self._options = options
        self._attachments = attachments
        self._fields = _Fields()
        self._files: list[_IncomingFile] = []
        self._file_bytes = 0
        self._file: _IncomingFile | None = None
        self._field = ""
        self._value = bytearray()

    def begin(self, name: str, filename: str | None) -> None:
        """What follows is of this part."""
        if not _is_file(name, filename):
            self._field = name
            self._value = bytearray()
            self._file = None
            return
        self._file = _IncomingFile(filename or "", self._attachments)
        self._files.append(self._file)
        if len(self._files) > self._options.max_files or not self._may_be_allowed(self._file.name):
            self._file.wanted = False

    @property
    def in_file(self) -> bool:
        """Whether the part is a file."""
        return self._file is not None

    def take_field(self, name: str, value: bytes) -> None:
        """A whole part that is none."""
        self._fields.add(name, value)

    def take_of_field(self, data: bytes) -> None:
        """Some bytes of a part that is none."""
        # One byte more than allowed is enough to know.
        self._value += data[: LONGEST_FIELD + 1 - len(self._value)]

    def end_field(self) -> None:
        """It is complete."""
        self._fields.add(self._field, self._value)

    async def take_of_file(self, data: bytes) -> None:
        """Some bytes of a part that is one."""
        assert self._file is not None, "asked whether it is one"  # noqa: S101 - `in_file`
        self._file_bytes += len(data)
        if self._file_bytes > self._options.max_size:
            await self._file.drop()
        await self._file.take(data)

    async def end_file(self) -> None:
        """It is complete."""
        assert self._file is not None, "asked whether it is one"  # noqa: S101 - `in_file`
        if not self._file.name and self._file.size == 0:
            # What a browser sends for a file input that nobody used.
            self._files.pop()
        else:
            await self._file.finish()

    async def abandon(self) -> None:
        """Leave nothing of this form in the attachment store."""
        for file in self._files:
            await file.drop()

    def form(self) -> RawForm:
        """All parts; to be asked for when the last one is complete."""
        return RawForm(
            fields=tuple(self._fields.kept),
            files=tuple(file.raw() for file in self._files),
            problems=tuple(self._fields.problems),
        )

    def _may_be_allowed(self, name: str) -> bool:
        extension = extension_of(clean_name(name, 1, ""))
        return not extension or extension in self._options.file_types


def _refuse_odd_part(part: MultipartSegment) -> None:
    if not part.name:
        raise BadForm(Code.MALFORMED, "Every part must have a name.")
    for _, value in part.headerlist:
        if "\n" in value or "\r" in value:
            # The parser lets a bare one through, or not, depending on how the network cut the body.
            raise BadForm(Code.MALFORMED, "Lines must end in CR LF.")
    if len(part.headerlist) == 1:
        # Content-Disposition alone: what every text field of every browser has.
        return
    headers = [name for name, _ in part.headerlist]
    if headers.count("Content-Disposition") > 1:
        raise BadForm(Code.MALFORMED, "Every part must have one Content-Disposition.")
    if (part.content_type or "").startswith("multipart/"):
        raise BadForm(Code.MALFORMED, "A part must not be multipart itself: send one part for each file.")
    if "Content-Encoding" in headers:
        raise BadForm(Code.MALFORMED, "A part must not have a Content-Encoding.")
    if part.header("Content-Transfer-Encoding", "binary").strip().lower() not in _IDENTITY_ENCODINGS:
        raise BadForm(Code.MALFORMED, "A part must be sent as it is: its Content-Transfer-Encoding is not supported.")


class _IncomingFile:
    """One file on its way in: in memory up to the border, in the attachment store beyond, only counted if unwanted."""

    def __init__(self, name: str, attachments: AttachmentStore) -> None:
        self.name = name
        self.size = 0
        self.wanted = True
        self._attachments = attachments
        self._head = b""
        self._content = b""
        #: From its second piece on, unless both are small: to put pieces together copies all that came before.
        self._upload: Upload | None = None
        self._leave_upload = contextlib.AsyncExitStack()

    async def take(self, data: bytes) -> None:
        """Keep some more bytes of it."""
        if len(self._head) < HEAD_SIZE:
            self._head += data[: HEAD_SIZE - len(self._head)]
        self.size += len(data)
        if not self.wanted:
            return
        if self._upload is not None:
            await self._upload.write(data)
        elif self.size <= (LARGEST_IN_A_ROW if not self._content else _SMALL_FILE):
            self._content += data
        else:
            so_far, self._content = self._content, b""
            self._upload = await self._leave_upload.enter_async_context(self._attachments.upload())
            await self._upload.write(so_far, data)

    async def finish(self) -> None:
        """Return once its bytes are safe, if they are for the store."""
        if self._upload is None:
            return
        if self.size > LARGEST_IN_A_ROW:
            await _to_the_end(self._upload.finish())
        else:
            self._content, self._upload = self._upload.content, None
        await self._leave_upload.aclose()

    async def drop(self) -> None:
        """From here on it is only counted, and nothing of it stays in the store."""
        self.wanted, self._content = False, b""
        await self._leave_upload.aclose()
        if self._upload is not None:
            await self._attachments.delete(self._upload.key)
            self._upload = None

    def raw(self) -> RawFile:
        """The file as it is handed on."""
        key = self._upload.key if self._upload is not None else None
        content = self._content if self.wanted and key is None else None
        return RawFile(name=self.name, size=self.size, head=self._head, content=content, key=key)


async def _to_the_end(work: Coroutine[None, None, None]) -> None:
    """See the work through even when cancelled: a thread goes on regardless, and what it writes must be known here."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
