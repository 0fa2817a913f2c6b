"""Commands and replies on an open SMTP connection (RFC 5321 section 4.2), several at once where that is offered (RFC 2920).

It takes over the transport from aiosmtplib, which has opened and secured it: that takes one command at a time, four
round trips a message, with a lock, a future and a copy of the buffer for each.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

#: Bytes that one reply may have, all its lines together.
LONGEST_REPLY = 32 * 1024

#: Why a dialogue ends with whom says what nobody asked for.
MORE_THAN_ASKED = "the server said more than it was asked"

#: Timers of the event loop may ring so much before their time.
_TIMER_SECONDS = 0.001

_LINE_GOES_ON = ord("-")
_DIGITS = 3


def _anything() -> bool:
    return True


class Answer(NamedTuple):
    """A reply as it came: its lines without their codes, or why there is none."""

    code: int | None
    text: str


class Dialogue(asyncio.Protocol):
    """What is said on one connection and what is heard. Nothing here raises but for who is cancelled while waiting.

    Every end comes about by closing, never by giving up a reply: one that came later would be taken for the next one's.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._heard: deque[Answer] = deque()
        self._buffer = b""
        #: What was said in this turn of the event loop, and what is asked before it is written.
        self._to_write: list[bytes] = []
        self._permitted = _anything
        #: Whether it ended because the last piece of a message was not permitted any more, and so was not written.
        self.withheld = False
        #: How many replies are still to come.
        self._expected = 0
        #: To ask for it anew takes a system call, and is done twice for each message.
        self._loop = asyncio.get_running_loop()
        #: Set by whoever waits for anything to happen.
        self._news: asyncio.Future[None] | None = None
        #: Until when that one waits, what is said of it then, and the timer that looks after it.
        self._until = 0.0
        self._late = ("", 0.0)
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        #: Why nothing more will be heard.
        self._over: str | None = None
        #: Whether there were more replies than commands, so that nobody knows which belonged to which.
        self.confused = False
        transport.set_protocol(self)

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be said."""
        return self._over is not None or self._transport.is_closing()

    @property
    def has_heard(self) -> bool:
        """Whether a reply is there that nobody has asked for yet."""
        return bool(self._heard)

    def say(self, commands: bytes, replies: int) -> None:
        """Say these lines, to which so many replies belong. On a closed connection that shows at the first reply."""
        if not self.is_over:
            self._expected += replies
            self._write_soon(commands)

    async def reply(self, seconds: float) -> Answer:
        """The next reply; one without a code, on a closed connection, when there is none in time."""
        if not self._heard and not self.is_over:
            await self._something_new(seconds, "no answer")
        if self._heard:
            return self._heard.popleft()
        return Answer(None, self._over or "the connection was closed")

    def pour(self, data: bytes) -> None:
        """Send a piece of a message."""
        if not self.is_over:
            self._write_soon(data)

    def pour_last(self, data: bytes, permitted: Callable[[], bool]) -> None:
        """Send the last piece of a message if that is permitted at the moment it is written; else end the connection."""
        self._permitted = permitted
        self.pour(data)

    async def drained(self, seconds: float) -> bool:
        """Whether what was poured is on its way in time, with nothing said against it meanwhile."""
        await asyncio.sleep(0)  # others have their turn between two pieces, however fast the server is
        while self._paused and not self._heard and not self.is_over:
            await self._something_new(seconds, "the server read nothing of the message")
        return not self._paused and not self._heard and not self.is_over

    def close(self, why: str = "the connection was closed") -> None:
        """End it at once: a graceful end would first wait for a peer that may not be reading."""
        self._end(why)
        self._transport.abort()

    # --- what asyncio calls -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Some of a reply, or several."""
        if self._over is not None:
            return
        self._buffer = self._buffer + data if self._buffer else data
        while self._expected and self._buffer and self._take_reply():
            pass
        if self._buffer and not self._expected:
            # What nobody asked for would be taken for the answer to the next command.
            self.confused = True
            self.close(MORE_THAN_ASKED)
        elif len(self._buffer) > LONGEST_REPLY:
            self.close("the server's reply does not end")
        self._tell()

    def eof_received(self) -> bool:
        """The server says no more; the transport is to close."""
        self._end("the server closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._end(f"the connection was lost: {exc}" if exc and str(exc) else "the connection was lost")

    def pause_writing(self) -> None:
        """What was poured waits here, because the server or the network is slower."""
        self._paused = True

    def resume_writing(self) -> None:
        """It has gone."""
        self._paused = False
        self._tell()

    # --- parts --------------------------------------------------------------------------------------------------------

    def _write_soon(self, data: bytes) -> None:
        """Write it in the next turn of the event loop, behind what is said on other connections in this one.

        System calls that follow upon each other cost less, and a reader on the same machine is woken once for all of them:
        together 6 to 8 % of a worker's time.
        """
        if not data:
            return
        if not self._to_write:
            self._loop.call_soon(self._write)
        self._to_write.append(data)

    def _write(self) -> None:
        data, self._to_write = self._to_write, []
        permitted, self._permitted = self._permitted, _anything
        if self.is_over:
            return
        if not permitted():
            self.withheld = True
            self.close("its last piece was withheld")
        else:
            self._transport.write(data[0] if len(data) == 1 else b"".join(data))

    def _take_reply(self) -> bool:
        """Whether a whole reply could be taken off the buffer."""
        lines, start = [], 0
        while (end := self._buffer.find(b"\n", start) + 1) > 0:
            line = self._buffer[start:end]
            code = line[:_DIGITS]
            if not (len(code) == _DIGITS and code.isdigit()):
                self._heard.append(Answer(None, f"no reply but: {line.decode('utf-8', 'replace')}"))
                self.close("the server said what is no reply")
                return False
            lines.append(line[_DIGITS + 1 :].strip(b" \t\r\n"))
            start = end
            if line[_DIGITS] != _LINE_GOES_ON:
                self._buffer = self._buffer[end:]
                self._expected -= 1
                self._heard.append(Answer(int(code), b"\n".join(lines).decode("utf-8", "surrogateescape")))
                return True
        return False

    async def _something_new(self, seconds: float, late: str) -> None:
        """Return when something was heard, has gone or has ended. Time runs out by closing; so does a cancelled wait."""
        self._until, self._late = self._loop.time() + seconds, (late, seconds)
        self._look_by(self._until)
        self._news = news = self._loop.create_future()
        try:
            await news
        except BaseException:
            self.close()
            raise
        finally:
            self._news = None

    def _look_by(self, moment: float) -> None:
        """Have the timer ring by then. One that rings before is left as it is: else two are made for each message."""
        if self._timer is not None:
            if self._timer.when() <= moment:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(moment, self._look)

    def _look(self) -> None:
        """Close where somebody has waited for as long as it wanted; where it has time left, look again."""
        self._timer = None
        if self._news is None or self._over is not None:
            return
        if self._loop.time() >= self._until - _TIMER_SECONDS:
            late, seconds = self._late
            self.close(f"{late} in {seconds:g} s")
        else:
            self._look_by(self._until)

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _end(self, why: str) -> None:
        if self._over is None:
            self._over = why
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._tell()
