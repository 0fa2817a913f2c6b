"""The pages of one message: where it stands and why, what it says, how it goes over the wire, what a person can do."""

import asyncio
from dataclasses import dataclass

from aiohttp import hdrs, web

from gateway.admin.console import NotFound, NotPossible, Visit
from gateway.admin.door import THEIR_BYTES, THEIR_HTML
from gateway.admin.live import live
from gateway.admin.timeline import timeline
from gateway.admin.wording import sentence
from mailroom.attachments import AttachmentMissing
from mailroom.downloads import attachment_named
from mailroom.integration import Integration
from mailroom.message import DEAD_LETTERS, Content
from mailroom.mime import UnsafeMessage, compose_off_loop
from mailroom.operating import copying
from mailroom.operating import messages as operating
from mailroom.store import audit, integrations, messages
from mailroom.store.content import UnreadableContent, decode_content
from mailroom.store.messages import Standing

#: Characters of the wire form on the page; the download has all of it.
SHOWN_OF_WIRE = 20_000
SHOWN_OF_TEXT = 200_000

#: Bytes of a message up to which its page has the wire form made; of a larger one it has only the download.
MADE_FOR_A_PAGE = 1024 * 1024

#: Seconds in which a download has to be taken.
TAKEN_SECONDS = 300.0

#: Moves of its integration that a timeline looks at.
MOST_MOVES = 100


_NO_FILE = "A file of it cannot be read from the attachment store."


@dataclass(frozen=True, slots=True)
class Opened:
    """A message with what it says; None where that cannot be read."""

    standing: Standing
    content: Content | None
    trouble: str | None


async def show(visit: Visit) -> web.Response:
    """One message with everything that is known of it."""
    opened = await _opened(visit)
    wire, problem = await _wire_or_why_not(visit, opened) if _bytes_in(opened) <= MADE_FOR_A_PAGE else (None, "")
    head, _, _ = (wire or b"").partition(b"\r\n\r\n")
    return visit.page(
        "message.html", opened=opened, message=opened.standing, content=opened.content, problem=problem,
        headers=head.decode("ascii", "replace"), wire=(wire or b"")[:SHOWN_OF_WIRE].decode("ascii", "replace"),
        wire_size=None if wire is None else len(wire), text=(opened.content.text if opened.content else "")[:SHOWN_OF_TEXT],
        fragment=await _state_of(visit, opened.standing),
    )  # fmt: skip


async def watch(visit: Visit) -> web.StreamResponse:
    """Where it stands, as that changes."""
    return await live(visit, _state)


async def _state(visit: Visit) -> str:
    return await _state_of(visit, await _standing(visit))


async def _state_of(visit: Visit, standing: Standing) -> str:
    store = visit.console.store
    attempts = await store.read(messages.attempts_of, standing.id)
    actions = await store.read(audit.history, "message", standing.id)
    moves = []
    if standing.integration_id is not None:
        moves = list(await store.read(integrations.history, standing.integration_id, MOST_MOVES))
    return visit.text(
        "_message.html", message=standing, integration=_integration(visit, standing), is_dead=standing.status in DEAD_LETTERS,
        events=timeline(standing, attempts, actions, moves),
    )  # fmt: skip


# --- what it says -----------------------------------------------------------------------------------------------------


async def html(visit: Visit) -> web.Response:
    """Its HTML as it was written, for a frame that lets it do nothing."""
    content = _readable(await _opened(visit))
    if content.html is None:
        raise NotFound("This message has no HTML.")
    body = content.html.encode("utf-8", "replace")
    return web.Response(
        body=body, content_type="text/html", charset="utf-8", headers={"Content-Security-Policy": THEIR_HTML}
    )


async def file(visit: Visit) -> web.StreamResponse:
    """One attachment, always as a download of bytes without a type."""
    content = _readable(await _opened(visit))
    number = visit.request.match_info["number"]
    if not number.isdecimal() or len(number) > 4 or not 1 <= int(number) <= len(content.attachments):  # noqa: PLR2004 - digits
        raise NotFound("This message has no such attachment.")
    wanted = content.attachments[int(number) - 1]
    async with visit.console.downloads:
        try:
            body = await _bytes_of(visit, content, int(number) - 1)
        except (AttachmentMissing, OSError):
            raise NotPossible(_NO_FILE) from None
        return await _downloaded(visit, body, wanted.name)


