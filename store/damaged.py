"""Damaged database files: copied before any repair, never changed, never overwritten."""

from __future__ import annotations

import filecmp
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from store.errors import DatabaseCorrupt

HEADER = b"SQLite format 3\0"
"""The magic bytes of an SQLite file."""

SIDES = ("", "-wal")
"""Suffixes of a database's files: the file itself and its write-ahead log."""


def tell_copy(error: DatabaseCorrupt, path: Path) -> DatabaseCorrupt:
    """`error` about the file at `path`, extended by the location of a copy, which is made if missing.

    A file that is not an SQLite database is not copied, and `error` is returned unchanged.
    """
    if not is_database(path):
        return error
    try:
        kept = f"A copy of it is {_copy_of(path) or _set_aside(path)}."
    except OSError as why:
        kept = f"No copy of it could be made ({why.strerror or why}): copy it to another disk."
    return DatabaseCorrupt(
        f"{path} is damaged: {error.__cause__ or error}. The file was not changed. {kept} "
        "`python -m workbench repair` moves what can still be read into a new file; or restore your own "
        "copy, or move it away and Headlamp creates a new one."
    )


def is_database(path: Path) -> bool:
    """Whether the file begins like an SQLite database."""
    # Closing a file drops this process's locks on it, SQLite's too. A damaged file is the one
    # exception: it cannot be used anyway, and the error is about to be reported.
    try:
        with path.open("rb") as file:
            return file.read(len(HEADER)) == HEADER
    except OSError:
        return False


def free_name(path: Path, word: str) -> Path:
    """An unused name beside `path`: NAME.`word`-YYYYMMDD-HHMMSS, and -2, -3 … if taken."""
    stem = path.with_name(f"{path.name}.{word}-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    name, count = stem, 1
    while any(side_path(name, suffix).exists() for suffix in SIDES):
        count += 1
        name = stem.with_name(f"{stem.name}-{count}")
    return name


def side_path(path: Path, suffix: str) -> Path:
    """The file of the database at `path` with one of SIDES."""
    return path.with_name(path.name + suffix)


def _copy_of(path: Path) -> Path | None:
    """The earlier copy, if the file has not changed since."""
    prefix = f"{path.name}.damaged-"
    for found in sorted(path.parent.iterdir()):
        named = found.name.startswith(prefix) and not found.name.endswith("-wal")
        if named and all(_same(side_path(path, suffix), side_path(found, suffix)) for suffix in SIDES):
            return found
    return None


def _same(one: Path, other: Path) -> bool:
    if not (_holds_something(one) and _holds_something(other)):
        return _holds_something(one) == _holds_something(other)
    return filecmp.cmp(one, other, shallow=False)


def _holds_something(file: Path) -> bool:
    """Whether it exists and is not empty: opening a database creates an empty log."""
    return file.exists() and file.stat().st_size > 0


def _set_aside(path: Path) -> Path:
    """Copy the file and its write-ahead log, both or neither; OSError."""
    copy = free_name(path, "damaged")
    made: list[Path] = []
    try:
        for suffix in SIDES:
            if _holds_something(side_path(path, suffix)):
                made.append(side_path(copy, suffix))
                _copy_file(side_path(path, suffix), made[-1])
    except OSError:
        for part in made:
            part.unlink(missing_ok=True)
        raise
    return copy


def _copy_file(source: Path, target: Path) -> None:
    private = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    with source.open("rb") as read, os.fdopen(private, "wb") as write:
        shutil.copyfileobj(read, write, 1 << 20)
        write.flush()
        os.fsync(write.fileno())
