"""Speaking HTTP on one connection: what aiohttp leaves open of it."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

import msgspec
from aiohttp import HttpVersion11, StreamReader, hdrs, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDictProxy

from mailroom.crowd import Crowd
from mailroom.fairness import Lobby

#: Whoever reads an answer more slowly is not waited for.
SLOWEST_BYTES_PER_SECOND = 1000

#: Bytes that are taken off the hands of somebody to whom nobody listens any more, so that it gets to see its answer.
MOST_UNHEARD = 64 * 1024

#: So many who find no room are told so at once; the others hear nothing. Each of them takes time from those inside.
MOST_TOLD_TO_LEAVE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long whoever is connected is waited for, in seconds."""

    #: A header that takes longer to arrive ends its connection; so does a connection nobody uses.
    header: float = 15.0
    #: So often it is looked whether an answer is being read.
    unread: float = 30.0
    #: Who is told that its bytes cannot be understood may say so much longer before it hangs up.
    lingering: float = 5.0


class BrokenBody(web.HTTPBadRequest):
    """The body of a request breaks the rules of HTTP; it ends here."""

    def __init__(self) -> None:
        super().__init__(reason="The body breaks the rules of HTTP")


def _without_its_words(record: logging.LogRecord) -> bool:
    """A request that is no HTTP is no error of ours, and aiohttp quotes it: tokens, addresses, texts (SEC-14)."""
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError | BrokenBody):
        return True
    record.msg, record.args = "request refused: it is not HTTP as we take it (%s)", (type(error).__name__,)
    record.exc_info = record.exc_text = None
    record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
    return _log.isEnabledFor(logging.INFO)


_log = logging.getLogger(__name__)
_log.addFilter(_without_its_words)


# Nobody changes one, but it is not frozen: to make a frozen one takes three times as long, thousands of times a second.
@dataclass(slots=True, eq=False)
class PlainRequest:
    """A request that is here whole, and asks for nothing unusual of its connection: HTTP/1.1, kept open afterwards."""

    method: str
    #: As it was sent, with its query.
    raw_path: str
    headers: CIMultiDictProxy[str]
    content: StreamReader
    #: The address it came from.
    remote: str | None

    @property
    def content_length(self) -> int | None:
        """The bytes of its body, as far as it says; the parser has seen that it is a number."""
        length = self.headers.get(hdrs.CONTENT_LENGTH)
        return None if length is None else int(length)


AnyRequest = web.Request | PlainRequest

#: What an application answers past aiohttp: the bytes of the whole answer, or None for what it leaves to aiohttp. aiohttp
#: makes a task, a request, a writer and a response for each, which takes as long as all we do for a small form.
Shortcut = Callable[[PlainRequest], Coroutine[None, None, bytes] | None]


