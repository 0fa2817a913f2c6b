"""What real servers say, row by row, and what no reply of any server can ever do."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailroom.integration import CAUSE_OF
from mailroom.outcome import Blame, Deferred, Rejected, Sent, Uncertain
from worker.classify import BEFORE_A_MESSAGE, classify, read_reply

COMMANDS = ("connect", "TLS", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "dot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One reply of `real_replies.toml`; `text` has its lines without their codes, as the SMTP library hands them on."""

    provider: str
    source: str
    command: str
    code: int
    text: str
    means: str

    @property
    def name(self) -> str:
        return f"{self.provider} at {self.command}: {self.code} {self.text.partition(chr(10))[0][:40]}"


def rows() -> Iterator[Row]:
    document = tomllib.loads(Path(__file__).with_name("real_replies.toml").read_text())
    for source in document["source"]:
        for command, says, means in source["replies"]:
            lines = says.splitlines()
            yield Row(
                provider=source["provider"],
                source=f"{source['title']}, {source['url']}",
                command=command,
                code=int(lines[0][:3]),
                text="\n".join(line[4:] for line in lines),
                means=means,
            )


ROWS = tuple(rows())
DOCUMENT = Path(__file__).parents[2] / "docs" / "blame.md"


def meaning(outcome: Sent | Deferred | Rejected | Uncertain) -> str:
    """As the table puts it: the outcome, and the blame where there is one."""
    kind = type(outcome).__name__.lower()
    return f"{kind} {outcome.blame}" if isinstance(outcome, Deferred | Rejected) else kind


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_real_servers_say(row: Row) -> None:
    """A reply is now or never, and about somebody, as an experienced postmaster would read it."""
    assert meaning(classify(read_reply(row.command, row.code, row.text))) == row.means


def test_the_table_is_of_many_servers_and_names_its_sources() -> None:
    """At least 120 replies of at least 12 kinds of server, all different, each with the place where it can be read."""
    assert len({(row.provider, row.command, row.code, row.text) for row in ROWS}) == len(ROWS) >= 120
    assert len({row.provider for row in ROWS}) >= 12
    assert all(row.source and "http" in row.source for row in ROWS)
    assert {row.command for row in ROWS} == set(COMMANDS)


def test_a_reply_in_the_table_is_a_reply() -> None:
    """Every line of a long reply has the same code (RFC 5321 section 4.2.1); a slip in the table is found."""
    document: dict[str, Any] = tomllib.loads(Path(__file__).with_name("real_replies.toml").read_text())
    for source in document["source"]:
        for _command, says, _means in source["replies"]:
            lines = says.splitlines()
            assert {line[:3] for line in lines} == {lines[0][:3]}
            assert all(line[3] == "-" for line in lines[:-1])


def test_the_examples_of_the_document_are_rows_of_the_table() -> None:
    """What operators are told a reply comes to is what the table says of that reply."""
    examples = re.findall(r"^\| (.+?) \| (.+?) \| `(\d{3})[ -](.+)` \| (.+?) \|$", DOCUMENT.read_text(), re.MULTILINE)

    assert len(examples) >= 12
    for provider, command, code, says, means in examples:
        assert any(
            (row.provider, row.command, row.code, row.means) == (provider, command, int(code), means)
            and row.text.startswith(says)
            for row in ROWS
        ), says


#: Words as servers use them, whole or cut anywhere and put together anew, with noise between.
pieces = st.builds(
    lambda text, start, length: text[start : start + length],
    st.sampled_from([row.text for row in ROWS]),
    st.integers(0, 40),
    st.integers(1, 400),
)
words = st.lists(st.sampled_from([row.text for row in ROWS]) | pieces | st.text(max_size=20), max_size=4).map(" ".join)
enhanced = st.builds("{}.{}.{} ".format, st.sampled_from([2, 4, 5]), st.integers(0, 9), st.integers(0, 999))
texts = st.builds("{}{}".format, enhanced | st.just(""), words)
codes = st.integers(200, 599) | st.sampled_from(sorted({row.code for row in ROWS}))
commands = st.sampled_from(COMMANDS)


