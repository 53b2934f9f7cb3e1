"""Repair: what can still be read of a damaged database, in a new file in its place."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlite_utils import Database

from store.damaged import SIDES, free_name, is_database, side
from store.database import check_database, open_store
from store.errors import DatabaseBusy, DatabaseCorrupt, translated
from store.migrations import SCHEMA, check_schema
from store.row_decoding import text_or_bytes
from store.salvage import TABLES, drop_orphans, salvage_table


@dataclass(frozen=True)
class Repaired:
    """What a repair saved. damaged: where the damaged file is now; read: rows saved per table;
    lost: rows that were there and are not saved, per table, None where nothing tells how many."""

    path: Path
    damaged: Path
    read: Mapping[str, int]
    lost: Mapping[str, int | None]


def repair(path: Path) -> Repaired:
    """Put a sound database of the newest schema, with all that can be read, in the place of `path`.

    The damaged file is only read, and renamed at the very end; nothing is ever overwritten. Needs as
    much free disk as the file takes. A run that lost units becomes unfinished: run again, it resumes.
    Bytes that changed inside an array or a payload are noticed by its checksum, but for those that a
    Headlamp before checksums (schema 0003) stored.

    DatabaseBusy: another process has it open. DatabaseCorrupt: nothing can be read. DatabaseForeign,
    DatabaseFromNewerVersion, StoreFull, Unwritable.
    """
    path = Path(os.path.expanduser(path)).absolute()
    check_database(path)
    if not is_database(path):
        raise DatabaseCorrupt(f"{path} is no SQLite database, so nothing can be read: restore a copy of it")
    new = free_name(path, "repaired")
    with translated(path), _removed_on_error(new):
        with closing(_locked(path)) as old:
            totals = _salvaged(old, new, path)
        with closing(open_store(new, reserve=False)) as store:
            read = {table: store.db.table(table).count for table in TABLES}
        if not any(read.values()) and set(totals.values()) != {0}:
            raise DatabaseCorrupt(
                f"nothing in {path} can be read. It was left as it is: restore a copy of it, "
                "or move it away and Headlamp starts a new one"
            )
        damaged = _exchanged(path, new)
    lost = {table: None if there is None else there - read[table] for table, there in totals.items()}
    return Repaired(path, damaged, read, lost)


def _locked(path: Path) -> sqlite3.Connection:
    """The only connection there is to the file; DatabaseBusy where there are others, even idle ones.

    One that stays open would go on writing into the file that is moved aside.
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


def _salvaged(old: sqlite3.Connection, new: Path, path: Path) -> dict[str, int | None]:
    """Build `new` at the schema of `old` and copy what can be read; the rows each table had, if known."""
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(Database(sqlite3.connect(new, isolation_level=None), execute_plugins=False)) as db:
        SCHEMA.apply(db, stop_before=_later_migrations(old, path))
        db.execute("BEGIN")
        totals = {table: salvage_table(old, db.conn, table) for table in TABLES if db.table(table).exists()}
        drop_orphans(db.conn)
        db.execute("COMMIT")
    return totals


def _later_migrations(old: sqlite3.Connection, path: Path) -> list[str]:
    """The migrations the damaged file has not seen; none where that cannot be read any more."""
    database = Database(old, execute_plugins=False)
    try:
        check_schema(database, path)
        return [migration.name for migration in SCHEMA.pending(database)]
    except sqlite3.DatabaseError:
        return []


def _exchanged(path: Path, new: Path) -> Path:
    """Rename the damaged file aside and `new` into its place; where the damaged file is now.

    The log moves first: beside a missing file, SQLite would take it for rubbish.
    """
    damaged = free_name(path, "damaged")
    moved = [suffix for suffix in ("-shm", *reversed(SIDES)) if side(path, suffix).exists()]
    for suffix in moved:
        side(path, suffix).rename(side(damaged, suffix))
    try:
        new.rename(path)
    except OSError:
        for suffix in reversed(moved):
            side(damaged, suffix).rename(side(path, suffix))
        raise
    return damaged


@contextmanager
def _removed_on_error(new: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for suffix in ("", "-journal", "-wal", "-shm"):
            side(new, suffix).unlink(missing_ok=True)
        raise
