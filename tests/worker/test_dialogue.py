"""What is heard of an SMTP server, however the network cuts it."""

import asyncio

import pytest

from worker.dialogue import LONGEST_REPLY, Answer, Dialogue


class Line(asyncio.Transport):
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.open = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return not self.open

    def abort(self) -> None:
        self.open = False


SAID = b"250-first\r\n250-\r\n250 last \xc3\xa4\r\n354 go on\r\n550 5.1.1 no\r\n"
HEARD = [Answer(250, "first\n\nlast ä"), Answer(354, "go on"), Answer(550, "5.1.1 no")]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 13, 17, 100])
async def test_replies_are_whole_however_they_come(size: int) -> None:
    """Three replies in pieces of any size are three replies."""
    line = Line()
    dialogue = Dialogue(line)
    dialogue.say(b"A\r\nB\r\nC\r\n", 3)
    await asyncio.sleep(0)
    for start in range(0, len(SAID), size):
        dialogue.data_received(SAID[start : start + size])

    assert [await dialogue.reply(1) for _ in HEARD] == HEARD
    assert line.written == b"A\r\nB\r\nC\r\n"
    assert not dialogue.is_over


@pytest.mark.parametrize(
    ("said", "heard", "confused"),
    [
        (b"250 one\r\n250 two\r\n", Answer(250, "one"), True),
        (b"hello\r\n", Answer(None, "no reply but: hello\r\n"), False),
        (b"25\r\n", Answer(None, "no reply but: 25\r\n"), False),
        (b"\xff\xff\xff x\r\n", Answer(None, "no reply but: \ufffd\ufffd\ufffd x\r\n"), False),
        (b"2" * (LONGEST_REPLY + 1), Answer(None, "the server's reply does not end"), False),
        (b"250-x\r\n" * (LONGEST_REPLY // 7 + 1), Answer(None, "the server's reply does not end"), False),
    ],
)
async def test_what_is_no_reply_ends_it(said: bytes, heard: Answer, confused: bool) -> None:  # noqa: FBT001
    """Nonsense, too much of it, and what nobody asked for close the connection; a reply that came before counts."""
    line = Line()
    dialogue = Dialogue(line)
    dialogue.say(b"A\r\n", 1)
    dialogue.data_received(said)

    assert await dialogue.reply(1) == heard
    assert (dialogue.is_over, line.open, dialogue.confused) == (True, False, confused)


async def test_what_is_said_in_one_turn_leaves_in_the_next() -> None:
    """Nothing is written in between what others do in the same turn; then it is, all of it and in order."""
    lines = [Line(), Line()]
    dialogues = [Dialogue(line) for line in lines]
    for dialogue in dialogues:
        dialogue.say(b"A\r\n", 1)
        dialogue.pour(b"B\r\n")
        dialogue.say(b"", 1)
    before = [line.written for line in lines]
    await asyncio.sleep(0)

    assert before == [b"", b""]
    assert [line.written for line in lines] == [b"A\r\nB\r\n"] * 2


async def test_what_was_said_before_an_end_is_not_written_after_it() -> None:
    """Who closes a connection at once, as before a final dot, has not said what was about to be."""
    line = Line()
    dialogue = Dialogue(line)
    dialogue.pour(b".\r\n")
    dialogue.close()
    await asyncio.sleep(0)

    assert line.written == b""


@pytest.mark.parametrize("permitted", [True, False])
async def test_the_last_piece_is_asked_about_when_it_is_written(permitted: bool) -> None:  # noqa: FBT001
    """What was true when it was said does not count: the process may have stood still since. It is asked once."""
    line, asked = Line(), list[bytes]()
    dialogue = Dialogue(line)

    def still() -> bool:
        asked.append(line.written)
        return permitted

    dialogue.say(b"", 1)
    dialogue.pour_last(b".\r\n", still)
    at_once = list(asked)
    await asyncio.sleep(0)

    assert (at_once, asked) == ([], [b""])
    assert line.written == (b".\r\n" if permitted else b"")
    assert (dialogue.withheld, dialogue.is_over) == (not permitted, not permitted)


async def test_what_is_said_unasked_ends_it() -> None:
    """A goodbye between two messages is not taken for the answer to the next one."""
    dialogue = Dialogue(Line())
    dialogue.data_received(b"421 4.4.2 idle for too long\r\n")
    dialogue.say(b"MAIL\r\n", 1)

    assert (await dialogue.reply(1)).code is None
    assert dialogue.is_over


async def test_silence_and_the_end_are_told_apart() -> None:
    """Without a reply there is a reason."""
    silent, lost = Dialogue(Line()), Dialogue(Line())
    silent.say(b"A\r\n", 1)
    lost.say(b"A\r\n", 1)
    asyncio.get_running_loop().call_soon(lost.connection_lost, ConnectionResetError("reset by peer"))

    assert await silent.reply(0.01) == Answer(None, "no answer in 0.01 s")
    assert await lost.reply(1) == Answer(None, "the connection was lost: reset by peer")


async def test_each_reply_has_its_own_time_whatever_was_waited_for_before() -> None:
    """A short wait after a long one ends in its own time, and a long one after a short one has all of its own."""
    line = Line()
    dialogue = Dialogue(line)
    dialogue.say(b"A\r\nB\r\nC\r\nD\r\n", 4)
    loop = asyncio.get_running_loop()
    for seconds in (60, 0.02):
        loop.call_soon(dialogue.data_received, b"250 ok\r\n")
        assert await dialogue.reply(seconds) == Answer(250, "ok")
    loop.call_later(0.1, dialogue.data_received, b"250 late\r\n")

    assert await dialogue.reply(60) == Answer(250, "late")
    began = loop.time()
    assert await dialogue.reply(0.05) == Answer(None, "no answer in 0.05 s")
    assert 0.04 < loop.time() - began < 10
    assert not line.open
