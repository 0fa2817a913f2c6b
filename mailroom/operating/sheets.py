"""Rows for a spreadsheet (RFC 4180), whatever strangers have written into them."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

from mailroom.logs import CONTROLS

#: A cell that begins like this is a formula to a spreadsheet, which would run it.
_BEGINS_A_FORMULA = ("=", "+", "-", "@")

#: Where a comma stands in numbers, spreadsheets take apart what we write at semicolons: there a cell begins as well.
_BEGINS_ONE_ELSEWHERE = re.compile(r""";(?=[\s"']*[=+\-@])""")


def as_csv(rows: Iterable[Sequence[object]]) -> str:
    """The rows as lines; a cell that a spreadsheet would run is made text by an apostrophe before it."""
    written = io.StringIO()
    csv.writer(written).writerows([_cell(value) for value in row] for row in rows)
    return written.getvalue()


def _cell(value: object) -> str:
    text = "" if value is None else CONTROLS.sub(" ", str(value)).strip()
    text = _BEGINS_ONE_ELSEWHERE.sub(";'", text)
    return f"'{text}" if text.startswith(_BEGINS_A_FORMULA) else text
