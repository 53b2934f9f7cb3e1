"""Repair of a damaged database: what can still be read is moved into a new file in its place."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlite_utils import Database

from store.damaged import SIDES, free_name, is_database, side_path
from store.database import check_database, database_path, open_store
from store.errors import DatabaseBusy, DatabaseCorrupt, translate_errors
from store.migrations import SCHEMA, check_schema
from store.row_decoding import text_or_bytes
from store.salvage import TABLES, drop_orphans, salvage_table


@dataclass(frozen=True)
class RepairReport:
    """The result of a repair. damaged: new location of the damaged file; read: rows saved per table; lost:
    rows that are not saved, per table, None if their number is unknown.
    """

    path: Path
    damaged: Path
    read: Mapping[str, int]
    lost: Mapping[str, int | None]


def repair_database(path: Path) -> RepairReport:
    """Replace `path` by a sound database of the newest schema with all that can be read.

    The damaged file is only read, and finally renamed; nothing is ever overwritten. Needs as
    much free disk as the file takes. A run that lost units becomes unfinished: run again, it resumes.
    Bytes that changed inside an array or a payload are detected by its checksum, except those stored by
    a Headlamp before checksums (schema 0003).

    DatabaseBusy: another process has it open. DatabaseCorrupt: nothing can be read. DatabaseForeign,
    DatabaseFromNewerVersion, StoreFull, Unwritable.
    """
    path = database_path(path)
    check_database(path)
    if not is_database(path):
        raise DatabaseCorrupt(
            f"{path} is not an SQLite database, so nothing can be read: restore a copy of it"
        )
    new = free_name(path, "repaired")
    with translate_errors(path), _remove_on_error(new):
        with closing(_lock(path)) as old:
            totals = _salvage(old, new, path)
        with closing(open_store(new, reserve=False)) as store:
            read = {table: store.db.table(table).count for table in TABLES}
        if not any(read.values()) and set(totals.values()) != {0}:
            raise DatabaseCorrupt(
                f"nothing in {path} can be read. The file was not changed: restore a copy, "
                "or move it away and Headlamp creates a new one"
            )
        damaged = _exchange(path, new)
    lost = {table: None if there is None else there - read[table] for table, there in totals.items()}
    return RepairReport(path, damaged, read, lost)


def _lock(path: Path) -> sqlite3.Connection:
    """The only connection to the file; DatabaseBusy if there are others, even idle ones.

    An open one would keep writing into the file that is moved aside.
    """
    old = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=1.0, isolation_level=None)
    old.text_factory = text_or_bytes
    try:
        old.execute("PRAGMA locking_mode = EXCLUSIVE")
        old.execute("PRAGMA writable_schema = ON")  # so that one damaged table does not hide the others
        old.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        old.close()
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise
        raise DatabaseBusy(
            f"{path} is open in another process. Nothing was changed: stop the app and every command "
            "that uses it, then repair it."
        ) from error
    except BaseException:
        old.close()
        raise
    return old


def _salvage(old: sqlite3.Connection, new: Path, path: Path) -> dict[str, int | None]:
    """Build `new` at the schema of `old` and copy what can be read; returns each table's number of rows, if
    known.
    """
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(Database(sqlite3.connect(new, isolation_level=None), execute_plugins=False)) as db:
        SCHEMA.apply(db, stop_before=_later_migrations(old, path))
        db.execute("BEGIN")
        totals = {table: salvage_table(old, db.conn, table) for table in TABLES if db.table(table).exists()}
        drop_orphans(db.conn)
        db.execute("COMMIT")
    return totals


def _later_migrations(old: sqlite3.Connection, path: Path) -> list[str]:
    """The migrations the damaged file has not seen; empty if that cannot be read."""
    database = Database(old, execute_plugins=False)
    try:
        check_schema(database, path)
        return [migration.name for migration in SCHEMA.pending(database)]
    except sqlite3.DatabaseError:
        return []


def _exchange(path: Path, new: Path) -> Path:
    """Rename the damaged file aside and `new` into its place; returns where the damaged file is now.

    The log moves first: SQLite discards a log without its database.
    """
    damaged = free_name(path, "damaged")
    moved = [suffix for suffix in ("-shm", *reversed(SIDES)) if side_path(path, suffix).exists()]
    for suffix in moved:
        side_path(path, suffix).rename(side_path(damaged, suffix))
    try:
        new.rename(path)
    except OSError:
        for suffix in reversed(moved):
            side_path(damaged, suffix).rename(side_path(path, suffix))
        raise
    return damaged


@contextmanager
def _remove_on_error(new: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for suffix in ("", "-journal", "-wal", "-shm"):
            side_path(new, suffix).unlink(missing_ok=True)
        raise
