"""The pages on PostgreSQL, which refuses texts that SQLite takes: whatever is asked, there is a page."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa

from tests.builders import migrated
from tests.gateway.admin.visitor import Entrance, entrance_of
from tests.journeys.office import Office, an_office
from tests.services import Postgres

ANY_ID = UUID(int=7)


@pytest.fixture
async def office(tmp_path: Path, postgres: Postgres) -> AsyncIterator[Office]:
    """An office on PostgreSQL."""
    async with an_office(tmp_path, postgres.new_database(migrated), "memory:") as office:
        yield office


@pytest.fixture
async def entrance(office: Office) -> AsyncIterator[Entrance]:
    """Its pages."""
    await office.add_integration(2525)
    async with office.gateway() as gateway, entrance_of(gateway, office.store) as entrance:
        yield entrance


async def test_sec_15_no_question_is_a_fault_of_ours(entrance: Entrance) -> None:
    """No time, no text and no cursor that stands in an address fails a page, nor shows the database's words."""
    paths = [
        *(f"/messages?{name}=%00" for name in ("text", "service", "integration", "kind", "status", "before", "from", "to")),
        *(f"/audit?{name}=%00" for name in ("who", "subject", "action", "integration", "before", "since", "until")),
        *(f"/explain?kind=acd&{name}=a%00@b.test" for name in ("from_address", "mailbox", "message")),
        "/explain?service=%00&kind=form", "/forms/%00", "/messages?text=@%00", "/messages?text=a%00b",
        "/messages?from=0001-01-01&to=9999-12-31", "/messages?from=9999-12-31T23:59:59.999999-14:00",
        "/messages?from=0001-01-01T00:00%2B14:00", "/messages?from=999999d", "/messages?before=" + "f" * 32,
        "/audit?since=0001-01-01T00:00%2B14:00", "/audit?until=9999-12-31T23:59:59.999999-14:00",
        f"/audit?before=2026-01-01/{ANY_ID}", f"/audit?before=9999-12-31T23:59:59-14:00/{ANY_ID}",
        f"/dead-letters/{ANY_ID}/{'0' * 32}", f"/dead-letters/{ANY_ID}/{'0' * 32}?before={'f' * 32}",
        "/", "/?span=week", "/integrations", "/people", "/account",
    ]  # fmt: skip
    async with entrance.person() as admin:
        told = {path: await admin.get(path) for path in paths}

    assert {path: seen.status for path, seen in told.items() if seen.status not in {200, 400, 404}} == {}
    assert [path for path, seen in told.items() if "asyncpg" in seen.text or "UTF8" in seen.text] == []


async def test_no_form_is_a_fault_of_ours(entrance: Entrance) -> None:
    """A NUL in any field is left out or told."""
    async with entrance.person() as admin, entrance.browser() as stranger:
        signed_in = await stranger.sign_in("jane\0", "x\0")
        told = [
            await admin.post("/people", {"name": "joe\0", "role": "viewer\0", "password": "a good sentence\0 here"}),
            await admin.post(
                "/account/password", {"old": "\0", "new": "a good sentence\0", "again": "a good sentence\0"}
            ),
            await admin.post("/account/sign-out", {"place": "\0"}),
            await admin.post(
                "/integrations/new", {"name": "new\0", "host": "a.test", "username": "\0", "password": "\0"}
            ),
        ]

    assert signed_in.status == 403
    assert {seen.status for seen in told} <= {303, 400, 409}


@pytest.mark.parametrize(
    ("table", "path"),
    [("audit", "/audit"), ("messages", "/messages?text=parcel"), ("live", "/explain?kind=form&service=x")],
)
async def test_sec_15_what_the_database_says_is_for_the_log(entrance: Entrance, table: str, path: str) -> None:
    """A page says that the database does not answer; not what it said, nor where it is."""

    def hide(tx: sa.Connection) -> None:
        tx.execute(sa.text(f"ALTER TABLE {table} RENAME TO hidden"))

    async with entrance.person() as admin:
        await entrance.store.transaction(hide)
        seen = await admin.get(path)

    assert seen.status == 503
    assert "The database does not answer" in seen.words
    assert "relation" not in seen.words
