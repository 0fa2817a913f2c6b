"""Silences, odd replies, and how a reply is kept; what real servers say is in test_real_replies.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.outcome import Blame, Deferred, Rejected, Reply, Sent, Uncertain
from worker.classify import LONGEST_TEXT, Silence, classify, read_reply


@pytest.mark.parametrize(
    ("command", "code", "text", "kind", "blame"),
    [
        ("AUTH", 500, "command not recognized", Deferred, Blame.CREDENTIALS),
        ("MAIL", 503, "AUTH first", Deferred, Blame.CREDENTIALS),
        ("RCPT", 450, "mailbox busy", Deferred, Blame.RECIPIENT),
        ("RCPT", 503, "5.5.1 Need MAIL first", Rejected, Blame.US),
        ("RCPT", 550, "5.7.1 You are not allowed to send to this group", Rejected, Blame.RECIPIENT),
        ("dot", 451, "4.6.1 Content conversion not supported just now", Deferred, Blame.MESSAGE),
        ("dot", 554, "5.3.0 mailbox does not exist", Rejected, Blame.RECIPIENT),
        ("dot", 554, "5.7.1 mailbox does not exist says our spam filter", Rejected, Blame.MESSAGE),
        ("DATA", 250, "what?", Deferred, Blame.PROVIDER),
        ("connect", 250, "what?", Deferred, Blame.CONNECTION),
    ],
)
def test_odd_replies(command: str, code: int, text: str, kind: type[Deferred | Rejected], blame: Blame) -> None:
    """What no server of the table says is judged by the same rules."""
    outcome = classify(read_reply(command, code, text))

    assert isinstance(outcome, kind)
    assert outcome.blame is blame


@pytest.mark.parametrize(
    ("command", "silence", "expected"),
    [
        ("connect", Silence.UNRESOLVED, Blame.HOST),
        ("connect", Silence.TIMED_OUT, Blame.TIMEOUT),
        ("connect", Silence.LOST, Blame.CONNECTION),
        ("TLS", Silence.TIMED_OUT, Blame.TIMEOUT),
        ("EHLO", Silence.LOST, Blame.CONNECTION),
        ("AUTH", Silence.LOST, Blame.CONNECTION),
        ("MAIL", Silence.LOST, Blame.PROVIDER),
        ("RCPT", Silence.TIMED_OUT, Blame.PROVIDER),
        ("DATA", Silence.TIMED_OUT, Blame.PROVIDER),
    ],
)
def test_silence_before_the_dot(command: str, silence: Silence, expected: Blame) -> None:
    """Silence before the first message is about the host or the line; inside a transaction it is the provider's."""
    reply = Reply(command, None, "")

    assert classify(reply, silence) == Deferred(reply, expected)


@pytest.mark.parametrize("silence", Silence)
def test_silence_after_the_dot_is_uncertain(silence: Silence) -> None:
    """When the answer to the final dot is lost the server may have the message."""
    reply = Reply("dot", None, "")

    assert classify(reply, silence) == Uncertain(reply)


@pytest.mark.parametrize("code", [250, 251, 200])
def test_a_positive_answer_to_the_dot_is_sent(code: int) -> None:
    """The server took responsibility."""
    reply = read_reply("dot", code, "2.0.0 queued as 4711")

    assert classify(reply) == Sent(reply)


def test_a_strange_answer_to_the_dot_is_uncertain() -> None:
    """354 after the dot tells nobody whether the message was taken."""
    reply = read_reply("dot", 354, "go on")

    assert classify(reply) == Uncertain(reply)


@given(st.text(st.characters(codec=None)))
def test_snd_12_reply_text_is_one_short_printable_line(text: str) -> None:
    """Whatever a server says fits into one line of a log (SND-12)."""
    kept = read_reply("RCPT", 550, text).text

    assert len(kept) <= LONGEST_TEXT
    assert kept.isprintable()


def test_snd_12_control_characters_are_shown_escaped() -> None:
    """A terminal that shows the reply is not steered by it."""
    assert read_reply("RCPT", 550, "5.1.1 a\x1b[2Jb\udcff").text == "5.1.1 a\\x1b[2Jb\\udcff"


def test_the_enhanced_code_of_a_long_reply_is_kept_once() -> None:
    """Every line of a reply repeats its enhanced code; a person reads it once."""
    reply = read_reply("RCPT", 550, "5.1.1 The account\n5.1.1 does not exist")

    assert (reply.enhanced, reply.text) == ("5.1.1", "5.1.1 The account does not exist")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5.1.1 no such user", "5.1.1"),
        ("4.7.0: insufficient reputation", "4.7.0"),
        ("5.7.26", "5.7.26"),
        ("#5.1.0 Address rejected.", "5.1.0"),
        ("sorry, no mailbox here by that name. (#5.1.1)", "5.1.1"),
        ("192.0.2.1 is not welcome", None),
        ("5.1.1no blank", None),
        ("2.1.5beta says no", None),
        ("see chapter 5.1.1", None),
    ],
)
def test_the_enhanced_code_is_found_where_servers_put_it(text: str, expected: str | None) -> None:
    """At the beginning (RFC 2034), after a mark, or in brackets at the end; an address or a version is none."""
    assert read_reply("RCPT", 550, text).enhanced == expected
