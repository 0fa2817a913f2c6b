"""What failures have in common: the words of a server without what differs from message to message."""

import re
import tomllib
from pathlib import Path

import pytest

from mailroom.fingerprint import LONGEST, WITHOUT_WORDS, cause_of, in_common

REPLIES = tomllib.loads((Path(__file__).parents[1] / "worker" / "real_replies.toml").read_text())["source"]


def line(command: str, says: str) -> str:
    """A reply as an attempt has it."""
    lines = says.splitlines()
    return f"{command}: {lines[0][:3]} {' '.join(part[4:] for part in lines)}"


FAILURES = tuple(
    line(command, says) for source in REPLIES for command, says, means in source["replies"] if means != "sent"
)
#: What one reply is to the next message: another recipient, machine, time and id. Enhanced codes stay what they are.
OTHERWISE = (
    (re.compile(r"[\w.+-]+@[\w.-]*\w"), "other.person+tag@mail.elsewhere.test"),
    (re.compile(r"\b192\.0\.2\.\d+|\b203\.0\.113\.\d+"), "198.51.100.77"),
    (re.compile(r"[A-Z0-9]+(?:\.[A-Za-z0-9]+)*\.(?:prod\.outlook\.com|PROD\.OUTLOOK\.COM)"), "XY1PR22MB3333.xyz.outlook.com"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "2031-12-31T23:59:59.999Z"),
    (re.compile(r"(?<=\s)[a-z0-9-]{10,}\.\d+(?= - gsmtp)"), "zz9-20020a170902sm1plb.7"),
)  # fmt: skip


@pytest.mark.parametrize("reply", FAILURES)
def test_the_next_message_fails_for_the_same_cause(reply: str) -> None:
    """A real reply says the same about another recipient, from another machine, at another time, by another id."""
    other = reply
    for pattern, by in OTHERWISE:
        other = pattern.sub(by, other)

    assert cause_of("rejected.recipient", other) == cause_of("rejected.recipient", reply)


@pytest.mark.parametrize("reply", FAILURES)
def test_what_is_left_is_nobodys(reply: str) -> None:
    """No address is in what is kept, and words that are in common already stay as they are."""
    said = cause_of("rejected.us", reply).said

    assert said is not None
    assert "@" not in said
    assert in_common(said) == said


def test_different_causes_stay_apart() -> None:
    """Nearly every two replies of the table that an expert would tell apart are told apart."""
    causes = {cause_of("rejected.us", reply).fingerprint for reply in FAILURES}

    assert len(causes) > 0.97 * len(set(FAILURES))


@pytest.mark.parametrize(
    ("words", "common"),
    [
        ("5.1.1 <jane@customer.test>: no such user", "5.1.1 (address): no such user"),
        ("5.1.1 jane... User unknown", "5.1.1 (address)... User unknown"),
        ("jane... User unknown", "(address)... User unknown"),
        ("No such user jane", "No such user (address)"),
        ("No such user here", "No such user here"),
        ("unknown user: jane", "unknown user: (address)"),
        ("450 4.2.0 try again in 00:04:59", "# 4.2.0 try again in #"),
        ("rejected by 2001:db8::25 on 2026-01-06 at 12:34:56", "rejected by # on # at #"),
        ("see https://help.test/x?id=4711&u=jane for more", "see (url) for more"),
        ("mx7.customer.test says no to MX8.CUSTOMER.TEST", "(host) says no to #"),
        ("STOREDRV.Submission.Exception:SendAsDenied", "STOREDRV.Submission.Exception:SendAsDenied"),
        ('The file "report of jane.exe" isn\'t allowed, it\'s a program', "The file (quoted) isn't allowed, it's a program"),
        ("refused 'jane doe', sorry", "refused (quoted), sorry"),
        ("queued as Deadbeef, then dropped", "queued as # then dropped"),
        ("id BCDFGHJKLM is on hold", "id # is on hold"),
        ("1.2.3.4, 5.6.7.8 and 9 others", "# and # others"),
        ("the message has 1234567 bytes on the wire, the server takes at most 1000000",
         "the message has # bytes on the wire, the server takes at most #"),
        ("   spaced \n  out  ", "spaced out"),
        ("", ""),
    ],
)  # fmt: skip
def test_what_differs_is_replaced(words: str, common: str) -> None:
    """Numbers, ids, addresses, hosts, quotations and moments make room for a placeholder; the rest stays."""
    assert in_common(words) == common


@pytest.mark.parametrize("reason", sorted(WITHOUT_WORDS))
def test_some_reasons_say_it_all(reason: str) -> None:
    """What no server spoke about is one cause, whatever was last heard."""
    assert cause_of(reason, "RCPT: 450 4.2.0 greylisted") == cause_of(reason, None)
    assert cause_of(reason, None).said is None


def test_reason_command_and_code_tell_causes_apart() -> None:
    """The same words to another command, with another code or for another reason are another cause."""
    replies = ("RCPT: 550 no", "MAIL: 550 no", "RCPT: 551 no", "RCPT: no")
    causes = [cause_of("rejected.us", reply) for reply in replies]

    assert len({cause.fingerprint for cause in (*causes, cause_of("rejected.recipient", replies[0]))}) == 5
    assert [(cause.command, cause.code, cause.said) for cause in causes] == [
        ("RCPT", 550, "no"), ("MAIL", 550, "no"), ("RCPT", 551, "no"), ("RCPT", None, "no"),
    ]  # fmt: skip


def test_case_is_no_difference() -> None:
    """Servers of one provider that shout and that do not mean the same."""
    assert cause_of("x", "RCPT: 550 NO SUCH").fingerprint == cause_of("x", "RCPT: 550 no such").fingerprint


def test_a_fingerprint_is_short_and_the_words_are_bounded() -> None:
    """32 hexadecimal digits, and no more words than are read; however long the reply, it takes no time to speak of."""
    cause = cause_of("rejected.us", f"dot: 554 {'words and a-b.c_d ' * 100}{'x.' * 5000}{'<' * 5000}{'a@' * 5000}")

    assert re.fullmatch(r"[0-9a-f]{32}", cause.fingerprint)
    assert cause.said is not None
    assert len(cause.said) <= LONGEST
