"""The database file: its location, opening, and sharing among threads."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs
from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from store.damaged import tell_copy
from store.errors import DatabaseCorrupt, StoreFull, Unwritable, translate_errors
from store.files import kind_of, target_of
from store.migrations import SCHEMA, check_schema
from store.reserve import keep_reserve, release_reserve
from store.row_decoding import text_or_bytes

_MAKING = threading.Lock()

LOGS = ("-journal", "-wal", "-shm")
"""Suffixes of the files that SQLite writes beside a database."""

BUSY_SECONDS = 10.0
"""How long a write waits for another process's write before DatabaseBusy."""


def default_path() -> Path:
    """HEADLAMP_DB where set, else `headlamp.db` in the user's data folder."""
    named = os.environ.get("HEADLAMP_DB")
    if named:
        return Path(os.path.expanduser(named))
    return platformdirs.user_data_path("headlamp", appauthor=False) / "headlamp.db"


def open_store(
    path: Path | None = None,
    *,
    busy_seconds: float = BUSY_SECONDS,
    schema: Migrations = SCHEMA,
    reserve: bool = True,
) -> Store:
    """Open the store at `path` (default: `default_path()`), created if missing, at the newest schema.

    A file that is refused (DatabaseCorrupt, DatabaseForeign, DatabaseFromNewerVersion, DatabaseReadOnly,
    Unwritable) is not changed; a damaged one is also copied, once, as NAME.damaged-YYYYMMDD-HHMMSS beside
    it. Damage further inside is detected on reading.

    busy_seconds: how long to wait for a lock. schema: the migrations to apply. reserve: whether to reserve
    some disk space, so that deleting works on a full disk (store/reserve.py).
    """
    store = Store(database_path(path or default_path()), busy_seconds=busy_seconds)
    try:
        try:
            _set_up(store, schema)
        except StoreFull:  # opening writes too
            if not release_reserve(store.path):
                raise
            _set_up(store, schema)
        else:
            if reserve:
                keep_reserve(store.path)
    except DatabaseCorrupt as error:
        with _MAKING:
            raise tell_copy(error, store.path) from error
    return store


def _set_up(store: Store, schema: Migrations) -> None:
    with translate_errors(store.path):
        _make_file(store.path)
        with _keep_log(store.path), _close_on_error(store):
            check_schema(store.db, store.path, schema)
            if not store.db.table_names():
                store.db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a new file only
            store.db.enable_wal()
            with store.transaction() as db:
                schema.apply(db)


def database_path(path: Path) -> Path:
    """The file itself if `path` is a link to it: SQLite writes its logs beside that one."""
    named = Path(os.path.expanduser(path)).absolute()
    return Path(os.path.realpath(named)) if named.is_symlink() and named.is_file() else named


def check_database(path: Path) -> None:
    """Refuse, without opening anything, paths on which SQLite would block or write to another file.

    Raises Unwritable unless `path` is a regular file or a new one, and its logs regular files or none.
    """
    target = target_of(path)
    for log in (target.with_name(target.name + suffix) for suffix in LOGS):
        with suppress(OSError):
            mode = log.lstat().st_mode
            if not stat.S_ISREG(mode):
                raise Unwritable(
                    f"{path} cannot be written: {log} is {kind_of(mode)}, which SQLite needs for a "
                    "file of its own; move it away, or name another database"
                )


class Store:
    """The database file, with one connection per thread; share one Store among all threads.

    A connection closes when its thread ends. Worker processes open their own store: a connection
    must never be carried over a fork.
    """

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = path
        self._busy_seconds = busy_seconds
        self._thread = threading.local()
        self._connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._lock = threading.Lock()

    @property
    def db(self) -> Database:
        """This thread's connection: WAL, foreign keys on, synchronous NORMAL."""
        mine: _Connection | None = getattr(self._thread, "connection", None)
        if mine is None:
            with translate_errors(self.path):
                mine = _Connection(_connect(self.path, self._busy_seconds))
            self._thread.connection = mine
            with self._lock:
                self._connections.add(mine)
        return mine.db

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """Everything in the block is stored, or none of it; a block within a block joins the outer one."""
        with translate_errors(self.path):
            if self.db.conn.in_transaction:
                with self.db.atomic():
                    yield self.db
                return
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield self.db
                self.db.execute("COMMIT")
            except BaseException:
                self.db.rollback()
                raise

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows that `sql` selects, all read; parameters fill its `?` in order."""
        with translate_errors(self.path):
            return list(self.db.query(sql, parameters))

    def close(self) -> None:
        """Close every thread's connection, none of which may be in use; later use opens a new one."""
        with self._lock:
            connections, self._thread = list(self._connections), threading.local()
        for connection in connections:
            connection.close()


class _Connection:
    """One thread's connection, closed when the thread ends and releases it."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def close(self) -> None:
        """Close it; idempotent."""
        self.db.close()

    __del__ = close


def _make_file(path: Path) -> None:
    """Create an empty file that only its owner can read, if there is none: its contents are private.

    One thread at a time, and only if there is none: closing a file drops every lock that this
    process holds on it, SQLite's too. For the same reason write permission is queried, not tried.
    """
    with _MAKING:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_database(path)
        if not path.exists():
            path.touch(mode=0o600)
    if not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, "no write permission")


@contextmanager
def _keep_log(path: Path) -> Iterator[None]:
    """Keep the write-ahead log of a refused file unchanged when a connection closes.

    The last connection to close moves the log into the file, unless it is read-only, as this one is.
    """
    with ExitStack() as kept:
        with suppress(sqlite3.Error):  # errors are reported by the connection that writes
            reader = kept.enter_context(closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)))
            reader.execute("SELECT name FROM sqlite_master").fetchone()
        yield


@contextmanager
def _close_on_error(store: Store) -> Iterator[None]:
    try:
        yield
    except BaseException:
        store.close()
        raise


def _connect(path: Path, busy_seconds: float) -> Database:
    """A connection to an existing file: mode=rw, so that a deleted file is not recreated empty."""
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, timeout=busy_seconds, check_same_thread=False
    )
    try:
        connection.text_factory = text_or_bytes
        db = Database(connection, execute_plugins=False)
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return db
