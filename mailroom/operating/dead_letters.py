"""What an operator does with dead letters of one cause: look, re-drive at a rate, dismiss, tell whom they concern."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

from mailroom.operating.messages import NoReason, said
from mailroom.operating.operator import Operator
from mailroom.operating.sheets import as_csv
from mailroom.store import audit, dead_letters, integrations, redrives
from mailroom.store.dead_letters import SUBJECT, Group, Member, NoSuchGroup, NotOpen
from mailroom.store.redrives import (
    HIGHEST_RATE,
    LOWEST_RATE,
    USUAL_RATE,
    AlreadyRunning,
    NoSuchRedrive,
    NothingToRedrive,
    Redrive,
    is_rate,
)

#: Digits of a fingerprint that are enough to ask by.
SHORTEST = 4

#: What a sheet of those concerned tells of each, and in this order.
COLUMNS = ("id", "recipient", "sender", "subject", "accepted_at", "ended_at")


class SeveralGroups(Exception):
    """More than one group is meant."""


class BadRate(Exception):
    """A re-drive cannot go at this rate."""


async def list_groups(operator: Operator, integration: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """The open dead letters by what they have in common, those that ended last first."""
    integration_id = await _integration_id(operator, integration)
    found = await operator.store.read(dead_letters.groups, integration_id=integration_id, limit=limit)
    names = await _names(operator)
    return [_group(group, names) for group in found]


async def show_group(
    operator: Operator, group: str, integration: str | None = None, before: str | None = None, limit: int = 20
) -> dict[str, Any]:
    """One group with a page of its members, the youngest first, its re-drives and what was done with it."""
    found = await _known(operator, group, integration)
    mine = (found.integration_id, found.fingerprint)
    page = await operator.store.read(
        dead_letters.members, *mine, limit=limit, before=UUID(before) if before is not None else None
    )
    runs = await operator.store.read(redrives.listed, integration_id=found.integration_id)
    history = await operator.store.read(audit.history, SUBJECT, UUID(found.fingerprint))
    names = await _names(operator)
    return _group(found, names) | {
        "can_be_redriven": await operator.store.read(dead_letters.count_redrivable, *mine, await operator.now()),
        "members": [_member(one) for one in page],
        "redrives": [_redrive(one, names) for one in runs if one.fingerprint == found.fingerprint],
        "history": [
            {"at": row.at, "who": row.who, "action": row.action, "from": row.before, "to": row.after, "why": row.why}
            for row in history
        ],
    }


async def redrive_group(
    operator: Operator, group: str, integration: str | None = None, per_second: float = USUAL_RATE,
    why: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Have a whole group tried again, so many a second; a worker does it."""
    found = await _known(operator, group, integration)
    asked = await request_redrive(operator, found.integration_id, found.fingerprint, per_second, why)
    return _redrive(asked, await _names(operator))


async def request_redrive(
    operator: Operator, integration_id: UUID, fingerprint: str, per_second: float, why: str | None = None
) -> Redrive:
    """The same, for whoever knows which group it is exactly. Raises BadRate, AlreadyRunning, NothingToRedrive."""
    if not is_rate(per_second):
        raise BadRate(f"{per_second:g} a second is no rate; it is from {LOWEST_RATE:g} to {HIGHEST_RATE:g}")
    return await operator.store.transaction(
        redrives.request, integration_id, fingerprint, per_second=per_second, who=operator.who, why=why,
        now=await operator.now(),
    )  # fmt: skip


async def list_redrives(operator: Operator, limit: int = 20) -> list[dict[str, Any]]:
    """The newest re-drives of groups first, with how far they are."""
    names = await _names(operator)
    return [_redrive(one, names) for one in await operator.store.read(redrives.listed, limit=limit)]


async def stop_redrive(operator: Operator, redrive_id: str) -> dict[str, Any]:
    """Queue no more of a group; what was queued goes on. Raises NoSuchRedrive."""
    try:
        wanted = UUID(redrive_id)
    except ValueError:
        raise NoSuchRedrive(f"no re-drive {redrive_id!r} is under way") from None
    stopped = await operator.store.transaction(redrives.stop, wanted, who=operator.who, now=await operator.now())
    return _redrive(stopped, await _names(operator))


async def dismiss_group(operator: Operator, group: str, why: str, integration: str | None = None) -> dict[str, Any]:
    """Put a whole group out of sight; its messages stay what they are."""
    found = await _known(operator, group, integration)
    number = await dismiss_seen(operator, found.integration_id, found.fingerprint, why, found.last_at)
    return {"fingerprint": found.fingerprint, "dismissed": number}