def blame_of(command: str, code: int, text: str) -> Blame | None:
    outcome = classify(read_reply(command, code, text))
    return outcome.blame if isinstance(outcome, Deferred | Rejected) else None


@given(commands, codes, texts)
def test_only_what_is_about_the_account_can_change_a_state(command: str, code: int, text: str) -> None:
    """A blame that sets ERROR is deferred, so that no mail is lost to it, and comes before any message was begun."""
    outcome = classify(read_reply(command, code, text))

    if isinstance(outcome, Deferred | Rejected) and outcome.blame in CAUSE_OF:
        assert isinstance(outcome, Deferred)
        assert command in BEFORE_A_MESSAGE or (command == "MAIL" and 500 <= code <= 599)


@pytest.mark.parametrize("blame", [Blame.RECIPIENT, Blame.MESSAGE, Blame.THROTTLE, Blame.PROVIDER, Blame.US])
def test_what_is_nobodys_login_has_no_cause(blame: Blame) -> None:
    """No reply blamed on the recipient, the message, our pace, the provider's trouble or us ever changes a state."""
    assert blame not in CAUSE_OF


@given(st.sampled_from(["RCPT", "DATA", "dot"]), codes, texts)
@example("RCPT", 530, "5.7.0 Authentication required")
@example("dot", 535, "5.7.8 Username and Password not accepted")
def test_nothing_said_after_mail_was_accepted_changes_a_state(command: str, code: int, text: str) -> None:
    """Behind a relay it may be a recipient's server that speaks, and it may say what it likes."""
    assert blame_of(command, code, text) not in CAUSE_OF


@given(commands, st.sampled_from([421, 454]), texts)
@example("MAIL", 421, "Authentication required")
def test_421_and_454_never_change_a_state(command: str, code: int, text: str) -> None:
    """They ask for a pause, at whatever command and in whatever words."""
    assert blame_of(command, code, text) is Blame.THROTTLE


@given(commands, st.integers(400, 599), st.integers(0, 999), words)
@example("AUTH", 432, 12, "A password transition is needed")
@example("MAIL", 530, 0, "Authentication required")
@example("AUTH", 535, 8, "Username and Password not accepted")
def test_4_7_x_never_changes_a_state(command: str, code: int, detail: int, text: str) -> None:
    """Security status of the passing kind (RFC 3463) asks for a pause too, beside any code, and has no exception."""
    assert blame_of(command, code, f"4.7.{detail} {text}") is Blame.THROTTLE


@given(commands, st.integers(400, 499), texts)
def test_4yz_is_never_final_and_never_about_the_login(command: str, code: int, text: str) -> None:
    """Not now means not now: the message waits, and the integration stays as it is."""
    outcome = classify(read_reply(command, code, text))

    assert isinstance(outcome, Deferred)
    assert outcome.blame not in CAUSE_OF


@given(st.sampled_from(sorted(BEFORE_A_MESSAGE)), st.integers(400, 599), texts)
def test_before_a_message_nothing_is_about_one(command: str, code: int, text: str) -> None:
    """What fails before MAIL fails for every message, so it is final for none and costs none an attempt."""
    outcome = classify(read_reply(command, code, text))

    assert isinstance(outcome, Deferred)
    assert outcome.blame in {Blame.THROTTLE, Blame.PROVIDER, Blame.CREDENTIALS, Blame.CONNECTION}


@given(commands, st.integers(200, 399), texts)
def test_only_2yz_to_the_dot_is_sent(command: str, code: int, text: str) -> None:
    """No words make a message sent that the server has not taken, nor unsent one that it has."""
    sent = isinstance(classify(read_reply(command, code, text)), Sent)

    assert sent == (command == "dot" and code < 300)
