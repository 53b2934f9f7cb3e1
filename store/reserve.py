"""Room kept back on the disk, so that a full one can be made emptier.

Deleting writes too: pages of the write-ahead log. A small file beside the database takes that room
beforehand, and is given up when a deletion, or opening the database, finds no room left.
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
    """A store: what `reserve_released` needs of one."""

    path: Path

    def rows(self, sql: str) -> object:
        """Run one statement."""


def keep_reserve(path: Path) -> None:
    """Make the reserve of the database at `path` where it is missing and the disk has room for it."""
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
    """Give up the reserve of the database at `path`; whether there was one."""
    try:
        reserve_of(path).unlink()
    except OSError:
        return False
    return True


@contextmanager
def reserve_released(store: Remembers) -> Iterator[None]:
    """While this lasts the reserve is given up, and the write-ahead log is as short as can be."""
    release_reserve(store.path)
    shorten_log(store)
    try:
        yield
    finally:
        shorten_log(store)
        keep_reserve(store.path)


def delete_with_room(store: Remembers, delete: Callable[[], None]) -> None:
    """Call `delete`; on a full disk again, with the reserve given up."""
    try:
        delete()
    except StoreFull:
        with reserve_released(store):
            delete()


def shorten_log(store: Remembers) -> None:
    """Move the write-ahead log into the database, as far as the disk has room for it and nobody reads it."""
    with suppress(StoreFull):
        store.rows("PRAGMA wal_checkpoint(TRUNCATE)")


def reserve_of(path: Path) -> Path:
    """The file that keeps room for the database at `path`."""
    return path.with_name(f"{path.name}-reserve")


def _take(file: FileIO) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        return
    for _ in range(RESERVE_BYTES // _PIECE):
        file.write(os.urandom(_PIECE))  # zeros would be packed, or left out, by some file systems
