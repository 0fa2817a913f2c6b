"""What every store promises about rows of a newer Mailroom, which runs beside this one during an update."""

from datetime import timedelta
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import Connection

from mailroom.message import Status
from mailroom.store import messages, schema, sessions, sweeping
from mailroom.store.port import Store
from tests.builders import NOW, a_settlement, accepted, claimed

LATER = NOW + timedelta(days=30)


async def test_ops_3_a_kind_of_a_newer_version_is_left_alone(store: Store, integration_id: UUID) -> None:
    """A message of a kind that is not known is never claimed, woken, taken back or expired; its neighbours are."""
    queued = [await accepted(store, integration_id, expires_at=LATER) for _ in range(2)]
    sleeping = [await claimed(store, await accepted(store, integration_id, expires_at=LATER)) for _ in range(2)]
    for one in sleeping:
        await store.statement(messages.settle, [a_settlement(one, Status.DEFERRED, wake_at=NOW)])
    session = uuid4()
    await store.transaction(sessions.open_session, session, host="here", pid=1, at=NOW)
    taken = [await claimed(store, await accepted(store, integration_id, expires_at=LATER), session) for _ in range(2)]
    await store.transaction(sessions.declare_all_dead, at=NOW)
    newer = [queued[0].id, sleeping[0].id, taken[0].id]

    def become_newer(tx: Connection) -> None:
        tx.execute(sa.update(schema.live).where(schema.live.c.id.in_(newer)).values(kind="fax"))

    await store.transaction(become_newer)
    recovered = await store.transaction(sweeping.recover, now=NOW, limit=100)
    claims = await store.statement(messages.claim, [one.id for one in queued], uuid4())
    woken = await store.transaction(sweeping.wake, now=NOW, limit=100)
    lanes = await store.read(sweeping.queued_lanes)
    expired = await store.transaction(sweeping.expire, now=LATER + timedelta(days=1), limit=100)
    waiting = await store.read(sweeping.waiting)
    rows = await store.read(lambda tx: tx.execute(sa.select(schema.live.c.id, schema.live.c.status)).all())
    left = {row.id: row.status for row in rows}

    assert set(claims) == {queued[1].id}
    assert [one.id for one in woken] == [sleeping[1].id]
    assert [one.id for one in recovered.again] == [taken[1].id]
    assert len(lanes) == 1
    assert expired.total() == 2
    assert waiting == []
    assert {left[one] for one in newer} == {"queued", "deferred", "sending"}