async def wire(visit: Visit) -> web.StreamResponse:
    """The message byte for byte as it goes over the wire."""
    opened = await _opened(visit)
    async with visit.console.downloads:
        found, problem = await _wire_or_why_not(visit, opened)
        if found is None:
            raise NotPossible(problem)
        return await _downloaded(visit, found, f"{opened.standing.id}.eml")


async def _downloaded(visit: Visit, body: bytes | bytearray, name: str) -> web.Response:
    """Sent, while the place among the downloads is held: whoever reads slowly holds no further ones in memory."""
    response = web.Response(
        body=body, content_type="application/octet-stream",
        headers={"Content-Security-Policy": THEIR_BYTES, hdrs.CONTENT_DISPOSITION: attachment_named(name)},
    )  # fmt: skip
    try:
        async with asyncio.timeout(TAKEN_SECONDS):
            await response.prepare(visit.request)
            await response.write_eof()
    except TimeoutError:
        if visit.request.transport is not None:
            visit.request.transport.abort()
    except ConnectionError:
        pass  # the browser left
    return response


# --- what a person does -----------------------------------------------------------------------------------------------


async def redrive(visit: Visit) -> web.Response:
    """Give a dead letter fresh attempts."""
    standing = await _standing(visit)
    await operating.redrive_message(visit.operator, str(standing.id))
    return visit.see_other(f"/messages/{standing.id}", done="redriven")


async def ask_copy(visit: Visit) -> web.Response:
    """To whom it shall go instead."""
    standing = await _standing(visit)
    return visit.page("copy.html", message=standing, to=standing.recipient or "", wrong="")


async def copy(visit: Visit) -> web.Response:
    """Send it again as a new message, to the address given."""
    standing, form = await _standing(visit), await visit.form()
    try:
        sent = await copying.copy_message(visit.operator, str(standing.id), form.get("to", ""))
    except copying.REFUSALS as error:
        wrong = sentence(error)
        return visit.page("copy.html", status=400, message=standing, to=form.get("to", ""), wrong=wrong)
    return visit.see_other(f"/messages/{sent['id']}", done="copied")


async def ask_dismiss(visit: Visit) -> web.Response:
    """What dismissing means, and why it is done."""
    return visit.page("dismiss.html", message=await _standing(visit), wrong="")


async def dismiss(visit: Visit) -> web.Response:
    """Put a dead letter out of sight, with a reason."""
    standing, form = await _standing(visit), await visit.form()
    if not form.get("why"):
        return visit.page("dismiss.html", status=400, message=standing, wrong="Write why: others read it in the audit.")
    await operating.dismiss_message(visit.operator, str(standing.id), form["why"])
    return visit.see_other(f"/messages/{standing.id}", done="dismissed")


# --- steps ------------------------------------------------------------------------------------------------------------


async def _standing(visit: Visit) -> Standing:
    standing = await visit.console.store.read(messages.standing, visit.path_id())
    if standing is None:
        raise NotFound("There is no message of this id.")
    return standing


async def _opened(visit: Visit) -> Opened:
    standing = await _standing(visit)
    try:
        body = await visit.console.store.read(messages.body_of, standing.id)
        return Opened(standing, decode_content(body), None)
    except UnreadableContent as error:
        return Opened(standing, None, str(error))


def _readable(opened: Opened) -> Content:
    if opened.content is None:
        raise NotPossible(f"What it says cannot be read: {opened.trouble}.")
    return opened.content


def _integration(visit: Visit, standing: Standing) -> Integration | None:
    return visit.console.watch.get(standing.integration_id) if standing.integration_id else None


async def _wire_or_why_not(visit: Visit, opened: Opened) -> tuple[bytes | None, str]:
    """The bytes that go, or went, over the wire; or a sentence why they cannot be made."""
    integration, content = _integration(visit, opened.standing), opened.content
    if content is None or integration is None:
        return None, "What it says cannot be read." if content is None else "Its integration is not known here."
    try:
        files = [await _bytes_of(visit, content, number) for number in range(len(content.attachments))]
        return await compose_off_loop(
            opened.standing.id, content, integration.from_address, integration.from_name, opened.standing.accepted_at, files
        ), ""  # fmt: skip
    except UnsafeMessage as error:
        return None, f"It cannot be made: {error}."
    except (AttachmentMissing, OSError):
        return None, _NO_FILE


def _bytes_in(opened: Opened) -> int:
    content = opened.content
    if content is None:
        return 0
    return len(content.text) + len(content.html or "") + sum(file.size for file in content.attachments)


async def _bytes_of(visit: Visit, content: Content, number: int) -> bytes | bytearray:
    return await visit.console.attachments.content_of(content.attachments[number])
