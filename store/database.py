"""The database file: where it is, how it is opened, and how threads share it."""

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

from store.damaged import with_copy
from store.errors import DatabaseCorrupt, StoreFull, Unwritable, translated
from store.files import kind_of, target_of
from store.migrations import SCHEMA, check_schema
from store.reserve import keep_reserve, release_reserve
from store.row_decoding import text_or_bytes

_MAKING = threading.Lock()

LOGS = ("-journal", "-wal", "-shm")
"""What SQLite adds to a database's name for the files that it writes beside it."""

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
    """Open the store at `path` (default: `default_path()`), made where it is missing, at the newest schema.

    A file that is refused (DatabaseCorrupt, DatabaseForeign, DatabaseFromNewerVersion, DatabaseReadOnly,
    Unwritable) keeps every byte; a damaged one is also copied, once, as NAME.damaged-YYYYMMDD-HHMMSS beside
    it. Damage further inside is met when it is read.

    busy_seconds: how long to wait for a lock. schema: the migrations to apply. reserve: whether to keep a
    little room on the disk, so that deleting works on a full one (store/reserve.py).
    """
    store = Store(Path(os.path.expanduser(path or default_path())).absolute(), busy_seconds=busy_seconds)
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
            raise with_copy(error, store.path) from error
    return store


def _set_up(store: Store, schema: Migrations) -> None:
    with translated(store.path):
        _make_file(store.path)
        with _log_kept(store.path), _closed_on_error(store):
            check_schema(store.db, store.path, schema)
            if not store.db.table_names():
                store.db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a new file only
            store.db.enable_wal()
            with store.transaction() as db:
                schema.apply(db)


def check_database(path: Path) -> None:
    """Refuse, without opening anything, what SQLite would wait for, or write something else through.

    Raises Unwritable unless `path` is a regular file or a new one, and its logs regular files or none.
    """
    target = target_of(path)
    for log in (target.with_name(target.name + suffix) for suffix in LOGS):
        with suppress(OSError):
            mode = log.lstat().st_mode
            if not stat.S_ISREG(mode):
                raise Unwritable(
                    f"{path} cannot be written: {log} is {kind_of(mode)}, where SQLite writes a "
                    "file of its own; move that away, or name another database"
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
            with translated(self.path):
                mine = _Connection(_connected(self.path, self._busy_seconds))
            self._thread.connection = mine
            with self._lock:
                self._connections.add(mine)
        return mine.db

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """Everything in the block is stored, or none of it; a block within a block joins the outer one."""
        with translated(self.path):
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
        with translated(self.path):
            return list(self.db.query(sql, parameters))

    def close(self) -> None:
        """Close every thread's connection, none of them in use; a later use opens a new one."""
        with self._lock:
            connections, self._thread = list(self._connections), threading.local()
        for connection in connections:
            connection.close()


class _Connection:
    """One thread's connection, closed when the thread ends and lets go of it."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def close(self) -> None:
        """Close it; closing again does nothing."""
        self.db.close()

    __del__ = close


def _make_file(path: Path) -> None:
    """An empty file only its owner reads, where there is none: traces of what people study are private.

    One thread at a time, and only where there is none: closing a file drops every lock that this
    process holds on it, SQLite's too. For the same reason writing is asked about, not tried.
    """
    with _MAKING:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_database(path)
        if not path.exists():
            path.touch(mode=0o600)
    if not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, "no right to write")


@contextmanager
def _log_kept(path: Path) -> Iterator[None]:
    """While this lasts, a connection that closes leaves the write-ahead log of a refused file alone.

    The last connection to close moves the log into the file, unless it may only read: this one.
    """
    with ExitStack() as kept:
        with suppress(sqlite3.Error):  # what is wrong is told by the connection that writes
            reader = kept.enter_context(closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)))
            reader.execute("SELECT name FROM sqlite_master").fetchone()
        yield


@contextmanager
def _closed_on_error(store: Store) -> Iterator[None]:
    try:
        yield
    except BaseException:
        store.close()
        raise


def _connected(path: Path, busy_seconds: float) -> Database:
    """A connection to an existing file: mode=rw, so that a deleted file is not replaced by an empty one."""
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
