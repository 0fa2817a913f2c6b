"""What a process makes sure of before it works."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from mailroom.attachments import AttachmentStore
from mailroom.provisioning import AttachmentsElsewhere, attachment_store, check_marker, prepare
from mailroom.settings import BadSettings, IntegrationSettings, Settings
from mailroom.store import integrations
from mailroom.store.migrating import migrate
from mailroom.store.port import Store
from mailroom.store.sqlite import SqliteStore
from mailroom.vault import Vault

VAULT = Vault(["a key for tests"])


async def test_the_first_marks_and_others_recognise(store: Store, tmp_path: Path) -> None:
    """The first process marks the attachment store, and every later one with the same folder finds it in order."""
    for _ in range(3):
        await check_marker(store, AttachmentStore(tmp_path / "files"))

    assert (tmp_path / "files" / ".marker").read_text().strip()
    assert [path.name for path in (tmp_path / "files").iterdir()] == [".marker"]


async def test_several_first_ones_agree(store: Store, tmp_path: Path) -> None:
    """Processes that start at the same time agree on one marker."""
    await asyncio.gather(*(check_marker(store, AttachmentStore(tmp_path / "files")) for _ in range(8)))

    assert [path.name for path in (tmp_path / "files").iterdir()] == [".marker"]


async def test_another_folder_is_refused(store: Store, tmp_path: Path) -> None:
    """A process with another folder is refused, is told which marker is expected, and leaves no marker there."""
    await check_marker(store, AttachmentStore(tmp_path / "files"))
    expected = (tmp_path / "files" / ".marker").read_text().strip()
    with pytest.raises(AttachmentsElsewhere, match=expected):
        await check_marker(store, AttachmentStore(tmp_path / "elsewhere"))

    assert not list((tmp_path / "elsewhere").iterdir())


async def test_another_databases_folder_is_refused(store: Store, tmp_path: Path) -> None:
    """A folder with another database's marker is refused and keeps it."""
    await check_marker(store, AttachmentStore(tmp_path / "files"))
    other = tmp_path / "other"
    other.mkdir()
    (other / ".marker").write_text("of another database\n")
    with pytest.raises(AttachmentsElsewhere, match="of another database"):
        await check_marker(store, AttachmentStore(other))

    assert (other / ".marker").read_text() == "of another database\n"


async def test_a_folder_that_cannot_be_is_told(store: Store, tmp_path: Path) -> None:
    """A place where no folder can be is told with the setting's name."""
    (tmp_path / "file").touch()
    with pytest.raises(AttachmentsElsewhere, match="MAILROOM_ATTACHMENTS_URL"):
        await check_marker(store, AttachmentStore(tmp_path / "file" / "files"))


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        (None, "data/attachments"),
        ("file:/srv/files", "/srv/files"),
        ("file:///srv/files", "/srv/files"),
        ("file:///srv/our%20files", "/srv/our files"),
        ("file:files", "files"),
    ],
)
def test_the_url_names_the_folder(url: str | None, folder: str) -> None:
    """The attachment store is where its URL says, and under the data folder without one."""
    settings = Settings(data_dir=Path("data"), attachments_url=url)

    assert attachment_store(settings).folder == Path(folder)


def test_a_host_in_the_url_is_refused() -> None:
    """`file://srv/files` names a host by mistake and is refused."""
    with pytest.raises(BadSettings, match="MAILROOM_ATTACHMENTS_URL"):
        attachment_store(Settings(attachments_url="file://srv/files"))


async def test_absent_integrations_are_created_once(store: Store, tmp_path: Path) -> None:
    """A configured integration is created when it is absent, its password sealed; later starts leave it as it is."""
    configured = IntegrationSettings(
        host="smtp.company.test", username="forms", password="right", from_address="forms@company.test"
    )
    settings = Settings(integrations={"main": configured})
    await prepare(settings, store, VAULT, AttachmentStore(tmp_path / "files"))
    changed = replace(settings, integrations={"main": replace(configured, host="elsewhere.test")})
    await prepare(changed, store, VAULT, AttachmentStore(tmp_path / "files"))

    (row,) = await store.read(integrations.all_rows)
    assert row.host == "smtp.company.test"
    assert VAULT.open(row.sealed_password) == "right"


async def test_it_waits_for_the_tables(tmp_path: Path) -> None:
    """A process that starts before `mailroom migrate` waits for it."""
    store = SqliteStore(tmp_path / "mailroom.db")
    preparing = asyncio.ensure_future(prepare(Settings(), store, VAULT, AttachmentStore(tmp_path / "files")))
    _, waiting = await asyncio.wait({preparing}, timeout=0.5)
    await store.transaction(migrate)
    await asyncio.wait_for(preparing, 30)
    await store.aclose()

    assert waiting
