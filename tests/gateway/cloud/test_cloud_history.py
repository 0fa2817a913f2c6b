"""The letters before a reply, quoted below it."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cloud.history import MOST_CHARACTERS, MOST_LETTERS, REST_LEFT_OUT, Earlier, quoted_html, quoted_text
from mailroom.message import Correspondent

NOON = datetime(2026, 1, 6, 12, tzinfo=UTC)
ELSEWHERE = datetime(2026, 1, 6, 1, tzinfo=timezone(timedelta(hours=2)))
JANE = Correspondent("jane@x.example", "Jane")
DESK = Correspondent("desk@y.example")

FIRST = Earlier(NOON, JANE, "Where is my order?\n\nJane\n")
SECOND = Earlier(NOON + timedelta(hours=1), DESK, "Which one?\n")
THIRD = Earlier(
    NOON + timedelta(days=1, hours=2, minutes=5),
    JANE,
    "The blue one.\n\nOn Tuesday, 6 January 2026 at 13:00 UTC, desk@y.example wrote:\n"
    "> Which one?\n>\n> > Where is my order?\n",
)

JANE_WROTE = "On Tuesday, 6 January 2026 at 12:00 UTC, Jane <jane@x.example> wrote:"
DESK_WROTE = "On Tuesday, 6 January 2026 at 13:00 UTC, desk@y.example wrote:"
JANE_WROTE_AGAIN = "On Wednesday, 7 January 2026 at 14:05 UTC, Jane <jane@x.example> wrote:"


@pytest.mark.parametrize(
    ("reply", "earlier", "text"),
    [
        ("Sent.\n", [], "Sent.\n"),
        ("Sent.\n", [FIRST], f"Sent.\n\n{JANE_WROTE}\n> Where is my order?\n>\n> Jane"),
        ("", [SECOND], f"{DESK_WROTE}\n> Which one?"),
        ("-- \n", [SECOND], f"-- \n\n{DESK_WROTE}\n> Which one?"),
        # Newest first, whatever the order they come in, and what they quote only once.
        (
            "Sent.",
            [SECOND, THIRD, FIRST],
            (
                f"Sent.\n\n{JANE_WROTE_AGAIN}\n> The blue one.\n\n{DESK_WROTE}\n> Which one?\n\n"
                f"{JANE_WROTE}\n> Where is my order?\n>\n> Jane"
            ),
        ),
        # What the first letter quotes stands nowhere else.
        ("Hi.", [Earlier(NOON, JANE, "> old\nnew")], f"Hi.\n\n{JANE_WROTE}\n> > old\n> new"),
        # A moment elsewhere, a name that is no line, and a letter without a word.
        (
            "Hi.",
            [Earlier(ELSEWHERE, Correspondent("a@b.example", "E\r\nve"), "")],
            "Hi.\n\nOn Monday, 5 January 2026 at 23:00 UTC, E ve <a@b.example> wrote:",
        ),
    ],
)  # fmt: skip
def test_quoted_text(reply: str, earlier: list[Earlier], text: str) -> None:
    """Below the reply stand the letters before it, newest first, who wrote each, and its lines behind `> `."""
    assert quoted_text(reply, earlier) == text


@pytest.mark.parametrize(
    ("letter", "written"),
    [
        ("mine\n> yours", ["mine"]),
        ("mine\n\n> yours\n\nmore", ["mine", "", "more"]),
        ("> yours\nmine", ["mine"]),
        ("mine\n\nOn 5 Jan 2026, at 10:00, a person with a long name\n<a@b.example> wrote:\n\n> yours", ["mine"]),
        ("mine\n\nAm 05.01.2026 um 10:00 schrieb Jane:\n> yours", ["mine"]),
        ("On 5 May we met.\nJane wrote:\n> yours", ["On 5 May we met."]),
        # It introduces the quote, and is the writer's own.
        ("About this:\n> yours\nyes", ["About this:", "", "yes"]),
        ("On that point:\n> yours\nyes", ["On that point:", "", "yes"]),
        ("On 5 Jan 2026 Jane wrote:\nnothing at all", ["On 5 Jan 2026 Jane wrote:", "nothing at all"]),
    ],
)
def test_what_a_letter_quotes_is_not_repeated(letter: str, written: list[str]) -> None:
    """Of a letter with others before it only what its writer wrote is quoted."""
    text = quoted_text("", [FIRST, Earlier(NOON + timedelta(hours=1), DESK, letter)])

    lines = text.partition(f"\n\n{JANE_WROTE}")[0].split("\n")
    assert lines == [DESK_WROTE, *(f"> {line}".rstrip() for line in written)]


@pytest.mark.parametrize(
    ("reply", "before", "after"),
    [
        ("<p>Sent.</p>", "<p>Sent.</p>", ""),
        ("<html><body>Sent.</body></html>", "<html><body>Sent.", "</body></html>"),
        ("<BODY>a</Body >", "<BODY>a", "</Body >"),
        ("a</body>b</body>c", "a</body>b", "</body>c"),
        ("", "", ""),
    ],
)
def test_quoted_html(reply: str, before: str, after: str) -> None:
    """In HTML they stand at the end of the body, escaped: a foreign letter's HTML is text there."""
    html = quoted_html(reply, [Earlier(NOON, JANE, '<b>1 & 2</b>\n\n"</blockquote>"')])

    assert html.startswith(before)
    assert html.endswith(after)
    history = html[len(before) : len(html) - len(after)]
    assert history == (
        "<p>On Tuesday, 6 January 2026 at 12:00 UTC, Jane &lt;jane@x.example&gt; wrote:</p>"
        '<blockquote type="cite" style="margin:0 0 0 0.8ex;border-left:1px solid #cccccc;padding-left:1ex">'
        "&lt;b&gt;1 &amp; 2&lt;/b&gt;<br><br>&quot;&lt;/blockquote&gt;&quot;</blockquote>"
    )


