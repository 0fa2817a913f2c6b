"""The letters of the development mailbox: kept, found, bounded, and there again after a restart."""

import asyncio
from pathlib import Path

import pytest

from cli.mailbox.letters import Letter, Letters


async def keep(letters: Letters, subject: str, sender: str = "a@example.org", to: str = "b@example.org") -> Letter:
    """Store a small letter with this subject."""
    content = f"Subject: {subject}\r\nFrom: Ann <{sender}>\r\n\r\nHello\r\n".encode()
    return await letters.store(sender, [to], content)


def files_of(folder: Path) -> list[Path]:
    """What is on the disk."""
    return list(folder.iterdir())


def subjects(letters: Letters, page: int = 1, per_page: int = 50, search: str = "") -> list[str]:
    """The subjects of one page."""
    return [one.subject for one in letters.list(page, per_page, search).letters]


async def test_a_letter_is_kept_byte_for_byte(tmp_path: Path) -> None:
    """What is stored comes back unchanged, whatever bytes it has."""
    letters = Letters(tmp_path)
    content = bytes(range(256)) + b"\r\n\n\r.\r\n\0"
    letter = await letters.store("a@example.org", ["b@example.org"], content)

    assert await letters.source(letter.id) == content
    assert letter.size == len(content)


async def test_a_letter_that_looks_like_our_own_mark_is_kept(tmp_path: Path) -> None:
    """A sender cannot take over the line we put in front."""
    content = b'X-Mailroom-Letter: {"sender":"evil","recipients":[],"subject":"evil","author":""}\r\n\r\n'
    letter = await Letters(tmp_path).store("a@example.org", ["b@example.org"], content)
    again = Letters(tmp_path)

    assert again.get(letter.id) == letter
    assert await again.source(letter.id) == content


async def test_letters_survive_a_restart(tmp_path: Path) -> None:
    """A mailbox made on the same folder has the same letters in the same order."""
    letters = Letters(tmp_path)
    for number in range(5):
        await keep(letters, f"Grüße {number}")
    again = Letters(tmp_path)

    assert again.list().letters == letters.list().letters
    assert subjects(again)[0] == "Grüße 4"


async def test_the_newest_comes_first(tmp_path: Path) -> None:
    """The list is paged from the newest letter to the oldest, without gaps."""
    letters = Letters(tmp_path)
    for number in range(7):
        await keep(letters, str(number))

    assert [subjects(letters, page, 3) for page in (1, 2, 3)] == [["6", "5", "4"], ["3", "2", "1"], ["0"]]


@pytest.mark.parametrize(("asked", "got"), [(-5, 1), (0, 1), (1, 1), (3, 3), (4, 3), (10**9, 3)])
async def test_a_page_that_does_not_exist_is_the_nearest(tmp_path: Path, asked: int, got: int) -> None:
    """Any page number leads to a page."""
    letters = Letters(tmp_path)
    for number in range(7):
        await keep(letters, str(number))

    assert letters.list(asked, 3).number == got


def test_an_empty_mailbox_has_one_empty_page(tmp_path: Path) -> None:
    """Nothing is shown as one page of nothing."""
    page = Letters(tmp_path).list()

    assert (page.letters, page.number, page.pages, page.total) == ((), 1, 1, 0)


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("invoice", ["Invoice 2"]),
        ("ZOË", ["Hello"]),
        ("support invoice", ["Invoice 2"]),
        ("support", ["Hello", "Invoice 2"]),
        ("nobody", []),
    ],
)
async def test_search_looks_at_addresses_and_subject(tmp_path: Path, search: str, found: list[str]) -> None:
    """A letter is found when every word is in its addresses or subject, in any case."""
    letters = Letters(tmp_path)
    await keep(letters, "Invoice 2", to="support@example.org")
    await keep(letters, "Hello", sender="zoë@example.org", to="support@example.org")

    assert subjects(letters, search=search) == found


async def test_the_oldest_make_room(tmp_path: Path) -> None:
    """No more letters are kept than asked for, on the disk either."""
    letters = Letters(tmp_path, keep=3)
    for number in range(5):
        await keep(letters, str(number))

    assert subjects(letters) == ["4", "3", "2"]
    assert len(files_of(tmp_path)) == 3


