"""Roles: what a client of the platform API, or a person, may do. One table; the API's permissions have the vendor's names."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Role(StrEnum):
    """What somebody is here for."""

    ADMIN = "admin"
    OPERATOR = "operator"
    AGENT = "agent"
    SENDER = "sender"
    VIEWER = "viewer"


class Permission(StrEnum):
    """What an endpoint, or a page, can ask of its caller."""

    INTEGRATION_VIEW = "integrations:integration:view"
    INTEGRATION_ADD = "integrations:integration:add"
    INTEGRATION_EDIT = "integrations:integration:edit"
    INTEGRATION_DELETE = "integrations:integration:delete"
    ROUTING_VIEW = "routing:email:view"
    ROUTING_MANAGE = "routing:email:manage"
    CONVERSATION_VIEW = "conversation:email:view"
    CONVERSATION_CREATE = "conversation:email:create"
    CONVERSATION_SEND = "conversation:email:send"
    AGENTLESS_SEND = "conversation:agentlessEmail:send"
    # Those of the pages are ours.
    PAGES_VIEW = "mailroom:pages:view"
    MESSAGES_VIEW = "mailroom:messages:view"
    MESSAGES_REDRIVE = "mailroom:messages:redrive"
    INTEGRATION_OPERATE = "mailroom:integration:operate"
    AUDIT_VIEW = "mailroom:audit:view"
    PEOPLE_MANAGE = "mailroom:people:manage"
    MAILBOX_USE = "mailroom:mailbox:use"


_LOOKS = frozenset(
    {
        Permission.INTEGRATION_VIEW,
        Permission.ROUTING_VIEW,
        Permission.CONVERSATION_VIEW,
        Permission.PAGES_VIEW,
        Permission.MESSAGES_VIEW,
        Permission.AUDIT_VIEW,
    }
)

#: Somebody without a role here may do nothing; who answers customers, or only notifies, does not see the accounts.
PERMISSIONS_OF: Mapping[Role, frozenset[Permission]] = MappingProxyType(
    {
        Role.ADMIN: frozenset(Permission),
        Role.OPERATOR: _LOOKS
        | {
            Permission.INTEGRATION_OPERATE,
            Permission.MESSAGES_REDRIVE,
            Permission.MAILBOX_USE,
        },
        Role.AGENT: frozenset(
            {
                Permission.MESSAGES_VIEW,
                Permission.CONVERSATION_VIEW,
                Permission.CONVERSATION_CREATE,
                Permission.CONVERSATION_SEND,
                Permission.AGENTLESS_SEND,
            }
        ),
        Role.SENDER: frozenset({Permission.AGENTLESS_SEND}),
        Role.VIEWER: _LOOKS,
    }
)


def may(role: Role, permission: Permission) -> bool:
    """Whether a role has a permission."""
    return permission in PERMISSIONS_OF[role]
