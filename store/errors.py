"""Errors of the store.

    StoreError
    ├── DatabaseFromNewerVersion   the file was written by a newer Headlamp
    ├── DatabaseForeign            the file is another program's database
    ├── DatabaseCorrupt            the file is damaged, cut short or not a database
    ├── DatabaseReadOnly           the file or its folder cannot be written
    ├── Unwritable                 a path that is neither a regular file nor a new one
    ├── DatabaseBusy               another process kept the database locked for too long
    ├── StoreFull                  the disk is full
    ├── UnstorableValue            a value no table can hold (NaN, an object array, a blank title, …)
    ├── RunNotFound                no run with that key
    ├── UnitMissing                a run is incomplete, or a unit has no such array
    ├── FindingNotFound            no finding, or more than one, with that id
    ├── JobNotFound                no job with that number
    ├── JobTaken                   a job that another process took, or that was cancelled
    ├── JobActive                  an unfinished job, where a finished one is required
    ├── TextMissing                a stored text that is missing
    └── BadImport                  a foreign, newer or malformed document

Each message says what failed, why, and what to do. SQLite's and the operating system's errors become
these in one place, `translate_errors`; any other exception is a bug and passes unchanged.
"""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_IS_FULL_BELOW = 1 << 20
"""Free bytes below which an I/O error is reported as a full disk: SQLite reports some of those as I/O
errors."""


class StoreError(Exception):
    """Base class of the store's errors."""


class DatabaseFromNewerVersion(StoreError):
    """The file holds a schema this version does not know."""


class DatabaseForeign(StoreError):
    """The file is a healthy SQLite database that another program made."""


class DatabaseCorrupt(StoreError):
    """The file, or a value in it, does not match what was written."""


class DatabaseReadOnly(StoreError):
    """The file or its folder cannot be written."""


class Unwritable(StoreError):
    """A folder, pipe, device or stream of this process where a regular file is required."""


class DatabaseBusy(StoreError):
    """The lock was not obtained within the busy timeout."""


class StoreFull(StoreError):
    """The disk is full; everything committed before is intact."""


class UnstorableValue(StoreError):
    """A value that no table can hold."""


class RunNotFound(StoreError):
    """No run has this key."""


class UnitMissing(StoreError):
    """Units, or an array in a unit, are not stored."""


class FindingNotFound(StoreError):
    """No finding, or more than one, has this id or id prefix."""


class JobNotFound(StoreError):
    """No job has this number."""


class JobTaken(StoreError):
    """The job no longer runs under this owner: another process took it, or it was cancelled."""


class JobActive(StoreError):
    """The job is queued or running."""


class TextMissing(StoreError):
    """A stored text is missing."""


class BadImport(StoreError):
    """A document that cannot be imported; nothing of it was."""


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Translate errors of SQLite and the file system about the database at `path` into ours."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        ours = _as_store_error(error, path)
        if ours is None:
            raise
        raise ours from error


def _as_store_error(error: sqlite3.Error | OSError, path: Path) -> StoreError | None:
    if isinstance(error, OSError):
        return _from_system(error, path)
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary result code
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "fts5" in str(error):
        return DatabaseCorrupt(
            f"{path} cannot be read: {error}. The file was not changed: restore a copy, "
            "or move it away and Headlamp creates a new one."
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DatabaseBusy(
            f"{path} is locked: another process has been writing to it for too long. "
            "Nothing was changed: try again, or stop that process."
        )
    if code == sqlite3.SQLITE_CANTOPEN and not path.exists():
        return StoreError(f"{path} is gone: it was moved or deleted while in use. Put it back, or restart.")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return _read_only(path, error)
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return _full_or_failing(path, error, full=code == sqlite3.SQLITE_FULL)
    return None


def _from_system(error: OSError, path: Path) -> StoreError | None:
    if error.errno == errno.ENOSPC:
        return _full_or_failing(path, error, full=True)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return _read_only(path, error)
    return None


def _read_only(path: Path, error: Exception) -> DatabaseReadOnly:
    return DatabaseReadOnly(
        f"{path} cannot be written: {error}. Make the file and its folder writable, "
        "or set HEADLAMP_DB to another file."
    )


def _full_or_failing(path: Path, error: Exception, *, full: bool) -> StoreError:
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        free = 0
    if full or free < DISK_IS_FULL_BELOW:
        return StoreFull(
            f"No room left for {path}: {error} ({free / 1e6:.0f} MB free on its disk). What was stored "
            "before is intact: free some space or delete runs, then run again and it resumes."
        )
    return StoreError(f"{path}: {error}. Its disk fails or was disconnected: check it, then try again.")
