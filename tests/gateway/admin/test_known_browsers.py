"""Browsers that are known by what they show: to the name that signed in there, and to no other."""

from collections.abc import Callable

import pytest

from gateway.admin.known_browsers import introduced, recognised

KEYS = ("a key", "an older key")


def test_a_browser_is_known_to_the_name_that_signed_in_there() -> None:
    """Each introduction is a browser of its own, known as long as its key is one of ours."""
    first, second = introduced(KEYS, "jane"), introduced(KEYS, "jane")
    number = recognised(KEYS, "jane", first)

    assert number is not None
    assert number != recognised(KEYS, "jane", second)
    assert recognised(("a newer key", *KEYS), "jane", first) == number
    assert recognised(("an older key",), "jane", first) is None
    assert recognised(KEYS, "joe", first) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda _: "",
        lambda _: ".",
        lambda shown: shown.partition(".")[0],
        lambda shown: "0" + shown[1:] if shown[0] != "0" else "1" + shown[1:],
        lambda shown: shown[:-1] + ("0" if shown[-1] != "0" else "1"),
        lambda shown: shown + "0",
        lambda shown: " " + shown,
        lambda shown: shown + "\ud800",
        lambda shown: shown.replace(".", " jane."),
        lambda shown: shown.replace(".", ".."),
    ],
    ids=["nothing", "dot", "unsigned", "number", "signature", "longer", "blank", "surrogate", "name", "dots"],
)  # fmt: skip
def test_nothing_else_is_known(change: Callable[[str], str]) -> None:
    """What we did not sign just so is no browser that anybody knows."""
    assert recognised(KEYS, "jane", change(introduced(KEYS, "jane"))) is None


def test_a_number_and_a_name_cannot_be_taken_apart_differently() -> None:
    """What was signed for one name cannot be shown for a part of it."""
    number, _, signature = introduced(KEYS, "jane doe").partition(".")

    assert recognised(KEYS, "doe", f"{number} jane.{signature}") is None
