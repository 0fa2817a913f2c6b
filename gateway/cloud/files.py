"""/api/v2/uploads and /api/v2/downloads: the bytes of attachments, by links that say who may and until when.

Whoever has a link needs no token, as with the vendor's pre-signed ones; it was given to somebody who had one.
"""

import base64
import contextlib
import hashlib
from dataclasses import dataclass
from urllib.parse import quote

from aiohttp import hdrs, web

from gateway.cloud.answers import PREFIX
from gateway.cloud.bodies import chunks, expected_size
from gateway.cloud.calls import Platform, as_uuid
from gateway.cloud.errors import Code, Refusal, busy, not_found
from gateway.cloud.sending import MOST_ROOM
from gateway.scanner import Verdict
from mailroom.attachments import AttachmentMissing, Upload
from mailroom.store import drafts, letters
from mailroom.store.drafts import DraftFile
from mailroom.store.letters import LetterFile
from mailroom.store.port import StoreUnavailable

UPLOAD = f"{PREFIX}/uploads/emails/{{fileId}}"
DOWNLOAD = f"{PREFIX}/downloads/emails/{{ownerId}}/{{fileId}}"

#: A file that somebody sent us is saved, never shown: whatever it holds, it runs nowhere near our origin.
_SAVED = {"Content-Security-Policy": "sandbox; default-src 'none'", "X-Content-Type-Options": "nosniff"}


async def upload(platform: Platform, request: web.Request) -> web.Response:
    """Take the bytes of a file that a draft waits for. Raises Refusal."""
    _check_link(platform, request, "upload")
    file = await _awaited(platform, request.match_info["fileId"])
    if file.key is not None:
        # A client whose connection dropped repeats itself: it was done.
        return web.Response()
    most = file.size if file.size >= 0 else MOST_ROOM
    with platform.admitted(expected_size(request, most)):
        await _kept(platform, request, file, most)
    return web.Response()


async def download(platform: Platform, request: web.Request) -> web.StreamResponse:
    """The bytes of a file of a letter. Raises Refusal."""
    _check_link(platform, request, "download")
    owner, file_id = as_uuid(request.match_info["ownerId"]), as_uuid(request.match_info["fileId"])
    letter = None if owner is None else await platform.store.read(letters.get, owner)
    files = letter.written.files if letter is not None else ()
    found = next((one for one in files if one.id == file_id), None)
    if found is None:
        raise not_found("attachment", request.match_info["fileId"])
    body = await _bytes(platform, found)
    name = quote(found.file.name, safe="")
    headers = {hdrs.CONTENT_DISPOSITION: f"attachment; filename*=UTF-8''{name}", **_SAVED}
    return web.Response(body=body, content_type=found.file.media_type, headers=headers)


def _check_link(platform: Platform, request: web.Request, purpose: str) -> None:
    if not platform.links.holds(purpose, request.path, request.query, platform.watch.now()):
        raise Refusal(403, Code.LINK_NOT_VALID, "This link is not valid, or not any more; ask for a new one.")


async def _awaited(platform: Platform, wanted: str) -> DraftFile:
    file_id = as_uuid(wanted)
    file = None if file_id is None else await platform.store.read(drafts.file, file_id)
    if file is None:
        raise not_found("attachment of a draft", wanted)
    return file


async def _bytes(platform: Platform, file: LetterFile) -> bytes | bytearray:
    try:
        return await platform.attachments.content_of(file.file)
    except AttachmentMissing:
        raise not_found("attachment", str(file.id)) from None


# --- taking bytes in --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Came:
    """What came of a file."""

    size: int
    md5: str


async def _kept(platform: Platform, request: web.Request, file: DraftFile, most: int) -> None:
    async with platform.attachments.upload() as upload:
        came = await _written(request, upload, most, platform)
        _check(file, came)
        await upload.finish()
    try:
        await _scanned(platform, upload.key)
    except Refusal:
        await platform.attachments.delete(upload.key)
        raise
    try:
        arrived = await platform.store.transaction(drafts.arrived, file.id, upload.key, came.size)
    except StoreUnavailable:
        await platform.attachments.delete(upload.key)
        raise
    if not arrived:
        await platform.attachments.delete(upload.key)
        # It came twice at once, or the draft is over.
        await _awaited(platform, str(file.id))


async def _scanned(platform: Platform, key: str) -> None:
    """Have a file looked at, where somebody can. Raises Refusal."""
    if not platform.scanner.is_there:
        return
    match await platform.scanner.judge([await platform.attachments.read(key)]):
        case Verdict.HARMFUL:
            told = "A scanner for viruses has found something in the file; nothing was kept."
            raise Refusal(400, Code.ATTACHMENT_HARMFUL, told)
        case Verdict.UNSEEN:
            raise busy("The scanner for viruses does not answer at the moment; nothing was kept.")
        case Verdict.FINE:
            pass


async def _written(request: web.Request, upload: Upload, most: int, platform: Platform) -> _Came:
    size, md5 = 0, hashlib.md5(usedforsecurity=False)
    async with contextlib.aclosing(chunks(request, platform.settings.limits, most)) as came:
        async for chunk in came:
            size += len(chunk)
            md5.update(chunk)
            await upload.write(chunk)
    return _Came(size, base64.b64encode(md5.digest()).decode())


def _check(file: DraftFile, came: _Came) -> None:
    if file.size >= 0 and came.size != file.size:
        told = f"{came.size} bytes came, {file.size} were announced; nothing was kept."
        raise Refusal(400, Code.UPLOAD_SIZE, told)
    if file.md5 is not None and came.md5 != file.md5:
        raise Refusal(400, Code.ATTACHMENT_CHANGED, "The bytes have another MD5 than was announced; nothing was kept.")