def test_without_letters_html_stays_as_it_is() -> None:
    """Where there is nothing to quote, nothing is added."""
    assert quoted_html("<body>a</body>", []) == "<body>a</body>"


@pytest.mark.parametrize(
    ("number", "last_line"),
    [
        (MOST_LETTERS, "> 1"),
        (MOST_LETTERS + 1, "[1 earlier letter is left out.]"),
        (MOST_LETTERS + 30, "[30 earlier letters are left out.]"),
    ],
)
def test_only_so_many_letters_are_quoted(number: int, last_line: str) -> None:
    """The newest twenty are quoted, and the reader is told of the others."""
    earlier = [Earlier(NOON + timedelta(minutes=each), JANE, str(each)) for each in range(1, number + 1)]

    text = quoted_text("Hi.", earlier)

    assert text.count(" wrote:") == MOST_LETTERS
    assert text.split("\n")[-1] == last_line
    assert f"\n> {number}\n" in text


def test_a_long_letter_is_cut() -> None:
    """Of what is too long the beginning is quoted, and the reader is told of the rest and of the letters behind it."""
    long = Earlier(NOON + timedelta(hours=1), DESK, "x" * 2 * MOST_CHARACTERS)

    text = quoted_text("Hi.", [FIRST, long])

    assert text.endswith(f"xxx\n> {REST_LEFT_OUT}\n\n[1 earlier letter is left out.]")
    assert MOST_CHARACTERS - 500 < len(text) <= MOST_CHARACTERS
    assert REST_LEFT_OUT in quoted_html("Hi.", [FIRST, long])


@given(st.lists(st.tuples(st.text(), st.text(), st.sampled_from([1, 50_000])), max_size=30))
def test_any_history_is_bounded(letters: list[tuple[str, str, int]]) -> None:
    """Whatever was written before, a reply gets no more than so many characters below it, each line of them marked."""
    earlier = [
        Earlier(NOON + timedelta(minutes=at), Correspondent("a@b.example", name), text * times)
        for at, (name, text, times) in enumerate(letters)
    ]

    text = quoted_text("Hi.", earlier)

    assert len(text) <= MOST_CHARACTERS
    assert all(line == "" or line.startswith((">", "On ", "[")) for line in text.removeprefix("Hi.").split("\n"))
    assert len(quoted_html("Hi.", earlier)) <= 10 * MOST_CHARACTERS


def test_quotes_without_end_are_not_read_to_their_end() -> None:
    """What is read of a letter is bounded, however little of it is quoted; that something may be left out is told."""
    endless = Earlier(FIRST.at + timedelta(days=1), FIRST.sender, "Words.\n" + "> quoted\n" * 100_000 + "More words.")
    text = quoted_text("Hi.", [FIRST, endless])

    assert f"> Words.\n> {REST_LEFT_OUT}\n" in text
    assert "More words." not in text


def test_letters_of_one_moment_keep_their_order() -> None:
    """Of two of the same moment the one that comes later in the list is the newer."""
    text = quoted_text("", [Earlier(NOON, JANE, "one"), Earlier(NOON, JANE, "two")])

    assert text.index("> two") < text.index("> one")