class HttpConnection(web.RequestHandler):
    """What speaks HTTP on one connection, where aiohttp's own would leave a client without an answer or us without end.

    It knows some of aiohttp's insides, for want of another way; each of them has its test in tests/mailroom/test_serving.py.
    """

    def __init__(
        self, server: web.Server, refusal: Callable[[int], Any], patience: Patience, crowd: Crowd | None,
        shortcut: Shortcut | None,
    ) -> None:  # fmt: skip
        super().__init__(
            server, loop=asyncio.get_running_loop(), keepalive_timeout=patience.header, logger=_log,
            access_log=None,  # type: ignore[arg-type]  # aiohttp knows None too, it only does not say so
            # aiohttp would inflate whatever arrives, on any path and before any limit of ours: 2 MB of zeros compressed
            # hold up the event loop for seconds. We take no compressed body anyway.
            auto_decompress=False,
        )  # fmt: skip
        self._refusal = refusal
        self._patience = patience
        self._crowd = crowd
        self._shortcut = shortcut
        #: What is being answered past aiohttp; what comes meanwhile waits.
        self._in_hand: asyncio.Task[None] | None = None
        #: Where we are connected to, and the address for which we are counted.
        self._remote: str | None = None
        self._address: str | None = None
        #: Where we wait for our turn; None while we wait behind nobody.
        self._lobby: Lobby | None = None
        #: What was said, and waits there to be heard.
        self._said: list[bytes] = []
        #: The body of the request that came last.
        self._body: StreamReader | None = None
        #: Whether something came that is no HTTP: what follows cannot be understood either.
        self._broken = False
        self._unheard = 0
        self._ending = False
        self._left = asyncio.Event()
        self._look: asyncio.TimerHandle | None = None

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """In JSON also about what never becomes a request: on anything else widgets throw, and wait for ever."""
        if isinstance(exc, UnicodeEncodeError) and not request.headers.get(hdrs.EXPECT, "").isascii():
            # aiohttp's own answer to such a header cannot be encoded: the sender's mistake, and no fault of ours.
            status, exc = 417, HttpProcessingError(code=417)
        told = super().handle_error(request, status, exc, message)
        answer = in_json(told.status, self._refusal(told.status))
        answer.headers[hdrs.SERVER] = "Mailroom"  # without it aiohttp would tell its name and version
        answer.force_close()
        return answer

    def data_received(self, data: bytes) -> None:
        """Hear it, when it is our turn; without data aiohttp looks again at what was heard already."""
        if self._in_hand is None:
            if not self._said and (self._lobby is None or not data or self._lobby.is_free()):
                self._hear(data)
                return
            if not self._said and self._lobby is not None:
                self._lobby.wait(self)
        self._said.append(data)
        if self.transport is not None:
            self.transport.pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's own
        """Go on, if it was paused: aiohttp asks for that after each piece of each body, and would look for more each time."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def be_heard(self) -> bool:
        """What was said in the lobby, if there was something, in the order in which it came."""
        is_heard = False
        while self._said and self._in_hand is None:
            is_heard = True
            self._hear(self._said.pop(0))
        if is_heard:
            self._go_on_reading()
        return is_heard

    def _hear(self, data: bytes) -> None:
        """A body that turns out broken is told to whoever reads it; aiohttp would let them wait for the rest of it."""
        if self._broken:
            self._unheard += len(data)
            if self._unheard > MOST_UNHEARD and self.transport is not None:
                # No end, which would be a reset, and the answer may not have been read. It ends with its answer.
                self.transport.pause_reading()
            return
        body, waiting = self._body, self._waiter
        # Whoever waits for a request is not woken by aiohttp: for most of what comes it is not needed.
        self._waiter = None
        super().data_received(data)
        self._waiter = waiting
        if not self._messages:
            return
        message, newest = self._messages[-1]
        # The first request may have come before anybody waits for it.
        is_idle = self._request_count == 1 if waiting is None else not waiting.done()
        if is_idle and not self._is_taken_in_hand(message, newest) and waiting is not None:
            waiting.set_result(None)
        if isinstance(message, RawRequestMessage):
            self._body = newest
            return
        self._broken = True
        if body is not None and not body.is_eof():
            # In the middle of a body: it is answered by whoever reads that, and not once more.
            self._messages.pop()
            body.set_exception(BrokenBody())
            # A reader that was just woken looks at exceptions no more, and would wait on.
            self._loop.call_soon(body.set_exception, BrokenBody())
            self.close()

    def _is_taken_in_hand(self, message: Any, body: StreamReader) -> bool:
        """Whether this request, the only one, is answered past aiohttp."""
        is_plain = (
            len(self._messages) == 1
            and isinstance(message, RawRequestMessage)
            and body.is_eof()
            and not message.should_close
            and not message.upgrade
            and message.version == HttpVersion11
        )
        if not is_plain or self._close or self._force_close or self._parser is None or self._shortcut is None:
            return False
        request = PlainRequest(message.method, message.path, message.headers, body, self._remote)
        answering = self._shortcut(request)
        if answering is None:
            return False
        self._messages.clear()
        self._parser.message_consumed()
        self._request_in_progress = self._keepalive = True
        self._in_hand = self._loop.create_task(self._answer(answering))
        return True

    async def _answer(self, answering: Coroutine[None, None, bytes]) -> None:
        """Write it, and go on with what was said meanwhile, as aiohttp does after each of its requests."""
        try:
            answer = await answering
            if self.transport is not None and not self.transport.is_closing():
                self.transport.write(answer)
        except Exception:  # noqa: BLE001 - whoever is connected must not wait for ever
            _log.exception("a shortcut failed; its connection ends")
            self.close()
        finally:
            self._in_hand, self._request_in_progress = None, False
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)
        if self.transport is None:
            return
        if self._close:
            self.transport.close()
            return
        self._wait_for_the_next()

    def _wait_for_the_next(self) -> None:
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)
        if not self._said:
            return
        if self._lobby is None or self._lobby.is_free():
            self.be_heard()
        else:
            self._lobby.wait(self)

    def _process_keepalive(self) -> None:
        """Nobody is idle while it is answered; its time begins anew with the answer."""
        if self._in_hand is None:
            super()._process_keepalive()
        else:
            self._keepalive_handle = None

    async def _handle_request(
        self, request: web.BaseRequest, start_time: float | None, request_handler: Any
    ) -> tuple[web.StreamResponse, bool]:
        """The last answer to who is not understood is followed by its end, and only then by ours.

        Closed while bytes still come, a connection is reset, and the answer lost with it.
        """
        answered = await super()._handle_request(request, start_time, request_handler)
        if self._broken and not self._messages and self.transport is not None:
            self._ending = True
            self.transport.write_eof()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._left.wait(), self._patience.lingering)
        return answered

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp promises less than asyncio asks for
        """Whether to stay: who has said all and closes its own half gets its answer; who has not has gone."""
        self.be_heard()
        self._left.set()
        has_said_all = self._broken or (self._body is not None and self._body.is_eof())
        if not has_said_all or self._is_idle() or self._ending or self._has_begun_to_answer():
            return False
        if len(self._messages) + len(self._said) + self._request_in_progress <= 1:
            self.close()
        return True

    def _is_idle(self) -> bool:
        return self._waiter is not None and not self._messages and self._in_hand is None

    def _has_begun_to_answer(self) -> bool:
        return self._current_request is not None and self._current_request.writer.output_size > 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Come in if there is room; from the first byte that nobody takes off our hands, we look whether they are read."""
        transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._remote = str(peer[0]) if peer else None
        if self._crowd is not None:
            address = self._remote or ""
            if not self._crowd.enter(address):
                self._turn_away(transport, self._crowd)
                return
            self._address = address
            self.be_a_visitor()
        transport.set_write_buffer_limits(high=0)
        super().connection_made(transport)

    def _turn_away(self, transport: asyncio.Transport, crowd: Crowd) -> None:
        if crowd.leaving < MOST_TOLD_TO_LEAVE:
            refusal = self._refusal(HTTPStatus.SERVICE_UNAVAILABLE)
            transport.set_protocol(_TurnedAway(transport, crowd, refusal))
        else:
            transport.set_protocol(asyncio.Protocol())
            transport.abort()

    def be_a_visitor(self) -> None:
        """Wait with the others."""
        if self._crowd is not None and self._address is not None:
            self._lobby = self._crowd.lobby

    def be_let_in(self) -> None:
        """Wait behind no crowd."""
        self._lobby = None
        self.be_heard()

    def pause_writing(self) -> None:
        """Take in nothing more of who does not read; look later whether that has changed."""
        super().pause_writing()
        if (transport := self.transport) is not None:
            transport.pause_reading()
            self._look_later(transport)

    def resume_writing(self) -> None:
        """All was read."""
        super().resume_writing()
        self._look_no_more()
        self._go_on_reading()

    def _go_on_reading(self) -> None:
        """Unless there is a reason left not to."""
        is_paused = (
            self._reading_paused or self._buffer_paused or self._unheard > MOST_UNHEARD or self._said or self._look
        )
        if self.transport is not None and not is_paused:
            self.transport.resume_reading()

    def connection_lost(self, exc: BaseException | None) -> None:
        """There is nobody left to wait for."""
        self._left.set()
        self._said.clear()
        if self._crowd is not None and self._address is not None:
            self._crowd.leave(self._address)
            self._address = None
        self._look_no_more()
        super().connection_lost(exc)

    def _look_later(self, transport: asyncio.WriteTransport) -> None:
        unread = transport.get_write_buffer_size()
        self._look = self._loop.call_later(self._patience.unread, self._end_if_not_read, transport, unread)

    def _look_no_more(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _end_if_not_read(self, transport: asyncio.WriteTransport, unread: int) -> None:
        if unread - transport.get_write_buffer_size() < self._patience.unread * SLOWEST_BYTES_PER_SECOND:
            _log.info("connection ended: its answers were not read")
            transport.abort()
            return
        self._look_later(transport)


class _TurnedAway(asyncio.Protocol):
    """Tells one for whom there is no room to come again later; what it says is not looked at."""

    def __init__(self, transport: asyncio.Transport, crowd: Crowd, body: Any) -> None:
        self._transport = transport
        self._crowd = crowd
        self._unheard = 0
        crowd.leaving += 1
        answer = msgspec.json.encode(body)
        transport.write(
            b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n"
            b"Content-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer)
        )
        transport.write_eof()
        # Closed while it still speaks, it would be reset, and the answer lost.
        self._end = asyncio.get_running_loop().call_later(1, transport.abort)

    def data_received(self, data: bytes) -> None:
        """It goes on speaking; after a while it is left to itself until its time is over."""
        self._unheard += len(data)
        if self._unheard > MOST_UNHEARD:
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has left."""
        self._end.cancel()
        self._crowd.leaving -= 1


def let_in(request: AnyRequest) -> contextlib.AbstractContextManager[None]:
    """While inside, what still comes of an admitted body waits behind no crowd.

    It would have one turn in as many as are connected, and hold its place all that time.
    """
    if isinstance(request, PlainRequest) or request.content.is_eof():
        return _NOTHING_COMES
    connection = request.protocol
    return _in_front(connection) if isinstance(connection, HttpConnection) else _NOTHING_COMES


#: Most bodies are here by the time they are admitted.
_NOTHING_COMES = contextlib.nullcontext()


@contextlib.contextmanager
def _in_front(connection: HttpConnection) -> Iterator[None]:
    connection.be_let_in()
    try:
        yield
    finally:
        connection.be_a_visitor()


def in_json(status: int, body: Any) -> web.Response:
    """An answer with this body, in JSON."""
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json", charset="utf-8")
