"""Every operation by its name, and every refusal that a person can act on."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from mailroom.operating import audit, copying, dead_letters, explaining, figures, forms, integrations, messages, people
from mailroom.operating.audit import BadCursor, BadMoment
from mailroom.operating.explaining import Unexplainable
from mailroom.operating.forms import UnknownService
from mailroom.operating.integrations import NoAnswerYet, NoKey, NoWorker
from mailroom.operating.messages import UnknownKind, UnknownMessage, UnknownStatus
from mailroom.operating.operator import Operator
from mailroom.operating.searchbox import UnclearSearch
from mailroom.settings import BadSettings
from mailroom.store.integrations import NameTaken, NotConfigured, UnknownCredential, UnknownIntegration, WrongVersion
from mailroom.store.messages import NotADeadLetter
from mailroom.store.port import BadRow, CommitUnknown, StoreUnavailable

#: Refusals that a person can act on; each is told as one sentence.
REFUSALS = (
    UnknownIntegration, NameTaken, NotConfigured, UnknownCredential, WrongVersion, BadSettings, NoKey,
    UnknownMessage, UnknownStatus, UnknownKind, UnclearSearch, NotADeadLetter, NoWorker, NoAnswerYet,
    StoreUnavailable, CommitUnknown, BadRow, UnknownService, BadMoment, BadCursor, Unexplainable,
    *copying.REFUSALS, *dead_letters.REFUSALS, *people.REFUSALS,
)  # fmt: skip

#: What can be asked, by the name it has on the socket of `mailroom up`.
OPERATIONS: Mapping[str, Callable[..., Awaitable[Any]]] = MappingProxyType(
    {
        "integrations.list": integrations.list_integrations,
        "integrations.show": integrations.show_integration,
        "integrations.create": integrations.create_integration,
        "integrations.set": integrations.change_integration,
        "integrations.test": integrations.try_integration,
        "integrations.reset": integrations.reset_integration,
        "integrations.preview": integrations.preview_reset,
        "integrations.disable": integrations.disable_integration,
        "integrations.delete": integrations.delete_integration,
        "keys.reseal": integrations.reseal_keys,
        "messages.search": messages.search_messages,
        "messages.show": messages.show_message,
        "messages.redrive": messages.redrive_message,
        "forms.list": forms.list_forms,
        "forms.show": forms.show_form,
        "forms.html": forms.form_to_paste,
        "audit.list": audit.list_audit,
        "explain.message": explaining.explain_message,
        "explain.submission": explaining.explain_submission,
        "figures.show": figures.show_figures,
        "messages.dismiss": messages.dismiss_message,
        "messages.copy": copying.copy_message,
        **dead_letters.OPERATIONS,
        **people.OPERATIONS,
    }
)

#: Those that change nothing and need nobody: they can be asked of a database that no process has open.
LOOKS = (
    people.LOOKS
    | dead_letters.LOOKS
    | {
        "integrations.list",
        "integrations.show",
        "integrations.preview",
        "messages.search",
        "messages.show",
        "figures.show",
        "explain.message",
        "explain.submission",
        "audit.list",
        "forms.list",
        "forms.show",
        "forms.html",
    }
)

#: Those that store passwords: whoever does them must know the key.
SEALS = frozenset({"integrations.create", "integrations.set", "keys.reseal"})


async def perform(operator: Operator, operation: str, args: Mapping[str, Any]) -> Any:
    """Do it; the result is made of what JSON has."""
    return msgspec.to_builtins(await OPERATIONS[operation](operator, **args))
