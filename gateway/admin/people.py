"""The pages of people: one's own account, and (for administrators) everybody's."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from gateway.admin.console import NotFound, NotPossible, Visit
from gateway.admin.layout import span
from gateway.admin.posted import posted
from gateway.admin.tries import begin_try
from mailroom.operating import people
from mailroom.passwords import BadPassword, Busy, hashed, is_password
from mailroom.roles import Role
from mailroom.store import sign_ins, users
from mailroom.store.sign_ins import Account

#: Everything about people that a form of theirs can be told to correct.
_CORRECTABLE = people.REFUSALS

_BUSY = "Too many passwords are tried at the moment. Try again in a few seconds."


async def show_account(visit: Visit) -> web.Response:
    """Where one is signed in, and a new password."""
    return await _account(visit)


async def _account(visit: Visit, wrong: str = "", status: int = 400) -> web.Response:
    places = await visit.console.store.read(sign_ins.of_user, visit.person.user_id, now=visit.now)
    return visit.page("account.html", status=status if wrong else 200, places=places, wrong=wrong)


async def change_password(visit: Visit) -> web.Response:
    """Change one's own password, knowing the old one; all other sign-ins end."""
    given = await posted(visit.request)
    old, new, again = (given.get(name, "") for name in ("old", "new", "again"))
    if new != again:
        return await _account(visit, "The two new passwords differ. Type both again.")
    # Not counted with the tries to sign in: whoever has got hold of a sign-in shall not keep its owner out.
    begun = await begin_try(visit.console.store, [f"change {visit.person.name}"])
    if isinstance(begun, datetime):
        wait = span(begun - datetime.now(UTC))
        return await _account(visit, f"Too many tries failed. Wait {wait}, then try again.", status=429)
    try:
        known = await _with_password(visit, old)
        kept = await hashed(new) if known is not None else ""
    except (Busy, BadPassword) as error:
        await visit.console.store.transaction(sign_ins.take_back, begun)
        return await _account(visit, _BUSY if isinstance(error, Busy) else f"{error}.")

    def change(tx: Any) -> bool:
        if known is None or not sign_ins.is_still(tx, known):
            return False
        sign_ins.take_back(tx, begun)
        users.set_password(tx, known.name, kept, who=visit.who, now=datetime.now(UTC))
        sign_ins.end_all(tx, known.user_id, but=visit.person.hash)
        return True

    if not await visit.console.store.transaction(change):
        return await _account(visit, "The present password is wrong.")
    return visit.see_other("/account", done="password")


async def _with_password(visit: Visit, password: str) -> Account | None:
    """One's own account, where this is its password. Raises Busy."""
    known = await visit.console.store.read(sign_ins.account, visit.person.name)
    return known if known is not None and await is_password(password, known.password_hash) else None


async def sign_out_elsewhere(visit: Visit) -> web.Response:
    """End one of one's own sign-ins, or all others."""
    form = await visit.form()

    def leave(tx: Any) -> None:
        if form.get("place"):
            sign_ins.end(tx, visit.person.user_id, form["place"])
        else:
            sign_ins.end_all(tx, visit.person.user_id, but=visit.person.hash)
        users.note(tx, visit.person.user_id, "signed out elsewhere", who=visit.who, now=datetime.now(UTC))

    await visit.console.store.transaction(leave)
    return visit.see_other("/account", done="elsewhere")


async def show_all(visit: Visit) -> web.Response:
    """Everybody, and the programs that may call."""
    return await _all(visit)


async def _all(visit: Visit, wrong: str = "", name: str = "") -> web.Response:
    everybody: Sequence[Any] = await people.list_users(visit.operator)
    programs = await people.list_clients(visit.operator)
    return visit.page(
        "people.html", status=400 if wrong else 200, people=everybody, programs=programs, roles=list(Role), wrong=wrong,
        name=name,
    )  # fmt: skip


async def add(visit: Visit) -> web.Response:
    """Let a person in."""
    given = await posted(visit.request)
    name, role, password = (given.get(one, "") for one in ("name", "role", "password"))
    try:
        await people.add_user(visit.operator, name.strip(), role, password)
    except _CORRECTABLE as error:
        return await _all(visit, f"{error}.", name)
    return visit.see_other("/people", done="added")


async def show(visit: Visit) -> web.Response:
    """One person: a new password, signing out, disabling."""
    return await _one(visit)


async def _one(visit: Visit, wrong: str = "") -> web.Response:
    one = await _wanted(visit)
    places = await visit.console.store.read(sign_ins.of_user, one["id"], now=visit.now)
    return visit.page("person.html", status=400 if wrong else 200, one=one, places=places, wrong=wrong)


async def _wanted(visit: Visit) -> dict[str, Any]:
    wanted = visit.path_id()
    for one in await people.list_users(visit.operator):
        if one["id"] == wanted:
            return one
    raise NotFound("There is no such person.")


async def set_password(visit: Visit) -> web.Response:
    """Give a person another password."""
    one = await _wanted(visit)
    password = (await posted(visit.request)).get("password", "")
    try:
        await people.set_password(visit.operator, one["name"], password)
    except _CORRECTABLE as error:
        return await _one(visit, f"{error}.")
    return visit.see_other(f"/people/{one['id']}", done="password")


async def sign_out(visit: Visit) -> web.Response:
    """Sign a person out everywhere."""
    one = await _wanted(visit)
    await people.sign_out(visit.operator, one["name"])
    return visit.see_other(f"/people/{one['id']}", done="out")


async def disable(visit: Visit) -> web.Response:
    """Let a person in never again."""
    one = await _wanted(visit)
    if one["id"] == visit.person.user_id:
        raise NotPossible("You cannot disable yourself: somebody else with the role admin can.")
    form = await visit.form()
    if "sure" not in form:
        return await _one(visit, "Tick the box to say that you mean it.")
    await people.disable_user(visit.operator, one["name"])
    return visit.see_other("/people", done="disabled")
