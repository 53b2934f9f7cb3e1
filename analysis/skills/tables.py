"""Tables of text: CSV with any usual separator, its header, and rows that do not fit it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence

from analysis.errors import BadSkillFile
from analysis.skills.choices import LETTERS

SEPARATORS = (",", ";", "\t", "|")
NAMED = frozenset({"prompt", "question", "text"})
"""Columns of which a table has one."""
_KNOWN = NAMED | {"answer", "judge", "choices", "tests", "setup", "group", "wording", "lang", "stop"}
_LARGEST_CELL = 10_000_000
_DECLARED = re.compile(r"\Asep=(.)\r?\n", re.I)
"""The line with which spreadsheets declare a separator."""

Row = dict[str, str]


def read_table(text: str, fields: Mapping[str, str] | None = None) -> list[Row] | None:
    """The rows of a table; None if the text is none. fields: our names → the table's, where they are mapped.

    A first line that names our columns, or mapped ones, makes it a table, whatever separates them. Raises
    BadSkillFile for a row that does not fit the header, by its line, and for a table without a header.
    """
    whole, text = text, text.lstrip("\r\n")
    declared = _DECLARED.match(text)
    if declared:
        text = text[declared.end() :]
    first_line = whole.count("\n") - text.count("\n") + 1
    wanted = NAMED if fields is None else {*NAMED, *fields.values()}
    separators = [declared[1]] if declared else SEPARATORS
    for separator in separators:
        header = _read_header(text, separator)
        if wanted & {cell.casefold() for cell in header} or wanted & set(header):
            names = header if fields else [_lower_known(cell) for cell in header]
            _refuse_repeated(names)
            return _read_rows(text, separator, names, first_line)
    return _guess_table(text, separators)


def end_lines(text: str) -> str:
    """A text whose lines end in carriage returns alone, with line feeds instead; any other unchanged."""
    return text if "\n" in text else text.replace("\r", "\n")


def _refuse_repeated(names: Sequence[str]) -> None:
    repeated = next((name for name in names if name and names.count(name) > 1), None)
    if repeated is not None:
        raise BadSkillFile(
            f"the header names the column {repeated!r} {names.count(repeated)} times; rename or remove all "
            "but one"
        )


def _read_header(text: str, separator: str) -> list[str]:
    """The cells of the first line; none where it is no line of a table."""
    csv.field_size_limit(_LARGEST_CELL)
    try:
        row = next(csv.reader(io.StringIO(text), delimiter=separator, strict=True), [])
    except csv.Error:
        return []
    return [cell.strip() for cell in row]


def _lower_known(cell: str) -> str:
    """`Prompt` as `prompt`; other names stay as they are written."""
    return cell.casefold() if cell.casefold() in _KNOWN else cell


def _read_rows(text: str, separator: str, names: Sequence[str], first_line: int) -> list[Row]:
    """The rows under a header. first_line: the header's line in the file."""
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    rows: list[Row] = []
    try:
        next(reader)
        for cells in reader:
            if cells:
                line = reader.line_num + first_line - 1
                rows.append(dict(zip(names, _fit(cells, len(names), line, separator), strict=True)))
    except csv.Error as error:
        line = reader.line_num + first_line - 1
        raise BadSkillFile(
            f"line {line} is no row of the table ({error}); put a text that contains quotes into quotes, and "
            'double its own: "He said ""no""."'
        ) from error
    return rows


def _fit(cells: Sequence[str], width: int, line: int, separator: str) -> Sequence[str]:
    """A row's cells, without empty ones behind the last column. Raises BadSkillFile if they do not fit."""
    if len(cells) == width or (len(cells) > width and not any(cells[width:])):
        return cells[:width]
    raise BadSkillFile(
        f"line {line} has {len(cells)} cells under a header of {width}; put a text that contains "
        f"{separator!r} into double quotes"
    )


def _guess_table(text: str, separators: Sequence[str]) -> list[Row] | None:
    """A table without our columns: MMLU as first released, or a header of other names; None for other texts.

    Raises BadSkillFile if there is no header.
    """
    for separator in separators:
        rows = _even_rows(text, separator)
        if rows and all(len(row) == 6 and row[5].strip() in LETTERS[:4] for row in rows):
            names = ["question", *(f"choice{i}" for i in range(4)), "answer"]
            return [dict(zip(names, row, strict=True)) for row in rows]
    rows = _even_rows(text, separators[0])
    if len(rows) < 2 or len(rows[0]) < 2:
        return None
    header = [cell.strip() for cell in rows[0]]
    if not _looks_like_header(header):
        raise BadSkillFile(
            f"a CSV needs a header; its first line is {', '.join(header)[:80]!r}, not prompt,answer,judge,…"
        )
    return [dict(zip(header, row, strict=True)) for row in rows[1:]]


def _even_rows(text: str, separator: str) -> list[list[str]]:
    """The rows of a text, if all have as many cells; else none."""
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=separator, strict=True) if row]
    except csv.Error:
        return []
    return rows if len({len(row) for row in rows}) == 1 else []


def _looks_like_header(cells: Collection[str]) -> bool:
    return len(set(cells)) == len(cells) and all(cell.isidentifier() for cell in cells)
