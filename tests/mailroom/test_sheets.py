"""Rows for a spreadsheet: what strangers wrote is text in them, and nothing else."""

import csv
import io

import pytest

from mailroom.operating.dead_letters import COLUMNS, sheet_of, sheet_with_heading
from mailroom.operating.sheets import as_csv


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("a, b", "a, b"),
        ('she said "no"', 'she said "no"'),
        (None, ""),
        (17, "17"),
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+49 30 1234", "'+49 30 1234"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1+1", "'=1+1"),
        ("a;=1+1", "a;'=1+1"),
        ('a; "=1+1"', 'a;\' "=1+1"'),
        ("a; b - c", "a; b - c"),
        ("one\r\ntwo\x1b[31m", "one  two [31m"),
    ],
)
def test_a_cell_is_text(given: object, read: str) -> None:
    """A reader gets the same text back, without what would steer a terminal or be run as a formula."""
    assert list(csv.reader(io.StringIO(as_csv([[given, "end"]]), newline=""))) == [[read, "end"]]


def test_a_sheet_begins_with_its_columns() -> None:
    """The first page names the columns, all others go on."""
    member = dict.fromkeys(COLUMNS, "x") | {"kind": "form"}

    assert sheet_with_heading([member]).splitlines() == [",".join(COLUMNS), "x,x,x,x,x,x"]
    assert sheet_of([member]).splitlines() == ["x,x,x,x,x,x"]
    assert sheet_of([]) == ""
