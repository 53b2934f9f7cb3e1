"""CSV that a spreadsheet shows and never runs: the one guard of every table that leaves Headlamp.

A text that some spreadsheet would take for a formula begins with '; numbers stay numbers.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from store.documents import clean_text

_FORMULA = re.compile(r"[\s\x00-\x1f\u200b-\u200f\u2060\ufeff]*[-=+@＝＋－＠]|[\t\r\n]")
"""A sign that starts a formula (the last four to East Asian spreadsheets), whatever unseen comes before it;
a tab or line break, which some pass over."""


class Writable(Protocol):
    """Anything csv.writer writes to."""

    def write(self, text: str, /) -> object:
        """Take a piece of the file."""


def csv_cell(value: object) -> object:
    """A value for csv.writer: a text as it is, NUL as U+FFFD, made harmless by '; None is an empty cell."""
    if not isinstance(value, str):
        return "" if value is None else value
    text = clean_text(value).replace("\0", "\ufffd")
    return f"'{text}" if _FORMULA.match(text) else text


def write_csv(stream: Writable, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A whole table, every cell through `csv_cell`; texts are quoted, numbers are not."""
    writer = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow([csv_cell(name) for name in header])
    writer.writerows([csv_cell(value) for value in row] for row in rows)