async def dismiss_seen(operator: Operator, integration_id: UUID, fingerprint: str, why: str, until: datetime) -> int:
    """Put out of sight what of a group had ended by then; how many those were. Raises NoReason, NoSuchGroup."""
    return await operator.store.transaction(
        dead_letters.dismiss, integration_id, fingerprint, who=operator.who, why=said(why), now=await operator.now(),
        until=until,
    )  # fmt: skip


async def affected(
    operator: Operator, group: str, integration: str | None = None, after: str | None = None, limit: int = 1000
) -> list[dict[str, Any]]:
    """A page of those whom a group concerns, the oldest first; `after` is the id of the last one of the page before."""
    found = await _known(operator, group, integration)
    page = await operator.store.read(
        dead_letters.affected, found.integration_id, found.fingerprint, limit=limit,
        after=UUID(after) if after is not None else None,
    )  # fmt: skip
    return [_member(one) for one in page]


def sheet_of(members: Sequence[Mapping[str, Any]]) -> str:
    """A page of those concerned, for a spreadsheet."""
    return as_csv([one[column] for column in COLUMNS] for one in members)


def sheet_with_heading(members: Sequence[Mapping[str, Any]]) -> str:
    """The same below the names of its columns: the first page."""
    return as_csv([COLUMNS]) + sheet_of(members)


def _group(group: Group, names: Mapping[UUID, str]) -> dict[str, Any]:
    return {
        "fingerprint": group.fingerprint,
        "integration": names.get(group.integration_id),
        "integration_id": group.integration_id,
        "reason": group.reason,
        "command": group.command,
        "code": group.code,
        "said": group.said,
        "number": group.number,
        "first_at": group.first_at,
        "last_at": group.last_at,
        "sample": group.sample,
    }


def _member(one: Member) -> dict[str, Any]:
    return {
        "id": one.id,
        "kind": one.kind,
        "status": one.status,
        "recipient": one.recipient,
        "sender": one.sender,
        "subject": one.subject,
        "accepted_at": one.accepted_at,
        "ended_at": one.ended_at,
        "answered": one.answered,
    }


def _redrive(one: Redrive, names: Mapping[UUID, str]) -> dict[str, Any]:
    return {
        "id": one.id,
        "fingerprint": one.fingerprint,
        "integration": names.get(one.integration_id),
        "per_second": one.per_second,
        "requested_at": one.requested_at,
        "requested_by": one.requested_by,
        "why": one.why,
        "total": one.total,
        "done": one.done,
        "ended_at": one.ended_at,
        "stopped_by": one.stopped_by,
    }


async def _known(operator: Operator, group: str, integration: str | None) -> Group:
    """The one open group whose fingerprint begins like this. Raises NoSuchGroup, SeveralGroups."""
    if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST},32}}", group):
        raise NoSuchGroup(f"{group!r} is no group; `mailroom dead-letters list` shows those that are open")
    integration_id = await _integration_id(operator, integration)
    found = await operator.store.read(dead_letters.groups, integration_id=integration_id, fingerprint=group, limit=9)
    if not found:
        raise NoSuchGroup(
            f"no dead letters of a group {group} are open; `mailroom dead-letters list` shows those that are"
        )
    if len(found) > 1:
        names = await _names(operator)
        told = ", ".join(f"{one.fingerprint} of {names.get(one.integration_id)}" for one in found)
        raise SeveralGroups(f"there are several groups {group}: {told}; give more digits, or the integration")
    return found[0]


async def _integration_id(operator: Operator, name: str | None) -> UUID | None:
    return None if name is None else UUID(str((await operator.store.read(integrations.named, name)).id))


async def _names(operator: Operator) -> dict[UUID, str]:
    return {row.id: row.name for row in await operator.store.read(integrations.all_rows)}


OPERATIONS: Mapping[str, Callable[..., Awaitable[Any]]] = MappingProxyType(
    {
        "dead_letters.list": list_groups,
        "dead_letters.show": show_group,
        "dead_letters.redrive": redrive_group,
        "dead_letters.redrives": list_redrives,
        "dead_letters.stop": stop_redrive,
        "dead_letters.dismiss": dismiss_group,
        "dead_letters.affected": affected,
    }
)

LOOKS = frozenset({"dead_letters.list", "dead_letters.show", "dead_letters.redrives", "dead_letters.affected"})

#: What a person can act on.
REFUSALS = (
    NoSuchGroup, SeveralGroups, NotOpen, AlreadyRunning, NothingToRedrive, NoSuchRedrive, NoReason, BadRate,
)  # fmt: skip
