"""What commands print: texts of strangers included."""

import json

import pytest

from cli import printing

HOSTILE = "a\x1b[2Jb\u202ec\nd\x9b"


def test_texts_of_strangers_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters in a subject or a server's reply are shown, not obeyed."""
    printing.table(("SUBJECT",), [(HOSTILE,)])
    printing.fields({"subject": HOSTILE})
    printing.section("Said", [HOSTILE])
    printing.as_json({"subject": HOSTILE})
    printing.complain(HOSTILE)

    said = capsys.readouterr()
    assert not {"\x1b", "\u202e", "\x9b"} & set(said.out + said.err)


def test_json_keeps_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON says the same after escaping."""
    printing.as_json({"subject": HOSTILE})

    assert json.loads(capsys.readouterr().out) == {"subject": HOSTILE}


def test_lists_cut_long_texts(capsys: pytest.CaptureFixture[str]) -> None:
    """A long text does not make every line of a list long."""
    printing.table(("A", "B"), [("x" * 500, "y"), ("z", None)])

    lines = capsys.readouterr().out.splitlines()
    assert [len(lines), len(max(lines, key=len))] == [3, printing.LONGEST_CELL + 3]
    assert lines[2].split() == ["z", "-"]


def test_lone_surrogates_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """A text that cannot be encoded is still printed."""
    printing.lines(["a\ud800"])

    assert capsys.readouterr().out == "a\\ud800\n"
