"""The pages of integrations: their state and why, how they are configured, and what a person does about them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from gateway.admin.console import NotPossible, Visit
from gateway.admin.live import live
from gateway.admin.posted import posted
from mailroom import pace
from mailroom.integration import IN_PLAIN_WORDS, Cause, IntendedState, ReportedState, Security
from mailroom.message import Status
from mailroom.operating import integrations as operating
from mailroom.settings import BadSettings
from mailroom.settings_file import integration_fields
from mailroom.store import allowances, connection_tests, integrations, sessions
from mailroom.store.accounts import Anonymous, Login
from mailroom.store.integrations import NameTaken, NotConfigured, UnknownIntegration, WrongVersion

#: What a person may leave empty: then there is no limit, or none is told.
_OPTIONAL = ("mailbox", "per_second", "per_day")
_NUMBERS = ("port", "max_connections", "per_day")
#: The fields of the form that are fields of an integration.
_TYPED = ("name", "host", "port", "security", "from", "mailbox", "max_connections", "per_second", "per_day", "username")

#: Seconds after which a test that nobody took means that no worker runs.
NOBODY_SECONDS = 10

#: Moves of an integration on its page.
MOST_HISTORY = 50


async def show_all(visit: Visit) -> web.Response:
    """Every integration with its state."""
    return visit.page("integrations.html", fragment=await _list(visit))


async def watch_all(visit: Visit) -> web.StreamResponse:
    """The list as it changes."""
    return await live(visit, _list)


async def _list(visit: Visit) -> str:
    return visit.text("_integrations.html", rows=await glance(visit))


async def glance(visit: Visit) -> list[dict[str, Any]]:
    """Each integration that exists with what waits for it, those that need a person first."""
    rows = await visit.console.store.read(integrations.all_rows)
    counts = await visit.console.pulse.counts.now()
    shown = [
        {
            "row": row,
            "cause": in_words(row.cause),
            "waiting": sum(
                counts.get((row.id, status), 0) for status in (Status.QUEUED, Status.SENDING, Status.DEFERRED)
            ),
            "held": counts.get((row.id, Status.HELD), 0),
        }
        for row in rows
        if row.intended_state != IntendedState.DELETED
    ]
    return sorted(shown, key=lambda one: (one["row"].reported_state != ReportedState.ERROR, one["row"].name.casefold()))


def in_words(cause: str | None) -> str | None:
    """Why an integration is in ERROR, as a sentence."""
    return IN_PLAIN_WORDS[Cause(cause)] if cause else None


# --- one --------------------------------------------------------------------------------------------------------------


async def show(visit: Visit) -> web.Response:
    """One integration: state, cause, transcript, configuration, history."""
    row = await wanted(visit)
    history = await visit.console.store.read(integrations.history, row.id, MOST_HISTORY)
    return visit.page("integration.html", row=row, fragment=await _state_of(visit, row), history=history)


async def watch(visit: Visit) -> web.StreamResponse:
    """What changes of it by itself."""
    return await live(visit, _state)


async def _state(visit: Visit) -> str:
    return await _state_of(visit, await wanted(visit))


async def _state_of(visit: Visit, row: Any) -> str:
    store, now = visit.console.store, datetime.now(UTC)
    test = await store.read(connection_tests.newest_test, row.id)
    counts = await visit.console.pulse.counts.now()
    sent = (await visit.console.pulse.sent_today.now()).get(row.id, 0)
    used = await store.read(allowances.used_today, row.id, now=now) if row.per_day else None
    moves = (
        await store.read(integrations.history, row.id, MOST_HISTORY)
        if row.reported_state == ReportedState.ERROR
        else ()
    )
    tripped = next((move for move in moves if move.after == ReportedState.ERROR), None)
    nobody = test is not None and test.taken_at is None and (now - test.requested_at).total_seconds() > NOBODY_SECONDS
    return visit.text(
        "_integration.html", row=row, cause=in_words(row.cause), test=test,
        test_cause=in_words(test.cause) if test else None,
        no_worker=nobody and not await store.read(sessions.beats),
        counts={status: counts.get((row.id, status), 0) for status in Status},
        sent=sent, used=used, tripped=tripped, slow=is_slowed(row, now),
    )  # fmt: skip


def is_slowed(row: Any, now: datetime) -> str | None:
    """What holds an ACTIVE integration below its limits at the moment, as a sentence."""
    if row.reported_state != ReportedState.ACTIVE:
        return None
    if pace.awaits_proof(row):
        return "It was reset: one message goes first, and the rest when that one has passed."
    rate = pace.rate_now(row, now)
    if rate is None or rate == row.per_second:
        return None
    return (
        f"It sends {rate:.3g} messages a second at the moment, and more by and by: a slow start, or its server's wish."
    )


async def wanted(visit: Visit) -> Any:
    """The integration in the path. Raises UnknownIntegration."""
    row = await visit.console.store.read(integrations.find, visit.path_id())
    if row is None:
        raise UnknownIntegration("There is no such integration, or it was deleted.")
    return row


# --- what a person does -----------------------------------------------------------------------------------------------


async def try_it(visit: Visit) -> web.Response:
    """Have a worker log in now, and send a letter where an address is given; the same code as real mail."""
    row, form = await wanted(visit), await visit.form()
    await operating.begin_to_try(visit.operator, row.name, form.get("to") or None)
    return visit.see_other(f"/integrations/{row.id}", done="testing")


async def ask_reset(visit: Visit) -> web.Response:
    """What a reset would set going, and why it is made."""
    row = await wanted(visit)
    impact = await operating.preview_reset(visit.operator, row.name)
    return visit.page("reset.html", row=row, cause=in_words(row.cause), impact=impact, wrong="")


async def reset(visit: Visit) -> web.Response:
    """Reset it by way of its live test."""
    row, form = await wanted(visit), await visit.form()
    if not form.get("why"):
        impact = await operating.preview_reset(visit.operator, row.name)
        return visit.page(
            "reset.html", status=400, row=row, cause=in_words(row.cause), impact=impact,
            wrong="Write what was mended, or why it shall be tried: others read it in the history.",
        )  # fmt: skip
    await operating.begin_to_reset(visit.operator, row.name, form["why"])
    return visit.see_other(f"/integrations/{row.id}", done="reset")


async def ask_disable(visit: Visit) -> web.Response:
    """What disabling means, and why it is done."""
    return await _sure(visit, "disable")


async def disable(visit: Visit) -> web.Response:
    """Send nothing through it any more until it is reset."""
    row, form = await wanted(visit), await visit.form()
    if not form.get("why"):
        return await _sure(visit, "disable", wrong="Write why: others read it in the history.")
    await operating.disable_integration(visit.operator, row.name, form["why"])
    return visit.see_other(f"/integrations/{row.id}", done="disabled")


async def ask_delete(visit: Visit) -> web.Response:
    """What deleting means, and why it is done."""
    return await _sure(visit, "delete")


async def delete(visit: Visit) -> web.Response:
    """Never send through it again."""
    row, form = await wanted(visit), await visit.form()
    if form.get("name") != row.name:
        return await _sure(visit, "delete", wrong=f"Write its name, {row.name}, to say that you mean this one.")
    await operating.delete_integration(visit.operator, row.name, form.get("why") or None)
    return visit.see_other("/integrations", done="deleted")


async def _sure(visit: Visit, what: str, wrong: str = "") -> web.Response:
    row = await wanted(visit)
    counts = await visit.console.pulse.counts.now()
    waiting = sum(number for (integration_id, _), number in counts.items() if integration_id == row.id)
    return visit.page(f"{what}.html", status=400 if wrong else 200, row=row, waiting=waiting, wrong=wrong)


# --- configured -------------------------------------------------------------------------------------------------------


async def ask_new(visit: Visit) -> web.Response:
    """An empty form."""
    return _form(visit, None, {"port": "587", "security": Security.STARTTLS, "max_connections": "8"}, [])


async def create(visit: Visit) -> web.Response:
    """Create one; its live test makes it ACTIVE."""
    form = await visit.form()
    given = _given({name: value for name, value in form.items() if value})
    try:
        integration_id = await operating.begin_to_create(
            visit.operator, form.get("name", ""), given, await _password(visit), enabled="disabled" not in form
        )
    except BadSettings as error:
        return _form(visit, None, form, list(error.problems))
    except (NameTaken, NotConfigured) as error:
        return _form(visit, None, form, [str(error)])
    return visit.see_other(f"/integrations/{integration_id}", done="created")


async def ask_change(visit: Visit) -> web.Response:
    """The form with what it is now; the password is never in it."""
    row = await wanted(visit)
    return _form(visit, row, _as_typed(row), [])


async def change(visit: Visit) -> web.Response:
    """Change what differs from what it is now."""
    row, form = await wanted(visit), await visit.form()
    if form.get("version") != str(row.version):
        raise WrongVersion(
            "Somebody else changed it while you wrote. Load the page again and repeat your change there."
        )
    before = _as_typed(row)
    changed = {name: value for name, value in form.items() if name in before and value != before[name]}
    try:
        await operating.begin_to_change(
            visit.operator, row.name, _fields(changed), _login(row, form, await _password(visit)), form.get("why") or None,
            version=row.version,
        )  # fmt: skip
    except BadSettings as error:
        return _form(visit, row, form, list(error.problems))
    except (NameTaken, NotConfigured) as error:
        return _form(visit, row, form, [str(error)])
    return visit.see_other(f"/integrations/{row.id}", done="changed")


def _form(visit: Visit, row: Any | None, values: Mapping[str, str], problems: list[str]) -> web.Response:
    return visit.page(
        "integration_form.html", status=400 if problems else 200, row=row, values=values, problems=problems,
        securities=list(Security),
    )  # fmt: skip


def _as_typed(row: Any) -> dict[str, str]:
    sender = f"{row.from_name} <{row.from_address}>" if row.from_name else row.from_address
    values = {
        "name": row.name, "host": row.host, "port": row.port, "security": row.security, "from": sender,
        "mailbox": row.default_mailbox, "max_connections": row.max_connections, "per_second": row.per_second,
        "per_day": row.per_day,
    }  # fmt: skip
    return {name: _written(value) for name, value in values.items()}


def _written(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _fields(changed: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a configuration that were changed. Raises BadSettings."""
    emptied = {name for name, value in changed.items() if not value and name in _OPTIONAL}
    fields = integration_fields(_given({name: value for name, value in changed.items() if name not in emptied}))
    return fields | {("default_mailbox" if name == "mailbox" else name): None for name in emptied}


def _given(form: Mapping[str, str]) -> dict[str, Any]:
    """What was typed, as the settings file would have it: numbers as numbers, wherever they are ones."""
    return {
        name: _number(name, value) for name, value in form.items() if name in _TYPED and (value or name != "username")
    }


def _number(name: str, value: str) -> Any:
    try:
        if name in _NUMBERS:
            return int(value)
        return float(value) if name == "per_second" else value
    except ValueError:
        return value


def _login(row: Any, form: Mapping[str, str], password: str | None) -> Login | Anonymous | None:
    if "anonymous" in form:
        return Anonymous() if row.credential_id is not None else None
    username = form.get("username") or None
    if password is None and username in (None, row.username):
        return None
    return Login(username, password)


async def _password(visit: Visit) -> str | None:
    """The password as it was typed: blanks at its ends may be part of it."""
    given = (await posted(visit.request)).get("password")
    if not given:
        return None
    if len(given) > 1000 or "\0" in given or "\n" in given:  # noqa: PLR2004 - longer than any server takes
        raise NotPossible("This password is too long or has a line break in it. Type it again.")
    return given
