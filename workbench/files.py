"""Files requested by users, written completely or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from analysis.errors import HeadlampError
from store import files
from store.csv_cells import write_csv
from store.errors import Unwritable


class ExportError(HeadlampError):
    """A file that cannot be written; an existing file stays unchanged."""


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written, before the work starts. Raises ExportError."""
    try:
        files.writable_target(path)
    except Unwritable as error:
        raise ExportError(str(error)) from error


def check_new_folder(path: Path) -> None:
    """Refuse a folder that is neither new nor empty, or could not be created. Raises ExportError."""
    if os.path.lexists(path):
        if not path.is_dir():
            raise ExportError(f"{path} cannot be written: it exists and is not a folder; name a new folder")
        if any(path.iterdir()):
            raise ExportError(f"{path} is not empty; name a new folder")
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise ExportError(f"{path} cannot be written: {there} is not a folder; name a new folder elsewhere")
    if not files.may_write_in(there):
        raise ExportError(f"{path} cannot be written: there is no write permission in {there}; name another")


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """A stream whose bytes become the file at path when the body ends; an error changes nothing."""
    try:
        with files.replacing(path) as stream:
            yield stream
    except Unwritable as error:
        raise ExportError(str(error)) from error
    except OSError as error:
        raise ExportError(
            f"{path} cannot be written: {error.strerror or error}; no partial file was left: free some "
            "space, "
            "or name another file"
        ) from error


def table_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Any table as CSV, UTF-8; text that a spreadsheet would run as a formula begins with an apostrophe."""
    text = io.StringIO()
    write_csv(text, header, rows)
    return text.getvalue().encode("utf-8")
