"""CSV that a spreadsheet displays but never executes: used for every exported table.

Text that a spreadsheet would take for a formula is prefixed with '; numbers stay numbers.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from store.documents import clean_text

_FORMULA = re.compile(r"[\s\x00-\x1f\u200b-\u200f\u2060\ufeff]*[-=+@＝＋－＠]|[\t\r\n]")
"""Characters that start a formula (the last four in East Asian spreadsheets), whatever invisible characters
precede them; or a tab or line break, which some spreadsheets skip."""


class Writable(Protocol):
    """Anything csv.writer writes to."""

    def write(self, text: str, /) -> object:
        """Take a piece of the file."""


def csv_cell(value: object) -> object:
    """A value for csv.writer: text with NUL as U+FFFD and prefixed with ' if necessary; None is an empty
    cell.
    """
    if not isinstance(value, str):
        return "" if value is None else value
    text = clean_text(value).replace("\0", "\ufffd")
    return f"'{text}" if _FORMULA.match(text) else text


def write_csv(stream: Writable, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A whole table, every cell through `csv_cell`; texts are quoted, numbers are not."""
    writer = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow([csv_cell(name) for name in header])
    writer.writerows([csv_cell(value) for value in row] for row in rows)
