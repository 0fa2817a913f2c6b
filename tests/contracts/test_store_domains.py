"""What every store promises about domains: they point to an integration that exists, or to none."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from mailroom.integration import IntendedState
from mailroom.store import domains, integrations
from mailroom.store.domains import Direction, DomainTaken, UnknownDomain
from mailroom.store.integrations import UnknownIntegration
from mailroom.store.port import Store
from tests.builders import NOW

LATER = NOW + timedelta(minutes=1)
WHO = "jane"
IN, OUT = Direction.INBOUND, Direction.OUTBOUND


async def test_a_domain_is_created_once_in_each_direction(store: Store, integration_id: UUID) -> None:
    """The same name can be an inbound and an outbound domain; a second one is refused."""
    made = await store.transaction(
        domains.create, IN, "company.test", integration_id=integration_id, sub_domain=True, who=WHO, now=NOW
    )
    await store.transaction(domains.create, OUT, "company.test", sender_type="EmailSmtpDomain", who=WHO, now=NOW)
    with pytest.raises(DomainTaken, match=r"company\.test"):
        await store.transaction(domains.create, IN, "company.test", who=WHO, now=NOW)

    assert (made.name, made.integration_id, made.integration_name, bool(made.sub_domain)) == (
        "company.test", integration_id, "main", True,
    )  # fmt: skip
    [outbound], total = await store.read(domains.listed, OUT)
    assert (outbound.integration_id, outbound.integration_name, outbound.sender_type, total) == (
        None, None, "EmailSmtpDomain", 1,
    )  # fmt: skip


async def test_mail_leaves_through_the_integration_of_its_domain(store: Store, integration_id: UUID) -> None:
    """Only the domain of the address, and only the asked direction, decides."""
    await store.transaction(domains.create, IN, "company.test", integration_id=integration_id, who=WHO, now=NOW)

    assert await store.read(domains.integration_for, IN, "Support@Company.TEST") == integration_id
    assert await store.read(domains.integration_for, OUT, "support@company.test") is None
    assert await store.read(domains.integration_for, IN, "support@sub.company.test") is None


async def test_a_domain_is_pointed_elsewhere(store: Store, integration_id: UUID) -> None:
    """A domain can be given another integration or none, and what its senders are; each change is on record."""
    await store.transaction(domains.create, OUT, "company.test", who=WHO, now=NOW)
    pointed = await store.transaction(domains.point, OUT, "company.test", integration_id, who=WHO, now=LATER)
    await store.transaction(domains.set_sender_type, OUT, "company.test", "EmailSmtpDomain", who=WHO, now=LATER)
    nowhere = await store.transaction(domains.point, OUT, "company.test", None, who=WHO, now=LATER)

    assert (pointed.integration_id, nowhere.integration_id) == (integration_id, None)
    history = await store.read(domains.history, OUT, "company.test")
    assert {(row.who, row.action, row.before, row.after) for row in history} == {
        (WHO, "created", None, "integration_id=none, sub_domain=False, sender_type=none"),
        (WHO, "changed", "integration_id=none", f"integration_id={integration_id}"),
        (WHO, "changed", "sender_type=none", "sender_type=EmailSmtpDomain"),
        (WHO, "changed", f"integration_id={integration_id}", "integration_id=none"),
    }


async def test_a_domain_points_only_to_what_exists(store: Store, integration_id: UUID) -> None:
    """An integration that never was, or was deleted, cannot be pointed to."""
    await store.transaction(domains.create, IN, "company.test", who=WHO, now=NOW)
    with pytest.raises(UnknownIntegration):
        await store.transaction(domains.create, IN, "other.test", integration_id=uuid4(), who=WHO, now=NOW)
    await store.transaction(integrations.intend, integration_id, IntendedState.DELETED, who=WHO, now=NOW)
    with pytest.raises(UnknownIntegration):
        await store.transaction(domains.point, IN, "company.test", integration_id, who=WHO, now=NOW)

    assert (await store.read(domains.listed, IN))[1] == 1


async def test_a_deleted_integration_is_pointed_to_no_more(store: Store, integration_id: UUID) -> None:
    """Domains of a deleted integration point nowhere, and their history says why."""
    await store.transaction(domains.create, IN, "company.test", integration_id=integration_id, who=WHO, now=NOW)
    await store.transaction(integrations.intend, integration_id, IntendedState.DELETED, who=WHO, now=LATER)

    assert await store.read(domains.integration_for, IN, "a@company.test") is None
    [newest, _] = await store.read(domains.history, IN, "company.test")
    assert (newest.action, newest.why) == ("changed", "its integration was deleted")


async def test_a_domain_can_be_deleted(store: Store, integration_id: UUID) -> None:
    """A deleted domain is gone, and what is not there cannot be changed or deleted."""
    await store.transaction(domains.create, IN, "company.test", integration_id=integration_id, who=WHO, now=NOW)
    await store.transaction(domains.delete, IN, "company.test", who=WHO, now=LATER)

    assert await store.read(domains.get, IN, "company.test") is None
    with pytest.raises(UnknownDomain, match=r"company\.test"):
        await store.transaction(domains.delete, IN, "company.test", who=WHO, now=LATER)
    with pytest.raises(UnknownDomain):
        await store.transaction(domains.point, IN, "company.test", None, who=WHO, now=LATER)
