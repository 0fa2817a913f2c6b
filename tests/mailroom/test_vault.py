"""The vault: SMTP passwords at rest."""

import pytest

from mailroom.vault import CannotDecrypt, Vault, new_key


@pytest.mark.parametrize(
    "key", [new_key(), "correct horse battery staple", "ü", " "], ids=lambda key: f"{len(key)} long"
)
def test_what_is_sealed_can_be_opened(key: str) -> None:
    """Any text is a key, and any text can be sealed."""
    assert Vault([key]).open(Vault([key]).seal("pässword\0")) == "pässword\0"


def test_sec_6_the_seal_hides_the_text() -> None:
    """What is stored shows nothing of the secret, and never twice the same."""
    vault = Vault([new_key()])
    first, second = vault.seal("canary"), vault.seal("canary")

    assert "canary" not in first
    assert first.isascii()
    assert first != second


def test_sec_6_a_new_key_in_front_opens_the_old() -> None:
    """Keys are rotated by putting the new one first."""
    sealed = Vault(["old"]).seal("password")

    assert Vault(["new", "old"]).open(sealed) == "password"


def test_resealing_makes_the_old_key_needless() -> None:
    """After resealing the new key alone is enough."""
    resealed = Vault(["new", "old"]).reseal(Vault(["old"]).seal("password"))

    assert Vault(["new"]).open(resealed) == "password"


@pytest.mark.parametrize("sealed", [Vault(["other"]).seal("password"), "no seal at all", "", "ü"], ids=range(4))
def test_a_foreign_seal_says_what_to_do(sealed: str) -> None:
    """Without the right key nothing is opened, and the error says which setting to correct, and no secret."""
    vault = Vault(["our key"])
    for act in (vault.open, vault.reseal):
        with pytest.raises(CannotDecrypt, match="MAILROOM_SECRET_KEY") as caught:
            act(sealed)
        assert "our key" not in str(caught.value)


def test_sec_6_a_changed_seal_is_refused() -> None:
    """A seal that was tampered with is not opened."""
    vault = Vault(["key"])
    sealed = vault.seal("password")
    changed = sealed[:20] + ("A" if sealed[20] != "A" else "B") + sealed[21:]
    with pytest.raises(CannotDecrypt):
        vault.open(changed)


def test_a_vault_without_keys_is_no_vault() -> None:
    """Nothing can be sealed with nothing."""
    with pytest.raises(ValueError, match="at least one key"):
        Vault([])
