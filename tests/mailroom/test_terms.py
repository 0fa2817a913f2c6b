"""The terms a message is found by."""

from dataclasses import dataclass
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom import terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The columns of a message that it is found by."""

    kind: str = "form"
    service: str | None = None
    integration_id: UUID | None = None
    recipient: str | None = None
    sender: str | None = None
    subject: str | None = None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", set()),
        ("!?! - _", set()),
        ("Your order No. 4711-b", {"your", "order", "no", "4711", "b"}),
        ("snake_case", {"snake", "case"}),
        ("Straße GRÖSSE größe", {"strasse", "grösse"}),
        ("e\u0301te\u0301", {"été"}),
        ("\uff2f\uff52\uff44\uff45\uff52 \uff11\uff12", {"order", "12"}),
        ("\u212aelvin \ufb01ne", {"kelvin", "fine"}),
        ("\u0416\u0443\u043a \u0436", {"\u0436\u0443\u043a", "\u0436"}),
        ("주문 확인", {"주문", "확인"}),
        ("注文", {"注", "文", "注文"}),
        ("注文No7の", {"注", "文", "注文", "no7", "の"}),
        ("ﾊﾞｽ停", {"バ", "ス", "停", "バス", "ス停"}),
        ("\u0e2a\u0e31", {"\u0e2a", "\u0e31", "\u0e2a\u0e31"}),
        ("\U00020000", {"\U00020000"}),
    ],
)
def test_a_text_has_these_words(text: str, found: set[str]) -> None:
    """Words are told apart by what is no letter and no digit, whatever their case and width; without spaces, pairs are."""
    assert terms.words(text) == found


@given(st.lists(st.text()))
def test_texts_together_have_the_words_of_each(texts: list[str]) -> None:
    """Many subjects can be cut as one text."""
    assert terms.words("\n".join(texts)) == frozenset[str]().union(*map(terms.words, texts))


@given(st.text())
def test_case_does_not_matter(text: str) -> None:
    """A text that is folded already has the same words."""
    assert terms.words(text.casefold()) == terms.words(text)


@given(st.text())
def test_words_are_words(text: str) -> None:
    """What was found as a word is found again by that word."""
    assert all(word in terms.words(word) for word in terms.words(text))


@pytest.mark.parametrize(
    ("text", "address", "domain"),
    [
        ("Jane@Customer.TEST ", "jane@customer.test", "@customer.test"),
        ('"a@b"@c.test', '"a@b"@c.test', "@c.test"),
        ("nobody", "nobody", ""),
        ("", "", ""),
        ("x@", "x@", ""),
        ("É@ÜBER.test", "é@über.test", "@über.test"),
    ],
)
def test_addresses_are_folded(text: str, address: str, domain: str) -> None:
    """An address and its domain are the same in any case; a text without a domain has none."""
    assert (terms.address(text), terms.domain(text)) == (address, domain)


def test_messages_have_all_their_terms() -> None:
    """Kind, service, integration, both addresses with their domains, and the words of the subject, each once."""
    one = UUID(int=1)
    rows = [
        Row(service="billing", integration_id=one, recipient="A@x.test", sender="b@y.test", subject="Two words"),
        Row(kind="acd", sender="a@x.test", subject="Words"),
        Row(),
    ]

    assert terms.of_all(rows) == {
        "kind:form", "kind:acd", "service:billing", f"integration:{one.hex}", "a@x.test", "@x.test", "b@y.test",
        "@y.test", "two", "words",
    }  # fmt: skip


def test_numbers_are_the_same_for_ever() -> None:
    """The index outlives processes and versions: the number of a term never changes, and two terms may share one."""
    assert terms.numbers(["@x.test"]) == [-1176758818 % terms.NUMBERS]
    assert terms.numbers(["b", "a", "b", "\ud800"]) == sorted(
        {*terms.numbers(["a"]), *terms.numbers(["b"]), *terms.numbers(["?"])}
    )
    assert all(0 <= number < terms.NUMBERS for number in terms.numbers(map(str, range(1000))))
