"""Bundles: files of several messages share one file, and a disk that does not take it costs nobody a message."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.bundles import BUNDLED_FROM, LET_ALONE_SECONDS, MOST_BYTES, Bundles
from mailroom.attachments import AttachmentMissing, AttachmentStore
from mailroom.message import Attachment

KB = 1024


def a_file(size: int, name: str = "a.zip") -> Attachment:
    """A file that came with a form, unlike any other."""
    return Attachment(name=name, media_type="application/zip", size=size, content=os.urandom(size))


class Disk(AttachmentStore):
    """An attachment store that counts what it is given, and whose disk may be slow."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.kept: list[int] = []
        self.answers = asyncio.Event()
        self.answers.set()

    async def keep(self, contents: Sequence[bytes | bytearray]) -> str:
        """Keep it, in its time."""
        self.kept.append(len(contents))
        await self.answers.wait()
        return await super().keep(contents)


class Clock:
    """A time that only the test moves."""

    now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """An empty one."""
    return Disk(tmp_path / "attachments")


def bundles(disk: Disk, short: str | None = None, clock: Clock | None = None) -> Bundles:
    """Bundles on this disk."""
    return Bundles(disk, lambda: short, clock or Clock())


async def test_files_of_several_messages_share_a_file(disk: Disk) -> None:
    """What comes while one is written makes up the next; each finds its own bytes."""
    line = bundles(disk)
    given = [(a_file(40 * KB + number), a_file(number, "b.zip")) for number in range(20)]
    disk.answers.clear()
    first = asyncio.create_task(line.lay_down(given[0]))
    while not disk.kept:
        await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.01, disk.answers.set)
    laid = [*await asyncio.gather(*(line.lay_down(files) for files in given[1:]))]
    laid.insert(0, await first)

    assert disk.kept == [2, 38]
    assert len({file.key for files in laid for file in files}) == 2
    for before, after in zip(given, laid, strict=True):
        assert [file.content for file in after] == [None, None]
        assert [await disk.content_of(file) for file in after] == [file.content for file in before]
        assert [(file.name, file.size, file.media_type) for file in after] == [
            (file.name, file.size, file.media_type) for file in before
        ]


async def test_a_bundle_that_was_cut_off_is_not_sent_in_part(disk: Disk) -> None:
    """Half a file would look to its reader as if that were all of it."""
    [whole], [cut] = await asyncio.gather(*(bundles(disk).lay_down((a_file(96 * KB),)) for _ in range(2)))
    path = disk.folder / (cut.key or "")[:2] / (cut.key or "")
    os.truncate(path, 96 * KB - 1)

    with pytest.raises(AttachmentMissing, match="ends before it should"):
        await disk.content_of(cut)
    assert await disk.content_of(whole)


async def test_a_bundle_has_an_end(disk: Disk) -> None:
    """No bundle has more bytes than it may, but for one message that has more by itself."""
    line = bundles(disk)
    await asyncio.gather(*(line.lay_down((a_file(MOST_BYTES // 4),)) for _ in range(9)))
    await line.lay_down((a_file(MOST_BYTES + 1),))

    assert disk.kept == [4, 4, 1, 1]


async def test_few_bytes_stay_with_their_message(disk: Disk) -> None:
    """And large files, which lie in files of their own already, stay where they are."""
    line = bundles(disk)
    large = Attachment(name="c.zip", media_type="application/zip", size=9_000_000, key="f" * 32)
    few = (a_file(BUNDLED_FROM // 2), large, a_file(BUNDLED_FROM // 2 - 1))
    many = (a_file(BUNDLED_FROM // 2), large, a_file(BUNDLED_FROM // 2))

    assert await line.lay_down(few) == few
    first, second, third = await line.lay_down(many)
    assert second == large
    assert first.key == third.key
    assert (first.at, third.at) == (0, BUNDLED_FROM // 2)
    assert await line.lay_down(()) == ()


async def test_sto_6_a_disk_that_is_short_is_not_written_to(disk: Disk) -> None:
    """The files stay with their message, whose row is on another disk, or is refused for the same reason."""
    files = (a_file(96 * KB),)

    assert await bundles(disk, short="the disk is full").lay_down(files) == files
    assert disk.kept == []


async def test_a_disk_that_refuses_costs_no_message(disk: Disk) -> None:
    """The files stay with their messages; the disk is asked again after a while, not by everybody."""
    clock = Clock()
    line = bundles(disk, clock=clock)
    disk.folder.write_text("where the folder should be")
    files = (a_file(96 * KB),)

    assert await line.lay_down(files) == files
    assert await line.lay_down(files) == files
    assert disk.kept == [1]
    disk.folder.unlink()
    clock.now = LET_ALONE_SECONDS
    [laid] = await line.lay_down(files)
    assert await disk.content_of(laid) == files[0].content


async def test_a_disk_that_hangs_costs_no_message(disk: Disk) -> None:
    """Who has waited long enough goes on without it, and who comes then does not wait."""
    clock = Clock()
    line = bundles(disk, clock=clock)
    disk.answers.clear()
    given = [(a_file(96 * KB),) for _ in range(5)]

    assert await asyncio.gather(*(line.lay_down(files) for files in given)) == given
    assert await line.lay_down(given[0]) == given[0]
    assert sum(disk.kept) <= len(given)
    disk.answers.set()
    clock.now = LET_ALONE_SECONDS
    [laid] = await line.lay_down(given[0])
    assert await disk.content_of(laid) == given[0][0].content


async def test_sto_5_a_bundle_goes_when_none_of_its_messages_was_accepted(disk: Disk) -> None:
    """As where the database is away: what clients send again and again leaves nothing behind."""
    line = bundles(disk)
    laid = [one for [one] in await asyncio.gather(*(line.lay_down((a_file(96 * KB),)) for _ in range(3)))]
    keys = [one.key or "" for one in laid]
    await line.discard(keys[:1])
    await line.discard(keys[1:2])
    assert await disk.content_of(laid[0])
    await line.discard(keys[2:])

    with pytest.raises(AttachmentMissing):
        await disk.content_of(laid[0])


async def test_a_bundle_stays_when_one_of_its_messages_was_accepted(disk: Disk) -> None:
    """Whatever becomes of the others, before or after."""
    line = bundles(disk)
    laid = [one for [one] in await asyncio.gather(*(line.lay_down((a_file(96 * KB),)) for _ in range(3)))]
    keys = [one.key or "" for one in laid]
    await line.discard(keys[:1])
    line.named(keys[1:2])
    await line.discard(keys[2:])
    await line.discard(keys[2:])

    assert await disk.content_of(laid[1])


async def test_bundles_that_nobody_speaks_of_are_forgotten(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that go away leave bundles to the look at leftovers, and nothing in memory."""
    monkeypatch.setattr("gateway.bundles.MOST_KNOWN", 3)
    line = bundles(disk)
    laid = [await line.lay_down((a_file(96 * KB),)) for _ in range(5)]
    for [one] in laid:
        await line.discard([one.key or ""])

    assert {path.name for path in disk.folder.rglob("*") if path.is_file()} == {one.key for [one] in laid[:2]}


async def test_what_is_laid_down_by_somebody_who_left_is_harmless(disk: Disk) -> None:
    """A client that goes away meanwhile takes nothing from the others of its bundle."""
    line = bundles(disk)
    given = [(a_file(96 * KB),) for _ in range(4)]
    tasks = [asyncio.create_task(line.lay_down(files)) for files in given]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[2].cancel()
    await asyncio.wait(tasks)

    for index in (1, 3):
        assert await disk.content_of(tasks[index].result()[0]) == given[index][0].content
