"""What an operator can ask for about form services: which there are, each option with its origin, and a form to paste."""

from dataclasses import fields
from typing import Any

from mailroom.integration import IntendedState
from mailroom.operating.form_html import FORM_SCRIPT, form_html
from mailroom.operating.operator import Operator
from mailroom.rates import Rate
from mailroom.settings import EmailOptions
from mailroom.store import integrations

#: Where the form API is below an address of a gateway.
PLACE = "/genesys/2/email"

_UNITS = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86_400.0: "day"}


class UnknownService(Exception):
    """There is no such service."""


async def list_forms(operator: Operator) -> list[dict[str, Any]]:
    """Every named service, and `*` where any other exists too, with its integration's state."""
    settings = operator.settings
    states = await _states(operator)
    named = [*settings.services.items(), *([("*", settings.email)] if settings.any_service else [])]
    return [
        {
            "service": name,
            "path": f"{PLACE}/{name}",
            "mailbox": _mailbox(options, states),
            "integration": options.integration,
            "reported_state": states[options.integration].reported_state if options.integration in states else None,
            "when_inactive": options.when_inactive,
            "acknowledge": options.acknowledge,
            "api_keys": len(options.api_keys),
        }
        for name, options in named
    ]


async def show_form(operator: Operator, name: str) -> dict[str, Any]:
    """One service with every option: its value, where that comes from, and of keys only how many there are."""
    options = _options(operator, name)
    states = await _states(operator)
    through = states.get(options.integration)
    shown = [_option(operator, name, options, field.name) for field in fields(EmailOptions)]
    if options.mailbox is None and through is not None and through.default_mailbox:
        mailbox = next(one for one in shown if one["option"] == "mailbox")
        mailbox |= {"value": through.default_mailbox, "origin": f"integration {options.integration}"}
    return {
        "service": name,
        "path": f"{PLACE}/{name}",
        "named": name in operator.settings.services,
        "reported_state": through.reported_state if through is not None else None,
        "options": shown,
    }


async def form_to_paste(operator: Operator, name: str, endpoint: str) -> dict[str, Any]:
    """The HTML of a form that posts to this service at an endpoint, and the script that tells its answer."""
    return {"html": form_html(name, _options(operator, name), endpoint), "script": FORM_SCRIPT}


def _options(operator: Operator, name: str) -> EmailOptions:
    options = operator.settings.options_of(name)
    if options is None:
        there = ", ".join(operator.settings.services) or "none"
        raise UnknownService(f"there is no service {name!r}; there are: {there}")
    return options


def _option(operator: Operator, service: str, options: EmailOptions, field: str) -> dict[str, Any]:
    origin = operator.settings.origin_of(service, field)
    return {
        "option": field, "value": _shown(field, getattr(options, field)), "origin": origin.where, "file": origin.file,
    }  # fmt: skip


def _shown(field: str, value: Any) -> Any:
    """The value as its file has it; secrets are counted."""
    if field == "api_keys":
        return len(value)
    if isinstance(value, Rate):
        return f"{value.count}/{_UNITS.get(value.seconds, f'{value.seconds:g} seconds')}"
    if field in {"rate_limit", "mailbox_rate"}:
        return False
    return list(value) if isinstance(value, tuple) else value


def _mailbox(options: EmailOptions, states: dict[str, Any]) -> str | None:
    through = states.get(options.integration)
    return options.mailbox or (through.default_mailbox if through is not None else None)


async def _states(operator: Operator) -> dict[str, Any]:
    """The integrations that exist, by name."""
    rows = await operator.store.read(integrations.all_rows)
    return {row.name: row for row in rows if row.intended_state != IntendedState.DELETED}
