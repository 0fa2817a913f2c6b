"""Roles and what they may do."""

import pytest

from mailroom.roles import PERMISSIONS_OF, Permission, Role, may


def test_every_role_is_in_the_table() -> None:
    """A role without a row could not be judged."""
    assert set(PERMISSIONS_OF) == set(Role)


@pytest.mark.parametrize("permission", Permission)
def test_an_admin_may_everything(permission: Permission) -> None:
    """There is no permission that nobody has."""
    assert may(Role.ADMIN, permission)


@pytest.mark.parametrize(
    ("role", "permission", "allowed"),
    [
        (Role.VIEWER, Permission.INTEGRATION_VIEW, True),
        (Role.VIEWER, Permission.INTEGRATION_EDIT, False),
        (Role.VIEWER, Permission.AGENTLESS_SEND, False),
        (Role.SENDER, Permission.AGENTLESS_SEND, True),
        (Role.SENDER, Permission.CONVERSATION_SEND, False),
        (Role.AGENT, Permission.CONVERSATION_SEND, True),
        (Role.AGENT, Permission.INTEGRATION_VIEW, False),
    ],
)
def test_who_may_what(role: Role, permission: Permission, *, allowed: bool) -> None:
    """Who looks does not change, who sends does not look, and nobody sends for an agent."""
    assert may(role, permission) is allowed
