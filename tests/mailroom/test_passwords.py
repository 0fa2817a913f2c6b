"""Passwords of people: hashed so that guessing costs, and never while everything else waits."""

import asyncio

import pytest

from mailroom.passwords import LONGEST_PASSWORD, SHORTEST_PASSWORD, BadPassword, hashed, is_password

PASSWORD = "correct horse battery staple"


async def test_sec_11_a_password_is_known_by_its_hash() -> None:
    """Argon2id, another salt each time; nothing else is that password."""
    first, second = await hashed(PASSWORD), await hashed(PASSWORD)

    assert first.startswith("$argon2id$")
    assert first != second
    assert await is_password(PASSWORD, first)
    assert await is_password(PASSWORD, second)
    assert not await is_password(PASSWORD + " ", first)
    assert not await is_password("x" * 100_000, first)
    assert not await is_password(PASSWORD, "no hash at all")


@pytest.mark.parametrize("length", [0, SHORTEST_PASSWORD - 1, LONGEST_PASSWORD + 1])
async def test_sec_11_a_password_has_a_length(length: int) -> None:
    """Too short is guessed, too long costs; the refusal says how many and never repeats it."""
    with pytest.raises(BadPassword, match=rf"15 to 256 characters, and this one {length};"):
        await hashed("ä" * length)


async def test_a_password_is_text() -> None:
    """Bytes that a terminal could not decode are nobody's password; the refusal does not repeat them."""
    with pytest.raises(BadPassword, match="write it in UTF-8") as refused:
        await hashed("\udcff" * SHORTEST_PASSWORD)

    assert refused.value.__suppress_context__
    assert not await is_password("\udcff" * SHORTEST_PASSWORD, await hashed(PASSWORD))


async def test_hashing_lets_others_run() -> None:
    """While a password is computed the loop goes on."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await hashed(PASSWORD)
    task.cancel()

    assert turns > 1
