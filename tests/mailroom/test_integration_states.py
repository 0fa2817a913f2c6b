"""Integrations: what is shown of them."""

from mailroom.integration import Account, ReportedState, Security, ways_from


def test_an_account_never_shows_its_password() -> None:
    """An account in a log or an error says where and as whom, and no more."""
    account = Account(host="smtp.test", port=587, security=Security.STARTTLS, username="forms", password="canary")

    assert repr(account) == "Account(forms at smtp.test:587, starttls)"
    assert "canary" not in f"{account} {account!r}"


def test_an_account_without_a_name_is_anonymous() -> None:
    """An account that does not log in says so."""
    assert "anonymous" in repr(Account(host="smtp.test", port=25, security=Security.NONE))


def test_every_state_can_become_active() -> None:
    """No integration is lost for ever: from every state a way leads to ACTIVE."""
    for state in ReportedState:
        reached = {state}
        for _ in ReportedState:
            reached |= {target for source in reached for target in ways_from(source)}

        assert ReportedState.ACTIVE in reached
