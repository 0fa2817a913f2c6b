"""What an operator does with integrations: look, configure, test, reset, disable."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from mailroom import pace
from mailroom.addresses import check_address
from mailroom.integration import IN_PLAIN_WORDS, Cause, IntendedState, ReportedState
from mailroom.operating.copying import BadAddress
from mailroom.operating.operator import Operator
from mailroom.settings_file import integration_fields
from mailroom.store import accounts, allowances, connection_tests, credentials, integrations, sweeping
from mailroom.store.accounts import Anonymous, Login
from mailroom.store.connection_tests import ConnectionTest, Letter
from mailroom.store.integrations import NewIntegration
from mailroom.vault import Vault

#: Seconds between two looks at a live test.
LOOK_SECONDS = 0.2


class NoWorker(Exception):
    """Nobody took the live test."""


class NoAnswerYet(Exception):
    """A worker took the live test, and the server has not answered it."""


class NoKey(Exception):
    """Passwords cannot be stored, because the key for them is not known here."""


async def list_integrations(operator: Operator) -> list[dict[str, Any]]:
    """Every integration with its state."""
    return [_integration(row) for row in await operator.store.read(integrations.all_rows) if _exists(row)]


async def show_integration(operator: Operator, name: str) -> dict[str, Any]:
    """One integration: configuration, state, last transcript, unfinished messages, history."""
    row = await _row(operator, name)
    history = await operator.store.read(integrations.history, row.id)
    counts = await operator.store.read(sweeping.counts)
    return _integration(row) | {
        "id": row.id,
        "username": row.username,
        "has_password": row.sealed_password is not None,
        "from": row.from_address,
        "from_name": row.from_name,
        "mailbox": row.default_mailbox,
        "max_connections": row.max_connections,
        "per_second": row.per_second,
        "per_day": row.per_day,
        "size_limit": row.ehlo_size,
        "version": row.version,
        "generation": row.generation,
        "failures": row.failures,
        "unfinished": {status: count for (integration, status), count in counts.items() if integration == row.id},
        "a_reset_releases": await _impact(operator, row),
        "transcript": _lines(row.transcript),
        "history": [
            {"at": entry.at, "who": entry.who, "action": entry.action, "from": entry.before, "to": entry.after,
             "why": entry.why, "cause": entry.cause, "transcript": _lines(entry.transcript)}
            for entry in history
        ],
    }  # fmt: skip


async def create_integration(
    operator: Operator, name: str, given: Mapping[str, Any], password: str | None, *, enabled: bool
) -> dict[str, Any]:
    """Create an integration: enabled by way of a live test, or disabled, to wait for its reset."""
    integration_id = await begin_to_create(operator, name, given, password, enabled=enabled)
    return await _as_it_became(operator, name, integration_id)


async def begin_to_create(
    operator: Operator, name: str, given: Mapping[str, Any], password: str | None, *, enabled: bool
) -> UUID:
    """Create an integration and leave its live test to the workers; its id."""
    fields = integration_fields({"name": name, **given})
    new = NewIntegration(sealed_password=_sealed(operator, password), **fields)
    intended = IntendedState.ENABLED if enabled else IntendedState.DISABLED
    integration_id = await operator.store.transaction(
        integrations.create, new, intended=intended, who=operator.who, now=await operator.now()
    )
    await operator.queue.nudge()
    return integration_id


async def change_integration(
    operator: Operator, name: str, given: Mapping[str, Any], password: str | None, why: str | None, *, anonymous: bool
) -> dict[str, Any]:
    """Change what is given of an integration's configuration; a live test decides anew where it needs one."""
    fields = integration_fields(given)
    username = fields.pop("username", None)
    login: Login | Anonymous | None = None
    if anonymous:
        login = Anonymous()
    elif username is not None or password is not None:
        login = Login(username, password)
    row = await begin_to_change(operator, name, fields, login, why)
    return await _as_it_became(operator, row.name, row.id)


async def begin_to_change(
    operator: Operator, name: str, fields: Mapping[str, Any], login: Login | Anonymous | None, why: str | None,
    version: int | None = None,
) -> Any:  # fmt: skip
    """Change an integration's configuration and leave its live test to the workers; the integration as it is then."""
    row = await operator.store.transaction(
        accounts.change, name, fields, login, None if login is None else _vault(operator), who=operator.who, why=why,
        now=await operator.now(), version=version,
    )  # fmt: skip
    await operator.queue.nudge()
    return row


async def delete_integration(operator: Operator, name: str, why: str | None) -> dict[str, Any]:
    """Send nothing through it ever again, and free its name; what it has not sent expires in its time."""
    row = await _row(operator, name)
    counts = await operator.store.read(sweeping.counts)
    await operator.store.transaction(
        integrations.intend, row.id, IntendedState.DELETED, who=operator.who, why=why, now=await operator.now()
    )
    await operator.queue.nudge()
    unfinished = {status: count for (integration, status), count in counts.items() if integration == row.id}
    return {"name": name, "id": row.id, "deleted": True, "unfinished": unfinished}


async def try_integration(operator: Operator, name: str, to: str | None = None) -> dict[str, Any]:
    """Let a worker log in at the server now, and send a letter where one is asked for; the state stays as it is."""
    test_id = await begin_to_try(operator, name, to)
    test = await _answered(operator, test_id, "The integration stays as it is.")
    return await _tested(operator, name, test)


async def begin_to_try(operator: Operator, name: str, to: str | None = None) -> UUID:
    """Ask the workers for a live test that only tells; its id."""
    letter = None if to is None else _letter(await _row(operator, name), to)
    test_id = await operator.store.transaction(
        integrations.request_test, name, who=operator.who, now=await operator.now(), letter=letter
    )
    await operator.queue.nudge()
    return test_id


