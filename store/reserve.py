"""Disk space held in reserve, so that deleting works on a full disk.

Deleting writes too: pages of the write-ahead log. A small file beside the database reserves that
space, and is removed when a deletion, or opening the database, finds none left.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Protocol

from store.errors import StoreFull

RESERVE_BYTES = 8 << 20
"""Twice the write-ahead log at which SQLite moves it into the database."""

_PIECE = 1 << 16


class Remembers(Protocol):
    """The part of a store that `reserve_released` needs."""

    path: Path

    def rows(self, sql: str) -> object:
        """Run one statement."""


def keep_reserve(path: Path) -> None:
    """Create the reserve of the database at `path` if it is missing and the disk has space for it."""
    reserve = reserve_of(path)
    with suppress(OSError):
        if reserve.exists():
            return
        try:
            descriptor = os.open(reserve, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                _take(file)
        except FileExistsError:
            return
        except OSError:
            reserve.unlink(missing_ok=True)


def release_reserve(path: Path) -> bool:
    """Remove the reserve of the database at `path`; returns whether there was one."""
    try:
        reserve_of(path).unlink()
    except OSError:
        return False
    return True


@contextmanager
def reserve_released(store: Remembers) -> Iterator[None]:
    """While this lasts, the reserve is removed and the write-ahead log is as short as possible."""
    release_reserve(store.path)
    shorten_log(store)
    try:
        yield
    finally:
        shorten_log(store)
        keep_reserve(store.path)


def delete_with_room(store: Remembers, delete: Callable[[], None]) -> None:
    """Call `delete`; if the disk is full, again with the reserve removed."""
    try:
        delete()
    except StoreFull:
        with reserve_released(store):
            delete()


def shorten_log(store: Remembers) -> None:
    """Move the write-ahead log into the database, as far as disk space and readers allow."""
    with suppress(StoreFull):
        store.rows("PRAGMA wal_checkpoint(TRUNCATE)")


def reserve_of(path: Path) -> Path:
    """The file that reserves disk space for the database at `path`."""
    return path.with_name(f"{path.name}-reserve")


def _take(file: FileIO) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        return
    for _ in range(RESERVE_BYTES // _PIECE):
        file.write(os.urandom(_PIECE))  # some file systems would compress zeros or skip them