async def test_large_letters_make_room_too(tmp_path: Path) -> None:
    """No more bytes are kept than asked for, but always the newest letter."""
    letters = Letters(tmp_path, keep_bytes=250)
    for _ in range(4):
        await letters.store("a@example.org", ["b@example.org"], b"x" * 100)
    assert len(letters) == 2
    huge = await letters.store("a@example.org", ["b@example.org"], b"x" * 1000)

    assert [one.id for one in letters.list().letters] == [huge.id]


async def test_a_smaller_bound_holds_from_the_next_start(tmp_path: Path) -> None:
    """A folder with too many letters is cut to the bound when it is opened."""
    letters = Letters(tmp_path)
    for number in range(5):
        await keep(letters, str(number))
    Letters(tmp_path, keep=2)

    assert subjects(Letters(tmp_path)) == ["4", "3"]


async def test_many_at_once_are_all_kept(tmp_path: Path) -> None:
    """Letters that arrive together get different ids and all are listed."""
    letters = Letters(tmp_path)
    stored = await asyncio.gather(*(keep(letters, str(number)) for number in range(50)))

    assert len({one.id for one in stored}) == len(letters) == 50
    assert Letters(tmp_path).list().letters == letters.list().letters


async def test_giving_up_waiting_does_not_lose_the_letter(tmp_path: Path) -> None:
    """When the caller is cancelled while the letter is being written, file and list still agree."""
    letters = Letters(tmp_path)
    waiting = asyncio.create_task(keep(letters, "kept"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    await letters.settle()

    assert subjects(letters) == subjects(Letters(tmp_path)) == ["kept"]


async def test_clearing_leaves_nothing(tmp_path: Path) -> None:
    """After clearing, neither list nor folder has a letter."""
    letters = Letters(tmp_path)
    letter = await keep(letters, "gone")
    await letters.clear()

    assert letters.list().total == 0
    assert await letters.source(letter.id) is None
    assert files_of(tmp_path) == []


async def test_half_a_letter_is_removed_at_start(tmp_path: Path) -> None:
    """What a killed process left unfinished is not shown and does not stay."""
    (tmp_path / "0000000000000001.part").write_bytes(b"half")

    assert len(Letters(tmp_path)) == 0
    assert files_of(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"X-Mailroom-Letter: {", b"X-Mailroom-Letter: 1\r\n", b"\xff\x00 strange"])
async def test_a_damaged_file_is_still_a_letter(tmp_path: Path, content: bytes) -> None:
    """A file without our line is listed without its envelope; it never stops the start."""
    (tmp_path / "0000000000000001.eml").write_bytes(content)
    letters = Letters(tmp_path)

    assert letters.list().letters[0].recipients == ()
    assert await letters.source("0000000000000001") is not None


async def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """A file that is not ours is neither shown nor removed."""
    (tmp_path / "notes.eml").write_text("mine")
    letters = Letters(tmp_path, keep=1)
    await letters.clear()

    assert (tmp_path / "notes.eml").exists()


@pytest.mark.parametrize("letter_id", ["", "..", "../letters", "0000000000000001", "a" * 5000])
async def test_an_unknown_id_names_no_file(tmp_path: Path, letter_id: str) -> None:
    """Only ids of the list lead to files."""
    assert await Letters(tmp_path).source(letter_id) is None


async def test_only_the_owner_may_read_letters(tmp_path: Path) -> None:
    """Test mail is often copied from real people's, so its files are private."""
    letter = await keep(Letters(tmp_path / "new"), "private")

    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    assert (tmp_path / "new" / f"{letter.id}.eml").stat().st_mode & 0o077 == 0


async def test_a_letter_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """Without a folder to write to, storing says so, and nothing is listed."""
    letters = Letters(tmp_path / "mail")
    (tmp_path / "mail").rmdir()
    with pytest.raises(OSError, match="mail"):
        await keep(letters, "lost")

    assert len(letters) == 0