async def reset_integration(operator: Operator, name: str, why: str | None) -> dict[str, Any]:
    """Enable it again, by way of a live test that decides."""
    test_id = await begin_to_reset(operator, name, why)
    test = await _answered(operator, test_id, f"{name} is ACTIVATING until a worker has run its live test.")
    return await _tested(operator, name, test)


async def begin_to_reset(operator: Operator, name: str, why: str | None) -> UUID:
    """Enable it again, and leave the live test that decides to the workers; the test's id."""
    test_id = await operator.store.transaction(
        integrations.reset, name, who=operator.who, why=why, now=await operator.now()
    )
    await operator.queue.nudge()
    return test_id


async def preview_reset(operator: Operator, name: str) -> dict[str, Any]:
    """What a reset that ends in ACTIVE would set going; nothing is changed."""
    row = await _row(operator, name)
    return _integration(row) | await _impact(operator, row)


async def _impact(operator: Operator, row: Any) -> dict[str, Any]:
    now = await operator.now()
    found = await operator.store.read(sweeping.impact, row.id, now=now)
    used = await operator.store.read(allowances.used_today, row.id, now=now)
    seconds = pace.drain_seconds(
        found.to_send, pace.released(row, now), now, connections=row.max_connections, used_today=used
    )
    return {
        "held": found.held,
        "queued": found.queued,
        "deferred": found.deferred,
        "oldest": found.oldest,
        "past_expiry": found.past_expiry,
        "drain_seconds": round(seconds),
    }


async def disable_integration(operator: Operator, name: str, why: str | None) -> dict[str, Any]:
    """Send nothing through it any more until it is reset."""
    await operator.store.transaction(integrations.disable, name, who=operator.who, why=why, now=await operator.now())
    await operator.queue.nudge()
    return _integration(await _row(operator, name))


async def reseal_keys(operator: Operator) -> dict[str, Any]:
    """Seal every stored password with the first key of MAILROOM_SECRET_KEY, so that the others can go."""
    done = await operator.store.transaction(
        credentials.reseal_all, _vault(operator), who=operator.who, now=await operator.now()
    )
    return {"resealed": done.resealed, "unreadable": done.unreadable}


# --- what it looks like -------------------------------------------------------------------------------------------------


def _integration(row: Any) -> dict[str, Any]:
    return {
        "name": row.name,
        "host": row.host,
        "port": row.port,
        "security": row.security,
        "intended_state": row.intended_state,
        "reported_state": row.reported_state,
        "cause": row.cause,
        "cause_in_words": _in_words(row.cause),
        "since": row.since,
    }


def _lines(transcript: str | None) -> list[str]:
    return transcript.splitlines() if transcript else []


def _in_words(cause: str | None) -> str | None:
    return IN_PLAIN_WORDS[Cause(cause)] if cause else None


# --- steps ------------------------------------------------------------------------------------------------------------


async def _row(operator: Operator, name: str) -> Any:
    return await operator.store.read(integrations.named, name)


def _exists(row: Any) -> bool:
    return bool(row.intended_state != IntendedState.DELETED)


def _vault(operator: Operator) -> Vault:
    if operator.vault is None:
        raise NoKey(
            "passwords are encrypted with MAILROOM_SECRET_KEY, which is missing here; set it (or "
            "MAILROOM_SECRET_KEY_FILE) to what the processes have"
        )
    return operator.vault


def _sealed(operator: Operator, password: str | None) -> str | None:
    return None if password is None else _vault(operator).seal(password)


def _letter(row: Any, to: str) -> Letter:
    recipient = check_address(to)
    if recipient is None:
        raise BadAddress(f"{to!r} is no e-mail address that mail can be sent to")
    return Letter(
        sender=row.from_address,
        sender_name=row.from_name,
        recipient=recipient,
        subject=f"A test of the integration {row.name}",
        text=f"This letter was sent by Mailroom through the integration {row.name} to see whether it arrives.\n",
    )


async def _as_it_became(operator: Operator, name: str, integration_id: UUID) -> dict[str, Any]:
    """An integration after a change; where a live test is under way because of it, once that has ended."""
    row = await _row(operator, name)
    test = await operator.store.read(connection_tests.newest_test, integration_id)
    if row.reported_state == ReportedState.ACTIVATING and test is not None:
        ended = await _answered(operator, test.id, f"{name} is ACTIVATING until a worker has run its live test.")
        return await _tested(operator, name, ended)
    return {"name": name, "passed": None, "transcript": [], "cause": None, "cause_in_words": None} | {
        "intended_state": row.intended_state, "reported_state": row.reported_state, "message_id": None,
    }  # fmt: skip


async def _answered(operator: Operator, test_id: UUID, meanwhile: str) -> ConnectionTest:
    """The test once it has ended."""
    deadline = time.monotonic() + operator.patience
    while True:
        test = await operator.store.read(connection_tests.test, test_id)
        if test.ended_at is not None:
            return test
        if time.monotonic() >= deadline:
            break
        await asyncio.sleep(LOOK_SECONDS)
    waited = f"within {operator.patience:g} seconds"
    if test.taken_at is None:
        raise NoWorker(f"no worker is running: nobody took the test {waited}; start `mailroom worker`. {meanwhile}")
    raise NoAnswerYet(f"a worker took the test, but the server has not answered {waited}. {meanwhile}")


async def _tested(operator: Operator, name: str, test: ConnectionTest) -> dict[str, Any]:
    row = await _row(operator, name)
    return {
        "name": name,
        "passed": bool(test.passed),
        "cause": test.cause,
        "cause_in_words": _in_words(test.cause),
        "transcript": _lines(test.transcript),
        "message_id": test.message_id,
        "intended_state": row.intended_state,
        "reported_state": row.reported_state,
    }
