"""Threads: subjects with one mark, and the headers that name what a letter answers."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.threads import forward_subject, message_id_of, reply_subject, thread_headers

#: Ordinary words, and what marks are made of.
subjects = st.lists(
    st.sampled_from(["Re", "AW", "Fwd", "[2]", "(3)", "^4", ":", "\uff1a", " ", "\u00a0", "\n", "x"])
    | st.text(max_size=3)
).map("".join)


def ids(count: int) -> list[str]:
    return [f"<{number}@company.com>" for number in range(count)]


@pytest.mark.parametrize(
    ("subject", "reply"),
    [
        ("Your order", "Re: Your order"),
        ("", "Re:"),
        ("   ", "Re:"),
        ("Re: Your order", "Re: Your order"),
        ("RE: Your order", "RE: Your order"),
        ("re:Your order", "re: Your order"),
        ("Re[2]: Your order", "Re[2]: Your order"),
        ("Re(3): Your order", "Re(3): Your order"),
        ("Re^4: Your order", "Re^4: Your order"),
        ("AW: Ihre Bestellung", "AW: Ihre Bestellung"),
        ("SV: Din ordre", "SV: Din ordre"),
        ("Antw: Uw bestelling", "Antw: Uw bestelling"),
        ("Antwort: Ihre Bestellung", "Antwort: Ihre Bestellung"),
        ("Re\u00a0: Votre commande", "Re\u00a0: Votre commande"),
        ("回复\uff1a您的订单", "回复\uff1a 您的订单"),
        ("Re: AW: RE: re[3]: Your order", "Re: Your order"),
        ("Re:", "Re:"),
        ("Re: Re:", "Re:"),
        ("Fwd: Your order", "Re: Fwd: Your order"),
        ("Re: Fwd: Your order", "Re: Fwd: Your order"),
        ("Your order re: shoes", "Re: Your order re: shoes"),
        ("Regarding: shoes", "Re: Regarding: shoes"),
        ("Re-election", "Re: Re-election"),
        ("Re", "Re: Re"),
        ("Reply to Re:", "Re: Reply to Re:"),
    ],
)
def test_a_reply_says_so_once(subject: str, reply: str) -> None:
    """A reply has one mark, and one that is there already stays, in whatever language and case it is."""
    assert reply_subject(subject) == reply


@pytest.mark.parametrize(
    ("subject", "forward"),
    [
        ("Your order", "Fwd: Your order"),
        ("", "Fwd:"),
        ("Fwd: Your order", "Fwd: Your order"),
        ("FW: Your order", "FW: Your order"),
        ("WG: Ihre Bestellung", "WG: Ihre Bestellung"),
        ("TR : Votre commande", "TR : Votre commande"),
        ("Fwd: FW: wg: Your order", "Fwd: Your order"),
        ("Re: Your order", "Fwd: Re: Your order"),
        ("Forwarding: a guide", "Fwd: Forwarding: a guide"),
    ],
)
def test_a_forwarded_letter_says_so_once(subject: str, forward: str) -> None:
    """A forwarded letter has one mark, and one that is there already stays."""
    assert forward_subject(subject) == forward


@given(subject=subjects)
def test_answering_an_answer_changes_no_subject(subject: str) -> None:
    """However often a letter goes back and forth, its subject grows once."""
    for marked in (reply_subject, forward_subject):
        assert marked(marked(subject)) == marked(subject)


@pytest.mark.parametrize(
    ("earlier", "chain"),
    [
        (ids(1), ids(1)),
        (ids(2), ids(2)),
        (ids(21), ids(21)),
        (ids(22), ["<0@company.com>", *ids(22)[2:]]),
        (ids(500), ["<0@company.com>", *ids(500)[480:]]),
    ],
)
def test_an_answer_names_the_last_letter_and_the_chain(earlier: list[str], chain: list[str]) -> None:
    """In-Reply-To is the last letter; References are the first one and the last 20, oldest first."""
    assert thread_headers(earlier) == (("In-Reply-To", earlier[-1]), ("References", " ".join(chain)))


def test_a_first_letter_answers_nothing() -> None:
    """Without earlier letters there is no header."""
    assert thread_headers(()) == ()


def test_a_message_id_has_the_domain_of_its_sender() -> None:
    """Only the last @ of an address is followed by its domain."""
    letter = UUID("01890000-0000-7000-8000-000000000001")

    assert message_id_of(letter, "jane@company.com") == "<01890000-0000-7000-8000-000000000001@company.com>"
