"""Replies real servers give, and what each of them is taken for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.integration import CAUSE_OF
from mailroom.outcome import Blame, Deferred, Rejected, Reply, Sent, Uncertain
from worker.classify import BEFORE_A_MESSAGE, LONGEST_TEXT, Silence, classify, read_reply

D, R = Deferred, Rejected
COMMANDS = ("connect", "TLS", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "dot")

REPLIES = [
    # Gmail
    ("connect", 421, "4.7.0 Try again later, closing connection.", D, Blame.THROTTLE),
    ("AUTH", 535, "5.7.8 Username and Password not accepted. For more information, go to", D, Blame.CREDENTIALS),
    ("AUTH", 534, "5.7.9 Application-specific password required.", D, Blame.CREDENTIALS),
    ("AUTH", 454, "4.7.0 Too many login attempts, please try again later.", D, Blame.THROTTLE),
    ("AUTH", 454, "4.7.0 Cannot authenticate due to temporary system problem.", D, Blame.THROTTLE),
    ("MAIL", 530, "5.7.0 Authentication Required.", D, Blame.CREDENTIALS),
    ("MAIL", 550, "5.4.5 Daily user sending limit exceeded.", D, Blame.THROTTLE),
    ("RCPT", 550, "5.1.1 The email account that you tried to reach does not exist.", R, Blame.RECIPIENT),
    ("RCPT", 450, "4.2.1 The user you are trying to contact is receiving mail at a rate that", D, Blame.THROTTLE),
    ("RCPT", 450, "4.2.1 The user you are trying to contact is receiving mail too quickly.", D, Blame.RECIPIENT),
    ("RCPT", 452, "4.2.2 The email account that you tried to reach is over quota.", D, Blame.RECIPIENT),
    ("RCPT", 552, "5.2.2 The email account that you tried to reach is over quota.", R, Blame.RECIPIENT),
    ("dot", 552, "5.2.3 Your message exceeded Google's message size limits.", R, Blame.MESSAGE),
    ("dot", 552, "5.7.0 This message was blocked because its content presents a potential", R, Blame.MESSAGE),
    ("dot", 550, "5.7.26 Unauthenticated email from company.com is not accepted", R, Blame.US),
    ("dot", 421, "4.7.28 Gmail has detected an unusual rate of unsolicited mail", D, Blame.THROTTLE),
    ("dot", 451, "4.3.0 Mail server temporarily rejected message.", D, Blame.PROVIDER),
    # Microsoft 365
    ("AUTH", 535, "5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled", D, Blame.CREDENTIALS),
    ("AUTH", 535, "5.7.3 Authentication unsuccessful", D, Blame.CREDENTIALS),
    ("MAIL", 530, "5.7.57 Client not authenticated to send mail.", D, Blame.CREDENTIALS),
    ("MAIL", 432, "4.3.2 Concurrent connections limit exceeded.", D, Blame.THROTTLE),
    ("MAIL", 451, "4.7.500 Server busy. Please try again later from [192.0.2.1].", D, Blame.THROTTLE),
    ("RCPT", 550, "5.4.1 Recipient address rejected: Access denied.", R, Blame.RECIPIENT),
    ("RCPT", 550, "5.7.1 RESOLVER.RST.AuthRequired; authentication required", R, Blame.RECIPIENT),
    ("dot", 550, "5.7.60 SMTP; Client does not have permissions to send as this sender", R, Blame.US),
    ("dot", 554, "5.2.252 SendAsDenied; forms@company.com not allowed to send as", R, Blame.US),
    ("dot", 554, "5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException", D, Blame.THROTTLE),
    ("dot", 550, "5.1.8 Access denied, bad outbound sender", R, Blame.US),
    ("dot", 552, "5.3.4 Message size exceeds fixed maximum message size", R, Blame.MESSAGE),
    ("dot", 550, "5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address", R, Blame.RECIPIENT),
    # Amazon SES
    ("AUTH", 535, "Authentication Credentials Invalid", D, Blame.CREDENTIALS),
    ("AUTH", 530, "Must issue a STARTTLS command first", D, Blame.CREDENTIALS),
    ("dot", 454, "Throttling failure: Maximum sending rate exceeded.", D, Blame.THROTTLE),
    ("dot", 454, "Throttling failure: Daily message quota exceeded.", D, Blame.THROTTLE),
    ("dot", 554, "Message rejected: Email address is not verified. The following identities", R, Blame.US),
    ("dot", 552, "Message is too long.", R, Blame.MESSAGE),
    ("dot", 451, "Timeout waiting for data from client.", D, Blame.PROVIDER),
    # Postfix
    ("connect", 554, "5.7.1 Service unavailable; Client host [192.0.2.1] blocked", D, Blame.CONNECTION),
    ("connect", 421, "4.3.2 All server ports are busy", D, Blame.THROTTLE),
    ("connect", 450, "4.3.2 Service currently unavailable", D, Blame.PROVIDER),
    ("EHLO", 504, "5.5.2 <worker>: Helo command rejected: need fully-qualified hostname", D, Blame.CONNECTION),
    ("TLS", 454, "4.7.0 TLS not available due to local problem", D, Blame.THROTTLE),
    ("AUTH", 535, "5.7.8 Error: authentication failed: UGFzc3dvcmQ6", D, Blame.CREDENTIALS),
    ("MAIL", 452, "4.3.1 Insufficient system storage", D, Blame.PROVIDER),
    ("MAIL", 552, "5.3.4 Message size exceeds fixed limit", R, Blame.MESSAGE),
    ("MAIL", 553, "5.7.1 <ceo@company.com>: Sender address rejected: not owned by user forms", R, Blame.US),
    ("RCPT", 550, "5.1.1 <x@company.com>: Recipient address rejected: User unknown", R, Blame.RECIPIENT),
    ("RCPT", 554, "5.7.1 <x@example.com>: Relay access denied", R, Blame.US),
    ("RCPT", 450, "4.1.1 <x@company.com>: Recipient address rejected: unverified address", D, Blame.RECIPIENT),
    ("RCPT", 450, "4.2.0 <x@company.com>: Recipient address rejected: Greylisted", D, Blame.THROTTLE),
    ("RCPT", 451, "4.3.0 <x@company.com>: Temporary lookup failure", D, Blame.PROVIDER),
    ("RCPT", 501, "5.1.3 Bad recipient address syntax", R, Blame.RECIPIENT),
    ("RCPT", 530, "5.7.0 Must issue a STARTTLS command first", D, Blame.CREDENTIALS),
    ("RCPT", 550, "5.1.8 <forms@company.example>: Sender address rejected: Domain not found", R, Blame.US),
    ("DATA", 554, "5.5.1 Error: no valid recipients", R, Blame.MESSAGE),
    ("dot", 554, "5.7.1 Spam message rejected", R, Blame.MESSAGE),
    ("dot", 554, "5.4.0 Error: too many hops", R, Blame.MESSAGE),
    # Exim
    ("connect", 550, "Your host is blacklisted here", D, Blame.CONNECTION),
    ("AUTH", 535, "Incorrect authentication data", D, Blame.CREDENTIALS),
    ("MAIL", 421, "Too many concurrent SMTP connections; please try again later.", D, Blame.THROTTLE),
    ("MAIL", 452, "space shortage, please try later", D, Blame.PROVIDER),
    ("RCPT", 550, "Unrouteable address", R, Blame.RECIPIENT),
    ("RCPT", 550, "relay not permitted", R, Blame.US),
    ("RCPT", 550, "Sender verify failed", R, Blame.US),
    ("RCPT", 451, "Temporary local problem - please try later", D, Blame.PROVIDER),
    ("dot", 550, 'Too many "Received" headers - suspected mail loop', R, Blame.MESSAGE),
    # Sendmail
    ("MAIL", 553, "5.1.8 <forms@nowhere>... Domain of sender address does not exist", R, Blame.US),
    ("RCPT", 550, "5.7.1 <x@example.com>... Relaying denied", R, Blame.US),
    ("RCPT", 550, "5.1.1 <x@company.com>... User unknown", R, Blame.RECIPIENT),
    ("RCPT", 450, "4.7.1 Too many recipients this session", D, Blame.THROTTLE),
    ("dot", 451, "4.6.1 Content conversion not supported just now", D, Blame.MESSAGE),
    ("dot", 554, "5.4.6 Too many hops 27 (25 max)", R, Blame.MESSAGE),
    # Others
    ("AUTH", 432, "4.7.12 A password transition is needed", D, Blame.CREDENTIALS),
    ("AUTH", 500, "command not recognized", D, Blame.CREDENTIALS),
    ("RCPT", 450, "mailbox busy", D, Blame.RECIPIENT),
    ("RCPT", 452, "mailbox full", D, Blame.RECIPIENT),
    ("RCPT", 550, "No such user here", R, Blame.RECIPIENT),
    ("MAIL", 503, "5.5.1 Error: nested MAIL command", R, Blame.US),
    ("MAIL", 503, "AUTH first", D, Blame.CREDENTIALS),
    ("dot", 554, "5.3.0 mailbox does not exist", R, Blame.RECIPIENT),
    ("DATA", 250, "what?", D, Blame.PROVIDER),
    ("connect", 250, "what?", D, Blame.CONNECTION),
]


@pytest.mark.parametrize(("command", "code", "text", "kind", "blame"), REPLIES)
def test_what_servers_say(command: str, code: int, text: str, kind: type[Deferred | Rejected], blame: Blame) -> None:
    """A reply is now or never, and about somebody, as an experienced postmaster would read it."""
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


@given(st.sampled_from(COMMANDS), st.integers(200, 599), st.text(max_size=80))
def test_only_what_is_about_the_account_can_trip_the_integration(command: str, code: int, text: str) -> None:
    """No words of a server about a message or its recipient take the integration out of service."""
    outcome = classify(read_reply(command, code, text))

    if isinstance(outcome, Deferred | Rejected) and outcome.blame in CAUSE_OF:
        assert isinstance(outcome, Deferred)
        assert command in BEFORE_A_MESSAGE or (command in {"MAIL", "RCPT"} and 500 <= code <= 599)


@given(st.sampled_from(["RCPT", "DATA", "dot"]), st.integers(400, 599).filter(lambda code: code != 530), st.text())
def test_no_recipient_can_trip_the_integration(command: str, code: int, text: str) -> None:
    """After MAIL was accepted only 530 still speaks about our login; a recipient's server may say what it likes."""
    outcome = classify(read_reply(command, code, f"authentication required {text}"))

    assert not (isinstance(outcome, Deferred) and outcome.blame in CAUSE_OF)


@given(st.text(st.characters(codec=None)))
def test_reply_text_is_one_short_printable_line(text: str) -> None:
    """Whatever a server says fits into one line of a log (SND-12)."""
    kept = read_reply("RCPT", 550, text).text

    assert len(kept) <= LONGEST_TEXT
    assert kept.isprintable()


def test_control_characters_are_shown_escaped() -> None:
    """A terminal that shows the reply is not steered by it."""
    assert read_reply("RCPT", 550, "5.1.1 a\x1b[2Jb\udcff").text == "5.1.1 a\\x1b[2Jb\\udcff"


def test_the_enhanced_code_of_a_long_reply_is_kept_once() -> None:
    """Every line of a reply repeats its enhanced code; a person reads it once."""
    reply = read_reply("RCPT", 550, "5.1.1 The account\n5.1.1 does not exist")

    assert (reply.enhanced, reply.text) == ("5.1.1", "5.1.1 The account does not exist")
